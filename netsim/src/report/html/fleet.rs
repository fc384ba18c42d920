//! How many of many hosts were online, where not all have a lane.

use std::{collections::BTreeMap, time::Duration};

use super::{
    lane::Lane,
    put,
    scale::{LEFT, RIGHT, Time},
};
use crate::report::figure;

/// How high it is.
const HEIGHT: f64 = 72.0;

/// Draws it from `top` on, and says where it ends.
pub(super) fn draw(into: &mut String, lanes: &[Lane<'_>], time: Time, top: f64) -> f64 {
    let base = top + HEIGHT;
    let ceiling = lanes.len();
    put!(
        into,
        "<g class=\"plot fleet\"><title>How many of {0} hosts were online</title>\
         <text class=\"host\" x=\"0\" y=\"{1:.0}\">all hosts</text>\
         <text class=\"unit\" x=\"0\" y=\"{2:.0}\">online</text>\
         <path class=\"grid\" d=\"M{LEFT} {base:.1}H{RIGHT}M{LEFT} {top:.1}H{RIGHT}\"/>\
         <text class=\"tick\" x=\"{3:.0}\" y=\"{4:.1}\">{0}</text>\
         <text class=\"tick\" x=\"{3:.0}\" y=\"{5:.1}\">0</text>\
         <path class=\"area\" d=\"M{LEFT} {base:.1}",
        figure::count(ceiling),
        top + HEIGHT / 2.0 - 2.0,
        top + HEIGHT / 2.0 + 11.0,
        LEFT - 6.0,
        top + 3.5,
        base + 3.5,
    );
    for (pixel, (lowest, last)) in steps(lanes, time) {
        let y = |online| base - HEIGHT * share(online, ceiling);
        put!(into, "H{pixel}V{:.1}V{:.1}", y(lowest), y(last));
    }
    put!(into, "H{RIGHT}V{base:.1}z\"/></g>\n");
    base + 18.0
}

/// How many are online from each pixel on at which that changes: the fewest, and in the
/// end. More changes than pixels cannot be seen, but that nobody was there can.
fn steps(lanes: &[Lane<'_>], time: Time) -> BTreeMap<i64, (usize, usize)> {
    let mut changes: BTreeMap<Duration, (usize, usize)> = BTreeMap::new();
    for band in lanes.iter().flat_map(|lane| &lane.bands) {
        changes.entry(band.from).or_default().0 += 1;
        if band.until < time.end() {
            changes.entry(band.until).or_default().1 += 1;
        }
    }
    let mut steps = BTreeMap::new();
    let mut online = 0_usize;
    for (at, (come, go)) in changes {
        online = (online + come).saturating_sub(go);
        let (lowest, last) = steps.entry(pixel(time.x(at))).or_insert((online, online));
        *lowest = online.min(*lowest);
        *last = online;
    }
    steps
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "places are inside of the picture"
)]
fn pixel(x: f64) -> i64 {
    x.round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "a share of some seventy pixels")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::fixture, lane},
        *,
    };

    #[test]
    fn a_moment_without_anybody_is_seen_however_short() {
        let run = fixture::fleet(500);
        let lanes = lane::lanes(&run);

        let steps = steps(&lanes, Time::of(run.lasted));

        assert!(steps.values().any(|(lowest, _)| *lowest == 0));
        let last = steps.values().next_back();
        assert_eq!(last.map(|(_, last)| *last), Some(500));
        assert!(steps.len() < 300, "no more than there are pixels");
    }
}
