//! What holds whoever comes, and whenever.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::limits::{HANDSHAKE_RATE_MAX, HANDSHAKE_RATE_MIN, SLOT_MAX, SLOT_MIN};

const SECOND: Duration = Duration::from_secs(1);

fn fixed(rate: f64) -> (Admission, Instant) {
    let now = tunnel::World::real().clock.now();
    (Admission::new(now, Rate::Fixed(rate)), now)
}

fn door() -> impl Strategy<Value = Door> {
    prop_oneof![
        Just(Door::Tunnel),
        Just(Door::TunnelQuic),
        Just(Door::Https)
    ]
}

proptest! {
    #[test]
    fn never_more_come_in_than_rate_and_bursts_allow(
        rate in 1.0_f64..5_000.0,
        steps in prop::collection::vec((0_u64..20_000, door()), 1..2_000),
    ) {
        let (mut admission, start) = fixed(rate);
        let (mut now, mut admitted) = (start, 0_u32);
        for (micros, door) in steps {
            now += Duration::from_micros(micros);
            let verdict = admission.arrive(now, door);
            admitted += u32::from(matches!(verdict, Verdict::Admit | Verdict::AdmitOperator));
        }
        let elapsed = (now - start).as_secs_f64();
        let (bursts, share) = (2.0 * ADMISSION_BURST_MIN, 1.0 + OPERATORS_SHARE);
        let most = share * rate * (elapsed + ADMISSION_BURST.as_secs_f64()) + bursts;
        prop_assert!(f64::from(admitted) <= most + 1.0, "{admitted} of {most}");
    }

    #[test]
    fn every_time_that_is_told_lies_within_the_bounds(
        rate in 1.0_f64..5_000.0,
        missing in 0_u32..200_000,
        window_s in 0_u64..4_000,
        steps in prop::collection::vec(0_u64..50_000, 1..2_000),
    ) {
        let (mut admission, mut now) = fixed(rate);
        let window = Duration::from_secs(window_s);
        admission.expect(Fleet { missing, window });
        for micros in steps {
            now += Duration::from_micros(micros);
            if let Verdict::Later(slot) = admission.arrive(now, Door::Tunnel) {
                prop_assert!(slot >= SLOT_MIN);
                prop_assert!(slot <= SLOT_MAX.max(window) + SECOND);
            }
        }
    }

    #[test]
    fn what_was_learnt_is_a_rate_whatever_was_seen(
        samples in prop::collection::vec(
            (0_u64..2_000, 0_u64..200_000, 0_u64..100_000, 0_u64..100_000, 0_u64..60_000), 0..60,
        ),
    ) {
        let mut calibration = Calibration::new(2);
        for (elapsed, spent, admitted, finished, late) in samples {
            calibration.learn(Sample {
                elapsed: Duration::from_millis(elapsed),
                processor_time: Duration::from_millis(spent),
                admitted,
                finished,
                lateness: Duration::from_millis(late),
            });
            let rate = calibration.rate();
            prop_assert!((HANDSHAKE_RATE_MIN..=HANDSHAKE_RATE_MAX).contains(&rate), "{rate}");
        }
    }
}

#[test]
fn the_times_of_a_crowd_are_as_far_apart_as_handshakes_are() {
    let (mut admission, now) = fixed(100.0);
    while admission.arrive(now, Door::Tunnel) == Verdict::Admit {}

    let mut slots: Vec<_> = (0..1_000).map(|_| admission.book(now)).collect();
    slots.sort();

    let in_a_second = |from: u64| {
        let from = Duration::from_secs(from);
        slots
            .iter()
            .filter(|slot| (from..from + SECOND).contains(*slot))
            .count()
    };
    for second in 1..9 {
        let count = in_a_second(second);
        assert!((75..=100).contains(&count), "{count} in second {second}");
    }
    assert_eq!(admission.booked(now), 1_001);
}

#[test]
fn a_time_that_is_past_is_booked_no_more_though_nobody_comes() {
    let (mut admission, now) = fixed(100.0);
    while admission.arrive(now, Door::Tunnel) == Verdict::Admit {}

    assert_eq!(admission.booked(now), 1);
    assert_eq!(admission.booked(now + 120 * SECOND), 0);
}

#[test]
fn who_keeps_the_time_that_was_told_comes_in() {
    let (mut admission, now) = fixed(50.0);
    let mut coming = Vec::new();
    for _ in 0..500 {
        if let Verdict::Later(slot) = admission.arrive(now, Door::Tunnel) {
            coming.push(slot);
        }
    }
    coming.sort();
    let sent_away = coming.len();

    let comes_in = |slot: &Duration| admission.arrive(now + *slot, Door::Tunnel);
    let verdicts: Vec<_> = coming.iter().map(comes_in).collect();

    assert!(sent_away > 400, "{sent_away}");
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Admit));
}

#[test]
fn operators_come_in_by_https_while_agents_take_every_token() {
    let (mut admission, now) = fixed(100.0);
    while admission.arrive(now, Door::Tunnel) == Verdict::Admit {}

    assert_eq!(admission.arrive(now, Door::Https), Verdict::AdmitOperator);
    assert_eq!(admission.arrive(now, Door::TunnelQuic), Verdict::Refuse);
    while admission.arrive(now, Door::Https) == Verdict::AdmitOperator {}
    assert_eq!(admission.arrive(now, Door::Https), Verdict::Refuse);
}

/// A machine on which a handshake costs so much, at the rate that the calibration has.
fn work(calibration: &mut Calibration, cost: Duration, others: f64, intervals: u32) {
    for _ in 0..intervals {
        let elapsed = Duration::from_millis(250);
        let wanted = calibration.rate() * elapsed.as_secs_f64();
        let free = (2.0 - others) * elapsed.as_secs_f64();
        let done = wanted.min(free / cost.as_secs_f64());
        let is_late = wanted > done * 1.01;
        calibration.learn(Sample {
            elapsed,
            processor_time: cost.mul_f64(done),
            admitted: wanted as u64,
            finished: done as u64,
            lateness: Duration::from_millis(if is_late { 400 } else { 1 }),
        });
    }
}

#[test]
fn the_rate_becomes_that_of_the_machine_from_a_guess_on_either_side() {
    for cost_micros in [200, 700, 5_000] {
        let mut calibration = Calibration::new(2);
        let cost = Duration::from_micros(cost_micros);

        work(&mut calibration, cost, 0.0, 60);

        let machine = 2.0 / cost.as_secs_f64();
        let share = calibration.rate() / machine;
        assert!((0.85..=1.0).contains(&share), "{share} at {cost:?}");
    }
}

#[test]
fn a_machine_that_others_use_too_lets_fewer_in_and_more_again_when_they_have_gone() {
    let mut calibration = Calibration::new(2);
    let cost = Duration::from_millis(1);
    work(&mut calibration, cost, 0.0, 60);
    let alone = calibration.rate();

    work(&mut calibration, cost, 1.0, 60);
    let beside_others = calibration.rate();
    work(&mut calibration, cost, 0.0, 60);

    assert!(beside_others < 0.6 * alone, "{beside_others} of {alone}");
    assert!(calibration.rate() > 0.95 * alone);
}

#[test]
fn a_crowd_that_comes_and_one_that_goes_do_not_tell_what_a_handshake_costs() {
    let mut calibration = Calibration::new(2);
    work(&mut calibration, Duration::from_micros(700), 0.0, 60);
    let steady = calibration.cost();

    for (admitted, finished) in [(706, 338), (2, 746)] {
        calibration.learn(Sample {
            elapsed: Duration::from_millis(250),
            processor_time: Duration::from_millis(495),
            admitted,
            finished,
            lateness: Duration::from_millis(2),
        });
    }

    assert_eq!(calibration.cost(), steady);
}

#[test]
fn a_rate_far_above_the_machine_s_comes_down_though_few_come_in_at_it() {
    let mut calibration = Calibration::resuming(2, Duration::from_micros(200));
    let before = calibration.rate();

    // A neighbour has most of the machine, and who comes in waits for its handshake.
    for _ in 0..20 {
        calibration.learn(Sample {
            elapsed: Duration::from_millis(250),
            processor_time: Duration::from_millis(100),
            admitted: 500,
            finished: 500,
            lateness: Duration::from_millis(30),
        });
    }

    assert!(before > 9_000.0, "{before}");
    assert!(
        (1_700.0..2_100.0).contains(&calibration.rate()),
        "{}",
        calibration.rate()
    );
}

#[test]
fn what_a_handshake_costs_beside_idle_processors_says_nothing_of_full_ones() {
    let mut calibration = Calibration::new(2);
    work(&mut calibration, Duration::from_micros(700), 0.0, 60);
    let full = calibration.rate();

    for _ in 0..60 {
        let handshakes = (0.5 * 0.25 * calibration.rate()) as u64;
        calibration.learn(Sample {
            elapsed: Duration::from_millis(250),
            processor_time: Duration::from_micros(1_000) * handshakes as u32,
            admitted: handshakes,
            finished: handshakes,
            lateness: Duration::from_micros(100),
        });
    }

    assert!(
        calibration.rate() >= full,
        "{} of {full}",
        calibration.rate()
    );
}

#[test]
fn the_window_is_as_long_as_all_agents_take() {
    let (admission, _) = fixed(2_000.0);

    let window = admission.window(100_000);

    assert!((50.0..55.0).contains(&window.as_secs_f64()), "{window:?}");
    assert_eq!(admission.window(0), Duration::ZERO);
}
