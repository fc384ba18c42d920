//! Credit, order and how many: what keeps one stream from harming another.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use wire::{
    close::ResetCode,
    frame::{self, Frame},
    id::StreamId,
    limits::{
        ACCEPT_BACKLOG_MAX, MESSAGE_BYTES_MAX, QUANTUM_BYTES, SEND_BACKLOG_BYTES_MAX,
        SEND_BACKLOG_BYTES_MIN, SESSION_BACKLOG_BYTES_MAX, SESSION_WINDOW_MAX_BYTES,
        STREAM_WINDOW_INITIAL_BYTES, STREAM_WINDOW_MAX_BYTES, STREAMS_MAX,
    },
    session::{Event, OpenError, Read, StreamReset},
    transport::Transport,
};

use super::pair::{A, B, Pair};

const BOTH_KINDS: [Transport; 2] = [Transport::Ws, Transport::Quic];

/// Writes until neither backlog nor credit takes any more; says how much it was.
fn fill(pair: &mut Pair, end: usize, id: StreamId) -> u64 {
    let mut total = 0;
    loop {
        let taken = pair.write(end, id, vec![0; 64 * 1024]) as u64;
        total += taken;
        if taken == 0 {
            return total;
        }
        pair.settle();
    }
}

/// The frames of the next message that an end sends.
fn next_message(pair: &mut Pair, end: usize) -> Vec<Frame> {
    let on = pair.connection(end).unwrap();
    let mut out = BytesMut::new();
    let now = pair.now;
    pair.ends[end].session.poll_transmit(now, on, &mut out);
    let mut bytes = out.freeze();
    std::iter::from_fn(|| frame::decode(&mut bytes).unwrap()).collect()
}

#[test]
fn a_sender_stops_at_its_credit_and_goes_on_when_the_reader_reads() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let id = pair.open(A, "");

        let written = fill(&mut pair, A, id);
        assert_eq!(
            written,
            STREAM_WINDOW_INITIAL_BYTES + SEND_BACKLOG_BYTES_MAX
        );
        assert_eq!(
            pair.ends[B].session.bytes_received(),
            STREAM_WINDOW_INITIAL_BYTES
        );
        pair.ends[A].events.clear();
        pair.read_all(B, id);
        pair.settle();

        assert!(
            pair.took(A, |event| *event == Event::Writable(id)),
            "{transport}"
        );
        assert_eq!(
            pair.ends[B].session.bytes_received(),
            written,
            "{transport}"
        );
    }
}

#[test]
fn streams_share_the_session_s_credit_and_all_go_on_when_it_is_given_back() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let streams = SESSION_WINDOW_MAX_BYTES / STREAM_WINDOW_INITIAL_BYTES + 8;
        let ids: Vec<_> = (0..streams).map(|_| pair.open(A, "")).collect();

        let written: u64 = ids.iter().map(|id| fill(&mut pair, A, *id)).sum();
        let received = pair.ends[B].session.bytes_received();
        assert_eq!(received, SESSION_WINDOW_MAX_BYTES);
        let mut read = 0;
        for _ in 0..20 {
            read += ids
                .iter()
                .map(|id| pair.read_all(B, *id).len() as u64)
                .sum::<u64>();
            pair.settle();
        }

        assert_eq!(read, written, "{transport}");
    }
}

#[test]
fn regression_readers_that_stall_do_not_hold_up_one_that_reads() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        for _ in 0..12 {
            let stalled = pair.open(A, "");
            fill(&mut pair, A, stalled);
        }

        let id = pair.open(A, "");
        pair.write(A, id, vec![0; 200_000]);
        pair.settle();

        assert_eq!(pair.read_all(B, id).len(), 200_000, "{transport}");
    }
}

#[test]
fn credit_of_bytes_that_nobody_will_read_comes_back() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        for round in 0..40 {
            let id = pair.open(A, vec![0; 200_000]);
            pair.settle();
            let now = pair.now;
            match round % 3 {
                0 => pair.ends[B]
                    .session
                    .stop_receiving(now, id, StreamReset::cancelled()),
                1 => pair.ends[A]
                    .session
                    .reset_sending(id, StreamReset::cancelled()),
                _ => pair.ends[B].session.forget(now, id),
            }
            pair.settle();
            pair.forget(id);
            pair.settle();
        }

        let id = pair.open(A, vec![0; 200_000]);
        pair.settle();

        assert_eq!(pair.read_all(B, id).len(), 200_000, "{transport}");
    }
}

#[test]
fn a_window_grows_until_it_fills_an_80_ms_path() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        pair.latency = Duration::from_millis(40);
        pair.settle();
        let id = pair.open(A, "");
        let start = pair.now;
        let mut received = 0;

        while pair.now - start < Duration::from_secs(6) {
            pair.write(A, id, vec![0; 256 * 1024]);
            pair.write(A, id, vec![0; 256 * 1024]);
            pair.run_for(Duration::from_millis(2));
            received += pair.read_all(B, id).len() as u64;
        }

        // Without growth: 256 KiB a round trip, so 75 round trips of it.
        let without_growth = 75 * STREAM_WINDOW_INITIAL_BYTES;
        assert!(received > 10 * without_growth, "{transport}: {received}");
        let held = pair.ends[A].session.bytes_retained();
        assert!(
            held <= STREAM_WINDOW_MAX_BYTES + SEND_BACKLOG_BYTES_MAX,
            "{held}"
        );
    }
}

#[test]
fn a_window_stays_small_where_the_reader_is_slow() {
    let mut pair = Pair::over(Transport::Ws);
    pair.settle();
    let id = pair.open(A, "");

    for _ in 0..40 {
        fill(&mut pair, A, id);
        pair.read(B, id, 64 * 1024).unwrap();
        pair.run_for(Duration::from_secs(1));
    }
    let unread = pair.read_all(B, id).len() as u64;

    assert!(unread <= STREAM_WINDOW_INITIAL_BYTES, "{unread}");
}

#[test]
fn a_small_stream_goes_before_bulk_that_was_first() {
    let mut pair = Pair::over(Transport::Ws);
    pair.settle();
    let bulk: Vec<_> = (0..20).map(|_| pair.open(A, "")).collect();
    for id in &bulk {
        pair.write(A, *id, vec![0; 200_000]);
    }
    let _first = next_message(&mut pair, A);

    let small = pair.open(A, "key");
    pair.ends[A].session.send_control("report".into());

    let mut ahead = 0;
    for frame in next_message(&mut pair, A) {
        match frame {
            Frame::Open(open) if open.id == small => break,
            Frame::Data { bytes, .. } => ahead += bytes.len(),
            Frame::Open(open) => ahead += open.first_bytes.len(),
            _ => {}
        }
    }
    assert!(
        ahead <= MESSAGE_BYTES_MAX,
        "{ahead} bytes ahead of a small stream"
    );
}

#[test]
fn control_goes_before_all_streams() {
    let mut pair = Pair::over(Transport::Ws);
    pair.settle();
    for _ in 0..20 {
        pair.open(A, vec![0; 100_000]);
    }
    let _first = next_message(&mut pair, A);

    pair.ends[A].session.send_control("report".into());

    assert_eq!(
        next_message(&mut pair, A).first(),
        Some(&Frame::Control("report".into()))
    );
}

#[test]
fn bulk_streams_take_turns_of_one_quantum() {
    let mut pair = Pair::over(Transport::Ws);
    pair.settle();
    let ids: Vec<_> = (0..4).map(|_| pair.open(A, "")).collect();
    pair.settle();
    for id in &ids {
        pair.write(A, *id, vec![0; 250_000]);
    }

    let mut sent = std::collections::BTreeMap::new();
    for _ in 0..8 {
        for frame in next_message(&mut pair, A) {
            if let Frame::Data { id, bytes, .. } = frame {
                *sent.entry(id).or_insert(0) += bytes.len();
            }
        }
        let (least, most) = (sent.values().min(), sent.values().max());
        let spread = most.unwrap() - least.unwrap();
        assert!(sent.len() < 4 || spread <= 2 * QUANTUM_BYTES, "{sent:?}");
    }
    assert_eq!(sent.len(), 4);
}

#[test]
fn writes_are_bounded_for_a_stream_and_tighter_once_the_session_holds_much() {
    let mut pair = Pair::unconnected();
    let first = pair.open(A, "");
    let write = |pair: &mut Pair, id| pair.write(A, id, vec![0; 1024 * 1024]) as u64;

    assert_eq!(write(&mut pair, first), SEND_BACKLOG_BYTES_MAX);
    for _ in 1..SESSION_BACKLOG_BYTES_MAX / SEND_BACKLOG_BYTES_MAX {
        let id = pair.open(A, "");
        write(&mut pair, id);
    }
    let late = pair.open(A, "");

    assert_eq!(write(&mut pair, late), SEND_BACKLOG_BYTES_MIN);
}

#[test]
fn ten_thousand_streams_are_open_at_a_time_and_each_carries_its_bytes() {
    for transport in BOTH_KINDS {
        let mut pair = Pair::over(transport);
        let mut ids = Vec::new();
        for batch in 0..STREAMS_MAX / 1000 {
            for index in 0..1000 {
                ids.push(pair.open(B, format!("{batch}.{index}")));
            }
            pair.settle();
            for id in &ids[batch * 1000..] {
                pair.ends[A].session.accept(*id);
            }
            pair.settle();
        }

        assert_eq!(pair.ends[A].session.streams_open(), STREAMS_MAX);
        for (index, id) in ids.iter().enumerate() {
            let text = format!("{}.{}", index / 1000, index % 1000);
            assert_eq!(pair.read_all(A, *id), text.as_bytes());
            pair.write(A, *id, text);
            pair.finish(A, *id);
            pair.finish(B, *id);
        }
        pair.settle();
        for (index, id) in ids.into_iter().enumerate() {
            let text = format!("{}.{}", index / 1000, index % 1000);
            assert_eq!(pair.read_all(B, id), text.as_bytes());
            pair.forget(id);
        }
        pair.settle();
        let held = [A, B].map(|end| pair.ends[end].session.streams_held());
        assert_eq!(held, [0, 0], "{transport}");
    }
}

#[test]
fn an_opener_waits_where_too_many_streams_are_open_and_hears_when_one_is_free() {
    let mut pair = Pair::over(Transport::Ws);
    let mut last = None;
    for index in 0..STREAMS_MAX {
        last = Some(pair.open(B, ""));
        if index % 500 == 0 {
            pair.settle();
            accept_all(&mut pair, A);
        }
    }
    assert_eq!(pair.try_open(B, ""), Err(OpenError::TooMany));

    pair.settle();
    accept_all(&mut pair, A);
    pair.forget(last.unwrap());
    pair.settle();

    assert!(pair.took(B, |event| *event == Event::StreamsAvailable));
    assert!(pair.try_open(B, "").is_ok());
}

fn accept_all(pair: &mut Pair, end: usize) {
    for event in std::mem::take(&mut pair.ends[end].events) {
        if let Event::Opened(open) = event {
            pair.ends[end].session.accept(open.id);
        }
    }
}

#[test]
fn streams_beyond_the_accept_backlog_are_refused_and_later_ones_are_not() {
    let mut pair = Pair::over(Transport::Ws);
    let ids: Vec<_> = (0..=ACCEPT_BACKLOG_MAX).map(|_| pair.open(A, "")).collect();

    pair.settle();
    let refused = pair.read(A, ids[ACCEPT_BACKLOG_MAX], 1).unwrap_err();
    accept_all(&mut pair, B);
    let later = pair.open(A, "");
    pair.settle();

    assert_eq!(refused.code, ResetCode::LimitReached);
    assert_eq!(pair.read(A, ids[0], 1), Ok(Read::Pending));
    assert!(pair.took(
        B,
        |event| matches!(event, Event::Opened(open) if open.id == later)
    ));
}

#[test]
fn small_writes_pin_no_more_memory_than_they_have_bytes() {
    let mut pair = Pair::over(Transport::Ws);
    let id = pair.open(A, "");
    pair.settle();
    for _ in 0..1_000 {
        pair.write(A, id, "x");
        pair.pump();
    }
    pair.settle();

    let Ok(Read::Bytes(bytes)) = pair.read(B, id, usize::MAX) else {
        panic!("no bytes")
    };

    // One chunk, and not one for each frame that came.
    assert_eq!(bytes, Bytes::from(vec![b'x'; 1_000]));
}
