//! Packets are conserved, keep their order unless they are to lose it, and come out no
//! faster than the line is.

use proptest::prelude::*;

use super::{super::fixture::*, *};
use crate::{
    model::Reorder,
    term::{At, Choice, Probability, Rate, Scalar, Size},
};

fn pipe(line: Line) -> Pipe {
    Pipe::new(line, Side::Outside, BY, (Seed(1), "cable.uplink"))
}

fn probability(value: f64) -> Choice<Probability> {
    Choice::Fixed(Probability::from_text(&value.to_string()).expect("between 0 and 1"))
}

const fn ms(millis: u64) -> Instant {
    Instant::at(Duration::from_millis(millis))
}

/// A datagram that says its number.
fn numbered(number: u32) -> Packet {
    udp(INNER, OUTER, &number.to_be_bytes())
}

/// Everything that comes out until nothing is under way any more, with its time.
fn drained(pipe: &mut Pipe) -> Vec<(Instant, Packet)> {
    let mut out = Vec::new();
    while let Some(at) = pipe.poll_at() {
        let mut verdicts = Vec::new();
        pipe.on_time(at, &mut verdicts);
        for verdict in verdicts {
            match verdict {
                Verdict::Forward { packet, .. } => out.push((at, packet)),
                Verdict::Drop { .. } => panic!("nothing is lost at the end of a pipe"),
            }
        }
    }
    out
}

/// Puts packets in, one every `pause`, and tells what came out and how many were dropped.
fn run(line: Line, count: u32, pause: Duration) -> (Vec<(Instant, Packet)>, usize, Pipe) {
    let mut pipe = pipe(line);
    let mut verdicts = Vec::new();
    for number in 0..count {
        pipe.on_packet(Instant::at(pause * number), numbered(number), &mut verdicts);
    }
    let out = drained(&mut pipe);
    (out, verdicts.len(), pipe)
}

fn numbers(out: &[(Instant, Packet)]) -> Vec<u32> {
    let payload = |packet: &Packet| packet.payload().try_into().expect("four bytes");
    out.iter()
        .map(|(_, packet)| u32::from_be_bytes(payload(packet)))
        .collect()
}

#[test]
fn a_packet_takes_its_delay() {
    let mut line = Line::IDEAL;
    line.delay = Choice::Fixed(Duration::from_millis(20));

    let (out, _, _) = run(line, 1, Duration::ZERO);

    assert_eq!(out[0].0, ms(20));
}

#[test]
fn a_slow_line_sends_one_packet_after_the_other() {
    let mut line = Line::IDEAL;
    // 32 bytes a packet: 256 bits take 1 ms.
    line.rate = Some(Choice::Fixed(Rate {
        bits_per_second: 256_000,
    }));

    let (out, dropped, pipe) = run(line, 3, Duration::ZERO);

    let times: Vec<Instant> = out.iter().map(|(at, _)| *at).collect();
    assert_eq!((times, dropped), (vec![ms(1), ms(2), ms(3)], 0));
    assert_eq!(pipe.touched().of(Cause::Queued), 2);
}

#[test]
fn a_full_queue_loses_what_comes_last() {
    let mut line = Line::IDEAL;
    line.rate = Some(Choice::Fixed(Rate {
        bits_per_second: 256_000,
    }));
    line.queue = Choice::Fixed(Size { bytes: 96 });

    let (out, dropped, pipe) = run(line, 10, Duration::ZERO);

    assert_eq!(numbers(&out), [0, 1, 2]);
    assert_eq!((dropped, pipe.touched().of(Cause::QueueFull)), (7, 7));
}

#[test]
fn loss_is_about_as_likely_as_it_should_be() {
    let mut line = Line::IDEAL;
    line.loss = probability(0.1);

    let (out, dropped, _) = run(line, 10_000, Duration::from_millis(1));

    assert!((800..1200).contains(&dropped), "{dropped}");
    assert_eq!(out.len() + dropped, 10_000);
}

#[test]
fn loss_in_bursts_comes_in_rows() {
    let mut line = Line::IDEAL;
    line.bursts = Some(Bursts {
        enter: probability(0.01),
        leave: probability(0.1),
        bad: probability(1.0),
        good: probability(0.0),
    });

    let (out, dropped, _) = run(line, 20_000, Duration::from_millis(1));

    // A burst has ten packets on average; without bursts a gap would be little above one.
    let numbers = numbers(&out);
    let gaps = numbers
        .windows(2)
        .filter(|pair| pair[1] > pair[0] + 1)
        .count();
    let average = dropped / gaps.max(1);
    assert!((6..16).contains(&average), "{average}");
    assert!((1000..2800).contains(&dropped), "{dropped}");
}

#[test]
fn what_is_too_long_is_refused_by_name_or_in_silence() {
    for (too_big, is_told) in [(TooBig::Icmp, true), (TooBig::Silence, false)] {
        let mut line = Line::IDEAL;
        line.mtu = At::nowhere(Choice::Fixed(576));
        line.too_big = too_big;
        let mut pipe = pipe(line);
        let mut verdicts = Vec::new();

        pipe.on_packet(ms(0), udp(INNER, OUTER, &[0; 549]), &mut verdicts);

        assert_eq!(pipe.touched().of(Cause::TooBig), 1);
        let told = verdicts.iter().any(|verdict| match verdict {
            Verdict::Forward { to, packet } => {
                *to == Side::Inside && packet.trouble() == Some(Trouble::TooBig { mtu: 576 })
            }
            Verdict::Drop { .. } => false,
        });
        assert_eq!(told, is_told);
    }
}

#[test]
fn a_packet_that_is_to_be_overtaken_is() {
    let mut line = Line::IDEAL;
    line.reorder = Some(Reorder {
        share: probability(0.2),
        by: Choice::Fixed(Duration::from_millis(5)),
    });

    let (out, _, pipe) = run(line, 100, Duration::from_millis(1));

    let numbers = numbers(&out);
    assert!(
        numbers.windows(2).any(|pair| pair[0] > pair[1]),
        "{numbers:?}"
    );
    assert!(pipe.touched().of(Cause::Reordered) > 5);
}

#[test]
fn a_corrupted_packet_differs_in_one_bit() {
    let mut line = Line::IDEAL;
    line.corrupt = probability(1.0);

    let (out, dropped, pipe) = run(line, 200, Duration::from_millis(1));

    assert_eq!(pipe.touched().of(Cause::Corrupted), 200);
    assert_eq!(out.len() + dropped, 200);
    for (at, packet) in &out {
        let number = u32::try_from(at.since_start().as_millis()).expect("a small number");
        let original = numbered(number);
        let pairs = packet.bytes().iter().zip(original.bytes());
        let differing: u32 = pairs.map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(differing, 1);
    }
}

#[test]
fn the_same_seed_treats_packets_the_same() {
    let mut line = Line::IDEAL;
    line.loss = probability(0.3);
    line.jitter = Some(Jitter {
        shape: Shape::Pareto,
        spread: Choice::Fixed(Duration::from_millis(10)),
    });

    let (first, _, _) = run(line.clone(), 100, Duration::from_millis(1));
    let (second, _, _) = run(line, 100, Duration::from_millis(1));

    assert_eq!(first, second);
}

#[test]
fn one_fault_taken_out_does_not_shift_another() {
    let mut both = Line::IDEAL;
    both.loss = probability(0.3);
    both.duplicate = probability(0.5);
    let mut loss_alone = both.clone();
    loss_alone.duplicate = probability(0.0);

    let (with, _, _) = run(both, 200, Duration::from_millis(1));
    let (without, _, _) = run(loss_alone, 200, Duration::from_millis(1));

    let mut with = numbers(&with);
    with.dedup();
    assert_eq!(with, numbers(&without));
}

prop_compose! {
    fn line()(
        delay in 0_u64..100,
        spread in 0_u64..50,
        shape in prop::sample::select(Shape::ALL),
        loss in 0.0..0.5_f64,
        duplicate in 0.0..0.5_f64,
        rate in prop::option::of(10_000_u64..10_000_000),
        queue in 0_u64..10_000,
    ) -> Line {
        let mut line = Line::IDEAL;
        line.delay = Choice::Fixed(Duration::from_millis(delay));
        line.jitter = Some(Jitter { shape, spread: Choice::Fixed(Duration::from_millis(spread)) });
        line.loss = probability(loss);
        line.duplicate = probability(duplicate);
        line.rate = rate.map(|bits_per_second| Choice::Fixed(Rate { bits_per_second }));
        line.queue = Choice::Fixed(Size { bytes: queue });
        line
    }
}

proptest! {
    #[test]
    fn every_packet_comes_out_or_is_dropped_with_a_cause(
        line in line(),
        count in 1_u32..200,
        pause in 0_u64..20,
    ) {
        let (out, dropped, pipe) = run(line, count, Duration::from_millis(pause));

        let doubled = usize::try_from(pipe.touched().of(Cause::Duplicated)).expect("few");
        prop_assert_eq!(out.len() + dropped, count as usize + doubled);
        let causes = [Cause::Loss, Cause::QueueFull].map(|cause| pipe.touched().of(cause));
        prop_assert_eq!(causes.iter().sum::<u64>(), dropped as u64);
        prop_assert_eq!(pipe.under_way(), 0);
    }

    #[test]
    fn without_reorder_packets_keep_their_order_whatever_the_jitter(
        line in line(),
        pause in 0_u64..20,
    ) {
        let (out, _, _) = run(line, 150, Duration::from_millis(pause));

        let numbers = numbers(&out);
        prop_assert!(numbers.windows(2).all(|pair| pair[0] <= pair[1]), "{numbers:?}");
    }

    #[test]
    fn no_more_comes_out_than_the_rate_allows(
        rate in 10_000_u64..1_000_000,
        pause in 0_u64..5,
    ) {
        let mut line = Line::IDEAL;
        line.rate = Some(Choice::Fixed(Rate { bits_per_second: rate }));

        let (out, _, _) = run(line, 200, Duration::from_millis(pause));

        let mut bits = 0;
        for (at, packet) in &out {
            bits += packet.len() as u128 * 8;
            let allowed = at.since_start().as_nanos() * u128::from(rate) / 1_000_000_000;
            prop_assert!(bits <= allowed + 1, "{bits} bits after {at}");
        }
    }

    #[test]
    fn nothing_comes_out_before_its_delay(line in line(), pause in 0_u64..20) {
        let delay = line.delay.get();

        let (out, _, _) = run(line, 100, Duration::from_millis(pause));

        for ((at, _), number) in out.iter().zip(numbers(&out)) {
            let put_in = Instant::at(Duration::from_millis(pause) * number);
            prop_assert!(at.since(put_in) >= delay);
        }
    }
}
