//! The frames: everything that travels between two ends, as one closed set.
//!
//! A frame is `type (1 byte) · length (varint) · body (length bytes)`. Varints are
//! those of RFC 9000 §16. One numbering serves handshake and session, so that a
//! frame can never be taken for one of another phase. The layout of each body is
//! in `PROTOCOL.md`; its golden bytes are in `tests/golden`.

use bytes::Bytes;

use crate::{
    close::{CloseCode, ResetCode},
    id::{RequestId, StreamId},
};

pub mod codec;
pub mod varint;

pub use codec::{DecodeError, decode, encode};

/// The largest absolute offset: what a varint can hold.
pub const OFFSET_MAX: u64 = (1 << 62) - 1;

/// A frame's type byte. A removed type stays listed and is never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameType {
    /// Acceptor's first word: who it is, proven.
    Challenge = 0x01,
    /// Dialler's answer: who it is, proven.
    Hello = 0x02,
    /// The session begins.
    Welcome = 0x03,
    /// The session does not begin, and why.
    Refusal = 0x04,
    /// What was received before, at the start of a further connection.
    Resume = 0x08,
    /// Asks for a sign of life.
    Ping = 0x09,
    /// Gives it.
    Pong = 0x0a,
    /// Asks the dialler to move: when, where, for how long.
    Goaway = 0x0b,
    /// The last frame of a connection.
    Close = 0x0c,
    /// A Protocol Buffers message of the application.
    Control = 0x0d,
    /// Credit over all streams.
    SessionCredit = 0x0e,
    /// A stream begins.
    Open = 0x10,
    /// The target of a stream was reached.
    Accept = 0x11,
    /// Bytes of a stream at an offset.
    Data = 0x12,
    /// The sender's direction of a stream is complete.
    Finish = 0x13,
    /// The sender's direction of a stream is broken.
    Reset = 0x14,
    /// The sender will not read the stream any further.
    Stop = 0x15,
    /// Credit of one stream.
    Credit = 0x16,
    /// Bytes of one stream that were received and need not be kept.
    Ack = 0x17,
    /// A stream continues on this lane from an offset (QUIC only).
    Attach = 0x18,
}

impl FrameType {
    /// Every type, in the order of its number.
    pub const ALL: [Self; 20] = [
        Self::Challenge,
        Self::Hello,
        Self::Welcome,
        Self::Refusal,
        Self::Resume,
        Self::Ping,
        Self::Pong,
        Self::Goaway,
        Self::Close,
        Self::Control,
        Self::SessionCredit,
        Self::Open,
        Self::Accept,
        Self::Data,
        Self::Finish,
        Self::Reset,
        Self::Stop,
        Self::Credit,
        Self::Ack,
        Self::Attach,
    ];

    /// Reads the type byte; `None` for a type this version does not know.
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One frame, checked: every length and number is within its bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A `message::Signed` around a `message::Challenge`.
    Challenge(Bytes),
    /// A `message::Signed` around a `message::Hello`.
    Hello(Bytes),
    /// A `message::Welcome`.
    Welcome(Bytes),
    /// A `message::Refusal`.
    Refusal(Bytes),
    /// See [`Resume`].
    Resume(Resume),
    /// Sequence number of the question.
    Ping(u64),
    /// Sequence number of the question answered.
    Pong(u64),
    /// See [`Goaway`].
    Goaway(Goaway),
    /// Why the connection ends.
    Close {
        /// Whose fault, and whether to try again.
        code: CloseCode,
        /// For people.
        reason: String,
    },
    /// A `message::Control`, not yet decoded.
    Control(Bytes),
    /// Sum of all streams' highest offsets that the peer may send.
    SessionCredit(u64),
    /// See [`Open`].
    Open(Open),
    /// The target was reached.
    Accept(StreamId),
    /// Bytes of a stream.
    Data {
        /// Which stream.
        id: StreamId,
        /// Absolute offset of the first byte.
        offset: u64,
        /// At least one byte.
        bytes: Bytes,
    },
    /// No byte follows.
    Finish {
        /// Which stream.
        id: StreamId,
        /// How many bytes the direction had in all.
        size: u64,
    },
    /// The direction is broken off.
    Reset {
        /// Which stream.
        id: StreamId,
        /// Why.
        code: ResetCode,
        /// How many bytes were sent before, for the session's credit.
        size: u64,
        /// For people.
        reason: String,
    },
    /// Please send no more.
    Stop {
        /// Which stream.
        id: StreamId,
        /// Why.
        code: ResetCode,
        /// For people.
        reason: String,
    },
    /// The peer may send up to this offset.
    Credit {
        /// Which stream.
        id: StreamId,
        /// Absolute.
        offset: u64,
    },
    /// All bytes below the offset were received. [`OFFSET_MAX`] says that the
    /// stream is complete at the sender of the frame.
    Ack {
        /// Which stream.
        id: StreamId,
        /// Absolute.
        offset: u64,
    },
    /// What follows on this lane are the stream's bytes from an offset.
    Attach {
        /// Which stream.
        id: StreamId,
        /// Absolute.
        offset: u64,
    },
}

/// The beginning of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The stream's id, of the sender's parity.
    pub id: StreamId,
    /// Operator to relay: the environment's name. Relay to agent: empty.
    pub environment: String,
    /// A [`Target`](crate::target::Target) in text; the acceptor judges it.
    pub target: String,
    /// On whose behalf, for the agent's audit log.
    pub principal: String,
    /// Which request, for the logs of all three.
    pub request_id: RequestId,
    /// The stream's bytes from offset 0, so that a request costs one round trip.
    pub first_bytes: Bytes,
}

/// Please reconnect: when, where, and how long this session still serves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Goaway {
    /// Not before so many milliseconds.
    pub reconnect_after_ms: u64,
    /// Spread over so many milliseconds from then.
    pub window_ms: u64,
    /// Streams are served for so many milliseconds.
    pub drain_ms: u64,
    /// `HOST:PORT` of another node, or empty: the same address.
    pub address: String,
}

/// What an end has received, told at the start of a further connection.
///
/// One part of possibly several; the last one says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resume {
    /// No part follows.
    pub is_last: bool,
    /// Streams of the peer with an index below this were seen…
    pub seen_below: u64,
    /// …but not these indices; ascending.
    pub gaps: Vec<u64>,
    /// The streams that are not complete here.
    pub streams: Vec<ResumeStream>,
}

/// One stream in a [`Resume`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeStream {
    /// Which stream.
    pub id: StreamId,
    /// All bytes below were received.
    pub received: u64,
    /// The peer may send up to this offset.
    pub credit: u64,
}

impl Frame {
    /// The frame's type.
    pub const fn kind(&self) -> FrameType {
        match self {
            Self::Challenge(_) => FrameType::Challenge,
            Self::Hello(_) => FrameType::Hello,
            Self::Welcome(_) => FrameType::Welcome,
            Self::Refusal(_) => FrameType::Refusal,
            Self::Resume(_) => FrameType::Resume,
            Self::Ping(_) => FrameType::Ping,
            Self::Pong(_) => FrameType::Pong,
            Self::Goaway(_) => FrameType::Goaway,
            Self::Close { .. } => FrameType::Close,
            Self::Control(_) => FrameType::Control,
            Self::SessionCredit(_) => FrameType::SessionCredit,
            Self::Open(_) => FrameType::Open,
            Self::Accept(_) => FrameType::Accept,
            Self::Data { .. } => FrameType::Data,
            Self::Finish { .. } => FrameType::Finish,
            Self::Reset { .. } => FrameType::Reset,
            Self::Stop { .. } => FrameType::Stop,
            Self::Credit { .. } => FrameType::Credit,
            Self::Ack { .. } => FrameType::Ack,
            Self::Attach { .. } => FrameType::Attach,
        }
    }
}
