//! Where the machine puts what is to be sent: one buffer, or pieces that share memory
//! with what was written.

use std::io::IoSlice;

use bytes::{BufMut, Bytes, BytesMut};

/// Payloads below this are copied: a piece of its own costs a reference count, a slice
/// and a look-up, which is more than so few bytes.
const PIECE_BYTES_MIN: usize = 512;

/// What takes a message: heads of frames one after the other, and payloads between them.
pub trait PutMessage {
    /// Where the next head is appended.
    fn head(&mut self) -> &mut BytesMut;

    /// Appends payload.
    fn put_payload(&mut self, bytes: Bytes);

    /// Bytes in the message so far.
    fn len(&self) -> usize;

    /// Whether nothing was put yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One buffer: payloads are copied.
impl PutMessage for BytesMut {
    fn head(&mut self) -> &mut BytesMut {
        self
    }

    fn put_payload(&mut self, bytes: Bytes) {
        self.put_slice(&bytes);
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

/// A message in pieces, for a vectored write: no payload of note is copied. It can be
/// [cleared](Self::clear) and filled again, and then allocates nothing.
#[derive(Debug, Default)]
pub struct Pieces {
    heads: BytesMut,
    /// Payloads, and how many bytes of the heads go before each.
    payloads: Vec<(usize, Bytes)>,
    payload_bytes: usize,
}

impl Pieces {
    /// Empties it; room that was made stays.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.payloads.clear();
        self.payload_bytes = 0;
    }

    /// Appends the message's bytes, in order, to `slices`.
    pub fn slices<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>) {
        let mut start = 0;
        for (end, payload) in &self.payloads {
            if *end > start {
                slices.push(IoSlice::new(&self.heads[start..*end]));
            }
            slices.push(IoSlice::new(payload));
            start = *end;
        }
        if self.heads.len() > start {
            slices.push(IoSlice::new(&self.heads[start..]));
        }
    }
}

impl PutMessage for Pieces {
    fn head(&mut self) -> &mut BytesMut {
        &mut self.heads
    }

    fn put_payload(&mut self, bytes: Bytes) {
        if bytes.len() < PIECE_BYTES_MIN {
            self.heads.put_slice(&bytes);
        } else {
            self.payload_bytes += bytes.len();
            self.payloads.push((self.heads.len(), bytes));
        }
    }

    fn len(&self) -> usize {
        self.heads.len() + self.payload_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(parts: &[(bool, Vec<u8>)], out: &mut impl PutMessage) {
        for (is_head, bytes) in parts {
            if *is_head {
                out.head().put_slice(bytes);
            } else {
                out.put_payload(Bytes::copy_from_slice(bytes));
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_hold_the_bytes_that_one_buffer_would(
            parts in prop::collection::vec(
                (any::<bool>(), prop::collection::vec(any::<u8>(), 0..2_000)),
                0..8,
            ),
        ) {
            let (mut whole, mut pieces) = (BytesMut::new(), Pieces::default());
            put(&[(true, vec![1])], &mut pieces);
            pieces.clear();

            put(&parts, &mut whole);
            put(&parts, &mut pieces);

            let mut slices = Vec::new();
            pieces.slices(&mut slices);
            let joined = slices.iter().flat_map(|slice| slice.iter().copied());
            prop_assert_eq!(PutMessage::len(&pieces), PutMessage::len(&whole));
            prop_assert_eq!(joined.collect::<Vec<_>>(), whole.to_vec());
        }
    }
}
