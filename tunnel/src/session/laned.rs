//! The driver of a laned connection: QUIC, a control lane, and a lane a stream.
//!
//! The control lane has one task that reads and one that writes; each lane has its
//! own, so that no stream waits for another. All of them end with the driver.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use wire::{
    close::CloseCode,
    frame::{self, Frame},
    id::{Side, StreamId},
    limits::{CLOSE_TIMEOUT, DATA_BYTES_MAX, FRAME_BYTES_MAX},
    session::{Lane, LaneOutput, ProtocolError},
};

use super::DriverParts;
use crate::quic::{QuicLink, Room, close_code, error_code};

/// Packets whose bytes are handed on together: 64 KiB of them, as in a frame.
const PACKETS_AT_ONCE: usize = 48;

/// Runs until the session is over, or goes on over another connection. See the module.
/// `is_agent`: who has dialled is one.
pub(crate) async fn drive(parts: DriverParts, link: QuicLink, is_agent: bool) {
    let QuicLink {
        connection,
        send,
        recv,
        unread,
    } = link;
    let side = parts.drive(|state| state.machine.side());
    let mut room = Room::give(&connection, side, is_agent);
    let mut lanes = JoinSet::new();
    let writer = write_control(parts.clone(), connection.clone(), send);
    // Both end with the driver, also where it is dropped.
    let mut writer = AbortOnDropHandle::new(tokio::spawn(writer));
    let reader = AbortOnDropHandle::new(tokio::spawn(read_control(parts.clone(), recv, unread)));
    loop {
        tokio::select! {
            // Ends first, what was begun here next, and last what the peer may ask for
            // without end.
            biased;
            _ = &mut writer => break,
            Some(_) = lanes.join_next(), if !lanes.is_empty() => {}
            id = wanted_lane(&parts) => {
                let Some(id) = id else { continue };
                let (parts, connection) = (parts.clone(), connection.clone());
                lanes.spawn(async move {
                    if let Ok((send, recv)) = connection.open_bi().await {
                        serve_ours(parts, id, send, recv).await;
                    }
                });
            }
            accepted = connection.accept_bi() => match accepted {
                Ok((send, recv)) => {
                    let parts = parts.clone();
                    lanes.spawn(serve_theirs(parts, send, recv));
                    room.note_accepted(&connection, lanes.len());
                }
                Err(error) => {
                    tell_lost(&parts, &error);
                    break;
                }
            },
        }
    }
    if !writer.is_finished() {
        // It notices by itself that the session is over, and sends the last frame.
        let _elapsed = tokio::time::timeout(CLOSE_TIMEOUT, writer).await;
    }
    reader.abort();
    lanes.shutdown().await;
    leave(&parts, side, &connection).await;
    drop(connection);
    parts.await_successor().await;
}

/// Closes the connection, with the reason why the session is over, if it is.
async fn leave(parts: &DriverParts, side: Side, connection: &Connection) {
    if side == Side::Acceptor && parts.is_replaced() {
        // The dialler may not have heard yet that its new connection is welcome; it leaves
        // this one by itself, and shall not take it for broken before.
        let _elapsed = tokio::time::timeout(CLOSE_TIMEOUT, connection.closed()).await;
    }
    let closed = parts.shared.look(|state| state.machine.closed().cloned());
    // That it is over says nothing of a session that goes on elsewhere.
    let (code, reason) = closed.map_or((CloseCode::ConnectionLost, String::new()), |closed| {
        (closed.code, closed.reason)
    });
    connection.close(error_code(code), reason.as_bytes());
}

/// The connection broke, or the peer closed it with a code.
fn tell_lost(parts: &DriverParts, error: &quinn::ConnectionError) {
    match error {
        quinn::ConnectionError::ApplicationClosed(close)
            if close_code(close.error_code) != CloseCode::ConnectionLost =>
        {
            let code = close_code(close.error_code);
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            let connection = parts.connection;
            let now = parts.shared.clock.now();
            // As if the last frame had come in time.
            let _ended = parts.shared.with(|state| {
                state
                    .machine
                    .handle_frame(now, connection, Frame::Close { code, reason })
            });
        }
        error => parts.lost(&error.to_string()),
    }
}

/// The next stream opened here that needs a lane; `None` once the connection is left.
async fn wanted_lane(parts: &DriverParts) -> Option<StreamId> {
    let wanted = poll_fn(|cx| {
        parts.drive(|state| {
            // What is wanted then is for the driver of another connection.
            if !state.machine.has_connection(parts.connection) {
                return Poll::Ready(None);
            }
            match state.lanes_wanted.pop_front() {
                Some(id) => Poll::Ready(Some(id)),
                None => {
                    state.lane_opener_waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    });
    match wanted.await {
        Some(id) => Some(id),
        // Over: the writer ends the driver; nothing is wanted any more.
        None => std::future::pending().await,
    }
}

/// Sends control frames and lets time pass, until the session is over or elsewhere.
async fn write_control(parts: DriverParts, connection: Connection, mut send: SendStream) {
    let clock = Arc::clone(&parts.shared.clock);
    loop {
        let mut out = BytesMut::new();
        let now = clock.now();
        let (has_output, is_over, deadline) = parts.drive(|state| {
            if state.machine.has_connection(parts.connection) {
                state.machine.handle_timeout(now);
            }
            let has_output = state.machine.poll_transmit(now, parts.connection, &mut out);
            (
                has_output,
                !state.machine.has_connection(parts.connection),
                state.machine.poll_timeout(),
            )
        });
        if has_output {
            if send.write_chunk(out.freeze()).await.is_err() {
                // A peer that closes stops our lane first. Its last frame may wait to be
                // read, and the connection's end says more than the lane's.
                return match tokio::time::timeout(CLOSE_TIMEOUT, connection.closed()).await {
                    Ok(error) => tell_lost(&parts, &error),
                    Err(_) => parts.lost("the control lane broke"),
                };
            }
            continue;
        }
        if is_over {
            if parts.is_left() {
                return;
            }
            break;
        }
        wait(&parts, deadline.map(Instant::from_std)).await;
    }
    let _finished = send.finish();
    // Until the peer has it, or is past hearing it.
    let _elapsed = tokio::time::timeout(CLOSE_TIMEOUT / 4, send.stopped()).await;
}

/// Waits until the driver is woken or the deadline has passed.
async fn wait(parts: &DriverParts, deadline: Option<Instant>) {
    let mut is_first = true;
    let woken = poll_fn(|cx: &mut Context<'_>| {
        if !std::mem::take(&mut is_first) {
            return Poll::Ready(());
        }
        parts.drive(|state| {
            state.await_driver(parts.connection, cx.waker(), false);
            if state.machine.has_output(parts.connection)
                || !state.machine.has_connection(parts.connection)
            {
                return Poll::Ready(());
            }
            // The deadline was read before: it may have come nearer since.
            let is_nearer = state.machine.poll_timeout().map(Instant::from_std) != deadline;
            if is_nearer {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    });
    match deadline {
        Some(deadline) => {
            // Which of the two it was does not matter.
            let _elapsed = tokio::time::timeout_at(deadline, woken).await;
        }
        None => woken.await,
    }
}

/// Takes control frames until the lane ends.
async fn read_control(parts: DriverParts, mut recv: RecvStream, mut unread: BytesMut) {
    loop {
        if let Err(error) = take_control(&parts, &mut unread) {
            return parts.violated(&error);
        }
        match recv.read_chunk(FRAME_BYTES_MAX, true).await {
            Ok(Some(chunk)) => unread.extend_from_slice(&chunk.bytes),
            // The connection's end says more than the lane's.
            Ok(None) | Err(_) => return,
        }
    }
}

fn take_control(parts: &DriverParts, unread: &mut BytesMut) -> Result<(), ProtocolError> {
    let now = parts.shared.clock.now();
    while let Some(length) = frame::codec::frame_len(unread)? {
        if unread.len() < length {
            break;
        }
        let mut bytes = unread.split_to(length).freeze();
        if let Some(frame) = frame::decode(&mut bytes)? {
            parts
                .shared
                .with(|state| state.machine.handle_frame(now, parts.connection, frame))?;
        }
    }
    Ok(())
}

/// The lane of a stream opened here.
async fn serve_ours(parts: DriverParts, id: StreamId, send: SendStream, mut recv: RecvStream) {
    let is_continued = parts.shared.look(|state| state.machine.is_continued(id));
    let read = async {
        if !is_continued {
            let lane = Lane { id, offset: 0 };
            return read_lane(&parts, lane, recv, Bytes::new()).await;
        }
        // The peer says from where on it answers.
        let Some((frame, unread)) = head(&parts, &mut recv).await else {
            return;
        };
        let now = parts.shared.clock.now();
        let connection = parts.connection;
        let answered = parts
            .shared
            .with(|state| state.machine.handle_lane_answer(now, connection, id, frame));
        match answered {
            Ok(Some(lane)) => read_lane(&parts, lane, recv, unread).await,
            Ok(None) => {}
            Err(error) => parts.violated(&error),
        }
    };
    tokio::join!(write_lane(&parts, id, Writer::new(send)), read);
}

/// The lane of a stream that the peer opened: its first frame says which.
async fn serve_theirs(parts: DriverParts, send: SendStream, mut recv: RecvStream) {
    let writer = Writer::new(send);
    let Some((frame, unread)) = head(&parts, &mut recv).await else {
        return;
    };
    let now = parts.shared.clock.now();
    let opened = parts
        .shared
        .with(|state| state.machine.handle_lane(now, parts.connection, frame));
    match opened {
        Ok(Some(lane)) => {
            let id = lane.id;
            let read = read_lane(&parts, lane, recv, unread);
            tokio::join!(write_lane(&parts, id, writer), read);
        }
        Ok(None) => {
            // Over before it began. Fails only where the lane is gone anyway.
            let _stopped = recv.stop(VarInt::from_u32(0));
        }
        Err(error) => parts.violated(&error),
    }
}

/// How a lane begins, and what came with that. `None`: it ended before, or broke the protocol,
/// of which the session then ends.
async fn head(parts: &DriverParts, recv: &mut RecvStream) -> Option<(Frame, Bytes)> {
    let mut unread = BytesMut::new();
    match first_frame(recv, &mut unread).await {
        Ok(frame) => frame.map(|frame| (frame, unread.freeze())),
        Err(error) => {
            parts.violated(&error);
            None
        }
    }
}

async fn first_frame(
    recv: &mut RecvStream,
    unread: &mut BytesMut,
) -> Result<Option<Frame>, ProtocolError> {
    loop {
        if let Some(length) = frame::codec::frame_len(unread)?
            && unread.len() >= length
        {
            return Ok(frame::decode(&mut unread.split_to(length).freeze())?);
        }
        match recv.read_chunk(FRAME_BYTES_MAX, true).await {
            Ok(Some(chunk)) => unread.extend_from_slice(&chunk.bytes),
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}

async fn read_lane(parts: &DriverParts, mut lane: Lane, mut recv: RecvStream, first: Bytes) {
    let mut bytes = first;
    loop {
        if !bytes.is_empty() {
            let now = parts.shared.clock.now();
            let taken = parts.shared.with(|state| {
                state
                    .machine
                    .handle_lane_bytes(now, parts.connection, &mut lane, bytes)
            });
            if let Err(error) = taken {
                return parts.violated(&error);
            }
        }
        bytes = match poll_fn(|cx| poll_arrived(&mut recv, cx)).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            // Broken off: the control lane says why.
            Err(ReadError::Reset(_)) | Err(_) => return,
        };
    }
    let finished = parts
        .shared
        .with(|state| state.machine.handle_lane_finish(&lane));
    if let Err(error) = finished {
        parts.violated(&error);
    }
}

/// What has arrived of a lane, as one piece; `None` once it is complete.
///
/// QUIC hands over a packet's bytes at a time. Taken one by one, each would cost the
/// session's lock, a wake-up of the reader and a write to its socket of some 1,400 bytes;
/// joining them costs a copy, which is a twentieth of that.
fn poll_arrived(
    recv: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Bytes>, ReadError>> {
    let mut packets: [Bytes; PACKETS_AT_ONCE] = std::array::from_fn(|_| Bytes::new());
    // Dropped while it is pending, it has taken nothing.
    let read = pin!(recv.read_chunks(&mut packets)).poll(cx);
    let Some(count) = ready!(read)? else {
        return Poll::Ready(Ok(None));
    };
    let packets = &mut packets[..count];
    if let [packet] = packets {
        return Poll::Ready(Ok(Some(std::mem::take(packet))));
    }
    let length = packets.iter().map(Bytes::len).sum();
    let mut joined = BytesMut::with_capacity(length);
    for packet in packets {
        joined.extend_from_slice(packet);
    }
    Poll::Ready(Ok(Some(joined.freeze())))
}

/// The sending direction of a lane. Dropped before its end it is broken off: quinn would
/// finish it, and the peer take that for the end of the stream.
struct Writer {
    send: SendStream,
    is_ended: bool,
}

impl Writer {
    const fn new(send: SendStream) -> Self {
        Self {
            send,
            is_ended: false,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_ended {
            // Fails only where the lane is gone anyway.
            let _reset = self.send.reset(VarInt::from_u32(0));
        }
    }
}

async fn write_lane(parts: &DriverParts, id: StreamId, mut writer: Writer) {
    loop {
        let output = poll_fn(|cx| {
            parts.shared.with(|state| {
                match state
                    .machine
                    .poll_lane(parts.connection, id, DATA_BYTES_MAX)
                {
                    LaneOutput::Pending => {
                        state.lane_wakers.insert(id, cx.waker().clone());
                        Poll::Pending
                    }
                    output => Poll::Ready(output),
                }
            })
        });
        match output.await {
            LaneOutput::Bytes(bytes) => {
                if writer.send.write_chunk(bytes).await.is_err() {
                    return;
                }
            }
            LaneOutput::Finish => {
                writer.is_ended = true;
                let _finished = writer.send.finish();
                return;
            }
            LaneOutput::Abort => return,
            LaneOutput::Pending => {}
        }
    }
}
