//! What a stream is to the application, the same on every transport.

use wire::{
    close::ResetCode,
    limits::OPEN_BYTES_MAX,
    session::{Event, Read, StreamReset},
    transport::Transport,
};

use super::pair::{A, B, Pair};

const BOTH_KINDS: [Transport; 2] = [Transport::Ws, Transport::Quic];

fn denied() -> StreamReset {
    StreamReset::new(ResetCode::PolicyDenied, "not in the policy")
}

#[test]
fn a_request_and_its_answer_cost_one_round_trip() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        pair.settle();

        let id = pair.open(B, "GET /version");
        pair.run_for(pair.latency);
        assert!(pair.took(
            A,
            |event| matches!(event, Event::Opened(open) if open.id == id)
        ));
        assert_eq!(pair.read_all(A, id), b"GET /version");
        pair.ends[A].session.accept(id);
        pair.write(A, id, "200 OK");
        pair.run_for(pair.latency);

        assert!(pair.took(B, |event| *event == Event::Accepted(id)));
        assert_eq!(pair.read_all(B, id), b"200 OK");
    }
}

#[test]
fn the_open_tells_who_asks_for_what() {
    let mut pair = Pair::over(Transport::Ws);

    let id = pair.open(A, "");
    pair.settle();

    let opened = |event: &&Event| matches!(event, Event::Opened(_));
    let Some(Event::Opened(open)) = pair.ends[B].events.iter().find(opened) else {
        panic!("not opened: {:?}", pair.ends[B].events);
    };
    assert_eq!(
        (open.id, &*open.target, &*open.principal),
        (id, "docker", "token:test")
    );
}

#[test]
fn first_bytes_beyond_what_an_open_may_carry_follow_as_data() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let bytes: Vec<u8> = (0..3 * OPEN_BYTES_MAX)
            .map(|index| (index % 251) as u8)
            .collect();

        let id = pair.open(A, bytes.clone());
        pair.settle();

        assert!(
            pair.read_all(B, id) == bytes,
            "{transport}: other bytes arrived"
        );
    }
}

#[test]
fn an_opener_that_finishes_still_hears_the_answer() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "question");
        pair.finish(A, id);
        pair.settle();
        assert_eq!(pair.read_all(B, id), b"question");
        assert_eq!(pair.read(B, id, 1), Ok(Read::Finished));

        pair.write(B, id, "answer");
        pair.settle();

        assert_eq!(pair.read_all(A, id), b"answer");
        assert_eq!(pair.read(A, id, 1), Ok(Read::Pending));
    }
}

#[test]
fn an_acceptor_that_finishes_still_hears_the_rest() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "");
        pair.settle();
        pair.write(B, id, "all");
        pair.finish(B, id);
        pair.settle();
        assert_eq!(pair.read_all(A, id), b"all");
        assert_eq!(pair.read(A, id, 1), Ok(Read::Finished));

        pair.write(A, id, "the rest");
        pair.settle();

        assert_eq!(pair.read_all(B, id), b"the rest");
    }
}

#[test]
fn a_reset_of_one_direction_leaves_the_other() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "some");
        pair.settle();

        pair.ends[A].session.reset_sending(id, denied());
        pair.settle();
        pair.write(B, id, "still here");
        pair.settle();

        assert_eq!(pair.read_all(B, id), b"some", "{transport}");
        assert_eq!(pair.read(B, id, 9), Err(denied()), "{transport}");
        assert_eq!(pair.read_all(A, id), b"still here", "{transport}");
    }
}

#[test]
fn a_stop_ends_the_peer_s_writing_with_the_reason_and_leaves_the_other_direction() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "");
        pair.settle();

        let now = pair.now;
        pair.ends[B].session.stop_receiving(now, id, denied());
        pair.settle();
        pair.write(B, id, "still here");
        pair.settle();

        assert_eq!(
            pair.ends[A].session.stopped(id),
            Some(denied()),
            "{transport}"
        );
        assert!(pair.took(A, |event| *event == Event::Writable(id)));
        assert_eq!(pair.read_all(A, id), b"still here", "{transport}");
    }
}

#[test]
fn a_refused_stream_is_never_accepted_and_says_why() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "GET /");
        pair.settle();

        let now = pair.now;
        pair.ends[B].session.reset(now, id, &denied());
        pair.ends[B].session.forget(now, id);
        pair.settle();

        assert_eq!(pair.ends[A].session.broken(id), Some(denied()));
        assert!(!pair.took(A, |event| *event == Event::Accepted(id)));
    }
}

#[test]
fn what_arrived_whole_is_read_before_the_reset() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "half an upl");
        pair.settle();

        pair.ends[A]
            .session
            .reset_sending(id, StreamReset::cancelled());
        pair.settle();

        assert_eq!(pair.read_all(B, id), b"half an upl", "{transport}");
        assert_eq!(
            pair.read(B, id, 9),
            Err(StreamReset::cancelled()),
            "{transport}"
        );
    }
}

#[test]
fn breaking_off_delivers_what_was_written_and_then_the_reset() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, vec![1; 100_000]);

        pair.ends[A].session.break_off(id, denied());
        pair.settle();
        pair.settle();

        assert_eq!(pair.read_all(B, id).len(), 100_000, "{transport}");
        assert_eq!(pair.read(B, id, 9), Err(denied()), "{transport}");
        assert_eq!(pair.ends[B].error, None);
    }
}

#[test]
fn a_stream_broken_off_before_its_open_could_leave_is_heard_of_all_the_same() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "never mind");

        let now = pair.now;
        pair.ends[A]
            .session
            .reset(now, id, &StreamReset::cancelled());
        pair.settle();

        assert_eq!(
            pair.read(B, id, 99),
            Err(StreamReset::cancelled()),
            "{transport}"
        );
        assert_eq!(
            pair.ends[B].session.stopped(id),
            Some(StreamReset::cancelled())
        );
    }
}

#[test]
fn writing_after_the_finish_is_refused() {
    let mut pair = Pair::over(Transport::Ws);
    let id = pair.open(A, "");
    pair.finish(A, id);

    let refused = pair.ends[A].session.write(id, &mut "x".into()).unwrap_err();

    assert_eq!(refused.code, ResetCode::BadRequest);
}

#[test]
fn a_stream_that_both_ends_finished_and_forgot_is_released_at_both() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "question");
        pair.finish(A, id);
        pair.settle();
        pair.read_all(B, id);
        pair.write(B, id, "answer");
        pair.finish(B, id);
        pair.settle();
        pair.read_all(A, id);

        pair.forget(id);
        pair.settle();

        assert_released(&pair, transport);
    }
}

#[test]
fn a_stream_forgotten_in_whatever_state_is_released_at_both() {
    for transport in BOTH_KINDS {
        for state in 0..6 {
            for first in [A, B] {
                let mut pair = Pair::over(transport);
                let id = pair.open(A, vec![1; 100_000]);
                if state > 0 {
                    pair.settle();
                    pair.write(B, id, vec![2; 100_000]);
                }
                match state {
                    2 => pair.settle(),
                    3 => pair.finish(A, id),
                    4 => pair.finish(B, id),
                    5 => pair.ends[B].session.reset_sending(id, denied()),
                    _ => {}
                }
                let now = pair.now;

                pair.ends[first].session.forget(now, id);
                pair.settle();
                pair.forget(id);
                pair.settle();

                assert_released(
                    &pair,
                    format_args!("{transport}, state {state}, first {first}"),
                );
            }
        }
    }
}

fn assert_released(pair: &Pair, case: impl std::fmt::Display) {
    for end in &pair.ends {
        assert_eq!(end.error, None, "{case}");
        assert_eq!(end.session.streams_open(), 0, "{case}");
        assert_eq!(end.session.streams_held(), 0, "{case}");
        assert_eq!(end.session.bytes_retained(), 0, "{case}");
    }
}

#[test]
fn an_application_that_forgets_while_writing_resets_the_reader() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "half");
        pair.settle();

        let now = pair.now;
        pair.ends[A].session.forget(now, id);
        pair.settle();

        assert_eq!(pair.read_all(B, id), b"half", "{transport}");
        assert_eq!(
            pair.read(B, id, 99),
            Err(StreamReset::cancelled()),
            "{transport}"
        );
    }
}

#[test]
fn memory_is_kept_until_the_peer_has_the_bytes_and_no_longer() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "");
        pair.settle();

        pair.write(A, id, vec![1; 10_000]);
        pair.pump();
        assert_eq!(pair.ends[A].session.bytes_retained(), 10_000, "{transport}");
        pair.settle();

        assert_eq!(pair.ends[A].session.bytes_retained(), 0, "{transport}");
        assert_eq!(pair.ends[B].session.bytes_retained(), 10_000, "unread");
    }
}

#[test]
fn streams_opened_before_there_is_a_connection_go_with_the_first() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::unconnected();
        let id = pair.open(A, "early");
        pair.write(A, id, " bird");

        pair.connect(transport);
        pair.settle();

        assert_eq!(pair.read_all(B, id), b"early bird", "{transport}");
        assert_eq!(pair.ends[B].error, None);
    }
}
