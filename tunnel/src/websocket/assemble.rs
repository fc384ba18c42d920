//! WebSocket frames to messages (RFC 6455 §5), from plaintext in whatever pieces.
//!
//! Heads are read by tungstenite; the payload is copied once, from the record that it
//! was decrypted in to a message of its own. Nothing is set aside before the length is
//! checked, and nothing is kept between messages.

use std::io::Cursor;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio_tungstenite::tungstenite::protocol::{
    Role,
    frame::{
        FrameHeader,
        coding::{Control, Data, OpCode},
    },
};
use wire::limits::MESSAGE_BYTES_MAX;

/// The longest head: two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;

/// Most payload of a control frame (§5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// What the other end has sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A whole binary message.
    Message(Bytes),
    /// To be answered with the same payload.
    Ping(Bytes),
    /// An answer that nobody waits for: a sign of life.
    Pong,
    /// The other end closes.
    Close,
}

/// What the other end sends is no WebSocket, or none that is spoken here. Nothing that
/// follows can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("unexpected {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// See the module.
#[derive(Debug)]
pub(super) struct Assembler {
    role: Role,
    /// A head that is not complete.
    head: [u8; HEAD_BYTES_MAX],
    head_len: u8,
    frame: Option<Frame>,
    /// Of the message that is being put together.
    message: BytesMut,
    /// A message was begun, and its last frame has not come.
    is_continued: bool,
    /// Payload of the control frame that is being read.
    control: BytesMut,
}

/// The frame whose payload is being read.
#[derive(Debug)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    remaining: usize,
}

impl Assembler {
    /// `role` is this end's.
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            head: [0; HEAD_BYTES_MAX],
            head_len: 0,
            frame: None,
            message: BytesMut::new(),
            is_continued: false,
            control: BytesMut::new(),
        }
    }

    /// Takes bytes off `input` up to the end of a message or control frame, or all of
    /// them.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Malformed> {
        loop {
            let frame = match &mut self.frame {
                Some(frame) => frame,
                None => match self.read_head(input)? {
                    Some(frame) => self.frame.insert(frame),
                    None => return Ok(None),
                },
            };
            let length = frame.remaining.min(input.len());
            let (payload, rest) = input.split_at(length);
            let is_control = matches!(frame.opcode, OpCode::Control(_));
            let buffer = if is_control {
                &mut self.control
            } else {
                &mut self.message
            };
            put_unmasked(buffer, payload, &mut frame.mask);
            frame.remaining -= length;
            *input = rest;
            if frame.remaining > 0 {
                return Ok(None);
            }
            let (opcode, is_final) = (frame.opcode, frame.is_final);
            self.frame = None;
            let item = match opcode {
                OpCode::Control(control) => {
                    let payload = self.control.split().freeze();
                    match control {
                        Control::Ping => Incoming::Ping(payload),
                        Control::Pong => Incoming::Pong,
                        Control::Close | Control::Reserved(_) => Incoming::Close,
                    }
                }
                OpCode::Data(_) if !is_final => {
                    self.is_continued = true;
                    continue;
                }
                OpCode::Data(_) => {
                    self.is_continued = false;
                    Incoming::Message(std::mem::take(&mut self.message).freeze())
                }
            };
            return Ok(Some(item));
        }
    }

    /// The next head; `None` where it is not complete, and all input was taken.
    fn read_head(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Malformed> {
        if input.is_empty() {
            return Ok(None);
        }
        let before = usize::from(self.head_len);
        let taken = input.len().min(HEAD_BYTES_MAX - before);
        self.head[before..before + taken].copy_from_slice(&input[..taken]);
        let mut cursor = Cursor::new(&self.head[..before + taken]);
        let parsed =
            FrameHeader::parse(&mut cursor).map_err(|_| Malformed("WebSocket frame's type"))?;
        let Some((header, length)) = parsed else {
            // Incomplete, so shorter than the longest, and so all of the input.
            self.head_len = u8::try_from(before + taken).unwrap_or(u8::MAX);
            *input = &[];
            return Ok(None);
        };
        let head_len = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        *input = &input[head_len - before..];
        self.head_len = 0;
        self.begin(&header, length).map(Some)
    }

    fn begin(&mut self, header: &FrameHeader, length: u64) -> Result<Frame, Malformed> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Malformed("WebSocket extension"));
        }
        // §5.1: a client masks, a server does not.
        if header.mask.is_some() != (self.role == Role::Server) {
            return Err(Malformed("WebSocket mask"));
        }
        match header.opcode {
            OpCode::Control(_) => {
                if !header.is_final || length > CONTROL_BYTES_MAX {
                    return Err(Malformed("WebSocket control frame"));
                }
            }
            OpCode::Data(kind) => {
                let fits = match kind {
                    Data::Binary => !self.is_continued,
                    Data::Continue => self.is_continued,
                    Data::Text | Data::Reserved(_) => return Err(Malformed("text message")),
                };
                if !fits {
                    return Err(Malformed("WebSocket continuation"));
                }
            }
        }
        let remaining = usize::try_from(length)
            .ok()
            .filter(|length| self.message.len() + length <= MESSAGE_BYTES_MAX)
            .ok_or(Malformed("WebSocket message of that length"))?;
        if let OpCode::Data(_) = header.opcode {
            self.message.reserve(remaining);
        }
        Ok(Frame {
            opcode: header.opcode,
            is_final: header.is_final,
            mask: header.mask.unwrap_or_default(),
            remaining,
        })
    }
}

/// Appends payload, unmasked, and turns the mask to where the next byte needs it.
fn put_unmasked(out: &mut BytesMut, payload: &[u8], mask: &mut [u8; 4]) {
    let start = out.len();
    out.put_slice(payload);
    if *mask == [0; 4] {
        return;
    }
    let (words, rest) = out[start..].as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(*mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(&*mask) {
        *byte ^= mask;
    }
    mask.rotate_left(rest.len());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame as Encoded;

    use super::*;

    fn encoded(opcode: OpCode, is_final: bool, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let mut frame = Encoded::message(payload.to_vec(), opcode, is_final);
        let header = frame.header_mut();
        header.mask = mask;
        let mut out = Vec::new();
        frame.format(&mut out).unwrap();
        out
    }

    fn binary(payload: &[u8]) -> Vec<u8> {
        encoded(OpCode::Data(Data::Binary), true, None, payload)
    }

    fn client() -> Assembler {
        Assembler::new(Role::Client)
    }

    fn all(assembler: &mut Assembler, mut input: &[u8]) -> Result<Vec<Incoming>, Malformed> {
        let mut items = Vec::new();
        while let Some(item) = assembler.next(&mut input)? {
            items.push(item);
        }
        assert!(input.is_empty());
        Ok(items)
    }

    proptest! {
        #[test]
        fn a_message_comes_out_whole_however_its_bytes_are_cut(
            payload in prop::collection::vec(any::<u8>(), 0..70_000),
            mask in any::<[u8; 4]>(),
            fragments in prop::collection::vec(0_usize..70_000, 0..4),
            cuts in prop::collection::vec(1_usize..20_000, 1..6),
        ) {
            prop_assume!(payload.len() <= MESSAGE_BYTES_MAX);
            let mut bounds: Vec<_> =
                fragments.into_iter().map(|at| at.min(payload.len())).collect();
            bounds.sort_unstable();
            bounds.push(payload.len());
            let mut bytes = Vec::new();
            let mut start = 0;
            for (index, end) in bounds.iter().enumerate() {
                let kind = if index == 0 { Data::Binary } else { Data::Continue };
                let is_last = index + 1 == bounds.len();
                bytes.extend(encoded(
                    OpCode::Data(kind), is_last, Some(mask), &payload[start..*end],
                ));
                bytes.extend(encoded(OpCode::Control(Control::Ping), true, Some(mask), b"hi"));
                start = *end;
            }

            let mut assembler = Assembler::new(Role::Server);
            let mut items = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, later) = rest.split_at((*cut).min(rest.len()));
                items.extend(all(&mut assembler, piece).unwrap());
                rest = later;
            }

            let pings = items.iter().filter(|item| **item == Incoming::Ping("hi".into()));
            prop_assert_eq!(pings.count(), bounds.len());
            items.retain(|item| matches!(item, Incoming::Message(_)));
            prop_assert_eq!(items, vec![Incoming::Message(payload.into())]);
        }

        #[test]
        fn whatever_bytes_come_are_taken_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut input = &bytes[..];
            let mut assembler = client();
            while let Ok(Some(_)) = assembler.next(&mut input) {}
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_before_its_payload_comes() {
        let long = binary(&vec![0; MESSAGE_BYTES_MAX + 1]);

        assert!(all(&mut client(), &long[..10]).is_err());
    }

    #[test]
    fn fragments_that_are_too_long_together_are_refused() {
        let half = vec![0; MESSAGE_BYTES_MAX / 2 + 1];
        let mut bytes = encoded(OpCode::Data(Data::Binary), false, None, &half);
        bytes.extend(encoded(OpCode::Data(Data::Continue), true, None, &half));

        assert!(all(&mut client(), &bytes).is_err());
    }

    #[test]
    fn a_server_refuses_what_is_not_masked() {
        let refused = all(&mut Assembler::new(Role::Server), &binary(b"abc"));

        assert_eq!(refused, Err(Malformed("WebSocket mask")));
    }

    #[test]
    fn text_is_refused() {
        let text = encoded(OpCode::Data(Data::Text), true, None, b"abc");

        assert_eq!(all(&mut client(), &text), Err(Malformed("text message")));
    }

    #[test]
    fn nothing_is_kept_between_messages() {
        let mut assembler = client();

        all(&mut assembler, &binary(&[1; 60_000])).unwrap();

        assert_eq!(assembler.message.capacity(), 0);
    }
}
