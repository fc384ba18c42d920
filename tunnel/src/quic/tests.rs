//! What a dialler draws, seen in its first datagram.

use std::{
    io::IoSliceMut,
    net::Ipv4Addr,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use quinn::UdpPoller;

use super::*;
use crate::{
    tls::{self, SeenCertificate},
    world::{RecvMeta, Transmit},
};

/// Keeps what is sent, and never brings an answer.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Vec<u8>>>);

#[derive(Debug)]
struct Ready;

impl UdpPoller for Ready {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Recorder {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Ready)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(transmit.contents.to_vec());
        Ok(())
    }

    fn poll_recv(
        &self,
        _cx: &mut Context<'_>,
        _bufs: &mut [IoSliceMut<'_>],
        _meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, 1).into())
    }
}

/// Chance that counts from a number on.
#[derive(Debug)]
struct Counting(AtomicU8);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
    }
}

/// Both connection ids of the first datagram that is sent with dice from `first` on: a long
/// header has them after its first five bytes, each after its length (RFC 9000 §17.2).
fn first_ids(first: u8) -> Vec<u8> {
    crate::install_crypto_provider();
    let world = World {
        entropy: Arc::new(Counting(AtomicU8::new(first))),
        ..World::real()
    };
    let tls = tls::identity_client(tls::ALPN_QUIC, &SeenCertificate::default(), &world.clock);
    let recorder = Arc::new(Recorder::default());
    // Without I/O, and time passes only where nothing is left to be done.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let relay = (Ipv4Addr::LOCALHOST, 8000).into();
    let connecting = connect(recorder.clone(), relay, "relay.example", tls, &world);
    let connected = runtime.block_on(connecting);
    assert!(connected.is_err(), "nobody has answered");
    let sent = recorder.0.lock().unwrap();
    sent[0][5..][..1 + FIRST_ID_BYTES + 1 + CONNECTION_ID_BYTES].to_vec()
}

#[test]
fn a_dialler_draws_its_ids_from_the_world() {
    let (once, again, otherwise) = (first_ids(1), first_ids(1), first_ids(100));

    assert_eq!(once, again);
    assert_ne!(once, otherwise);
    assert_eq!(usize::from(once[0]), FIRST_ID_BYTES);
}
