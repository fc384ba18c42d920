//! The driver of a framed connection: one task, one WebSocket, no queue of its own.
//!
//! Reading never waits for writing: both are polled in turn on one task, and what
//! is received is bounded by the credit that the machine gives. When the session
//! ends, the last frame gets [`CLOSE_TIMEOUT`] to leave.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream as _};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::{self, Message};
use wire::{frame, limits::CLOSE_TIMEOUT, session::ProtocolError};

use super::DriverParts;
use crate::{websocket::WebSocket, world::Clock};

/// Messages read or written before other tasks have their turn.
const TURN_MESSAGES: usize = 32;

/// Runs until the session is over. See the module.
pub(crate) async fn drive(parts: DriverParts, websocket: WebSocket, unread: Bytes) {
    let clock = std::sync::Arc::clone(&parts.shared.clock);
    let mut driver = Framed {
        parts,
        websocket,
        clock,
        timer: Box::pin(tokio::time::sleep_until(Instant::now())),
        is_deaf: false,
    };
    driver.take(unread);
    let reason = std::future::poll_fn(|cx| driver.poll_open(cx)).await;
    if let Some(reason) = reason {
        driver.parts.lost(&reason);
    }
    let closing = std::future::poll_fn(|cx| driver.poll_close(cx));
    // Past the deadline the peer hears it from the closed socket.
    let _elapsed = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
}

struct Framed {
    parts: DriverParts,
    websocket: WebSocket,
    clock: std::sync::Arc<dyn Clock>,
    timer: Pin<Box<Sleep>>,
    /// The peer has sent what is no WebSocket.
    is_deaf: bool,
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
        self.parts
            .drive(|state| state.driver_waker = Some(cx.waker().clone()));
        for _ in 0..TURN_MESSAGES {
            let wrote = self.poll_write(cx);
            let read = self.poll_read(cx);
            self.poll_timer(cx);
            match (wrote, read) {
                (Step::Lost(reason), _) | (_, Step::Lost(reason)) => {
                    return Poll::Ready(Some(reason));
                }
                _ if self.is_over() => return Poll::Ready(None),
                (Step::Idle, Step::Idle) => return Poll::Pending,
                (Step::Progress, _) | (_, Step::Progress) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_over(&self) -> bool {
        self.parts.drive(|state| state.machine.closed().is_some())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Step {
        match Pin::new(&mut self.websocket).poll_ready(cx) {
            Poll::Pending => return Step::Idle,
            Poll::Ready(Err(error)) => return Step::Lost(describe(&error)),
            Poll::Ready(Ok(())) => {}
        }
        let mut message = BytesMut::new();
        let now = self.clock.now();
        let has_message = self.parts.drive(|state| {
            state
                .machine
                .poll_transmit(now, self.parts.connection, &mut message)
        });
        if !has_message {
            return match Pin::new(&mut self.websocket).poll_flush(cx) {
                Poll::Ready(Err(error)) => Step::Lost(describe(&error)),
                Poll::Ready(Ok(())) | Poll::Pending => Step::Idle,
            };
        }
        match Pin::new(&mut self.websocket).start_send(Message::Binary(message.freeze())) {
            Ok(()) => Step::Progress,
            Err(error) => Step::Lost(describe(&error)),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Step {
        if self.is_deaf {
            return Step::Idle;
        }
        match Pin::new(&mut self.websocket).poll_next(cx) {
            Poll::Pending => Step::Idle,
            Poll::Ready(Some(Ok(Message::Binary(bytes)))) => {
                self.take(bytes);
                Step::Progress
            }
            Poll::Ready(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {
                let now = self.clock.now();
                self.parts
                    .drive(|state| state.machine.note_heard(now, self.parts.connection));
                Step::Progress
            }
            Poll::Ready(Some(Ok(Message::Close(_))) | None) => {
                Step::Lost("the peer closed the connection".into())
            }
            Poll::Ready(Some(Ok(Message::Text(_) | Message::Frame(_)))) => {
                self.parts
                    .violated(&ProtocolError::Unexpected("text message"));
                Step::Progress
            }
            Poll::Ready(Some(Err(
                tungstenite::Error::Capacity(_)
                | tungstenite::Error::Protocol(_)
                | tungstenite::Error::Utf8(_),
            ))) => {
                // Nothing that follows can be understood; the last frame still leaves.
                self.is_deaf = true;
                self.parts
                    .violated(&ProtocolError::Unexpected("WebSocket message"));
                Step::Progress
            }
            Poll::Ready(Some(Err(error))) => Step::Lost(describe(&error)),
        }
    }

    /// Feeds the frames of one message to the machine.
    fn take(&mut self, mut message: Bytes) {
        let now = self.clock.now();
        let connection = self.parts.connection;
        let result = self.parts.drive(|state| {
            while let Some(frame) = frame::decode(&mut message)? {
                state.machine.handle_frame(now, connection, frame)?;
            }
            if message.is_empty() {
                Ok(())
            } else {
                Err(ProtocolError::Unexpected("end of a message within a frame"))
            }
        });
        if let Err(error) = result {
            self.parts.violated(&error);
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        loop {
            let deadline = self.parts.drive(|state| state.machine.poll_timeout());
            let Some(deadline) = deadline.map(Instant::from_std) else {
                return;
            };
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
            let now = self.clock.now();
            self.parts.drive(|state| state.machine.handle_timeout(now));
            if self.parts.drive(|state| state.machine.poll_timeout()) == Some(deadline.into_std()) {
                return;
            }
            cx.waker().wake_by_ref();
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut websocket = Pin::new(&mut self.websocket);
        // An error here is the end that is wanted.
        let _flushed = ready!(websocket.as_mut().poll_flush(cx));
        let _closed = ready!(websocket.poll_close(cx));
        Poll::Ready(())
    }
}

/// An error of the transport in words.
fn describe(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            "the peer closed the connection".into()
        }
        error => error.to_string(),
    }
}
