//! What lanes do that one pipe cannot: overtake each other.

use bytes::{Bytes, BytesMut};
use wire::{
    close::ResetCode,
    frame::{self, Frame, Open},
    id::{ConnectionId, RequestId, Side, StreamId},
    limits::STREAMS_MAX,
    session::{ConnectionOptions, Event, LaneOutput, ProtocolError, Read, Session, StreamReset},
    transport::Transport,
};

use super::pair::{A, B, Pair};

fn theirs(index: u64) -> StreamId {
    StreamId::new(Side::Dialler, index)
}

fn open(id: StreamId, first_bytes: &'static str) -> Frame {
    Frame::Open(Open {
        id,
        environment: String::new(),
        target: "docker".into(),
        principal: String::new(),
        request_id: RequestId::from_bytes([0; 16]),
        first_bytes: Bytes::from_static(first_bytes.as_bytes()),
    })
}

fn reset(id: StreamId, size: u64) -> Frame {
    Frame::Reset {
        id,
        code: ResetCode::Cancelled,
        size,
        reason: String::new(),
    }
}

/// An acceptor with a laned connection.
fn acceptor() -> (Session, ConnectionId, std::time::Instant) {
    let now = std::time::Instant::now();
    let mut session = Session::new(Side::Acceptor);
    let on = session.attach(now, ConnectionOptions::of(Transport::Quic));
    (session, on, now)
}

/// What the control lane says next.
fn said(session: &mut Session, on: ConnectionId, now: std::time::Instant) -> Vec<Frame> {
    let mut out = BytesMut::new();
    session.poll_transmit(now, on, &mut out);
    let mut bytes = out.freeze();
    std::iter::from_fn(|| frame::decode(&mut bytes).unwrap()).collect()
}

#[test]
fn opens_arrive_in_any_order() {
    let (mut session, on, now) = acceptor();

    for index in [2, 0, 1] {
        session
            .handle_lane(now, on, open(theirs(index), "x"))
            .unwrap();
    }

    for index in 0..3 {
        let read = session.read(now, theirs(index), 9);
        assert_eq!(read, Ok(Read::Bytes("x".into())));
    }
}

#[test]
fn a_reset_that_overtakes_its_open_waits_for_it() {
    let (mut session, on, now) = acceptor();

    session.handle_frame(now, on, reset(theirs(1), 5)).unwrap();
    assert_eq!(session.poll_event(), None);
    let mut lane = session
        .handle_lane(now, on, open(theirs(1), "abc"))
        .unwrap()
        .unwrap();
    // What was under way on the lane comes later still, and is of no interest.
    session
        .handle_lane_bytes(now, on, &mut lane, "de".into())
        .unwrap();

    assert!(matches!(session.poll_event(), Some(Event::Opened(_))));
    assert_eq!(
        session.read(now, theirs(1), 9),
        Err(StreamReset::cancelled())
    );
}

#[test]
fn a_stop_that_overtakes_its_open_leaves_what_the_opener_sends() {
    let (mut session, on, now) = acceptor();
    let stop = Frame::Stop {
        id: theirs(0),
        code: ResetCode::Cancelled,
        reason: String::new(),
    };

    session.handle_frame(now, on, stop).unwrap();
    session
        .handle_lane(now, on, open(theirs(0), "log line"))
        .unwrap();

    assert_eq!(
        session.read(now, theirs(0), 99),
        Ok(Read::Bytes("log line".into()))
    );
    assert_eq!(session.stopped(theirs(0)), Some(StreamReset::cancelled()));
}

#[test]
fn what_overtakes_opens_is_bounded() {
    let (mut session, on, now) = acceptor();

    let mut results = (0..=STREAMS_MAX as u64)
        .map(|index| session.handle_frame(now, on, reset(theirs(index), 0)));

    assert!(
        results
            .by_ref()
            .take(STREAMS_MAX)
            .all(|result| result.is_ok())
    );
    assert!(matches!(
        results.next(),
        Some(Err(ProtocolError::LimitExceeded(_)))
    ));
}

#[test]
fn a_lane_is_aborted_only_once_the_peer_knows_why() {
    let (mut session, on, now) = acceptor();
    session.handle_lane(now, on, open(theirs(0), "")).unwrap();
    session.write(theirs(0), &mut "answer".into()).unwrap();
    assert_eq!(
        session.poll_lane(on, theirs(0), 99),
        LaneOutput::Bytes("answer".into())
    );

    session.reset_sending(theirs(0), StreamReset::cancelled());
    assert_eq!(session.poll_lane(on, theirs(0), 99), LaneOutput::Pending);
    assert!(said(&mut session, on, now).contains(&reset(theirs(0), 6)));
    while session.poll_event().is_some() {}
    let ack = Frame::Ack {
        id: theirs(0),
        offset: frame::OFFSET_MAX,
    };
    session.handle_frame(now, on, ack).unwrap();

    assert_eq!(session.poll_event(), Some(Event::LaneReady(theirs(0))));
    assert_eq!(session.poll_lane(on, theirs(0), 99), LaneOutput::Abort);
}

#[test]
fn a_lane_of_a_lost_connection_says_nothing_more() {
    let (mut session, on, now) = acceptor();
    let mut lane = session
        .handle_lane(now, on, open(theirs(0), "abc"))
        .unwrap()
        .unwrap();

    session.attach(now, ConnectionOptions::of(Transport::Quic));
    session
        .handle_lane_bytes(now, on, &mut lane, "def".into())
        .unwrap();
    session.handle_lane_finish(&lane).unwrap();

    assert_eq!(
        session.read(now, theirs(0), 9),
        Ok(Read::Bytes("abc".into()))
    );
    assert_eq!(session.read(now, theirs(0), 9), Ok(Read::Pending));
    assert_eq!(session.handle_lane(now, on, open(theirs(1), "")), Ok(None));
    assert_eq!(session.poll_lane(on, theirs(0), 9), LaneOutput::Abort);
}

#[test]
fn a_lane_begins_with_an_open_or_an_attach() {
    let (mut session, on, now) = acceptor();

    let refused = session.handle_lane(now, on, Frame::Ping(1));

    assert!(matches!(refused, Err(ProtocolError::Unexpected(_))));
}

#[test]
fn an_attach_to_a_stream_that_was_never_opened_is_a_violation() {
    let (mut session, on, now) = acceptor();

    let refused = session.handle_lane(
        now,
        on,
        Frame::Attach {
            id: theirs(3),
            offset: 0,
        },
    );

    assert!(matches!(refused, Err(ProtocolError::Stream { .. })));
}

#[test]
fn streams_are_whole_in_whatever_order_lanes_deliver() {
    for seed in 1..40 {
        let mut pair = Pair::over(Transport::Quic);
        pair.jitter = seed;
        pair.settle();
        let ids: Vec<_> = (0..20).map(|_| pair.open(A, vec![1; 40_000])).collect();
        for id in &ids {
            pair.finish(A, *id);
        }
        pair.ends[A]
            .session
            .reset(pair.now, ids[3], &StreamReset::cancelled());
        pair.settle();
        pair.settle();

        for id in &ids {
            let length = pair.read_all(B, *id).len();
            assert_eq!(
                length,
                if *id == ids[3] { 0 } else { 40_000 },
                "seed {seed}"
            );
            pair.forget(*id);
        }
        pair.settle();
        pair.settle();
        assert_eq!(
            [A, B].map(|end| pair.ends[end].session.streams_held()),
            [0, 0]
        );
        assert_eq!(pair.ends[B].error, None, "seed {seed}");
    }
}

#[test]
fn regression_a_lane_that_continues_a_stream_is_seen_although_its_opener_was_stopped() {
    for seed in 1..60_u64 {
        let mut pair = Pair::over(Transport::Quic);
        pair.settle();
        let id = pair.open(A, "");
        pair.settle();
        pair.cut([true, true]);
        pair.write(B, id, "answer");
        let now = pair.now;
        pair.ends[B]
            .session
            .stop_receiving(now, id, StreamReset::cancelled());

        // The stop and its answer outrun the lane, which must not be aborted yet.
        pair.jitter = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        pair.connect(Transport::Quic);
        pair.settle();

        assert_eq!(pair.read_all(A, id), b"answer", "seed {seed}");
    }
}
