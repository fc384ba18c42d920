//! Little goes through: a line that is slow, or somebody who polices UDP.
//!
//! Bytes in two seconds say little where packets are lost: one loss at the wrong moment halves
//! them. What a rule does it does each time, and what is lost at random is lost elsewhere the next
//! time, so nothing counts that was not so in [`TIMES`] measurements. That alone does not make a
//! rule: with two percent of loss QUIC gets a tenth of what the kernel's TCP gets, each time. But
//! a loss of a few percent leaves a window of several packets (Mathis et al. 1997: 1.22 over its
//! root), and a loss that leaves less would meet TCP as well.

use super::scene::Scene;
use crate::{
    observe::{Flow, Micros, RateTest},
    verdict::{Cause, Code},
};

/// Measurements of one direction that have to agree.
const TIMES: usize = 3;

/// Slower is told of: 256 kbit/s.
const SLOW_BYTES_PER_SECOND: u64 = 32 * 1024;

/// Where UDP gets less than this share of what TCP gets, both do not suffer from the same.
const POLICED_SHARE: u64 = 8;

/// A window on average of less than two packets of QUIC: more than a third of them is lost.
const STARVED_WINDOW_BYTES: u64 = 2 * 1_200;

/// What is faster is not worth anybody's complaint: 2 Mbit/s.
const POLICED_BYTES_PER_SECOND_MAX: u64 = 256 * 1024;

/// The caveat of a flow, the worse direction first.
pub(super) fn caveat(scene: Scene<'_>, flow: Flow) -> Option<Cause> {
    let mut caveats: Vec<(u64, Cause)> = [true, false]
        .into_iter()
        .filter_map(|is_down| policed(scene, flow, is_down).or_else(|| slow(scene, flow, is_down)))
        .collect();
    caveats.sort_by_key(|(speed, _)| *speed);
    caveats.into_iter().next().map(|(_, cause)| cause)
}

/// UDP alone is slow, and so slow that random loss is no explanation.
fn policed(scene: Scene<'_>, flow: Flow, is_down: bool) -> Option<(u64, Cause)> {
    let udp = rates(scene, |test| test.flow == flow && test.is_down == is_down);
    let tcp = rates(scene, |test| {
        test.flow != Flow::Quic && test.is_down == is_down
    });
    let (speed, beside) = (udp.iter().max().copied()?, tcp.iter().min().copied()?);
    let are_enough = flow == Flow::Quic && udp.len() >= TIMES && tcp.len() >= TIMES;
    let is_policed = are_enough
        && beside > POLICED_SHARE * speed
        && !may_be_loss(scene, speed)
        && speed < POLICED_BYTES_PER_SECOND_MAX;
    is_policed.then(|| {
        let says = format!(
            "UDP is policed: in each of {} measurements at most {} kbit/s went {}, and by TCP \
             beside it at least {} kbit/s",
            udp.len(),
            kilobits(speed),
            way(is_down),
            kilobits(beside)
        );
        (speed, Cause::new(Code::Rate, says))
    })
}

/// Whether random loss of a few percent may be all that leaves so little.
fn may_be_loss(scene: Scene<'_>, speed: u64) -> bool {
    let round_trips = scene.seen.rates.iter().map(|test| test.idle_rtt);
    let shortest: Micros = round_trips.min().unwrap_or_default();
    speed.saturating_mul(shortest) / 1_000_000 >= STARVED_WINDOW_BYTES
}

/// Everything is slow, or this flow each time.
fn slow(scene: Scene<'_>, flow: Flow, is_down: bool) -> Option<(u64, Cause)> {
    let own = rates(scene, |test| test.flow == flow && test.is_down == is_down);
    let all = rates(scene, |test| test.is_down == is_down);
    let are_slow = |rates: &[u64]| {
        rates.len() >= TIMES && rates.iter().all(|speed| *speed < SLOW_BYTES_PER_SECOND)
    };
    let speed = own.iter().max().copied()?;
    (are_slow(&all) || are_slow(&own) && !may_be_loss(scene, speed)).then(|| {
        let says = format!(
            "only {} kbit/s go through {}, at best",
            kilobits(speed),
            way(is_down)
        );
        (speed, Cause::new(Code::Rate, says))
    })
}

const fn way(is_down: bool) -> &'static str {
    match is_down {
        true => "from the relay",
        false => "to the relay",
    }
}

fn kilobits(bytes_per_second: u64) -> u64 {
    bytes_per_second.max(125) * 8 / 1_000
}

fn rates(scene: Scene<'_>, wanted: impl Fn(&RateTest) -> bool) -> Vec<u64> {
    let tests = scene.seen.rates.iter().filter(|test| wanted(test));
    tests.map(RateTest::per_second).collect()
}
