//! Peers that break the rules: each is told apart, and none causes a panic.

use bytes::Bytes;
use wire::{
    close::ResetCode,
    frame::{Frame, OFFSET_MAX, Open, Resume, ResumeStream},
    id::{RequestId, Side, StreamId},
    limits::{DATA_BYTES_MAX, SEEN_GAPS_MAX, STREAM_WINDOW_INITIAL_BYTES},
    session::ProtocolError,
    transport::Transport,
};

use super::pair::{A, B, Pair};

fn open(id: StreamId) -> Frame {
    Frame::Open(Open {
        id,
        environment: String::new(),
        target: "docker".into(),
        principal: String::new(),
        request_id: RequestId::from_bytes([0; 16]),
        first_bytes: Bytes::new(),
    })
}

fn theirs(index: u64) -> StreamId {
    StreamId::new(Side::Dialler, index)
}

/// An acceptor that a dialler has opened stream 0 at.
fn with_stream() -> Pair {
    let mut pair = Pair::over(Transport::Ws);
    pair.settle();
    pair.inject(B, open(theirs(0))).unwrap();
    pair
}

fn data(offset: u64, bytes: impl Into<Bytes>) -> Frame {
    Frame::Data {
        id: theirs(0),
        offset,
        bytes: bytes.into(),
    }
}

#[track_caller]
fn assert_violates(pair: &mut Pair, frame: Frame, says: &str) {
    let error = pair.inject(B, frame).expect_err("a violation");
    assert!(error.to_string().contains(says), "{error}, and not {says}");
}

#[test]
fn bytes_beyond_the_credit_of_the_stream() {
    let mut pair = with_stream();
    let chunk = Bytes::from(vec![0; DATA_BYTES_MAX]);
    let fitting = STREAM_WINDOW_INITIAL_BYTES / DATA_BYTES_MAX as u64;
    for index in 0..fitting {
        pair.inject(B, data(index * DATA_BYTES_MAX as u64, chunk.clone()))
            .unwrap();
    }

    assert_violates(
        &mut pair,
        data(fitting * DATA_BYTES_MAX as u64, chunk),
        "credit exceeded",
    );
}

#[test]
fn bytes_beyond_the_credit_of_the_session() {
    let mut pair = Pair::over(Transport::Ws);
    pair.settle();
    let chunk = Bytes::from(vec![0; DATA_BYTES_MAX]);
    let mut result = Ok(());

    for stream in 0..140 {
        pair.inject(B, open(theirs(stream))).unwrap();
        for index in 0..4 {
            let offset = index * DATA_BYTES_MAX as u64;
            let data = Frame::Data {
                id: theirs(stream),
                offset,
                bytes: chunk.clone(),
            };
            result = result.and_then(|()| pair.inject(B, data));
        }
    }

    assert_eq!(
        result,
        Err(ProtocolError::LimitExceeded("credit of the session"))
    );
    // The application may yet read what was taken: no panic.
    for stream in 0..140 {
        pair.read_all(B, theirs(stream));
    }
}

#[test]
fn bytes_after_a_gap() {
    assert_violates(&mut with_stream(), data(1, "x"), "gap");
}

#[test]
fn bytes_after_the_finish() {
    let mut pair = with_stream();
    pair.inject(
        B,
        Frame::Finish {
            id: theirs(0),
            size: 0,
        },
    )
    .unwrap();

    assert_violates(&mut pair, data(0, "x"), "after the finish");
}

#[test]
fn a_finish_with_another_size_than_was_sent() {
    let finish = |size| Frame::Finish {
        id: theirs(0),
        size,
    };
    assert_violates(&mut with_stream(), finish(5), "gap");

    let mut pair = with_stream();
    pair.inject(B, data(0, "abc")).unwrap();
    assert_violates(&mut pair, finish(2), "two sizes");
}

#[test]
fn a_reset_that_takes_bytes_back_or_claims_more_than_there_is_credit_for() {
    let reset = |size| Frame::Reset {
        id: theirs(0),
        code: ResetCode::Cancelled,
        size,
        reason: String::new(),
    };
    let mut pair = with_stream();
    pair.inject(B, data(0, "abc")).unwrap();
    assert_violates(&mut pair, reset(2), "two sizes");

    assert_violates(&mut with_stream(), reset(OFFSET_MAX), "credit exceeded");

    let mut pair = with_stream();
    pair.inject(
        B,
        Frame::Finish {
            id: theirs(0),
            size: 0,
        },
    )
    .unwrap();
    assert_violates(&mut pair, reset(1), "two sizes");
}

#[test]
fn frames_of_a_stream_that_was_never_opened() {
    let reason = String::new;
    for id in [theirs(7), StreamId::new(Side::Acceptor, 7)] {
        for frame in [
            Frame::Data {
                id,
                offset: 0,
                bytes: "x".into(),
            },
            Frame::Finish { id, size: 0 },
            Frame::Reset {
                id,
                code: ResetCode::Cancelled,
                size: 0,
                reason: reason(),
            },
            Frame::Stop {
                id,
                code: ResetCode::Cancelled,
                reason: reason(),
            },
            Frame::Credit { id, offset: 1 },
            Frame::Ack { id, offset: 0 },
        ] {
            assert_violates(&mut with_stream(), frame, "never opened");
        }
    }
}

#[test]
fn an_open_with_an_id_of_the_other_end() {
    let id = StreamId::new(Side::Acceptor, 0);

    assert_violates(&mut with_stream(), open(id), "id of this end");
}

#[test]
fn an_open_that_skips_more_ids_than_may_be_open() {
    assert_violates(
        &mut with_stream(),
        open(theirs(SEEN_GAPS_MAX as u64 + 2)),
        "skipped",
    );
}

#[test]
fn an_accept_of_a_stream_by_its_own_opener() {
    assert_violates(
        &mut with_stream(),
        Frame::Accept(theirs(0)),
        "its own opener",
    );
}

#[test]
fn an_acknowledgement_of_what_was_never_sent() {
    for offset in [4, OFFSET_MAX] {
        let mut pair = Pair::over(Transport::Ws);
        let id = pair.open(B, "abc");
        pair.settle();

        let ack = Frame::Ack { id, offset };

        assert_violates(&mut pair, ack, "beyond what was sent");
    }
}

#[test]
fn a_handshake_frame_in_a_session() {
    for frame in [
        Frame::Challenge(Bytes::new()),
        Frame::Hello(Bytes::new()),
        Frame::Welcome(Bytes::new()),
        Frame::Refusal(Bytes::new()),
    ] {
        assert_violates(&mut with_stream(), frame, "handshake frame");
    }
}

#[test]
fn a_resume_where_none_belongs() {
    assert_violates(
        &mut with_stream(),
        Frame::Resume(Resume::default()),
        "resume",
    );
}

#[test]
fn a_resume_of_streams_or_bytes_that_never_were() {
    let resume = |id, received| {
        Frame::Resume(Resume {
            is_last: true,
            seen_below: 9,
            gaps: Vec::new(),
            streams: vec![ResumeStream {
                id,
                received,
                credit: 0,
            }],
        })
    };
    let continued = || {
        let mut pair = Pair::over(Transport::Ws);
        let id = pair.open(B, "abc");
        pair.settle();
        pair.cut([true, true]);
        let (now, options) = (pair.now, Transport::Ws);
        let options = wire::session::ConnectionOptions::of(options);
        let on = pair.ends[B].session.attach(now, options);
        (pair, on, id)
    };

    let (mut pair, on, id) = continued();
    let beyond = pair.ends[B]
        .session
        .handle_frame(pair.now, on, resume(id, 4))
        .unwrap_err();
    let (mut pair, on, id) = continued();
    let unopened = StreamId::new(Side::Acceptor, id.index() + 1);
    let never = pair.ends[B]
        .session
        .handle_frame(pair.now, on, resume(unopened, 0))
        .unwrap_err();

    assert!(
        beyond.to_string().contains("beyond what was sent"),
        "{beyond}"
    );
    assert!(never.to_string().contains("never opened"), "{never}");
}

#[test]
fn stream_bytes_on_a_control_lane() {
    let mut pair = Pair::over(Transport::Quic);
    pair.settle();

    assert_violates(&mut pair, open(theirs(0)), "control lane");
}

#[test]
fn an_offset_beyond_all_numbers() {
    assert_violates(&mut with_stream(), data(OFFSET_MAX, "x"), "out of range");
}

#[test]
fn a_peer_that_breaks_the_rules_closes_the_session_at_both_ends() {
    let mut pair = Pair::over(Transport::Ws);
    let id = pair.open(A, "");
    pair.settle();

    let error = pair.inject(A, Frame::Ack { id, offset: 99 }).unwrap_err();
    let code = wire::close::CloseCode::ProtocolViolation;
    pair.ends[A].session.close(code, &error.to_string());
    pair.settle();

    assert_eq!(
        pair.ends[B].session.closed().map(|closed| closed.code),
        Some(code)
    );
}
