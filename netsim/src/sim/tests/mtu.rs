//! What losses do to the size of QUIC's packets (quinn #2791: a good path was taken for one that
//! swallows large packets, and sent small ones for a whole transfer).

use std::net::SocketAddr;

use tunnel::tls::{ALPN_QUIC, SeenCertificate, identity_client};

use super::*;

/// What is sent through losses: some thousand packets.
const BYTES: usize = 8 << 20;

/// Above all that is tried first, and below what an Ethernet carries.
const LARGE: u16 = 1_400;

/// Sends from the relay to an agent until all is there, and gives what the relay's end of the
/// path has seen.
async fn send_through(sim: Sim) -> quinn::PathStats {
    tunnel::install_crypto_provider();
    let (relay, agent) = (sim.hosts("relay")[0], sim.world(sim.hosts("agent")[0]));
    let socket = sim.bind_udp(relay, 8000).unwrap();
    let (tls, secret) = (server_tls(ALPN_QUIC), Secret::from_bytes([6; 32]));
    let endpoint = tunnel::quic::server(socket, tls, &secret, &sim.world(relay)).unwrap();
    let sending = tokio::spawn(async move {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(&vec![7; BYTES]).await.unwrap();
        send.finish().unwrap();
        send.stopped().await.unwrap();
        connection.stats().path
    });
    let to: SocketAddr = "203.0.113.10:8000".parse().unwrap();
    let socket = agent.net.connect_udp(to).unwrap();
    let tls = identity_client(ALPN_QUIC, &SeenCertificate::default(), &agent.clock);
    let name = "relay.example.com";
    let connection = tunnel::quic::connect(socket, to, name, tls, &agent).await;
    let (_send, mut recv) = connection.as_ref().unwrap().accept_bi().await.unwrap();
    let got = recv.read_to_end(BYTES).await.unwrap();
    assert_eq!(got.len(), BYTES);
    sending.await.unwrap()
}

#[test]
fn losses_in_bursts_are_not_taken_for_a_path_that_swallows_large_packets() {
    for seed in 1..=8 {
        let lossy = scenario("lossy-burst-bufferbloat");

        let (path, _) = run(lossy, Seed(seed), send_through);

        assert!(path.lost_packets > 50, "{seed}: {path:?}");
        assert_eq!(path.black_holes_detected, 0, "{seed}: {path:?}");
        assert!(path.current_mtu >= LARGE, "{seed}: {path:?}");
    }
}

#[test]
fn a_path_that_swallows_large_packets_is_found_out() {
    let (path, _) = run(scenario("pmtu-blackhole-1280"), Seed(1), send_through);

    assert!(path.current_mtu < LARGE, "{path:?}");
}
