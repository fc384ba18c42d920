//! How fast streams may be: the policy's rates, kept over all streams and sessions.
//!
//! A direction of a stream pays for each portion before it is handed on, and waits until the
//! moment that the rate puts it at. So a stream that is too fast is not read from, and its
//! sender waits; nothing is dropped. Each waits for its own moment, in the order in which
//! they have paid, so that streams have their turns and nobody wakes up in vain.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::Sleep,
};
use tunnel::{SpliceIo, splice::Probe, world::Clock};
use wire::{limits::DATA_BYTES_MAX, target::Target};

use crate::{policy::Rate, policy_file::PolicyInForce};

/// What may come at once after a pause, as a part of a second's bytes: a quarter.
const BURST: Duration = Duration::from_millis(250);

/// Portions that a second's bytes come in, at the least: few enough to cost nothing, and so
/// many that a slow rate is a trickle and not a drip.
const PORTIONS: u64 = 20;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    FromVendor,
    ToVendor,
}

/// Every rate's account. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Paces(Arc<Mutex<Accounts>>);

type Accounts = BTreeMap<(String, Direction), Arc<Account>>;

/// The moment at which all that was paid for has passed, at the rate that held then.
#[derive(Debug, Default)]
struct Account(Mutex<Option<Instant>>);

impl Account {
    /// Pays, and says from when on so many bytes may pass.
    fn pay(&self, now: Instant, rate: Rate, bytes: usize) -> Instant {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle_since = now.checked_sub(BURST).unwrap_or(now);
        let from = passed.map_or(idle_since, |passed| passed.max(idle_since));
        let nanoseconds = bytes as u128 * 1_000_000_000 / u128::from(rate.get().get());
        // A portion takes a second at the most.
        let lasts = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let due = from + lasts;
        *passed = Some(due);
        due
    }

    /// Whether it says no more than a new one would.
    fn is_forgotten(&self, now: Instant) -> bool {
        let passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passed.is_none_or(|passed| passed + BURST <= now)
    }
}

impl Paces {
    fn account(&self, key: (String, Direction), now: Instant) -> Arc<Account> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|_, one| Arc::strong_count(one) > 1 || !one.is_forgotten(now));
        Arc::clone(accounts.entry(key).or_default())
    }
}

/// Whose rates hold for a stream.
#[derive(Clone)]
pub(super) struct Paced {
    pub(super) paces: Paces,
    pub(super) policy: watch::Receiver<PolicyInForce>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) target: Target,
    /// Where it was reached.
    pub(super) address: Option<IpAddr>,
}

impl Paced {
    /// Has what comes from the vendor wait.
    pub(super) fn inward<R>(&self, read: R) -> PacedRead<R> {
        PacedRead::new(read, Meter::new(self.clone(), Direction::FromVendor))
    }

    /// Has what goes to the vendor wait.
    pub(super) fn outward<W>(&self, write: W) -> PacedWrite<W> {
        PacedWrite::new(write, Meter::new(self.clone(), Direction::ToVendor))
    }

    /// The same of a socket to the target: what is read there goes to the vendor.
    pub(super) fn socket<IO: SpliceIo>(self, io: IO) -> PacedIo<IO::Read, IO::Write> {
        let (read, write) = io.halves();
        PacedIo {
            read: PacedRead::new(read, Meter::new(self.clone(), Direction::ToVendor)),
            write: PacedWrite::new(write, Meter::new(self, Direction::FromVendor)),
        }
    }
}

/// What one direction of a stream has to wait for.
struct Meter {
    of: Paced,
    direction: Direction,
    /// As of the policy that was looked at last.
    rates: Vec<(Rate, Arc<Account>)>,
    /// Until what has been paid for may pass; none before anything had to wait.
    wait: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Meter {
    fn new(of: Paced, direction: Direction) -> Self {
        let mut meter = Self {
            of,
            direction,
            rates: Vec::new(),
            wait: None,
            is_waiting: false,
        };
        meter.look();
        meter
    }

    /// Takes the rates from the policy in force.
    fn look(&mut self) {
        let Self { of, direction, .. } = self;
        let policy = of.policy.borrow_and_update().policy.clone();
        let (rates, now) = (
            policy.limits().rates(&of.target, of.address),
            of.clock.now(),
        );
        let account = |key| of.paces.account((key, *direction), now);
        self.rates = rates
            .into_iter()
            .map(|shared| (shared.rate, account(shared.key)))
            .collect();
    }

    /// What may be handed on at a time; none where nothing is limited.
    fn portion(&mut self) -> Option<usize> {
        // Without anybody who could change it, it does not change.
        if self.of.policy.has_changed().unwrap_or(false) {
            self.look();
        }
        let slowest = self.rates.iter().map(|(rate, _)| rate.get().get()).min()?;
        let portion = usize::try_from(slowest / PORTIONS).unwrap_or(usize::MAX);
        Some(portion.clamp(1, DATA_BYTES_MAX))
    }

    /// Pays, everywhere.
    fn pay(&mut self, bytes: usize) {
        let now = self.of.clock.now();
        let accounts = self.rates.iter();
        let due = accounts.map(|(rate, account)| account.pay(now, *rate, bytes));
        let wait = due.max().map(|due| due.saturating_duration_since(now));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            let until = tokio::time::Instant::now() + wait;
            match &mut self.wait {
                Some(sleep) => sleep.as_mut().reset(until),
                None => self.wait = Some(Box::pin(tokio::time::sleep_until(until))),
            }
            self.is_waiting = true;
        }
    }

    fn poll_paid(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let (true, Some(wait)) = (self.is_waiting, &mut self.wait) {
            ready!(wait.as_mut().poll(cx));
            self.is_waiting = false;
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = self.rates.iter().map(|(rate, _)| rate);
        f.debug_list().entries(rates).finish()
    }
}

/// A reading half that waits.
#[derive(Debug)]
pub(super) struct PacedRead<R> {
    read: R,
    meter: Meter,
    /// Read and paid for, and not due yet.
    held: Bytes,
}

impl<R> PacedRead<R> {
    const fn new(read: R, meter: Meter) -> Self {
        let held = Bytes::new();
        Self { read, meter, held }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for PacedRead<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { read, meter, held } = self.get_mut();
        ready!(meter.poll_paid(cx));
        if held.has_remaining() {
            let due = held.split_to(held.len().min(buffer.remaining()));
            buffer.put_slice(&due);
            return Poll::Ready(Ok(()));
        }
        let Some(portion) = meter.portion() else {
            return Pin::new(read).poll_read(cx, buffer);
        };
        let room = portion.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(read).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        if count > 0 {
            meter.pay(count);
        }
        if meter.is_waiting {
            *held = Bytes::copy_from_slice(part.filled());
            ready!(meter.poll_paid(cx));
            *held = Bytes::new();
        }
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// A writing half that waits.
#[derive(Debug)]
pub(super) struct PacedWrite<W> {
    write: W,
    meter: Meter,
    /// So many bytes are paid for and not written.
    paid: usize,
}

impl<W> PacedWrite<W> {
    const fn new(write: W, meter: Meter) -> Self {
        Self {
            write,
            meter,
            paid: 0,
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for PacedWrite<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { write, meter, paid } = self.get_mut();
        if *paid == 0 {
            let Some(portion) = meter.portion() else {
                return Pin::new(write).poll_write(cx, bytes);
            };
            *paid = portion.min(bytes.len());
            meter.pay(*paid);
        }
        ready!(meter.poll_paid(cx));
        let count = (*paid).min(bytes.len());
        let written = ready!(Pin::new(write).poll_write(cx, &bytes[..count]))?;
        *paid = paid.saturating_sub(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_shutdown(cx)
    }
}

impl<W: Probe> Probe for PacedWrite<W> {
    fn gone(&self) -> impl Future<Output = ()> + Send {
        self.write.gone()
    }

    fn abort(self) {
        self.write.abort();
    }
}

/// A socket that waits both ways.
#[derive(Debug)]
pub(super) struct PacedIo<R, W> {
    read: PacedRead<R>,
    write: PacedWrite<W>,
}

impl<R, W> SpliceIo for PacedIo<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + Probe,
{
    type Read = PacedRead<R>;
    type Write = PacedWrite<W>;

    fn halves(self) -> (Self::Read, Self::Write) {
        (self.read, self.write)
    }
}

#[cfg(test)]
mod tests;
