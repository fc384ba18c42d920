//! Heavy streams on connections of their own: nothing is lost, repeated or put in another
//! order, whatever becomes of the lane.

use std::time::Duration;

use wire::{
    close::ResetCode,
    frame::{Frame, Goaway},
    id::StreamId,
    limits::BULK_IDLE,
    session::{Event, ProtocolError, Read, StreamReset},
    transport::Transport,
};

use super::pair::{A, B, Pair};

/// Small, so that a test need not send megabytes.
const HEAVY_BYTES: u64 = 100_000;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 11 % 251) as u8).collect()
}

fn over_websocket() -> Pair {
    let mut pair = Pair::over(Transport::Ws);
    pair.allow_bulk(2, HEAVY_BYTES);
    pair.settle();
    pair
}

/// A stream that has sent enough to be heavy, and all of it was read.
fn heavy(pair: &mut Pair) -> StreamId {
    let id = pair.open(A, "");
    pair.settle();
    send(pair, id, 200_000);
    id
}

/// Sends a pattern in portions that the backlog takes, and checks that all arrives.
fn send(pair: &mut Pair, id: StreamId, length: usize) {
    let all = pattern(length);
    let mut got = Vec::new();
    for part in all.chunks(50_000) {
        assert_eq!(pair.write(A, id, part.to_vec()), part.len());
        pair.settle();
        got.extend(pair.read_all(B, id));
    }
    assert!(got == all, "{} of {length} bytes arrived", got.len());
}

#[test]
fn a_heavy_stream_asks_for_a_lane_once_and_moves_when_there_is_one() {
    let mut pair = over_websocket();
    let id = heavy(&mut pair);
    assert!(pair.took(A, |event| *event == Event::BulkWanted));
    send(&mut pair, id, 200_000);
    assert!(!pair.took(A, |event| *event == Event::BulkWanted));

    assert!(pair.connect_bulk());
    send(&mut pair, id, 400_000);

    let before = pair.bulk_bytes(A);
    send(&mut pair, id, 300_000);
    assert!(pair.bulk_bytes(A) >= before + 300_000);
}

#[test]
fn a_small_stream_stays_where_it_is() {
    let mut pair = over_websocket();
    pair.connect_bulk();
    let id = pair.open(A, "");

    send(&mut pair, id, 90_000);

    let heartbeats = 100;
    assert!(pair.bulk_bytes(A) < heartbeats);
}

#[test]
fn two_heavy_streams_share_two_lanes_evenly() {
    let mut pair = over_websocket();
    pair.connect_bulk();
    let (one, other) = (heavy(&mut pair), heavy(&mut pair));
    send(&mut pair, one, 200_000);
    send(&mut pair, other, 200_000);
    assert!(pair.took(A, |event| *event == Event::BulkWanted));

    assert!(pair.connect_bulk());
    for _ in 0..4 {
        send(&mut pair, one, 200_000);
        send(&mut pair, other, 200_000);
    }

    let lanes = pair.bulk_bytes_by_lane(A);
    assert!(lanes.iter().all(|bytes| *bytes > 200_000), "{lanes:?}");
}

#[test]
fn a_lane_that_is_lost_at_any_point_costs_no_byte() {
    for noticed in [[true, true], [true, false], [false, true]] {
        for step in 0..30 {
            let mut pair = over_websocket();
            pair.connect_bulk();
            let id = heavy(&mut pair);
            send(&mut pair, id, 200_000);
            pair.write(A, id, pattern(150_000));
            pair.finish(A, id);

            pair.run_for(Duration::from_millis(step));
            pair.cut_bulk(noticed);
            pair.run_for(Duration::from_secs(20));

            let case = format!("{noticed:?}, step {step}");
            assert!(pair.read_all(B, id) == pattern(150_000), "{case}");
            assert_eq!(pair.read(B, id, 1), Ok(Read::Finished), "{case}");
            for end in &pair.ends {
                assert_eq!(end.error, None, "{case}");
            }
        }
    }
}

#[test]
fn a_reset_overtakes_what_is_on_a_lane() {
    let mut pair = over_websocket();
    pair.connect_bulk();
    let id = heavy(&mut pair);
    send(&mut pair, id, 200_000);
    let reset = StreamReset::new(ResetCode::Cancelled, "enough");
    pair.write(A, id, pattern(150_000));

    pair.ends[A].session.reset(pair.now, id, &reset);
    pair.settle();

    while let Ok(Read::Bytes(_)) = pair.read(B, id, usize::MAX) {}
    assert_eq!(pair.read(B, id, 1), Err(reset));
    assert_eq!(pair.ends[B].error, None);
}

#[test]
fn the_dialler_gives_up_a_lane_that_nobody_uses() {
    let mut pair = over_websocket();
    pair.connect_bulk();
    let id = heavy(&mut pair);
    send(&mut pair, id, 200_000);

    pair.run_for(2 * BULK_IDLE);

    assert!(pair.took(A, |event| matches!(event, Event::BulkIdle(_))));
    send(&mut pair, id, 50_000);
}

#[test]
fn a_session_takes_no_more_lanes_than_were_agreed_and_none_over_quic() {
    let mut pair = over_websocket();

    assert!(pair.connect_bulk() && pair.connect_bulk());
    assert!(!pair.connect_bulk());

    let mut pair = Pair::over(Transport::Quic);
    pair.allow_bulk(2, HEAVY_BYTES);
    pair.settle();
    assert!(!pair.connect_bulk());
}

#[test]
fn a_lane_carries_bytes_and_their_end_and_nothing_else() {
    let mut pair = over_websocket();
    pair.connect_bulk();
    let goaway = Goaway {
        reconnect_after_ms: 0,
        window_ms: 0,
        drain_ms: 0,
        address: String::new(),
    };

    let refused = pair.inject_bulk(B, Frame::Goaway(goaway));

    assert_eq!(
        refused,
        Err(ProtocolError::Unexpected("frame on a bulk lane"))
    );
}
