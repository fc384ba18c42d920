//! What led to the relay from which network, so that the next dial there begins with it.
//!
//! Kept in the state directory, bounded, and written when it changes. A memory and no more:
//! a file that is lost or damaged costs a head start.

use serde::{Deserialize, Serialize};
use tunnel::Preference;
use wire::transport::Transport;

use crate::state_dir::StateDir;

/// The file's name in the state directory.
pub const NETWORKS_FILE: &str = "networks.json";

/// Most networks that are remembered; the one that was used longest ago goes first.
const NETWORKS_MAX: usize = 16;

/// For how long, in seconds: then all ways are tried as if for the first time, so that a
/// better one that was blocked once has its chance again. A day.
const GOOD_FOR: i64 = 24 * 60 * 60;

/// Largest file that is read: sixteen entries of 200 bytes, and room.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownNetworks {
    /// The one that was used last is the last.
    networks: Vec<Network>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Network {
    /// See [`tunnel::dial::network`].
    name: String,
    transport: String,
    proxied: bool,
    classical: bool,
    /// When it was learned, in seconds since 1970.
    since: i64,
}

impl Network {
    fn preference(&self) -> Option<Preference> {
        Some(Preference {
            transport: self.transport.parse::<Transport>().ok()?,
            is_proxied: self.proxied,
            is_classical: self.classical,
        })
    }
}

impl KnownNetworks {
    /// As they were kept; none where they were not.
    pub fn load(state: &StateDir) -> Self {
        let text = state.read_private(NETWORKS_FILE, FILE_BYTES_MAX);
        let mut known: Self = text
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        known.forget_oldest();
        known
    }

    /// What to begin with in a network at this moment, in seconds since 1970.
    pub fn preference(&self, network: &str, now: i64) -> Option<Preference> {
        let mut networks = self.networks.iter();
        let found = networks.find(|known| known.name == network)?;
        // A clock that was set back makes it old, too.
        let is_good = (0..GOOD_FOR).contains(&now.saturating_sub(found.since));
        found.preference().filter(|_| is_good)
    }

    /// Takes note of what led to a session, and has it kept if that is news.
    pub fn note(&mut self, state: &StateDir, network: String, (led, now): (Preference, i64)) {
        if self.preference(&network, now).as_ref() == Some(&led) {
            return;
        }
        self.networks.retain(|known| known.name != network);
        self.networks.push(Network {
            name: network,
            transport: led.transport.as_str().to_owned(),
            proxied: led.is_proxied,
            classical: led.is_classical,
            since: now,
        });
        self.forget_oldest();
        let kept = serde_json::to_vec_pretty(self)
            .map_err(std::io::Error::from)
            .and_then(|bytes| state.replace_private(NETWORKS_FILE, &bytes));
        if let Err(error) = kept {
            // The identity's trouble with the disk is told louder.
            tracing::debug!(%error, "what led to the relay is not kept");
        }
    }

    fn forget_oldest(&mut self) {
        let too_many = self.networks.len().saturating_sub(NETWORKS_MAX);
        self.networks.drain(..too_many);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LED: Preference = Preference {
        transport: Transport::Ws443,
        is_proxied: true,
        is_classical: false,
    };

    #[test]
    fn what_led_to_the_relay_is_known_after_a_restart_and_for_a_day() {
        let state = StateDir::in_memory();
        let mut known = KnownNetworks::load(&state);

        known.note(&state, "10.1.0.0/24".into(), (LED, 1_000));

        let known = KnownNetworks::load(&state);
        let at = |now| known.preference("10.1.0.0/24", now);
        assert_eq!(at(1_000 + GOOD_FOR - 1), Some(LED));
        assert_eq!(at(1_000 + GOOD_FOR), None);
        assert_eq!(at(999), None);
        assert_eq!(known.preference("10.2.0.0/24", 1_000), None);
    }

    #[test]
    fn what_is_known_already_is_not_written_again() {
        let state = StateDir::in_memory();
        let mut known = KnownNetworks::default();
        known.note(&state, "a".into(), (LED, 0));
        let elsewhere = StateDir::in_memory();

        known.note(&elsewhere, "a".into(), (LED, 60));

        assert!(elsewhere.read_private(NETWORKS_FILE, 1_000).is_err());
        // And so it is forgotten a day after it was learned, not after it was used.
        assert_eq!(known.preference("a", GOOD_FOR), None);
    }

    #[test]
    fn networks_beyond_the_bound_push_out_the_oldest() {
        let state = StateDir::in_memory();
        let mut known = KnownNetworks::default();

        for network in 0..=NETWORKS_MAX {
            known.note(&state, network.to_string(), (LED, 0));
        }

        assert_eq!(known.networks.len(), NETWORKS_MAX);
        assert_eq!(known.preference("0", 0), None);
        assert_eq!(known.preference("1", 0), Some(LED));
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let state = StateDir::in_memory();
        for damaged in ["", "{", "{\"networks\": 7}", "\u{0}"] {
            state
                .replace_private(NETWORKS_FILE, damaged.as_bytes())
                .unwrap();

            assert_eq!(KnownNetworks::load(&state), KnownNetworks::default());
        }
    }
}
