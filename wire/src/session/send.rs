//! The sending direction of one stream: bytes kept until the peer has them.
//!
//! ```text
//! Open ──finish()──► Finishing ──end acknowledged──► Done
//!   ├──reset()──► Reset ──end acknowledged───────────► Done
//!   └──break_off()──► Breaking ──bytes acknowledged──► Reset
//! ```
//!
//! A reset discards what was not sent; breaking off delivers it first, as a socket
//! does that fails after its last byte.
//!
//! The end is acknowledged apart from the bytes: all bytes may have arrived and the
//! finish or reset been lost with its connection.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{StreamReset, message::PutMessage};
use crate::{frame::OFFSET_MAX, limits::STREAM_WINDOW_INITIAL_BYTES};

#[derive(Debug)]
enum State {
    Open,
    Finishing,
    Breaking(StreamReset),
    Reset(StreamReset),
    Done(Option<StreamReset>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct SendHalf {
    /// From `acked` to `written`.
    chunks: VecDeque<Bytes>,
    acked: u64,
    cursor: u64,
    written: u64,
    highest_sent: u64,
    credit: u64,
    state: State,
    /// On the present connection.
    finish_sent: bool,
    /// On whatever connection.
    finish_ever_sent: bool,
    /// Where `cursor` lies: index of the chunk, offset in it.
    position: (usize, usize),
}

/// The peer acknowledged bytes that were never sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AckBeyondSent;

impl SendHalf {
    pub(super) const fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            acked: 0,
            cursor: 0,
            written: 0,
            highest_sent: 0,
            credit: STREAM_WINDOW_INITIAL_BYTES,
            state: State::Open,
            finish_sent: false,
            finish_ever_sent: false,
            position: (0, 0),
        }
    }

    /// Bytes written and not yet sent for the first time or again.
    pub(super) const fn unsent(&self) -> u64 {
        self.written - self.cursor
    }

    /// Bytes kept because the peer has not acknowledged them.
    pub(super) const fn retained(&self) -> u64 {
        self.written - self.acked
    }

    /// Whether the peer has all that was sent on the present connection.
    pub(super) const fn is_all_acknowledged(&self) -> bool {
        self.acked >= self.cursor
    }

    pub(super) const fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Why the direction was broken off, if it was.
    pub(super) const fn broken(&self) -> Option<&StreamReset> {
        match &self.state {
            State::Reset(reset) | State::Done(Some(reset)) => Some(reset),
            State::Open | State::Finishing | State::Breaking(_) | State::Done(None) => None,
        }
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.is_open(), "written after the end");
        self.written += bytes.len() as u64;
        self.chunks.push_back(bytes);
    }

    pub(super) fn finish(&mut self) {
        if self.is_open() {
            self.state = State::Finishing;
        }
    }

    /// Breaks the direction off; false where it had ended already.
    pub(super) fn reset(&mut self, reset: StreamReset) -> bool {
        if !self.is_delivering() {
            return false;
        }
        self.state = State::Reset(reset);
        self.chunks.clear();
        self.position = (0, 0);
        self.written = self.highest_sent;
        self.cursor = self.highest_sent;
        self.acked = self.highest_sent;
        true
    }

    /// Breaks the direction off after what was written. True where the peer is to
    /// be told at once, because it has everything.
    pub(super) fn break_off(&mut self, reset: StreamReset) -> bool {
        if self.is_open() {
            self.state = State::Breaking(reset);
        }
        self.is_break_due()
    }

    /// Ends the breaking once the peer has everything; true where that was now.
    fn is_break_due(&mut self) -> bool {
        if let State::Breaking(reset) = &self.state
            && self.acked == self.written
        {
            self.state = State::Reset(reset.clone());
            return true;
        }
        false
    }

    /// Whether bytes are still to be delivered.
    const fn is_delivering(&self) -> bool {
        matches!(
            self.state,
            State::Open | State::Finishing | State::Breaking(_)
        )
    }

    /// The reset that the peer must be told of: code, size and reason.
    pub(super) const fn reset_to_tell(&self) -> Option<(&StreamReset, u64)> {
        match &self.state {
            State::Reset(reset) => Some((reset, self.highest_sent)),
            State::Open | State::Finishing | State::Breaking(_) | State::Done(_) => None,
        }
    }

    /// Raises the credit; true where bytes wait for it.
    pub(super) fn add_credit(&mut self, credit: u64) -> bool {
        let was_blocked = self.cursor >= self.credit;
        self.credit = self.credit.max(credit);
        was_blocked && self.unsent() > 0
    }

    /// The peer has everything below `offset`; [`OFFSET_MAX`]: and the end too. True
    /// where the peer is now to be told of a reset.
    pub(super) fn ack(&mut self, offset: u64) -> Result<bool, AckBeyondSent> {
        if offset == OFFSET_MAX {
            return match self.state {
                State::Reset(_) => {
                    self.complete();
                    Ok(false)
                }
                State::Finishing if self.finish_ever_sent => {
                    self.complete();
                    Ok(false)
                }
                State::Done(_) => Ok(false),
                State::Open | State::Finishing | State::Breaking(_) => Err(AckBeyondSent),
            };
        }
        if offset > self.highest_sent {
            return Err(AckBeyondSent);
        }
        if self.is_delivering() {
            self.release(offset);
        }
        Ok(self.is_break_due())
    }

    /// The peer needs nothing more of this direction.
    pub(super) fn complete(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Done(None));
        if let State::Breaking(reset) | State::Reset(reset) | State::Done(Some(reset)) = state {
            self.state = State::Done(Some(reset));
        }
        self.chunks = VecDeque::new();
        self.position = (0, 0);
        self.acked = self.written;
        self.cursor = self.written;
    }

    fn release(&mut self, offset: u64) {
        if offset > self.cursor {
            // Sent on a connection since lost, and received there after all.
            self.seek(offset);
        }
        while self.acked < offset {
            let Some(front) = self.chunks.front_mut() else {
                break;
            };
            let gone = (offset - self.acked).min(front.len() as u64);
            self.acked += gone;
            let gone = usize_from(gone);
            if gone == front.len() {
                self.chunks.pop_front();
                self.position.0 = self.position.0.saturating_sub(1);
            } else {
                front.advance(gone);
                if self.position.0 == 0 {
                    self.position.1 -= gone;
                }
            }
        }
    }

    /// Goes back (or on) to `offset`, to send from there.
    pub(super) fn rewind(&mut self, offset: u64) -> Result<(), AckBeyondSent> {
        if matches!(self.state, State::Reset(_) | State::Done(_)) {
            return Ok(());
        }
        if offset > self.highest_sent {
            return Err(AckBeyondSent);
        }
        self.finish_sent = false;
        self.seek(offset.max(self.acked));
        self.release(offset);
        // A reset that becomes due with it is told with all else that is told again.
        self.is_break_due();
        Ok(())
    }

    /// Goes back to what the peer has acknowledged, to send the rest again.
    pub(super) fn send_again(&mut self) {
        if self.is_delivering() {
            self.finish_sent = false;
            self.seek(self.acked);
        }
    }

    fn seek(&mut self, offset: u64) {
        let (mut at, mut chunk) = (self.acked, 0);
        while let Some(bytes) = self.chunks.get(chunk) {
            if at + bytes.len() as u64 > offset {
                break;
            }
            at += bytes.len() as u64;
            chunk += 1;
        }
        self.position = (chunk, usize_from(offset - at));
        self.cursor = offset;
    }

    /// Whether a byte or the finish can go now, `session_credit` being what all
    /// streams together may yet send for the first time.
    pub(super) const fn has_output(&self, session_credit: u64) -> bool {
        self.sendable(session_credit) > 0 || self.wants_finish()
    }

    pub(super) const fn wants_finish(&self) -> bool {
        matches!(self.state, State::Finishing) && !self.finish_sent && self.cursor == self.written
    }

    /// How many bytes may go now.
    pub(super) const fn sendable(&self, session_credit: u64) -> u64 {
        if !self.is_delivering() {
            return 0;
        }
        let again = self.highest_sent - self.cursor;
        let limit = min(
            self.written,
            min(self.credit, self.cursor + again + session_credit),
        );
        limit.saturating_sub(self.cursor)
    }

    /// Appends the next `length` bytes, which must be sendable, to `out`. Gives how
    /// many of them were sent for the first time.
    pub(super) fn put(&mut self, mut length: usize, out: &mut impl PutMessage) -> u64 {
        while length > 0 {
            let slice = self.slice(length);
            let taken = slice.len();
            out.put_payload(slice);
            self.position_after(taken);
            length -= taken;
        }
        self.count_new()
    }

    /// The next `length` bytes, which must be sendable; the cursor stays.
    pub(super) fn peek(&self, length: usize) -> Bytes {
        let mut out = BytesMut::with_capacity(length);
        let (mut chunk, mut start) = self.position;
        while out.len() < length {
            let bytes = &self.chunks[chunk];
            let end = bytes.len().min(start + length - out.len());
            out.put_slice(&bytes[start..end]);
            (chunk, start) = (chunk + 1, 0);
        }
        out.freeze()
    }

    /// Moves the cursor on by `length` bytes that were sent. Gives how many of them
    /// were sent for the first time.
    pub(super) fn skip(&mut self, mut length: usize) -> u64 {
        while length > 0 {
            let step = self.slice(length).len();
            self.position_after(step);
            length -= step;
        }
        self.count_new()
    }

    /// The next bytes of one chunk, at most `length` of them, without a copy. Gives
    /// also how many of them were sent for the first time.
    pub(super) fn take(&mut self, length: usize) -> (Bytes, u64) {
        let slice = self.slice(length);
        self.position_after(slice.len());
        let new = self.count_new();
        (slice, new)
    }

    fn slice(&self, length: usize) -> Bytes {
        let (chunk, start) = self.position;
        let bytes = &self.chunks[chunk];
        bytes.slice(start..bytes.len().min(start + length))
    }

    fn position_after(&mut self, length: usize) {
        self.cursor += length as u64;
        let (chunk, start) = self.position;
        self.position = if start + length == self.chunks[chunk].len() {
            (chunk + 1, 0)
        } else {
            (chunk, start + length)
        };
    }

    const fn count_new(&mut self) -> u64 {
        let new = self.cursor.saturating_sub(self.highest_sent);
        self.highest_sent += new;
        new
    }

    /// Notes that the finish was sent; gives the direction's size.
    pub(super) const fn note_finish(&mut self) -> u64 {
        self.finish_sent = true;
        self.finish_ever_sent = true;
        self.written
    }
}

const fn min(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

/// Lengths of what is in memory fit `usize`.
fn usize_from(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(chunks: &[&'static [u8]]) -> SendHalf {
        let mut half = SendHalf::new();
        for chunk in chunks {
            half.push(Bytes::from_static(chunk));
        }
        half
    }

    fn send(half: &mut SendHalf, length: usize) -> Vec<u8> {
        let mut out = BytesMut::new();
        half.put(length, &mut out);
        out.to_vec()
    }

    #[test]
    fn bytes_are_kept_until_acknowledged_and_sent_again_from_there() {
        let mut half = written(&[b"abc", b"defg"]);
        assert_eq!(send(&mut half, 6), b"abcdef");

        half.ack(2).unwrap();
        half.rewind(4).unwrap();

        assert_eq!(half.retained(), 3);
        assert_eq!(send(&mut half, 3), b"efg");
    }

    #[test]
    fn bytes_sent_again_cost_no_session_credit() {
        let mut half = written(&[b"abcdef"]);
        send(&mut half, 4);

        half.rewind(0).unwrap();

        assert_eq!(half.sendable(0), 4);
        assert_eq!(half.sendable(1), 5);
    }

    #[test]
    fn an_acknowledgement_of_bytes_never_sent_is_refused() {
        let mut half = written(&[b"abcdef"]);
        send(&mut half, 4);

        assert_eq!(half.ack(5), Err(AckBeyondSent));
    }

    #[test]
    fn an_acknowledgement_that_crossed_a_rewind_moves_the_cursor_on() {
        let mut half = written(&[b"abc", b"def"]);
        send(&mut half, 6);
        half.rewind(1).unwrap();

        half.ack(5).unwrap();

        assert_eq!(send(&mut half, 1), b"f");
    }

    #[test]
    fn breaking_off_waits_until_the_peer_has_everything() {
        let mut half = written(&[b"ab"]);
        assert!(!half.break_off(StreamReset::cancelled()));
        assert_eq!(send(&mut half, 2), b"ab");

        assert_eq!(half.ack(2), Ok(true));

        assert_eq!(half.reset_to_tell(), Some((&StreamReset::cancelled(), 2)));
    }

    #[test]
    fn a_finished_direction_is_done_when_its_end_is_acknowledged_not_its_last_byte() {
        let mut half = written(&[b"ab"]);
        half.finish();
        send(&mut half, 2);
        assert!(half.wants_finish());
        assert_eq!(half.note_finish(), 2);

        half.ack(2).unwrap();
        assert!(!half.is_done());
        half.ack(OFFSET_MAX).unwrap();

        assert!(half.is_done() && half.broken().is_none());
    }
}
