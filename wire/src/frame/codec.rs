//! Bytes to [`Frame`] and back: total, bounded, and without an allocation before
//! the length check.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::{Frame, FrameType, Goaway, Open, Resume, ResumeStream, varint};
use crate::{
    close::{CloseCode, ResetCode},
    id::{RequestId, StreamId},
    limits::{
        CONTROL_BYTES_MAX, DATA_BYTES_MAX, FRAME_BYTES_MAX, OPEN_BYTES_MAX, PRINCIPAL_BYTES_MAX,
        REASON_BYTES_MAX, SEEN_GAPS_MAX, STREAMS_MAX, TARGET_BYTES_MAX,
    },
};

/// Bytes that are no frame. Whatever they say, the peer is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A type this version does not know.
    #[error("unknown frame type {0:#04x}")]
    UnknownType(u8),
    /// The frame says it is longer than any frame may be.
    #[error("a {kind:?} frame of {length} bytes is too long")]
    TooLong {
        /// Its type.
        kind: FrameType,
        /// What its header says.
        length: u64,
    },
    /// The body ends before its fields do.
    #[error("a {0:?} frame is truncated")]
    Truncated(FrameType),
    /// The body has bytes after its last field.
    #[error("a {0:?} frame has trailing bytes")]
    Trailing(FrameType),
    /// A field is out of its bounds.
    #[error("the field `{field}` of a {kind:?} frame is out of bounds")]
    OutOfBounds {
        /// The frame's type.
        kind: FrameType,
        /// The field.
        field: &'static str,
    },
}

/// Takes the next frame off `input`.
///
/// `Ok(None)` says that more bytes are needed; nothing is consumed then. Payloads
/// share `input`'s memory.
///
/// # Errors
///
/// The bytes are not a frame; the connection cannot be read any further.
pub fn decode(input: &mut Bytes) -> Result<Option<Frame>, DecodeError> {
    let mut header = &input[..];
    let Some((kind, length)) = read_header(&mut header)? else {
        return Ok(None);
    };
    if header.len() < length {
        return Ok(None);
    }
    let header_len = input.len() - header.len();
    input.advance(header_len);
    let body = input.split_to(length);
    Body { kind, rest: body }.frame().map(Some)
}

/// How many bytes the frame at the start of `input` has, header included.
///
/// `Ok(None)` says that even the header is not complete.
///
/// # Errors
///
/// The type is unknown or the length out of bounds: known before the body is read,
/// so that no memory is set aside for it.
pub fn frame_len(mut input: &[u8]) -> Result<Option<usize>, DecodeError> {
    let all = input.len();
    Ok(read_header(&mut input)?.map(|(_, length)| all - input.len() + length))
}

fn read_header(input: &mut &[u8]) -> Result<Option<(FrameType, usize)>, DecodeError> {
    let Some((&first, mut rest)) = input.split_first() else {
        return Ok(None);
    };
    let kind = FrameType::from_u8(first).ok_or(DecodeError::UnknownType(first))?;
    let Some(length) = varint::get(&mut rest) else {
        return Ok(None);
    };
    // Of the header as it is, which may take more bytes than it needs.
    let room = FRAME_BYTES_MAX - (input.len() - rest.len());
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= room)
        .ok_or(DecodeError::TooLong { kind, length })?;
    *input = rest;
    Ok(Some((kind, length)))
}

/// The body of one frame while it is read.
struct Body {
    kind: FrameType,
    rest: Bytes,
}

impl Body {
    fn frame(mut self) -> Result<Frame, DecodeError> {
        let frame = match self.kind {
            FrameType::Challenge => Frame::Challenge(self.all()),
            FrameType::Hello => Frame::Hello(self.all()),
            FrameType::Welcome => Frame::Welcome(self.all()),
            FrameType::Refusal => Frame::Refusal(self.all()),
            FrameType::Resume => Frame::Resume(self.resume()?),
            FrameType::Ping => Frame::Ping(self.varint()?),
            FrameType::Pong => Frame::Pong(self.varint()?),
            FrameType::Goaway => Frame::Goaway(Goaway {
                reconnect_after_ms: self.varint()?,
                window_ms: self.varint()?,
                drain_ms: self.varint()?,
                address: self.text("address", TARGET_BYTES_MAX)?,
            }),
            FrameType::Close => Frame::Close {
                code: CloseCode::from_u16(self.code()?),
                reason: self.text("reason", REASON_BYTES_MAX)?,
            },
            FrameType::Control => {
                if self.rest.len() > CONTROL_BYTES_MAX {
                    return Err(self.out_of_bounds("message"));
                }
                Frame::Control(self.all())
            }
            FrameType::SessionCredit => Frame::SessionCredit(self.varint()?),
            FrameType::Open => Frame::Open(self.open()?),
            FrameType::Accept => Frame::Accept(self.id()?),
            FrameType::Data => self.data()?,
            FrameType::Finish => Frame::Finish {
                id: self.id()?,
                size: self.varint()?,
            },
            FrameType::Reset => Frame::Reset {
                id: self.id()?,
                code: ResetCode::from_u16(self.code()?),
                size: self.varint()?,
                reason: self.text("reason", REASON_BYTES_MAX)?,
            },
            FrameType::Stop => Frame::Stop {
                id: self.id()?,
                code: ResetCode::from_u16(self.code()?),
                reason: self.text("reason", REASON_BYTES_MAX)?,
            },
            FrameType::Credit => Frame::Credit {
                id: self.id()?,
                offset: self.varint()?,
            },
            FrameType::Ack => Frame::Ack {
                id: self.id()?,
                offset: self.varint()?,
            },
            FrameType::Attach => Frame::Attach {
                id: self.id()?,
                offset: self.varint()?,
            },
        };
        if self.rest.is_empty() {
            Ok(frame)
        } else {
            Err(DecodeError::Trailing(self.kind))
        }
    }

    fn data(&mut self) -> Result<Frame, DecodeError> {
        let (id, offset) = (self.id()?, self.varint()?);
        let bytes = self.all();
        if bytes.is_empty() || bytes.len() > DATA_BYTES_MAX {
            return Err(self.out_of_bounds("bytes"));
        }
        Ok(Frame::Data { id, offset, bytes })
    }

    fn open(&mut self) -> Result<Open, DecodeError> {
        let open = Open {
            id: self.id()?,
            environment: self.text("environment", PRINCIPAL_BYTES_MAX)?,
            target: self.text("target", TARGET_BYTES_MAX)?,
            principal: self.text("principal", PRINCIPAL_BYTES_MAX)?,
            request_id: self.request_id()?,
            first_bytes: self.all(),
        };
        if open.first_bytes.len() > OPEN_BYTES_MAX {
            return Err(self.out_of_bounds("first_bytes"));
        }
        Ok(open)
    }

    fn resume(&mut self) -> Result<Resume, DecodeError> {
        let is_last = match self.varint()? {
            0 => false,
            1 => true,
            _ => return Err(self.out_of_bounds("is_last")),
        };
        let seen_below = self.varint()?;
        let gaps = self.count("gaps", SEEN_GAPS_MAX, 1)?;
        let gaps = (0..gaps)
            .map(|_| self.varint())
            .collect::<Result<Vec<_>, _>>()?;
        let streams = self.count("streams", STREAMS_MAX, 3)?;
        let streams = (0..streams)
            .map(|_| {
                Ok(ResumeStream {
                    id: self.id()?,
                    received: self.varint()?,
                    credit: self.varint()?,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Resume {
            is_last,
            seen_below,
            gaps,
            streams,
        })
    }

    /// A count of items that take at least `least` bytes each, checked against
    /// what is there before anything is set aside for them.
    fn count(
        &mut self,
        field: &'static str,
        max: usize,
        least: usize,
    ) -> Result<usize, DecodeError> {
        usize::try_from(self.varint()?)
            .ok()
            .filter(|count| *count <= max && count * least <= self.rest.len())
            .ok_or_else(|| self.out_of_bounds(field))
    }

    fn all(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        varint::get(&mut self.rest).ok_or(DecodeError::Truncated(self.kind))
    }

    fn id(&mut self) -> Result<StreamId, DecodeError> {
        self.varint().map(StreamId::from_u64)
    }

    fn code(&mut self) -> Result<u16, DecodeError> {
        let code = self.varint()?;
        u16::try_from(code).map_err(|_| self.out_of_bounds("code"))
    }

    fn text(&mut self, field: &'static str, max: usize) -> Result<String, DecodeError> {
        let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if length > max {
            return Err(self.out_of_bounds(field));
        }
        if length > self.rest.len() {
            return Err(DecodeError::Truncated(self.kind));
        }
        let bytes = self.rest.split_to(length);
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.out_of_bounds(field)),
        }
    }

    fn request_id(&mut self) -> Result<RequestId, DecodeError> {
        if self.rest.len() < 16 {
            return Err(DecodeError::Truncated(self.kind));
        }
        let bytes = self.rest.split_to(16);
        RequestId::from_slice(&bytes).ok_or(DecodeError::Truncated(self.kind))
    }

    const fn out_of_bounds(&self, field: &'static str) -> DecodeError {
        DecodeError::OutOfBounds {
            kind: self.kind,
            field,
        }
    }
}

/// Appends `frame` to `out`. Texts longer than their bound are cut at a character.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    let length = body_len(frame);
    out.reserve(1 + varint::len(length as u64) + length);
    out.put_u8(frame.kind() as u8);
    varint::put(out, length as u64);
    let before = out.len();
    put_body(frame, out);
    debug_assert_eq!(out.len() - before, length, "length of {:?}", frame.kind());
}

/// How many bytes [`encode`] appends for `frame`.
pub fn encoded_len(frame: &Frame) -> usize {
    let length = body_len(frame);
    1 + varint::len(length as u64) + length
}

/// The header and fixed fields of a data frame, for a payload that follows.
pub fn put_data_header(out: &mut BytesMut, id: StreamId, offset: u64, payload_len: usize) {
    let length = varint::len(id.as_u64()) + varint::len(offset) + payload_len;
    out.put_u8(FrameType::Data as u8);
    varint::put(out, length as u64);
    varint::put(out, id.as_u64());
    varint::put(out, offset);
}

fn body_len(frame: &Frame) -> usize {
    let id_len = |id: &StreamId| varint::len(id.as_u64());
    let text_len = |text: &str, max: usize| {
        let length = cut(text, max).len();
        varint::len(length as u64) + length
    };
    match frame {
        Frame::Challenge(body)
        | Frame::Hello(body)
        | Frame::Welcome(body)
        | Frame::Refusal(body)
        | Frame::Control(body) => body.len(),
        Frame::Resume(resume) => resume_len(resume),
        Frame::Ping(number) | Frame::Pong(number) | Frame::SessionCredit(number) => {
            varint::len(*number)
        }
        Frame::Goaway(goaway) => {
            varint::len(goaway.reconnect_after_ms)
                + varint::len(goaway.window_ms)
                + varint::len(goaway.drain_ms)
                + text_len(&goaway.address, TARGET_BYTES_MAX)
        }
        Frame::Close { code, reason } => {
            varint::len(code.as_u16().into()) + text_len(reason, REASON_BYTES_MAX)
        }
        Frame::Open(open) => {
            id_len(&open.id)
                + text_len(&open.environment, PRINCIPAL_BYTES_MAX)
                + text_len(&open.target, TARGET_BYTES_MAX)
                + text_len(&open.principal, PRINCIPAL_BYTES_MAX)
                + 16
                + open.first_bytes.len()
        }
        Frame::Accept(id) => id_len(id),
        Frame::Data { id, offset, bytes } => id_len(id) + varint::len(*offset) + bytes.len(),
        Frame::Finish { id, size } => id_len(id) + varint::len(*size),
        Frame::Reset {
            id,
            code,
            size,
            reason,
        } => {
            id_len(id)
                + varint::len(code.as_u16().into())
                + varint::len(*size)
                + text_len(reason, REASON_BYTES_MAX)
        }
        Frame::Stop { id, code, reason } => {
            id_len(id) + varint::len(code.as_u16().into()) + text_len(reason, REASON_BYTES_MAX)
        }
        Frame::Credit { id, offset } | Frame::Ack { id, offset } | Frame::Attach { id, offset } => {
            id_len(id) + varint::len(*offset)
        }
    }
}

fn resume_len(resume: &Resume) -> usize {
    let gaps: usize = resume.gaps.iter().map(|gap| varint::len(*gap)).sum();
    let streams: usize = resume
        .streams
        .iter()
        .map(|stream| {
            varint::len(stream.id.as_u64())
                + varint::len(stream.received)
                + varint::len(stream.credit)
        })
        .sum();
    1 + varint::len(resume.seen_below)
        + varint::len(resume.gaps.len() as u64)
        + gaps
        + varint::len(resume.streams.len() as u64)
        + streams
}

fn put_body(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Challenge(body)
        | Frame::Hello(body)
        | Frame::Welcome(body)
        | Frame::Refusal(body)
        | Frame::Control(body) => out.put_slice(body),
        Frame::Resume(resume) => put_resume(resume, out),
        Frame::Ping(number) | Frame::Pong(number) | Frame::SessionCredit(number) => {
            varint::put(out, *number);
        }
        Frame::Goaway(goaway) => {
            varint::put(out, goaway.reconnect_after_ms);
            varint::put(out, goaway.window_ms);
            varint::put(out, goaway.drain_ms);
            put_text(out, &goaway.address, TARGET_BYTES_MAX);
        }
        Frame::Close { code, reason } => {
            varint::put(out, code.as_u16().into());
            put_text(out, reason, REASON_BYTES_MAX);
        }
        Frame::Open(open) => {
            varint::put(out, open.id.as_u64());
            put_text(out, &open.environment, PRINCIPAL_BYTES_MAX);
            put_text(out, &open.target, TARGET_BYTES_MAX);
            put_text(out, &open.principal, PRINCIPAL_BYTES_MAX);
            out.put_slice(open.request_id.as_bytes());
            out.put_slice(&open.first_bytes);
        }
        Frame::Accept(id) => varint::put(out, id.as_u64()),
        Frame::Data { id, offset, bytes } => {
            varint::put(out, id.as_u64());
            varint::put(out, *offset);
            out.put_slice(bytes);
        }
        Frame::Reset {
            id,
            code,
            size,
            reason,
        } => {
            varint::put(out, id.as_u64());
            varint::put(out, code.as_u16().into());
            varint::put(out, *size);
            put_text(out, reason, REASON_BYTES_MAX);
        }
        Frame::Stop { id, code, reason } => {
            varint::put(out, id.as_u64());
            varint::put(out, code.as_u16().into());
            put_text(out, reason, REASON_BYTES_MAX);
        }
        Frame::Finish { id, size: offset }
        | Frame::Credit { id, offset }
        | Frame::Ack { id, offset }
        | Frame::Attach { id, offset } => {
            varint::put(out, id.as_u64());
            varint::put(out, *offset);
        }
    }
}

fn put_resume(resume: &Resume, out: &mut BytesMut) {
    varint::put(out, resume.is_last.into());
    varint::put(out, resume.seen_below);
    varint::put(out, resume.gaps.len() as u64);
    for gap in &resume.gaps {
        varint::put(out, *gap);
    }
    varint::put(out, resume.streams.len() as u64);
    for stream in &resume.streams {
        varint::put(out, stream.id.as_u64());
        varint::put(out, stream.received);
        varint::put(out, stream.credit);
    }
}

fn put_text(out: &mut BytesMut, text: &str, max: usize) {
    let text = cut(text, max);
    varint::put(out, text.len() as u64);
    out.put_slice(text.as_bytes());
}

/// The longest beginning of `text` that has at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
