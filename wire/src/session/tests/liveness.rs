//! Heartbeats, control messages, and how a session ends.

use std::time::Duration;

use wire::{
    close::{CloseCode, ResetCode},
    frame::{Frame, Goaway},
    limits::{CONTROL_BACKLOG_MAX, HEARTBEAT_ANSWER_MAX},
    session::{Event, OpenError, ProtocolError},
    transport::Transport,
};

use super::pair::{A, B, Pair};

const BOTH_KINDS: [Transport; 2] = [Transport::Ws, Transport::Quic];

fn is_dead(event: &Event) -> bool {
    matches!(event, Event::ConnectionDead(_))
}

fn closed_with(code: CloseCode) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Closed(closed) if closed.code == code)
}

#[test]
fn the_first_exchange_measures_the_round_trip_at_both_ends() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        pair.latency = Duration::from_millis(40);

        pair.settle();

        for end in &pair.ends {
            let rtt = end.session.rtt().unwrap();
            assert!(
                rtt >= Duration::from_millis(40) && rtt <= Duration::from_millis(85),
                "{rtt:?}"
            );
        }
    }
}

#[test]
fn an_idle_session_lives_for_hours() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);

        pair.run_for(Duration::from_secs(4 * 3600));

        assert!(!pair.took(A, is_dead) && !pair.took(B, is_dead));
    }
}

#[test]
fn a_dead_peer_is_noticed_within_35_seconds_at_either_end() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        pair.settle();

        pair.cut([false, false]);
        pair.run_for(Duration::from_secs(35));

        assert!(
            pair.took(A, is_dead) && pair.took(B, is_dead),
            "{transport}"
        );
    }
}

#[test]
fn a_dead_peer_is_noticed_sooner_while_streams_are_open() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        pair.open(A, "");
        pair.settle();

        pair.cut([false, false]);
        pair.run_for(transport.heartbeat_busy() + HEARTBEAT_ANSWER_MAX);

        assert!(
            pair.took(A, is_dead) && pair.took(B, is_dead),
            "{transport}"
        );
    }
}

#[test]
fn regression_a_dead_peer_is_noticed_even_where_nothing_can_be_written() {
    let mut pair = Pair::over(Transport::Ws);
    pair.settle();
    let start = pair.now;
    let end = start + Duration::from_secs(60);
    let session = &mut pair.ends[A].session;

    // A full socket: nobody asks for a message, so no ping leaves.
    while let Some(deadline) = session.poll_timeout().filter(|deadline| *deadline <= end) {
        session.handle_timeout(deadline);
        if session.poll_event().as_ref().is_some_and(is_dead) {
            return;
        }
    }

    panic!("believed alive");
}

#[test]
fn control_messages_arrive_in_order() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);

        for text in ["one", "two", "three"] {
            pair.ends[A].session.send_control(text.into());
        }
        pair.settle();

        let got: Vec<_> = pair.ends[B]
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Control(bytes) => Some(bytes.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(got, ["one", "two", "three"]);
    }
}

#[test]
fn control_messages_that_nobody_takes_are_bounded() {
    let mut pair = Pair::over(Transport::Ws);
    pair.settle();

    let results: Vec<_> = (0..=CONTROL_BACKLOG_MAX)
        .map(|_| pair.inject(A, Frame::Control("x".into())))
        .collect();

    assert!(results[..CONTROL_BACKLOG_MAX].iter().all(Result::is_ok));
    assert!(matches!(
        results[CONTROL_BACKLOG_MAX],
        Err(ProtocolError::LimitExceeded(_))
    ));
}

#[test]
fn a_goaway_is_heard_and_streams_go_on() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "before");
        pair.settle();
        let goaway = Goaway {
            reconnect_after_ms: 5,
            window_ms: 1_000,
            drain_ms: 30_000,
            address: "other.example:8000".into(),
        };

        pair.ends[B].session.goaway(goaway.clone());
        pair.write(A, id, " and after");
        pair.settle();

        assert!(pair.took(A, |event| *event == Event::Goaway(goaway.clone())));
        assert_eq!(pair.read_all(B, id), b"before and after");
    }
}

#[test]
fn when_the_peer_was_last_heard_is_known_after_the_end() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        pair.settle();
        pair.run_for(Duration::from_secs(60));

        pair.ends[B].session.close(CloseCode::Shutdown, "over");
        pair.settle();

        let heard = pair.ends[A].session.last_heard();
        assert!(pair.ends[A].session.closed().is_some());
        assert!(heard.is_some_and(|heard| pair.now - heard < Duration::from_secs(5)));
    }
}

#[test]
fn a_close_ends_both_ends_with_its_code_and_reason() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        pair.settle();

        pair.ends[B].session.close(CloseCode::Revoked, "removed");
        pair.settle();

        let (ours, theirs) = (pair.ends[B].session.closed(), pair.ends[A].session.closed());
        assert_eq!(
            ours.map(|closed| (closed.code, closed.is_by_peer)),
            Some((CloseCode::Revoked, false))
        );
        assert_eq!(
            theirs.map(|closed| (closed.code, closed.is_by_peer)),
            Some((CloseCode::Revoked, true))
        );
        assert_eq!(theirs.map(|closed| &*closed.reason), Some("removed"));
    }
}

#[test]
fn streams_of_a_session_that_is_over_say_so() {
    let mut pair = Pair::over(Transport::Ws);
    let id = pair.open(A, "");
    pair.settle();

    pair.ends[B].session.close(CloseCode::Shutdown, "");
    pair.settle();

    assert_eq!(
        pair.read(A, id, 1).unwrap_err().code,
        ResetCode::SessionEnded
    );
    let refused = pair.ends[A].session.write(id, &mut "x".into());
    assert_eq!(refused.unwrap_err().code, ResetCode::SessionEnded);
    assert_eq!(pair.try_open(A, ""), Err(OpenError::Closed));
    assert!(matches!(pair.ends[A].events.last(), Some(Event::Closed(_))));
}

#[test]
fn what_was_received_before_the_end_can_still_be_read() {
    let mut pair = Pair::over(Transport::Ws);
    let id = pair.open(A, "last words");
    pair.settle();

    pair.ends[A].session.close(CloseCode::Shutdown, "");
    pair.settle();

    assert_eq!(pair.read_all(B, id), b"last words");
}

#[test]
fn a_session_without_a_connection_closes_at_once() {
    let mut pair = Pair::unconnected();

    pair.ends[A].session.close(CloseCode::Shutdown, "");
    pair.pump();

    assert!(pair.took(A, closed_with(CloseCode::Shutdown)));
}

#[test]
fn regression_a_closing_session_that_loses_its_connection_ends() {
    let mut pair = Pair::over(Transport::Ws);
    pair.settle();

    pair.ends[A].session.close(CloseCode::Shutdown, "");
    let on = pair.connection(A).unwrap();
    pair.ends[A].session.detach(on);
    pair.pump();

    assert!(pair.took(A, closed_with(CloseCode::Shutdown)));
}
