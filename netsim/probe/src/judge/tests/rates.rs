//! Bytes in time: what every measurement says counts, and what one of them says does not.

use super::{healthy, judge, warns};
use crate::{
    observe::{Flow, Observations, RateTest},
    verdict::{Code, Verdict},
};

/// By satellite: loss leaves little of what a round trip is long for.
fn far(mut seen: Observations) -> Observations {
    for test in &mut seen.rates {
        test.idle_rtt = 600_000;
    }
    seen
}

fn measured(rounds: &[(Flow, u64)]) -> Observations {
    let mut seen = healthy();
    let rates = rounds.iter().map(|(flow, bytes)| RateTest {
        flow: *flow,
        is_down: true,
        bytes: *bytes,
        micros: 1_000_000,
        idle_rtt: 20_000,
        loaded_rtt: None,
    });
    seen.rates = rates.collect();
    seen
}

fn rounds(rounds: &[(u64, u64)]) -> Observations {
    let both = rounds
        .iter()
        .flat_map(|(tcp, quic)| [(Flow::Websocket, *tcp), (Flow::Quic, *quic)]);
    measured(&both.collect::<Vec<_>>())
}

#[test]
fn udp_that_is_slow_beside_tcp_each_time_is_policed() {
    let policed = rounds(&[
        (4_000_000, 40_000),
        (3_000_000, 60_000),
        (4_500_000, 50_000),
    ]);

    warns(policed.clone(), Flow::Quic, Code::Rate);
    let report = judge(policed);
    let says = &report.flows[2].causes[0].says;
    assert!(
        says.contains("UDP is policed") && says.contains("3 measurements"),
        "{says}"
    );
}

#[test]
fn udp_that_random_loss_explains_names_nobody() {
    for unlucky in [
        &[(4_000_000, 40_000)][..],
        &[(4_000_000, 40_000), (4_000_000, 40_000)],
        &[
            (4_000_000, 40_000),
            (4_000_000, 40_000),
            (4_000_000, 900_000),
        ],
        &[(4_000_000, 40_000), (250_000, 40_000), (4_000_000, 40_000)],
        &[(400_000, 300_000), (90_000, 400_000), (300_000, 30_000)],
        // As measured with two percent of loss each way.
        &[
            (3_700_000, 770_000),
            (4_100_000, 750_000),
            (4_100_000, 400_000),
        ],
        &[
            (2_100_000, 390_000),
            (2_400_000, 190_000),
            (3_000_000, 200_000),
        ],
    ] {
        let report = judge(rounds(unlucky));
        assert_eq!(report.verdict, Verdict::Open, "{unlucky:?}");
    }
}

#[test]
fn udp_that_is_as_slow_as_tcp_is_a_slow_line_and_only_below_256_kbit_worth_a_word() {
    let megabit = rounds(&[(120_000, 110_000); 3]);
    assert_eq!(judge(megabit).verdict, Verdict::Open);

    let narrow = rounds(&[(8_000, 7_000), (7_500, 6_000), (8_000, 7_500)]);
    warns(narrow.clone(), Flow::Websocket, Code::Rate);
    warns(narrow, Flow::Quic, Code::Rate);

    let once = rounds(&[(8_000, 7_000)]);
    assert_eq!(judge(once).verdict, Verdict::Open);
    let one_flow = rounds(&[(400_000, 7_000), (400_000, 8_000), (40_000, 7_000)]);
    warns(one_flow.clone(), Flow::Quic, Code::Rate);
    assert_eq!(judge(far(one_flow)).verdict, Verdict::Open);
}

#[test]
fn no_draw_of_random_loss_is_called_policed() {
    // Two seconds with loss of a few percent scatter by a factor of ten, for both flows alike.
    let mut state = 1_u64;
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        40_000 + (state >> 33) % 400_000
    };
    for _ in 0..1_000 {
        let drawn: Vec<(u64, u64)> = (0..3).map(|_| (draw(), draw())).collect();
        assert_eq!(judge(rounds(&drawn)).verdict, Verdict::Open, "{drawn:?}");
    }
}
