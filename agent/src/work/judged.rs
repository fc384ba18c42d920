//! A socket to the Engine whose requests are judged: in place of the socket itself at the
//! end of a splice.
//!
//! Both halves may have something for the Engine: the writing one what comes in, the
//! reading one what had waited for an answer. So they share the Engine's writing half.

use std::{
    io,
    path::PathBuf,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};
use tunnel::{SpliceIo, splice::Probe};

use crate::{
    judge::{
        exchange::{Exchange, Law, Step, Verdict},
        head::Malformed,
    },
    policy::Policy,
    policy_file::PolicyInForce,
};

/// How soon an Engine that has gone is noticed, once it has finished.
const GONE_POLL: Duration = Duration::from_millis(100);

/// The rules as they change, and where they stand.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub policy: watch::Receiver<PolicyInForce>,
    pub path: PathBuf,
}

impl Rules {
    fn law(&self) -> Law {
        let in_force = self.policy.borrow();
        Law {
            policy: in_force.policy.clone(),
            place: in_force.place(&self.path),
        }
    }
}

/// What both halves and their observer share.
#[derive(Debug)]
struct Shared<W> {
    exchange: Exchange,
    /// The Engine's; gone once it was aborted.
    write: Option<W>,
    rules: Rules,
    /// Why the connection cannot go on.
    failed: Option<Malformed>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    observer: Option<Waker>,
}

impl<W: AsyncWrite + Unpin> Shared<W> {
    /// Goes on with what waits, and gives the Engine what is for it.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(write) = &mut self.write else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        while !self.exchange.to_engine().is_empty() {
            let (bytes, _) = self.exchange.to_engine().as_slices();
            match Pin::new(&mut *write).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => drop(self.exchange.to_engine().drain(..written)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn fail(&mut self, why: Malformed) -> io::Error {
        let error = io::Error::new(io::ErrorKind::InvalidData, why.to_string());
        self.failed = Some(why);
        error
    }

    /// Has everybody look again.
    fn wake(&mut self) {
        for waker in [&mut self.reader, &mut self.writer, &mut self.observer] {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }
}

type Handle<W> = Arc<Mutex<Shared<W>>>;

fn lock<W>(shared: &Handle<W>) -> MutexGuard<'_, Shared<W>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Judged<R, W> {
    read: JudgedRead<R, W>,
    write: JudgedWrite<W>,
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct JudgedRead<R, W> {
    read: R,
    shared: Handle<W>,
}

/// The sending half.
#[derive(Debug)]
pub(super) struct JudgedWrite<W>(Handle<W>);

/// Who records what was judged.
#[derive(Debug)]
pub(super) struct Observer<W>(Handle<W>);

/// A socket behind a judge, and who records what was judged.
type Judging<IO> = (
    Judged<<IO as SpliceIo>::Read, <IO as SpliceIo>::Write>,
    Observer<<IO as SpliceIo>::Write>,
);

/// Puts a judge before a socket.
pub(super) fn judge<IO: SpliceIo>(io: IO, rules: Rules) -> Judging<IO> {
    let (read, write) = io.halves();
    let shared = Arc::new(Mutex::new(Shared {
        exchange: Exchange::default(),
        write: Some(write),
        rules,
        failed: None,
        reader: None,
        writer: None,
        observer: None,
    }));
    let judged = Judged {
        read: JudgedRead {
            read,
            shared: shared.clone(),
        },
        write: JudgedWrite(shared.clone()),
    };
    (judged, Observer(shared))
}

impl<W: AsyncWrite + Unpin> Observer<W> {
    /// The next verdict that is to be recorded. Cancel safe.
    pub(super) async fn next(&self) -> Verdict {
        std::future::poll_fn(|cx| {
            let mut shared = lock(&self.0);
            match shared.exchange.next_verdict() {
                Some(verdict) => {
                    shared.wake();
                    Poll::Ready(verdict)
                }
                None => {
                    shared.observer = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The next verdict, if there is one: at the end.
    pub(super) fn left(&self) -> Option<Verdict> {
        lock(&self.0).exchange.next_verdict()
    }

    /// Whether what is under way may go on under these rules.
    pub(super) fn may_go_on(&self, policy: &Policy) -> bool {
        lock(&self.0).exchange.may_go_on(policy)
    }
}

impl<R, W> SpliceIo for Judged<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + Probe,
{
    type Read = JudgedRead<R, W>;
    type Write = JudgedWrite<W>;

    fn halves(self) -> (Self::Read, Self::Write) {
        (self.read, self.write)
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> AsyncRead for JudgedRead<R, W> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { read, shared } = self.get_mut();
        let mut shared = lock(shared);
        if let Some(why) = shared.failed.clone() {
            return Poll::Ready(Err(shared.fail(why)));
        }
        let rules = shared.rules.clone();
        // A verdict that was recorded may have made room for the next.
        if let Err(why) = shared.exchange.engine(&[], &|| rules.law()) {
            return Poll::Ready(Err(shared.fail(why)));
        }
        let had_held = !shared.exchange.to_engine().is_empty();
        match shared.flush(cx) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            // The socket has woken this half alone, and the other one may wait for room.
            Poll::Ready(Ok(())) if had_held => shared.wake(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        shared.reader = Some(cx.waker().clone());
        let ours = shared.exchange.to_client();
        if !ours.is_empty() {
            let (bytes, _) = ours.as_slices();
            let count = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..count]);
            ours.drain(..count);
            return Poll::Ready(Ok(()));
        }
        if shared.exchange.has_ended() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(read).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        let bytes = &buffer.filled()[before..];
        let followed = shared.exchange.engine(bytes, &|| rules.law());
        if let Err(why) = followed {
            return Poll::Ready(Err(shared.fail(why)));
        }
        // What had waited for this answer goes on.
        shared.wake();
        match shared.flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for JudgedWrite<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.0);
        shared.writer = Some(cx.waker().clone());
        std::task::ready!(shared.flush(cx))?;
        let rules = shared.rules.clone();
        let step = match shared.exchange.client(bytes, &|| rules.law()) {
            Ok(step) => step,
            Err(why) => {
                let error = shared.fail(why);
                shared.wake();
                return Poll::Ready(Err(error));
            }
        };
        let taken = match step {
            Step::Wait => return Poll::Pending,
            Step::Took(taken) => taken,
            Step::Pass(count) => {
                // What was let pass before has left, or nothing would be let pass now.
                let Some(write) = &mut shared.write else {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                };
                let written = Pin::new(write).poll_write(cx, &bytes[..count]);
                let written = std::task::ready!(written)?;
                shared.exchange.passed(&bytes[..written]);
                written
            }
        };
        if let Poll::Ready(Err(error)) = shared.flush(cx) {
            return Poll::Ready(Err(error));
        }
        // There may be an answer of ours, a verdict, or bytes that the Engine did not take.
        shared.wake();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        std::task::ready!(shared.flush(cx))?;
        match &mut shared.write {
            Some(write) => Pin::new(write).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        shared.exchange.client_finished();
        std::task::ready!(shared.flush(cx))?;
        match &mut shared.write {
            Some(write) => Pin::new(write).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<W: AsyncWrite + Unpin + Send + Probe> Probe for JudgedWrite<W> {
    /// Looks from time to time: the Engine's half is not this future's own.
    async fn gone(&self) {
        loop {
            let is_gone = {
                let shared = lock(&self.0);
                let engine = shared.write.as_ref().is_none_or(|write| {
                    let mut cx = Context::from_waker(Waker::noop());
                    pin!(write.gone()).poll(&mut cx).is_ready()
                });
                // After a refusal it is the client that is listened to no more.
                shared.exchange.is_deaf() || (engine && !shared.exchange.has_ended())
            };
            if is_gone {
                return;
            }
            tokio::time::sleep(GONE_POLL).await;
        }
    }

    fn abort(self) {
        if let Some(write) = lock(&self.0).write.take() {
            write.abort();
        }
    }
}

#[cfg(test)]
mod tests;
