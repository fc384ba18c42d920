//! What a handshake costs this machine, kept for the next start: a relay that was killed is
//! met by its whole fleet before it can measure anything.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tracing::warn;

use crate::{
    data_dir::{DataDir, HANDSHAKE_COST},
    gate::HandshakeRate,
    node::Node,
};

/// How often it is looked whether it has become another one.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A cost nobody has measured: the file is damaged, or another program's.
const COST_MAX: Duration = Duration::from_secs(1);

/// What a former run has learnt, if it has.
pub(super) fn load(data_dir: &DataDir) -> Option<Duration> {
    let kept = std::fs::read_to_string(data_dir.file(HANDSHAKE_COST)).ok();
    let micros = kept.and_then(|text| text.trim().parse().ok());
    let cost = micros.map(Duration::from_micros);
    let is_cost = |cost: &Duration| !cost.is_zero() && *cost <= COST_MAX;
    cost.filter(is_cost)
}

/// The rate as configured, beginning with what a former run has learnt, where it is to be
/// learnt.
pub(super) const fn begin(configured: HandshakeRate, cost: Option<Duration>) -> HandshakeRate {
    match (configured, cost) {
        (HandshakeRate::Auto, Some(cost)) => HandshakeRate::Learnt(cost),
        (configured, _) => configured,
    }
}

/// Writes it down whenever it has become another one.
pub(super) async fn keep(node: &Node, data_dir: &Arc<DataDir>) -> Infallible {
    let mut kept = node.handshake_cost();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let cost = node.handshake_cost();
        let (Some(cost), before) = (cost, kept.unwrap_or_default()) else {
            continue;
        };
        if !is_another(before, cost) {
            continue;
        }
        kept = Some(cost);
        let text = format!("{}\n", cost.as_micros());
        if let Err(error) = data_dir.write(HANDSHAKE_COST, text.as_bytes()) {
            warn!(%error, "what a handshake costs is not kept for the next start");
        }
    }
}

/// Whether it is worth a write.
fn is_another(before: Duration, now: Duration) -> bool {
    now * 10 > before * 11 || now * 11 < before * 10
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_dir(kept: &str) -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&folder.path().join("data")).unwrap();
        data_dir.write(HANDSHAKE_COST, kept.as_bytes()).unwrap();
        (folder, data_dir)
    }

    #[test]
    fn a_relay_begins_with_what_the_former_one_had_learnt() {
        let (_folder, kept) = data_dir("712\n");

        let learnt = HandshakeRate::Learnt(Duration::from_micros(712));
        assert_eq!(begin(HandshakeRate::Auto, load(&kept)), learnt);
        let fixed = HandshakeRate::Fixed(9);
        assert_eq!(begin(fixed, load(&kept)), fixed, "as somebody has said");
    }

    #[test]
    fn what_is_no_cost_is_no_reason_not_to_start() {
        for text in ["", "soon", "0", "99999999999", "-3"] {
            let (_folder, damaged) = data_dir(text);

            assert_eq!(load(&damaged), None, "{text}");
        }
    }

    #[test]
    fn a_tenth_more_or_less_is_another_cost() {
        let micros = Duration::from_micros;

        assert!(!is_another(micros(700), micros(720)));
        assert!(is_another(micros(700), micros(900)));
        assert!(is_another(micros(700), micros(500)));
        assert!(is_another(Duration::ZERO, micros(700)));
    }
}
