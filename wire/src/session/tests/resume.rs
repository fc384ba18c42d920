//! Connections that are lost and replaced: every stream goes on, no byte is lost and
//! none comes twice.

use std::time::Duration;

use wire::{
    close::ResetCode,
    id::StreamId,
    session::{Event, Read, StreamReset},
    transport::Transport,
};

use super::pair::{A, B, Pair};

/// The transport before and after the loss.
const CHANGES: [(Transport, Transport); 4] = [
    (Transport::Ws, Transport::Ws),
    (Transport::Quic, Transport::Quic),
    (Transport::Quic, Transport::Ws443),
    (Transport::Ws, Transport::Quic),
];

/// Which ends notice a loss before the next connection is there.
const NOTICES: [[bool; 2]; 4] = [[true, true], [true, false], [false, true], [false, false]];

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 % 253) as u8).collect()
}

/// Runs `before`, loses the connection after every number of steps from none to
/// many, attaches another, and lets `after` judge.
fn lose_at_any_point(
    before: impl Fn(&mut Pair) -> StreamId,
    after: impl Fn(&mut Pair, StreamId, &str),
) {
    for (first, second) in CHANGES {
        for noticed in NOTICES {
            for step in 0..24 {
                let mut pair = Pair::over(first);
                pair.settle();
                let id = before(&mut pair);

                pair.run_for(Duration::from_millis(2 * step));
                pair.cut(noticed);
                pair.run_for(Duration::from_millis(50));
                pair.connect(second);
                pair.settle();

                let case = format!("{first} to {second}, {noticed:?}, step {step}");
                for end in &pair.ends {
                    assert_eq!(end.error, None, "{case}");
                }
                after(&mut pair, id, &case);
            }
        }
    }
}

#[test]
fn bytes_go_on_both_ways_after_a_loss_at_any_point() {
    lose_at_any_point(
        |pair| {
            let id = pair.open(A, pattern(100));
            pair.write(A, id, pattern(90_000));
            pair.run_for(Duration::from_millis(6));
            if pair.took(B, |event| matches!(event, Event::Opened(_))) {
                pair.write(B, id, pattern(60_000));
            }
            id
        },
        |pair, id, case| {
            assert!(
                pair.read_all(B, id) == [pattern(100), pattern(90_000)].concat(),
                "{case}"
            );
            assert!(pair.read_all(A, id) == pattern(60_000), "{case}");
            pair.write(A, id, "and on");
            pair.write(B, id, "and back");
            pair.settle();
            assert_eq!(pair.read_all(B, id), b"and on", "{case}");
            assert_eq!(pair.read_all(A, id), b"and back", "{case}");
        },
    );
}

#[test]
fn a_half_close_outlives_a_loss_at_any_point() {
    lose_at_any_point(
        |pair| {
            let id = pair.open(A, "question");
            pair.finish(A, id);
            id
        },
        |pair, id, case| {
            assert_eq!(pair.read_all(B, id), b"question", "{case}");
            assert_eq!(pair.read(B, id, 1), Ok(Read::Finished), "{case}");
            pair.write(B, id, "answer");
            pair.finish(B, id);
            pair.settle();
            assert_eq!(pair.read_all(A, id), b"answer", "{case}");
            assert_eq!(pair.read(A, id, 1), Ok(Read::Finished), "{case}");
            assert_eq!(pair.read(A, id, 1), Ok(Read::Finished), "{case}");
        },
    );
}

#[test]
fn a_reset_outlives_a_loss_at_any_point() {
    let denied = || StreamReset::new(ResetCode::PolicyDenied, "no");
    lose_at_any_point(
        |pair| {
            let id = pair.open(A, pattern(50_000));
            pair.run_for(pair.latency);
            pair.ends[B].session.reset(pair.now, id, &denied());
            id
        },
        |pair, id, case| {
            assert_eq!(pair.read(A, id, 1), Err(denied()), "{case}");
            assert_eq!(pair.ends[A].session.stopped(id), Some(denied()), "{case}");
            // A refusal that is told twice is no acceptance.
            assert!(
                !pair.took(A, |event| *event == Event::Accepted(id)),
                "{case}"
            );
        },
    );
}

#[test]
fn a_broken_direction_leaves_the_other_after_a_loss_at_any_point() {
    lose_at_any_point(
        |pair| {
            let id = pair.open(A, "some");
            pair.ends[A]
                .session
                .reset_sending(id, StreamReset::cancelled());
            id
        },
        |pair, id, case| {
            assert_eq!(pair.read(B, id, 9), Err(StreamReset::cancelled()), "{case}");
            pair.write(B, id, "answer");
            pair.finish(B, id);
            pair.settle();
            assert_eq!(pair.read_all(A, id), b"answer", "{case}");
            assert_eq!(pair.read(A, id, 1), Ok(Read::Finished), "{case}");
        },
    );
}

#[test]
fn an_acceptance_outlives_a_loss_at_any_point() {
    lose_at_any_point(
        |pair| {
            let id = pair.open(A, "");
            pair.run_for(pair.latency);
            pair.ends[B].session.accept(id);
            id
        },
        |pair, id, case| {
            assert!(
                pair.took(A, |event| *event == Event::Accepted(id)),
                "{case}"
            );
            assert!(
                !pair.took(A, |event| *event == Event::Accepted(id)),
                "{case}: twice"
            );
        },
    );
}

#[test]
fn a_stream_is_released_at_both_after_a_loss_at_any_point_of_its_end() {
    lose_at_any_point(
        |pair| {
            let id = pair.open(A, "question");
            pair.finish(A, id);
            pair.run_for(pair.latency);
            pair.write(B, id, "answer");
            pair.finish(B, id);
            pair.forget(id);
            id
        },
        |pair, _, case| {
            for end in &pair.ends {
                assert_eq!(end.session.streams_open(), 0, "{case}");
                assert_eq!(end.session.streams_held(), 0, "{case}");
            }
        },
    );
}

#[test]
fn a_stream_opened_while_there_is_no_connection_goes_with_the_next() {
    for (first, second) in CHANGES {
        let mut pair = Pair::over(first);
        pair.settle();
        pair.cut([true, true]);

        let id = pair.open(A, "patient");
        pair.connect(second);
        pair.settle();

        assert_eq!(pair.read_all(B, id), b"patient", "{first} to {second}");
    }
}

#[test]
fn credit_told_on_a_lost_connection_is_told_again() {
    for (first, second) in CHANGES {
        let mut pair = Pair::over(first);
        pair.settle();
        let id = pair.open(A, "");
        let mut left = pattern(2_000_000).into();
        let mut got = Vec::new();

        for round in 0.. {
            pair.ends[A].session.write(id, &mut left).unwrap();
            pair.run_for(Duration::from_millis(7));
            got.extend(pair.read_all(B, id));
            if round % 3 == 0 {
                pair.cut([true, false]);
                pair.connect(if round % 2 == 0 { first } else { second });
            }
            if got.len() == 2_000_000 {
                break;
            }
            assert!(round < 5_000, "{first} to {second}: stuck at {}", got.len());
        }

        assert!(
            got == pattern(2_000_000),
            "{first} to {second}: other bytes"
        );
    }
}

#[test]
fn a_better_connection_takes_over_while_the_former_still_delivers() {
    for (first, second) in CHANGES {
        let mut pair = Pair::over(first);
        pair.settle();
        let id = pair.open(A, pattern(200_000));
        pair.run_for(Duration::from_millis(7));
        pair.finish(A, id);

        pair.connect(second);
        let other = pair.open(A, "meanwhile");
        pair.settle();

        assert!(
            pair.read_all(B, id) == pattern(200_000),
            "{first} to {second}"
        );
        assert_eq!(pair.read(B, id, 1), Ok(Read::Finished));
        assert_eq!(pair.read_all(B, other), b"meanwhile");
        assert_eq!(pair.ends[B].error, None);
    }
}

#[test]
fn a_connection_lost_before_both_accounts_were_told_is_replaced_like_any_other() {
    for (first, second) in CHANGES {
        for step in 0..14 {
            let mut pair = Pair::over(first);
            pair.settle();
            let id = pair.open(A, pattern(100_000));
            pair.run_for(Duration::from_millis(6));
            pair.cut([true, true]);
            pair.connect(second);
            pair.run_for(Duration::from_millis(step));
            pair.cut([step % 2 == 0, step % 3 == 0]);

            pair.connect(first);
            pair.settle();

            assert!(
                pair.read_all(B, id) == pattern(100_000),
                "{first}, {second}, step {step}"
            );
        }
    }
}

#[test]
fn thousands_of_streams_are_resumed_in_frames_of_bounded_size() {
    for (first, second) in CHANGES {
        let mut pair = Pair::over(first);
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.extend((0..1_000).map(|_| pair.open(B, "before")));
            pair.settle();
            for id in &ids {
                pair.ends[A].session.accept(*id);
            }
        }

        pair.cut([true, true]);
        for id in &ids {
            pair.write(B, *id, ", after");
        }
        pair.connect(second);
        pair.settle();

        for id in ids {
            assert_eq!(
                pair.read_all(A, id),
                b"before, after",
                "{first} to {second}"
            );
        }
    }
}

#[test]
fn a_closing_session_says_so_on_the_next_connection() {
    let mut pair = Pair::over(Transport::Ws);
    pair.settle();
    pair.cut([true, true]);
    pair.connect(Transport::Ws);

    pair.ends[B]
        .session
        .close(wire::close::CloseCode::Revoked, "");
    pair.settle();

    assert!(
        pair.ends[A]
            .session
            .closed()
            .is_some_and(|closed| closed.is_by_peer)
    );
}
