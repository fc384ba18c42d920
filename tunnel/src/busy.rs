//! A relay that has no time for a handshake says when to come back, instead of TLS.
//!
//! TLS begins with the dialler's word, so that the relay's is there while the dialler already
//! writes: the kernel may refuse the write before anything was read. So both a first byte that
//! is not TLS and a write that fails are a reason to look.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::prelude::{PRELUDE_BYTES, PRELUDE_MAGIC, Prelude};

use crate::world::BoxIo;

/// What the relay has said; inside the [`io::Error`] that TLS ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy {
    /// When to come back, from the moment that it was read.
    pub(crate) come_back_in: Duration,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the relay is busy: come back in {:?}", self.come_back_in)
    }
}

impl std::error::Error for Busy {}

impl Busy {
    /// What an error holds of it.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().copied()
    }
}

/// A connection whose first bytes may be a prelude. After the first that are none, it is
/// the connection and nothing else.
#[derive(Debug)]
pub(crate) struct Listening {
    io: BoxIo,
    /// The first bytes as far as they were read and not handed on.
    first: [u8; PRELUDE_BYTES],
    length: usize,
    /// Whether they may still become a prelude.
    is_open: bool,
}

impl Listening {
    pub(crate) const fn over(io: BoxIo) -> Self {
        Self {
            io,
            first: [0; PRELUDE_BYTES],
            length: 0,
            is_open: true,
        }
    }

    /// Reads on, as long as it looks like a prelude: an error, once it is a whole one; done,
    /// once it is none.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.is_open {
            let mut into = ReadBuf::new(&mut self.first[self.length..]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut into))?;
            let read = into.filled().len();
            self.length += read;
            if let Some(prelude) = Prelude::decode(&self.first[..self.length]) {
                let come_back_in = prelude.come_back_in;
                let busy = Busy { come_back_in };
                return Poll::Ready(Err(io::Error::other(busy)));
            }
            let may_be = self.first[0] == PRELUDE_MAGIC && self.length < PRELUDE_BYTES;
            self.is_open = may_be && read > 0;
        }
        Poll::Ready(Ok(()))
    }

    /// After a write that failed: what the relay may have said before it closed.
    fn explain(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        match self.poll_first(cx) {
            Poll::Ready(Err(said)) if Busy::of(&said).is_some() => said,
            _ => error,
        }
    }

    fn explained<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(error)) if self.is_open => Poll::Ready(Err(self.explain(cx, error))),
            written => written,
        }
    }
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_first(cx))?;
        if self.length > 0 {
            // A reader without room for them gets the rest the next time.
            let taken = self.length.min(into.remaining());
            into.put_slice(&self.first[..taken]);
            self.first.copy_within(taken.., 0);
            self.length -= taken;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.explained(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.explained(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.explained(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair() -> (Listening, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        (Listening::over(Box::new(near)), far)
    }

    #[tokio::test]
    async fn a_prelude_is_an_error_that_says_when_even_where_it_comes_byte_by_byte() {
        let (mut listening, mut far) = pair();
        let slot = Duration::from_millis(12_345);
        let bytes = Prelude { come_back_in: slot }.encode();

        let read = tokio::spawn(async move { listening.read(&mut [0; 64]).await });
        for byte in bytes {
            far.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }

        let error = read.await.unwrap().unwrap_err();
        assert_eq!(Busy::of(&error), Some(Busy { come_back_in: slot }));
    }

    #[tokio::test]
    async fn a_relay_that_has_closed_before_the_dialler_s_first_word_is_heard_all_the_same() {
        let (mut listening, mut far) = pair();
        let slot = Duration::from_millis(700);
        far.write_all(&Prelude { come_back_in: slot }.encode())
            .await
            .unwrap();
        drop(far);

        let error = listening.write_all(b"hello").await.unwrap_err();

        assert_eq!(Busy::of(&error), Some(Busy { come_back_in: slot }));
    }

    #[tokio::test]
    async fn everything_else_passes_whole_to_readers_of_any_size() {
        let answers: [&[u8]; 4] = [
            b"\x16\x03\x03\x00\x7a and so on",
            b"HTTP/1.1 400 Bad Request\r\n",
            &[PRELUDE_MAGIC, 9, 1, 2, 3, 4, 5, 6, 7],
            &[PRELUDE_MAGIC, 1, 2],
        ];
        for answer in answers {
            for room in [1, 3, 64] {
                let (mut listening, mut far) = pair();
                far.write_all(answer).await.unwrap();
                drop(far);

                let (mut read, mut into) = (Vec::new(), vec![0; room]);
                loop {
                    match listening.read(&mut into).await.unwrap() {
                        0 => break,
                        length => read.extend_from_slice(&into[..length]),
                    }
                }

                assert_eq!(read, answer, "with room for {room}");
            }
        }
    }
}
