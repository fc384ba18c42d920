//! Reading a socket into memory of the size that its bytes need.
//!
//! While little comes at a time, it is read into room that all splices of a thread
//! share, and copied out: an idle socket holds nothing, and a few bytes are kept as a
//! few bytes. While much comes, it is read into blocks that are handed on as they are.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;
use wire::limits::DATA_BYTES_MAX;

/// One read: what a data frame carries.
const READ_BYTES: usize = DATA_BYTES_MAX;

/// A read of at least this much is one of many; and what a block has left is used
/// while it is as much. Copying less is cheaper than a block.
const BULK_BYTES_MIN: usize = 16 * 1024;

thread_local! {
    /// Taken while it is used, so that a socket within a socket finds none.
    static ROOM: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ChunkReader {
    /// What is left of the present block; empty where little comes.
    block: BytesMut,
}

impl ChunkReader {
    /// The next bytes; none at the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut impl AsyncRead>,
    ) -> Poll<io::Result<Bytes>> {
        if self.block.capacity() == 0 {
            return self.poll_read_little(cx, from);
        }
        match poll_read_buf(from.as_mut(), cx, &mut self.block) {
            Poll::Pending => {
                self.block = BytesMut::new();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(_)) => {
                let bytes = self.block.split().freeze();
                if self.block.capacity() < BULK_BYTES_MIN {
                    self.block = BytesMut::with_capacity(READ_BYTES);
                }
                Poll::Ready(Ok(bytes))
            }
        }
    }

    fn poll_read_little(
        &mut self,
        cx: &mut Context<'_>,
        from: Pin<&mut impl AsyncRead>,
    ) -> Poll<io::Result<Bytes>> {
        let mut room = ROOM
            .take()
            .unwrap_or_else(|| vec![0; READ_BYTES].into_boxed_slice());
        let mut buffer = ReadBuf::new(&mut room);
        let read = from.poll_read(cx, &mut buffer);
        let bytes = Bytes::copy_from_slice(buffer.filled());
        ROOM.set(Some(room));
        ready!(read)?;
        if bytes.len() >= BULK_BYTES_MIN {
            self.block = BytesMut::with_capacity(READ_BYTES);
        }
        Poll::Ready(Ok(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use super::*;

    fn poll(reader: &mut ChunkReader, from: &mut (impl AsyncRead + Unpin)) -> Poll<Bytes> {
        let mut cx = Context::from_waker(Waker::noop());
        reader
            .poll_read(&mut cx, Pin::new(from))
            .map(Result::unwrap)
    }

    #[tokio::test]
    async fn bytes_come_in_order_whatever_their_size() {
        let all: Vec<_> = (0..1_000_000_u32).map(|index| index as u8).collect();
        let mut from = &all[..];
        let mut reader = ChunkReader::default();
        let mut got = Vec::new();
        loop {
            let bytes = poll_fn(|cx| reader.poll_read(cx, Pin::new(&mut from))).await;
            let bytes = bytes.unwrap();
            if bytes.is_empty() {
                break;
            }
            got.extend_from_slice(&bytes);
        }
        assert_eq!(got, all);
    }

    #[tokio::test]
    async fn a_socket_that_has_gone_quiet_holds_no_block() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let mut reader = ChunkReader::default();
        tokio::io::AsyncWriteExt::write_all(&mut far, &[7; 100_000])
            .await
            .unwrap();

        let mut got = 0;
        while let Poll::Ready(bytes) = poll(&mut reader, &mut near) {
            got += bytes.len();
        }

        assert_eq!((got, reader.block.capacity()), (100_000, 0));
    }
}
