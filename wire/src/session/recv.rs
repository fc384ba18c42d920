//! The receiving direction of one stream: bytes kept until the application reads.
//!
//! ```text
//! Open ──finish received──► SizeKnown ──all read──► Done
//!   ├──reset received──► Reset ───────told──────────► Done
//!   └──stop()──► Stopped ──finish or reset received─► Done
//! ```

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};

use super::{QUEUE_KEPT, StreamReset, window::Window};
use crate::frame::OFFSET_MAX;
use crate::limits::{STREAM_WINDOW_INITIAL_BYTES, STREAM_WINDOW_MAX_BYTES};

/// Less than this is joined with what came before, so that two chunks have at least
/// this much and the 32 bytes that each costs are little beside it.
const CHUNK_BYTES_MIN: usize = 2 * 1024;

#[derive(Debug)]
enum State {
    Open,
    SizeKnown(u64),
    Reset(StreamReset),
    Stopped,
    Done(Option<StreamReset>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct RecvHalf {
    /// What was received and not read.
    chunks: VecDeque<Bytes>,
    window: Window,
    state: State,
    /// What the peer was told that it need not keep.
    pub(super) acked: u64,
}

/// What the peer did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Violation {
    /// Bytes beyond the credit.
    CreditExceeded,
    /// Bytes after a gap.
    Gap,
    /// Bytes after the finish, or two sizes.
    SizeChanged,
}

/// What one read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// At least one byte.
    Bytes(Bytes),
    /// The peer has finished, and everything was read.
    Finished,
    /// Nothing yet; an event [`Readable`](super::Event::Readable) will say when.
    Pending,
}

/// What an arrival means for the session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Bytes received for the first time.
    pub(super) new: u64,
    /// Of them, bytes that nobody will read.
    pub(super) dropped: u64,
}

impl RecvHalf {
    pub(super) const fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            window: Window::new(STREAM_WINDOW_INITIAL_BYTES, STREAM_WINDOW_MAX_BYTES),
            state: State::Open,
            acked: 0,
        }
    }

    pub(super) const fn received(&self) -> u64 {
        self.window.received()
    }

    pub(super) const fn credit(&self) -> u64 {
        self.window.granted()
    }

    pub(super) const fn window_size(&self) -> u64 {
        self.window.size()
    }

    /// What to acknowledge: the bytes, or with [`OFFSET_MAX`] the end too.
    pub(super) const fn ack_offset(&self) -> u64 {
        if self.is_receiving() {
            self.received()
        } else {
            OFFSET_MAX
        }
    }

    /// Bytes received that the application has not read.
    pub(super) fn unread(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }

    /// Why the peer broke the direction off, if it did.
    pub(super) const fn broken(&self) -> Option<&StreamReset> {
        match &self.state {
            State::Reset(reset) | State::Done(Some(reset)) => Some(reset),
            State::Open | State::SizeKnown(_) | State::Stopped | State::Done(None) => None,
        }
    }

    /// Whether the peer may still send.
    pub(super) const fn is_receiving(&self) -> bool {
        matches!(self.state, State::Open | State::Stopped)
    }

    pub(super) const fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    /// Takes bytes at an absolute offset; those received before are skipped.
    pub(super) fn on_data(&mut self, offset: u64, mut bytes: Bytes) -> Result<Arrival, Violation> {
        if offset > self.received() {
            return Err(Violation::Gap);
        }
        let known = self.received() - offset;
        if known >= bytes.len() as u64 {
            return Ok(Arrival::default());
        }
        if !self.is_receiving() {
            // After a reset, what was under way on another lane is of no interest.
            return match self.state {
                State::SizeKnown(_) => Err(Violation::SizeChanged),
                _ => Ok(Arrival::default()),
            };
        }
        bytes.advance(usize::try_from(known).unwrap_or(usize::MAX));
        let new = bytes.len() as u64;
        if !self.window.receive(new) {
            return Err(Violation::CreditExceeded);
        }
        if self.is_stopped() {
            return Ok(Arrival { new, dropped: new });
        }
        self.keep(bytes);
        Ok(Arrival { new, dropped: 0 })
    }

    /// Small bytes are copied out of the message that they came in, which they would
    /// keep in memory whole, and joined with those before them: a peer that sends
    /// single bytes shall not cost a chunk for each.
    fn keep(&mut self, bytes: Bytes) {
        if bytes.len() >= CHUNK_BYTES_MIN {
            self.chunks.push_back(bytes);
            return;
        }
        let last = self
            .chunks
            .back_mut()
            .filter(|last| last.len() < CHUNK_BYTES_MIN);
        let Some(last) = last else {
            self.chunks.push_back(Bytes::copy_from_slice(&bytes));
            return;
        };
        let mut joined = match std::mem::take(last).try_into_mut() {
            Ok(joined) => joined,
            // Shared with what was read of it.
            Err(shared) => BytesMut::from(&shared[..]),
        };
        joined.extend_from_slice(&bytes);
        *last = joined.freeze();
    }

    /// The peer has sent all; false where the direction had ended before.
    pub(super) fn on_finish(&mut self, size: u64) -> Result<bool, Violation> {
        match &self.state {
            State::SizeKnown(known) if *known != size => return Err(Violation::SizeChanged),
            State::SizeKnown(_) | State::Reset(_) | State::Done(_) => return Ok(false),
            State::Open | State::Stopped => {}
        }
        if size != self.received() {
            return Err(if size > self.received() {
                Violation::Gap
            } else {
                Violation::SizeChanged
            });
        }
        self.state = if self.is_stopped() {
            State::Done(None)
        } else {
            State::SizeKnown(size)
        };
        Ok(true)
    }

    /// The peer broke the direction off after `size` bytes, of which some may never
    /// have arrived. Gives what counts as received and as read for the session.
    pub(super) fn on_reset(&mut self, reset: StreamReset, size: u64) -> Result<Arrival, Violation> {
        if matches!(self.state, State::Reset(_) | State::Done(_)) {
            return Ok(Arrival::default());
        }
        let is_changed = matches!(self.state, State::SizeKnown(known) if known != size);
        if is_changed || size < self.received() {
            return Err(Violation::SizeChanged);
        }
        let new = size - self.received();
        if !self.window.receive(new) {
            return Err(Violation::CreditExceeded);
        }
        // What came whole is read before the reset is told, as a socket's peer would
        // read it; what has a gap is of no use.
        let unread = if new > 0 { self.drop_unread() } else { 0 };
        self.state = if self.is_stopped() {
            State::Done(Some(reset))
        } else {
            State::Reset(reset)
        };
        Ok(Arrival {
            new,
            dropped: new + unread,
        })
    }

    /// Gives how many bytes were dropped.
    fn drop_unread(&mut self) -> u64 {
        let unread = self.unread();
        self.chunks = VecDeque::new();
        unread
    }

    /// The application reads no further. Gives the bytes that nobody will read, or
    /// `None` where the peer need not be told.
    pub(super) fn stop(&mut self) -> Option<u64> {
        let unread = self.drop_unread();
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Open => Some(unread),
            State::SizeKnown(_) => {
                self.state = State::Done(None);
                Some(unread)
            }
            State::Reset(reset) => {
                self.state = State::Done(Some(reset));
                Some(unread)
            }
            before @ (State::Stopped | State::Done(_)) => {
                self.state = before;
                None
            }
        }
    }

    /// Reads at most `max` bytes.
    pub(super) fn read(&mut self, max: usize) -> Result<Read, StreamReset> {
        if let Some(front) = self.chunks.front_mut() {
            let bytes = if front.len() > max {
                front.split_to(max)
            } else {
                std::mem::take(front)
            };
            if front.is_empty() {
                self.chunks.pop_front();
                if self.chunks.is_empty() && self.chunks.capacity() > QUEUE_KEPT {
                    self.chunks = VecDeque::new();
                }
            }
            return Ok(Read::Bytes(bytes));
        }
        match &self.state {
            State::Open => Ok(Read::Pending),
            State::SizeKnown(_) => {
                self.state = State::Done(None);
                Ok(Read::Finished)
            }
            State::Reset(reset) | State::Done(Some(reset)) => {
                let reset = reset.clone();
                self.state = State::Done(Some(reset.clone()));
                Err(reset)
            }
            State::Stopped | State::Done(None) => Ok(Read::Finished),
        }
    }

    /// Counts bytes that were read; true where the peer is to be told of new credit.
    pub(super) fn consume(&mut self, now: Instant, bytes: u64, rtt: Option<Duration>) -> bool {
        self.window.consume(now, bytes, rtt) && self.is_receiving()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn bytes_sent_again_are_taken_once() {
        let mut half = RecvHalf::new();
        half.on_data(0, bytes("abcd")).unwrap();

        let arrival = half.on_data(2, bytes("cdef")).unwrap();

        assert_eq!(arrival, Arrival { new: 2, dropped: 0 });
        assert_eq!(half.read(99), Ok(Read::Bytes(bytes("abcdef"))));
        assert_eq!(half.read(99), Ok(Read::Pending));
    }

    #[test]
    fn a_gap_is_a_violation() {
        assert_eq!(RecvHalf::new().on_data(1, bytes("b")), Err(Violation::Gap));
    }

    #[test]
    fn bytes_after_the_finish_are_a_violation() {
        let mut half = RecvHalf::new();
        half.on_finish(0).unwrap();

        assert_eq!(half.on_data(0, bytes("a")), Err(Violation::SizeChanged));
    }

    #[test]
    fn what_came_whole_before_a_reset_is_read_before_it() {
        let mut half = RecvHalf::new();
        half.on_data(0, bytes("abcd")).unwrap();

        let arrival = half.on_reset(StreamReset::cancelled(), 4).unwrap();

        assert_eq!(arrival, Arrival::default());
        assert_eq!(half.read(9), Ok(Read::Bytes(bytes("abcd"))));
        assert_eq!(half.read(9), Err(StreamReset::cancelled()));
    }

    #[test]
    fn a_reset_gives_back_the_credit_of_what_nobody_will_read() {
        let mut half = RecvHalf::new();
        half.on_data(0, bytes("abcd")).unwrap();

        let arrival = half.on_reset(StreamReset::cancelled(), 6).unwrap();

        assert_eq!(arrival, Arrival { new: 2, dropped: 6 });
        assert_eq!(half.read(9), Err(StreamReset::cancelled()));
    }
}
