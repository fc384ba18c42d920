//! Heavy streams over WebSocket: a connection of their own, which may break at any time.

use tests::{Agent, AgentSetup, Cable, Relay, SOON, Service, eventually};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

const MIB: usize = 1024 * 1024;

/// The byte at an offset: a loss, a repetition or a swap shows.
fn byte(offset: usize) -> u8 {
    ((offset as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// Sends until told how much it is to be in all, then finishes.
async fn send(mut to: impl AsyncWrite + Unpin, mut total: watch::Receiver<Option<usize>>) {
    let mut sent = 0;
    while total.borrow_and_update().is_none_or(|total| sent < total) {
        let part: Vec<u8> = (sent..sent + MIB).map(byte).collect();
        to.write_all(&part).await.expect("the stream goes on");
        sent += part.len();
    }
    to.shutdown().await.expect("the stream goes on");
}

/// Reads to the end, and counts.
async fn receive(mut from: impl AsyncRead + Unpin, count: watch::Sender<usize>) -> usize {
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    loop {
        let length = from.read(&mut buffer).await.expect("the stream goes on");
        if length == 0 {
            return received;
        }
        for (at, got) in buffer[..length].iter().enumerate() {
            assert_eq!(*got, byte(received + at), "at {}", received + at);
        }
        received += length;
        count.send_replace(received);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_stream_gets_a_connection_of_its_own_and_loses_no_byte_when_that_breaks() {
    let echo = Service::echo().await;
    let relay = Relay::start().await;
    let cable = Cable::to(&relay).await;
    let token = relay.add("acme").await;
    let setup = AgentSetup::through(&token, &cable)
        .over("ws")
        .allowing(echo.address);
    let _agent = Agent::start(setup);
    let before = relay.shows("acme", "online", SOON).await;
    let target = format!("tcp:{}", echo.address);
    let (_forward, port) = relay.forward("acme", &target).await;
    let stream = TcpStream::connect(port).await.expect("forward listens");
    let (read, write) = stream.into_split();
    let (total, told) = watch::channel(None);
    let (count, mut counted) = watch::channel(0);
    let sending = tokio::spawn(send(write, told));
    let receiving = tokio::spawn(receive(read, count));

    eventually("the stream gets a bulk lane", SOON * 3, async || {
        (relay.metric("sternline_relay_bulk_lanes", &[]).await >= 1.0).then_some(())
    })
    .await;
    let enough = *counted.borrow() + 64 * MIB;
    let moved = counted.wait_for(|count| *count >= enough);
    let count = *tokio::time::timeout(SOON * 6, moved)
        .await
        .expect("bytes go on")
        .expect("bytes go on");
    let lanes = relay.metric("sternline_relay_bulk_lanes", &[]).await;
    cable.break_newest();
    eventually("the lane is gone", SOON, async || {
        (relay.metric("sternline_relay_bulk_lanes", &[]).await < lanes).then_some(())
    })
    .await;
    let all = count + 96 * MIB;
    total.send_replace(Some(all.next_multiple_of(MIB)));

    let received = tokio::time::timeout(SOON * 6, receiving)
        .await
        .expect("all bytes arrive")
        .expect("all bytes are right");
    sending.await.expect("all bytes were sent");
    assert!(received >= all, "{received} of {all}");
    let after = relay.environment("acme").await;
    assert_eq!(
        after["session"]["epoch"], before["session"]["epoch"],
        "the session ended with its lane"
    );
}
