//! The driver of a framed connection: one task, one WebSocket, no queue of its own.
//!
//! Reading never waits for writing: both are polled in turn on one task, and what
//! is received is bounded by the credit that the machine gives. When the session
//! ends, the last frame gets [`CLOSE_TIMEOUT`] to leave.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, Sleep};
use wire::{
    frame,
    id::Side,
    limits::CLOSE_TIMEOUT,
    session::{Pieces, ProtocolError},
};

use super::DriverParts;
use crate::{
    websocket::{Incoming, Malformed, ReadError, WebSocket},
    world::Clock,
};

/// Reads and writes before other tasks have their turn: a few hundred microseconds of
/// encryption, which a keystroke of another connection waits for.
const TURN: usize = 2;

/// Messages encrypted for one write of the socket. More would be no faster, and
/// whatever becomes urgent waits behind them.
const WRITE_MESSAGES: usize = 2;

/// The timer's resolution: what is due sooner is due then.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(1);

thread_local! {
    /// Where a message is gathered; shared by all connections of a thread, since it is
    /// empty again before another has its turn.
    static PIECES: Cell<Option<Box<Pieces>>> = const { Cell::new(None) };
}

/// Runs until the session is over, or goes on over another connection. See the module.
pub(crate) async fn drive(parts: DriverParts, websocket: WebSocket, unread: Bytes) {
    let mut driver = Framed {
        clock: Arc::clone(&parts.shared.clock),
        parts,
        websocket,
        timer: Box::pin(tokio::time::sleep_until(Instant::now())),
        is_deaf: false,
        has_queued: false,
        ping: None,
    };
    take(&driver.parts, &*driver.clock, unread);
    let reason = poll_fn(|cx| driver.poll_open(cx)).await;
    if let Some(reason) = reason {
        driver.parts.lost(&reason);
    }
    let Framed {
        parts, websocket, ..
    } = driver;
    leave(&parts, websocket).await;
    parts.await_successor().await;
}

/// Closes the connection. Past the deadline the peer hears it from the closed socket.
async fn leave(parts: &DriverParts, mut websocket: WebSocket) {
    let is_acceptor = parts.shared.look(|state| state.machine.side()) == Side::Acceptor;
    if is_acceptor && parts.is_replaced() {
        // The dialler may not have heard yet that its new connection is welcome; it leaves
        // this one by itself, and shall not take it for broken before.
        let left = poll_fn(|cx| {
            while let Poll::Ready(read) = websocket.poll_read(cx, &mut |_| {}) {
                if !matches!(read, Ok(true)) {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        });
        let _elapsed = tokio::time::timeout(CLOSE_TIMEOUT, left).await;
    }
    let _elapsed = tokio::time::timeout(CLOSE_TIMEOUT, websocket.close()).await;
}

struct Framed {
    parts: DriverParts,
    websocket: WebSocket,
    clock: Arc<dyn Clock>,
    timer: Pin<Box<Sleep>>,
    /// The peer has sent what is no WebSocket.
    is_deaf: bool,
    /// Something was encrypted and has not left.
    has_queued: bool,
    /// The last ping that is not answered. Only the last needs an answer (RFC 6455
    /// §5.5.3): a peer that asks and does not read makes nothing grow.
    ping: Option<Bytes>,
}

/// What a step came to.
enum Step {
    /// Something was done; more may be.
    Progress,
    /// Nothing can be done until the task is woken.
    Idle,
    /// The connection broke.
    Lost(String),
}

impl Framed {
    /// Ready when the session is over: with the reason where the connection broke.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        self.wait(cx, false);
        for _ in 0..TURN {
            let read = self.poll_read(cx);
            let wrote = self.poll_write(cx);
            match (wrote, read) {
                (Step::Lost(reason), _) | (_, Step::Lost(reason)) => {
                    return Poll::Ready(Some(reason));
                }
                (Step::Idle, Step::Idle) => {
                    if self.has_queued {
                        self.wait(cx, true);
                    }
                    return self.poll_timer(cx);
                }
                (Step::Progress, _) | (_, Step::Progress) => {}
            }
        }
        cx.waker().wake_by_ref();
        self.poll_timer(cx)
    }

    /// Has the task woken for what the machine has to say, unless it is the socket that
    /// keeps it from saying so.
    fn wait(&self, cx: &Context<'_>, is_blocked: bool) {
        let connection = self.parts.connection;
        self.parts
            .drive(|state| state.await_driver(connection, cx.waker(), is_blocked));
    }

    /// Encrypts what the machine has to say, and sends it.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Step {
        // Whatever is encrypted is late already: it leaves before more is.
        if self.has_queued {
            match self.websocket.poll_flush(cx) {
                Poll::Pending => return Step::Idle,
                Poll::Ready(Err(error)) => return Step::Lost(error.to_string()),
                Poll::Ready(Ok(())) => self.has_queued = false,
            }
        }
        let mut pieces = PIECES.take().unwrap_or_default();
        let result = self.queue(&mut pieces);
        pieces.clear();
        PIECES.set(Some(pieces));
        if let Err(error) = result {
            return Step::Lost(error.to_string());
        }
        match self.websocket.poll_flush(cx) {
            Poll::Ready(Err(error)) => return Step::Lost(error.to_string()),
            Poll::Ready(Ok(())) if !self.has_queued => return Step::Idle,
            Poll::Ready(Ok(())) => self.has_queued = false,
            Poll::Pending => {}
        }
        Step::Progress
    }

    fn queue(&mut self, pieces: &mut Pieces) -> std::io::Result<()> {
        if let Some(payload) = self.ping.take() {
            self.websocket.queue_pong(&payload)?;
            self.has_queued = true;
        }
        for _ in 0..WRITE_MESSAGES {
            pieces.clear();
            let now = self.clock.now();
            let has_message = self.parts.drive(|state| {
                state
                    .machine
                    .poll_transmit(now, self.parts.connection, pieces)
            });
            if !has_message {
                break;
            }
            self.websocket.queue(pieces)?;
            self.has_queued = true;
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Step {
        if self.is_deaf {
            return Step::Idle;
        }
        let Self {
            parts,
            websocket,
            clock,
            ping,
            ..
        } = self;
        let mut is_over = false;
        let read = websocket.poll_read(cx, &mut |incoming| match incoming {
            Incoming::Message(bytes) => take(parts, &**clock, bytes),
            Incoming::Ping(payload) => {
                *ping = Some(payload);
                note_heard(parts, &**clock);
            }
            Incoming::Pong => note_heard(parts, &**clock),
            Incoming::Close => is_over = true,
        });
        match read {
            Poll::Pending => Step::Idle,
            Poll::Ready(Ok(true)) if !is_over => Step::Progress,
            Poll::Ready(Ok(_)) => Step::Lost("the peer closed the connection".into()),
            Poll::Ready(Err(ReadError::Malformed(Malformed(what)))) => {
                // Nothing that follows can be understood; the last frame still leaves.
                self.is_deaf = true;
                self.parts.violated(&ProtocolError::Unexpected(what));
                Step::Progress
            }
            Poll::Ready(Err(ReadError::Io(error))) => Step::Lost(error.to_string()),
        }
    }

    /// Lets time pass in the machine, and sees to it that the task is woken in time.
    /// Ready once the session is over.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        loop {
            let now = self.clock.now();
            let connection = self.parts.connection;
            let (is_over, is_due, deadline) = self.parts.drive(|state| {
                let is_over = !state.machine.has_connection(connection);
                if is_over || state.is_bulk(connection) {
                    // Time is the business of the session's own connection.
                    return (is_over, false, None);
                }
                let due = state.machine.poll_timeout().filter(|due| *due <= now);
                if due.is_some() {
                    state.machine.handle_timeout(now);
                }
                (
                    !state.machine.has_connection(connection),
                    due.is_some(),
                    state.machine.poll_timeout(),
                )
            });
            if is_over {
                return Poll::Ready(None);
            }
            if is_due && !self.has_queued {
                // What time has brought is to be sent first.
                cx.waker().wake_by_ref();
            }
            let Some(deadline) = deadline else {
                return Poll::Pending;
            };
            // What is due and cannot be sent shall not hide a later deadline.
            let deadline = Instant::from_std(deadline.max(now + LOOK_AGAIN_MIN));
            // A deadline that moves away, as a heartbeat's does with every byte, is
            // looked at again when the former one has come.
            if deadline < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

fn note_heard(parts: &DriverParts, clock: &dyn Clock) {
    let now = clock.now();
    parts.drive(|state| state.machine.note_heard(now, parts.connection));
}

/// Feeds the frames of one message to the machine.
fn take(parts: &DriverParts, clock: &dyn Clock, mut message: Bytes) {
    let now = clock.now();
    let result = parts.drive(|state| {
        while let Some(frame) = frame::decode(&mut message)? {
            state.machine.handle_frame(now, parts.connection, frame)?;
        }
        if message.is_empty() {
            Ok(())
        } else {
            Err(ProtocolError::Unexpected("end of a message within a frame"))
        }
    });
    if let Err(error) = result {
        parts.violated(&error);
    }
}
