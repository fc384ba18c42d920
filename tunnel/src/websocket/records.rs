//! TLS records over a byte stream, without a buffer of their own.
//!
//! rustls is fed from one large read, into room that all connections of a thread share,
//! and plaintext is handed on as it is decrypted: an idle connection holds what rustls
//! holds. What is sent is encrypted straight from the pieces that it is in, and leaves
//! with one vectored write for many records.

use std::{
    cell::Cell,
    io::{self, BufRead as _, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustls::Connection;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::world::BoxIo;

/// One read of the socket: eight records, which stay in the processor's cache until
/// they are decrypted.
const READ_BYTES: usize = 128 * 1024;

thread_local! {
    /// Taken while it is used, so that a stream within a stream finds none and makes
    /// its own.
    static ROOM: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// See the module.
pub(super) struct Records {
    io: BoxIo,
    tls: Box<Connection>,
    /// More than a few bytes came since rustls was last asked to give room back.
    is_stretched: bool,
}

impl Records {
    /// `tls` has shaken hands over `io`.
    pub(super) fn new(io: BoxIo, tls: impl Into<Connection>) -> Self {
        let mut tls = Box::new(tls.into());
        // What is queued is bounded by whoever queues.
        tls.set_buffer_limit(None);
        Self {
            io,
            tls,
            is_stretched: false,
        }
    }

    /// Reads once, and hands the plaintext to `take`; false at the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<bool>> {
        let mut room = ROOM
            .take()
            .unwrap_or_else(|| vec![0; READ_BYTES].into_boxed_slice());
        let mut buffer = ReadBuf::new(&mut room);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut buffer);
        let result = match read {
            Poll::Pending => {
                self.give_back();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Ok(false)),
            Poll::Ready(Ok(())) => Poll::Ready(self.decrypt(buffer.filled(), take)),
        };
        ROOM.set(Some(room));
        result
    }

    fn decrypt(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        self.is_stretched = true;
        while !bytes.is_empty() {
            if self.tls.read_tls(&mut bytes)? == 0 {
                // After the peer's close_notify nothing counts any more.
                return Ok(false);
            }
            let state = self
                .tls
                .process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if state.plaintext_bytes_to_read() > 0 {
                self.drain(take);
            }
            if state.peer_has_closed() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hands on what rustls holds decrypted, as after the handshake it may; whether
    /// there was any.
    pub(super) fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        let mut reader = self.tls.reader();
        let mut has_any = false;
        while let Ok(plaintext) = reader.fill_buf()
            && !plaintext.is_empty()
        {
            let length = plaintext.len();
            take(plaintext);
            reader.consume(length);
            has_any = true;
        }
        has_any
    }

    /// rustls lets go of a stretched buffer when it is about to read.
    fn give_back(&mut self) {
        struct Nothing;
        impl io::Read for Nothing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
        if std::mem::take(&mut self.is_stretched) {
            let _nothing_read = self.tls.read_tls(&mut Nothing);
        }
    }

    /// Encrypts the pieces as one run of plaintext; [`Self::poll_flush`] sends it.
    pub(super) fn queue(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let queued = self.tls.writer().write_vectored(pieces)?;
        debug_assert_eq!(queued, length, "rustls queues without a limit");
        Ok(())
    }

    /// Says that nothing more will be sent.
    pub(super) fn queue_close(&mut self) {
        self.tls.send_close_notify();
    }

    /// Sends everything that is queued.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let mut sink = Sink {
                io: &mut self.io,
                cx,
            };
            match self.tls.write_tls(&mut sink) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Sends everything, and then the end.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// An asynchronous writer as rustls wants one: not ready is an error.
struct Sink<'a, 'b> {
    io: &'a mut BoxIo,
    cx: &'a mut Context<'b>,
}

impl Sink<'_, '_> {
    fn result(written: Poll<io::Result<usize>>) -> io::Result<usize> {
        match written {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl io::Write for Sink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::result(Pin::new(&mut *self.io).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::result(Pin::new(&mut *self.io).poll_write_vectored(self.cx, pieces))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
