//! How many datagrams a connection hands to the kernel in one call: one, until it has
//! bulk to send.
//!
//! quinn keeps a buffer for each connection, of as many full datagrams as its socket
//! takes at once, from the first packet on: 13 kB for the ten that Linux takes, which an
//! idle agent never needs. A socket is asked how many it takes at each turn of a
//! connection's driver, so the answer is the connection's own: the runtime that spawns
//! the drivers says whose turn it is.
//!
//! *Invariant:* a connection that has sent [`BULK_DATAGRAMS`] full datagrams in one turn
//! has all the socket's segments from its next turn on, and keeps the buffer.

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, udp::Transmit};

/// Full datagrams in one turn from which on a connection has bulk to send. A handshake's
/// flight is at most six: QUIC lets an acceptor send thrice what came (RFC 9000 §8.1),
/// which is a hello in two datagrams.
const BULK_DATAGRAMS: u8 = 8;

/// A datagram as large as every path takes (RFC 9000 §14), so that it is full.
const FULL_BYTES: usize = 1_200;

thread_local! {
    /// The connection whose turn it is on this thread.
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
}

/// A connection, and what it has sent in this turn.
#[derive(Debug, Default, Clone, Copy)]
struct Turn {
    has_bulk: bool,
    full_datagrams: u8,
}

/// How many segments of those that the socket takes are for who asks.
pub(super) fn granted(all: usize) -> usize {
    match TURN.get() {
        Some(turn) if !turn.has_bulk => 1,
        Some(_) | None => all,
    }
}

/// Counts what was sent.
pub(super) fn note_sent(transmit: &Transmit<'_>) {
    let Some(mut turn) = TURN.get() else { return };
    if !turn.has_bulk && transmit.contents.len() >= FULL_BYTES {
        turn.full_datagrams += 1;
        turn.has_bulk = turn.full_datagrams >= BULK_DATAGRAMS;
        TURN.set(Some(turn));
    }
}

/// tokio, and whose turn it is.
#[derive(Debug)]
pub(crate) struct Turns;

impl Runtime for Turns {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, driver: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(Driver {
            driver,
            has_bulk: false,
        });
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// A driver of quinn's: of a connection, or of an endpoint, which sends little.
struct Driver {
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    has_bulk: bool,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        TURN.set(Some(Turn {
            has_bulk: self.has_bulk,
            full_datagrams: 0,
        }));
        let polled = self.driver.as_mut().poll(cx);
        self.has_bulk = TURN.take().is_some_and(|turn| turn.has_bulk);
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// What a driver is granted in each of its turns, if it sends so many datagrams of
    /// that size in each.
    async fn granted_in_turns(turns: usize, datagrams: usize, bytes: usize) -> Vec<usize> {
        let mut seen = Vec::new();
        let contents = vec![0; bytes];
        let (told, mut heard) = tokio::sync::mpsc::channel(turns);
        let mut left = turns;
        Turns.spawn(Box::pin(poll_fn(move |cx| {
            told.try_send(granted(10)).unwrap();
            for _ in 0..datagrams {
                note_sent(&Transmit {
                    destination: ([127, 0, 0, 1], 1).into(),
                    ecn: None,
                    contents: &contents,
                    segment_size: None,
                    src_ip: None,
                });
            }
            left -= 1;
            if left == 0 {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })));
        while let Some(granted) = heard.recv().await {
            seen.push(granted);
        }
        seen
    }

    #[tokio::test]
    async fn a_connection_has_all_segments_from_the_turn_after_its_first_bulk() {
        assert_eq!(granted_in_turns(3, 8, 1_452).await, [1, 10, 10]);
    }

    #[tokio::test]
    async fn neither_a_handshake_nor_small_packets_are_bulk() {
        assert_eq!(granted_in_turns(3, 6, 1_200).await, [1, 1, 1]);
        assert_eq!(granted_in_turns(3, 100, 60).await, [1, 1, 1]);
    }

    #[test]
    fn who_is_no_driver_has_all_segments() {
        assert_eq!(granted(10), 10);
    }
}
