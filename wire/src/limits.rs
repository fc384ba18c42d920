//! Every bound of the protocol, in one place, with its arithmetic.
//!
//! Both ends enforce the bounds on what they receive; a peer that exceeds one is
//! closed with [`CloseCode::ProtocolViolation`](crate::close::CloseCode).

use std::time::Duration;

/// Largest encoded frame, header included. A data frame carries at most
/// [`DATA_BYTES_MAX`]; type, length, id, offset and flag add at most
/// 1 + 4 + 8 + 8 + 1 bytes. Handshake and resume frames share the bound.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Most payload bytes in one data frame: a TLS record holds 16 KiB, so a frame
/// fills whole records, and a small stream waits behind at most one of them.
pub const DATA_BYTES_MAX: usize = FRAME_BYTES_MAX - 64;

/// Most frames' bytes in one WebSocket message. One frame of the largest size
/// always fits; small frames are gathered up to it.
pub const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// What a bulk stream may send before another one's turn comes, while more than
/// one stream has something to send: one TLS record.
pub const QUANTUM_BYTES: usize = 16 * 1024;

/// Streams open at a time in one session, both openers together.
/// 10,000 streams of about 1 KiB of state cost 10 MiB at either end.
pub const STREAMS_MAX: usize = 10_000;

/// Streams that a peer opened and the application has not yet accepted.
pub const ACCEPT_BACKLOG_MAX: usize = 1_024;

/// First credit of a stream in each direction, before any tuning: fills a path
/// of 20 ms at 100 Mbit/s (20 ms × 12.5 MB/s = 250 kB).
pub const STREAM_WINDOW_INITIAL_BYTES: u64 = 256 * 1024;

/// Where a stream's window stops growing: fills 80 ms at 400 Mbit/s
/// (80 ms × 50 MB/s = 4 MB). An eighth of the session's, because readers that stall
/// keep what they were granted.
pub const STREAM_WINDOW_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// First credit of a session over all its streams: four streams at their first window.
pub const SESSION_WINDOW_INITIAL_BYTES: u64 = 1024 * 1024;

/// Where a session's window stops growing; with it one session holds at most
/// 32 MiB received and 32 MiB sent but not acknowledged.
pub const SESSION_WINDOW_MAX_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes that an application may have written to a stream beyond what was sent,
/// before its writes wait: four frames, so that the pipe never runs dry.
pub const SEND_BACKLOG_BYTES_MAX: u64 = 256 * 1024;

/// The same once the session holds [`SESSION_BACKLOG_BYTES_MAX`]: 10,000 streams at
/// this bound wait with 160 MiB at most, and none waits for another.
pub const SEND_BACKLOG_BYTES_MIN: u64 = 16 * 1024;

/// Bytes written and not sent, over all streams, above which each stream's own
/// bound is the smaller one.
pub const SESSION_BACKLOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// First bytes that an open may carry, so that a request costs one round trip.
pub const OPEN_BYTES_MAX: usize = 16 * 1024;

/// Longest target in text: `tcp:` and a DNS name (253) and a port (6).
pub const TARGET_BYTES_MAX: usize = 4 + 253 + 6;

/// Longest principal in text, such as `token:ci-deploy`.
pub const PRINCIPAL_BYTES_MAX: usize = 128;

/// Longest human text in a close, reset, refusal or goaway.
pub const REASON_BYTES_MAX: usize = 512;

/// Largest control message (Protocol Buffers) in one frame.
pub const CONTROL_BYTES_MAX: usize = 32 * 1024;

/// Control messages that wait for the application; a further one closes the
/// session, because the peer sends faster than it may.
pub const CONTROL_BACKLOG_MAX: usize = 64;

/// Gaps in the ids of seen streams that a resume frame may list; one per stream
/// that may be open, because a gap is an open that was lost.
pub const SEEN_GAPS_MAX: usize = STREAMS_MAX;

/// From the accepted socket to the finished handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between heartbeats of an idle session over QUIC: home NATs forget a UDP
/// mapping after 30 s, so one heartbeat may be lost.
pub const HEARTBEAT_IDLE_QUIC: Duration = Duration::from_secs(15);

/// Pause between heartbeats of an idle session over WebSocket.
pub const HEARTBEAT_IDLE_WEBSOCKET: Duration = Duration::from_secs(25);

/// Pause between heartbeats while streams are open and nothing else is heard, over QUIC.
pub const HEARTBEAT_BUSY_QUIC: Duration = Duration::from_secs(2);

/// The same over WebSocket.
pub const HEARTBEAT_BUSY_WEBSOCKET: Duration = Duration::from_secs(5);

/// How long the answer to a heartbeat may take: clamp(4 × round trip, this, …).
pub const HEARTBEAT_ANSWER_MIN: Duration = Duration::from_secs(3);

/// The longest wait for the answer to a heartbeat, on a path of more than 2.5 s. With
/// the idle pause of 25 s a dead peer is seen within 31 s on an ordinary path, and
/// within 38 s on the slowest.
pub const HEARTBEAT_ANSWER_MAX: Duration = Duration::from_secs(10);

/// Bulk lanes of a session over WebSocket at most: as many cores as one session may take
/// at either end.
pub const BULK_LANES_MAX: usize = 4;

/// A stream that has sent so much within [`BULK_SPAN`] is heavy: more than any page, log or
/// query, and little of an image.
pub const BULK_BYTES: u64 = 8 * 1024 * 1024;

/// See [`BULK_BYTES`]: a path of 10 Mbit/s takes 6.7 s for as much.
pub const BULK_SPAN: Duration = Duration::from_secs(8);

/// How long a bulk lane that was asked for is waited for before it is asked for again.
pub const BULK_ASK_AGAIN: Duration = Duration::from_secs(30);

/// A bulk lane that carries nothing for so long is given up.
pub const BULK_IDLE: Duration = Duration::from_secs(30);

/// How long a session waits for another connection once it has none, unless either end
/// wants less: an address that changes, a proxy's hourly cut and a VPN that comes back are
/// over by then, and what is kept of a stream meanwhile is bounded by its window.
pub const RESUME_WINDOW: Duration = Duration::from_secs(60);

/// An acknowledgement that nothing else carried is sent after this delay.
pub const ACK_DELAY: Duration = Duration::from_millis(25);

/// How long an opened stream may wait for the far end's answer before it is reset.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a close waits for its frame to leave before the connection is dropped.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
