//! Requests and conversations, without a socket.

use std::io;

use ::probe::protocol::{
    ARRIVALS_MAX, ECHO_PATH, LATER_MAX, MESSAGE_BYTES_MAX, Request, SOCKET_BYTES_MAX, SOCKET_PATH,
    SOCKET_TIME_MAX, SOCKETS_OF_ADDRESS_MAX, SUBPROTOCOL, Stage, WITNESS_PATH,
};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tunnel::World;

use super::{line::Heard, *};
use crate::limits::{LEDGER_ADDRESSES_MAX, PROBE_REQUESTS_BURST, PROBE_WAITING_MAX};

fn probe() -> Arc<Probe> {
    probe_counted_in(&prometheus::Registry::new())
}

fn probe_counted_in(series: &prometheus::Registry) -> Arc<Probe> {
    let metrics = Metrics::new(series, "0", "0").unwrap();
    let introduction = Introduction {
        relay: "sternline-relay 0".to_owned(),
        identity: "ed25519:x".to_owned(),
    };
    let around = (World::real().clock, Arc::new(metrics));
    Probe::new(ProbeParts::default(), introduction, around)
}

fn asker() -> SocketAddr {
    "192.0.2.1:4000".parse().unwrap()
}

fn request(path: &str, headers: &[(&str, &str)]) -> http::Request<()> {
    let mut request = http::Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn ask(probe: &Probe, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let answer = probe.answer(&request(path, headers), asker()).unwrap();
    let body = serde_json::from_slice(answer.response.body()).unwrap_or_default();
    (answer.response.status().as_u16(), body)
}

const UPGRADE: [(&str, &str); 5] = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-protocol", SUBPROTOCOL),
];

#[test]
fn an_echo_shows_where_the_asker_comes_from_and_its_headers() {
    let probe = probe();

    let (status, echo) = ask(&probe, ECHO_PATH, &[("via", "1.1 proxy"), ("x-a", "b")]);

    assert_eq!(status, 200);
    assert_eq!(echo["from"], "192.0.2.1:4000");
    assert_eq!(echo["headers"][0], serde_json::json!(["via", "1.1 proxy"]));
    assert_eq!(echo["identity"], "ed25519:x");
}

#[test]
fn a_witness_that_may_have_forgotten_says_nothing_and_counts_apart_from_who_asks_too_often() {
    let series = prometheus::Registry::new();
    let probe = probe_counted_in(&series);
    let forged = u32::try_from(LEDGER_ADDRESSES_MAX).unwrap() + 1;
    for address in 1..=forged {
        let from = std::net::Ipv4Addr::from_bits(address);
        probe.arrived(Door::TunnelUdp, SocketAddr::new(from.into(), 1));
    }

    let (status, _) = ask(&probe, WITNESS_PATH, &[]);

    let text = prometheus::TextEncoder::new().encode_to_string(&series.gather());
    let text = text.unwrap();
    assert_eq!(status, 503);
    assert!(
        text.contains("kind=\"witness\",outcome=\"forgotten\"} 1"),
        "{text}"
    );
    assert!(
        text.contains("kind=\"witness\",outcome=\"limited\"} 0"),
        "{text}"
    );
}

#[test]
fn an_echo_is_cut_and_no_larger_than_what_was_asked_allows() {
    let probe = probe();
    let long = "x".repeat(HEADER_BYTES_MAX);

    let (status, echo) = ask(&probe, ECHO_PATH, &[("a", "b"), ("c", &long), ("d", "e")]);

    assert_eq!(status, 200);
    assert_eq!(echo["headers"], serde_json::json!([["a", "b"]]));
}

#[test]
fn a_witness_tells_of_the_askers_own_address_alone() {
    let probe = probe();
    probe.arrived(Door::Https, "192.0.2.9:1".parse().unwrap());
    let arrival = probe.arrived(Door::TunnelUdp, "192.0.2.1:77".parse().unwrap());
    arrival.reached(Stage::Secured);

    let (status, witness) = ask(&probe, WITNESS_PATH, &[]);

    assert_eq!(status, 200);
    let arrivals = witness["arrivals"].as_array().unwrap();
    assert_eq!(arrivals.len(), 1, "{witness}");
    assert_eq!(arrivals[0]["from_port"], 77);
    assert_eq!(arrivals[0]["door"], "tunnel-udp");
    assert_eq!(arrivals[0]["stage"], "secured");
}

#[test]
fn a_full_witness_is_no_larger_than_a_handshake_earns() {
    let probe = probe();
    for port in 0..2 * ARRIVALS_MAX {
        let from = SocketAddr::new(asker().ip(), u16::try_from(port).unwrap());
        probe.arrived(Door::TunnelTcp, from);
    }

    let answer = probe.answer(&request(WITNESS_PATH, &[]), asker()).unwrap();

    assert!(answer.response.body().len() < 16 * 1024);
}

#[test]
fn an_address_that_asks_too_often_is_told_to_wait_and_another_is_not() {
    let probe = probe();
    for _ in 0..PROBE_REQUESTS_BURST {
        assert_eq!(ask(&probe, ECHO_PATH, &[]).0, 200);
    }

    assert_eq!(ask(&probe, ECHO_PATH, &[]).0, 429);
    assert_eq!(ask(&probe, WITNESS_PATH, &[]).0, 429);
    assert_eq!(ask(&probe, SOCKET_PATH, &UPGRADE).0, 429);
    let other = "192.0.2.2:1".parse().unwrap();
    let answer = probe.answer(&request(ECHO_PATH, &[]), other).unwrap();
    assert_eq!(answer.response.status(), 200);
}

#[test]
fn a_socket_is_opened_only_for_who_asks_for_one_and_so_many_for_one_address() {
    let probe = probe();
    let (without_upgrade, _) = ask(&probe, SOCKET_PATH, &UPGRADE[1..]);
    let (another_protocol, _) = ask(&probe, SOCKET_PATH, &UPGRADE[..4]);
    assert_eq!((without_upgrade, another_protocol), (426, 426));

    let mut open = Vec::new();
    for _ in 0..SOCKETS_OF_ADDRESS_MAX {
        let answer = probe.answer(&request(SOCKET_PATH, &UPGRADE), asker());
        let answer = answer.unwrap();
        assert_eq!(answer.response.status(), 101);
        let accepted = &answer.response.headers()["sec-websocket-accept"];
        assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        open.push(answer.opening.unwrap());
    }
    assert_eq!(ask(&probe, SOCKET_PATH, &UPGRADE).0, 429);
    assert!(
        probe.enter_quic(asker()).is_none(),
        "both kinds share the bound"
    );
    assert_eq!(probe.reading().1, SOCKETS_OF_ADDRESS_MAX as u64);
    drop(open);
    assert_eq!(ask(&probe, SOCKET_PATH, &UPGRADE).0, 101);
}

#[test]
fn other_paths_and_methods_are_not_the_probes() {
    let probe = probe();

    assert!(probe.answer(&request("/tunnel", &[]), asker()).is_none());
    assert!(probe.answer(&request("/probe/v1", &[]), asker()).is_none());
    let mut post = request(ECHO_PATH, &[]);
    *post.method_mut() = http::Method::POST;
    let answer = probe.answer(&post, asker()).unwrap();
    assert_eq!(answer.response.status(), 405);
}

/// A line to a test.
struct Pipe {
    heard: mpsc::Receiver<Heard>,
    said: mpsc::Sender<Result<Bytes, Ended>>,
}

impl Line for Pipe {
    async fn recv(&mut self) -> Heard {
        self.heard.recv().await.unwrap_or(Heard::End)
    }

    async fn send(&mut self, message: Bytes) -> io::Result<()> {
        let said = self.said.send(Ok(message)).await;
        said.map_err(io::Error::other)
    }

    async fn close(self, why: Ended) {
        drop(self.said.send(Err(why)).await);
    }
}

struct Asker {
    probe: Arc<Probe>,
    ask: mpsc::Sender<Heard>,
    answers: mpsc::Receiver<Result<Bytes, Ended>>,
    stop: CancellationToken,
    _task: JoinHandle<()>,
}

impl Asker {
    fn new() -> Self {
        let probe = probe();
        let (ask, heard) = mpsc::channel(1);
        let (said, answers) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let footprint = probe.arrived(Door::Https, asker());
        let opening = probe.enter_quic(asker()).unwrap();
        let until = (footprint, stop.clone());
        let task = tokio::spawn(serve(probe.clone(), Pipe { heard, said }, opening, until));
        Self {
            probe,
            ask,
            answers,
            stop,
            _task: task,
        }
    }

    async fn ask(&self, request: &Request) {
        let message = Heard::Message(request.encode().into());
        self.ask.send(message).await.unwrap();
    }

    async fn answer(&mut self) -> Result<Bytes, Ended> {
        self.answers.recv().await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_speaks_first_and_answers_each_request_by_its_kind() {
    let mut asker = Asker::new();
    let echo: Value = serde_json::from_slice(&asker.answer().await.unwrap()).unwrap();
    assert_eq!(echo["from"], "192.0.2.1:4000");

    let back = Request::Back(vec![7; 100]);
    asker.ask(&back).await;
    assert_eq!(asker.answer().await, Ok(back.encode().into()));
    let seen = ask(&asker.probe, WITNESS_PATH, &[]).1;
    assert_eq!(seen["arrivals"][0]["stage"], "asked", "{seen}");
    asker.ask(&Request::Forget(vec![7; 100])).await;
    asker.ask(&Request::Send(9)).await;
    assert_eq!(asker.answer().await, Ok(vec![0; 9].into()));

    let begun = Instant::now();
    asker.ask(&Request::Later(LATER_MAX)).await;
    asker.ask(&Request::Later(Duration::from_secs(5))).await;
    asker.ask(&Request::Send(1)).await;
    assert_eq!(asker.answer().await, Ok(vec![0].into()), "it does not wait");
    for wanted in [Duration::from_secs(5), LATER_MAX] {
        assert_eq!(asker.answer().await, Ok(vec![3].into()));
        let waited = begun.elapsed();
        assert!((wanted..wanted + Duration::from_millis(10)).contains(&waited));
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_a_socket_and_frees_its_place() {
    for garbage in [&[][..], &[9, 1], &[2, 0, 0, 0, 0], &[3, 255, 255, 255, 255]] {
        let mut asker = Asker::new();
        asker.answer().await.unwrap();

        asker
            .ask
            .send(Heard::Message(Bytes::copy_from_slice(garbage)))
            .await
            .unwrap();

        assert_eq!(asker.answer().await, Err(Ended::NotARequest), "{garbage:?}");
        assert!(asker.answers.recv().await.is_none());
        assert_eq!(asker.probe.reading().1, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_carries_its_bytes_and_no_more() {
    let mut asker = Asker::new();
    asker.answer().await.unwrap();
    let forget = Request::Forget(vec![0; MESSAGE_BYTES_MAX - 1]);

    for _ in 0..SOCKET_BYTES_MAX / MESSAGE_BYTES_MAX as u64 {
        asker.ask(&forget).await;
    }
    asker.ask(&forget).await;

    assert_eq!(asker.answer().await, Err(Ended::Spent));
}

#[tokio::test(start_paused = true)]
async fn a_socket_ends_in_time_and_at_once_when_the_relay_stops() {
    let mut patient = Asker::new();
    let begun = Instant::now();
    patient.answer().await.unwrap();
    assert_eq!(patient.answer().await, Err(Ended::Spent));
    assert!(begun.elapsed() >= SOCKET_TIME_MAX);

    let mut stopped = Asker::new();
    stopped.answer().await.unwrap();
    stopped.ask(&Request::Later(LATER_MAX)).await;
    stopped.stop.cancel();
    assert_eq!(stopped.answer().await, Err(Ended::Stopping));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_answers_of_one_socket_wait() {
    let mut asker = Asker::new();
    asker.answer().await.unwrap();

    for _ in 0..=PROBE_WAITING_MAX {
        asker.ask(&Request::Later(LATER_MAX)).await;
    }

    assert_eq!(asker.answer().await, Err(Ended::Spent));
}

proptest! {
    #[test]
    fn bytes_of_a_peer_are_a_request_or_refused(
        kind in 0_u8..7,
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            any::<u32>().prop_map(|number| number.to_be_bytes().to_vec()),
            (0_u32..800_000).prop_map(|number| number.to_be_bytes().to_vec()),
        ],
    ) {
        let message = [vec![kind], body].concat();
        match Request::decode(&message) {
            Ok(request) => prop_assert_eq!(request.encode(), message),
            Err(_) => prop_assert!(!matches!(message.first(), Some(1 | 4))),
        }
    }

    #[test]
    fn any_head_is_echoed_within_its_bound(
        headers in prop::collection::vec(
            ("[a-z]{1,20}", prop::collection::vec(32_u8..=255, 0..3_000)),
            0..12,
        )
    ) {
        let mut request = request(ECHO_PATH, &[]);
        for (name, value) in &headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            if let Ok(value) = http::HeaderValue::from_bytes(value) {
                request.headers_mut().insert(name, value);
            }
        }

        let answer = probe().answer(&request, asker()).unwrap();

        prop_assert!(answer.response.body().len() < 8 * HEADER_BYTES_MAX);
    }
}
