//! The model against real clients, in the process and over a real socket.

use std::{path::Path, time::Duration};

use agent::docker::{Health, ask};
use tokio::net::UnixStream;

use super::*;

const SOCKET: &str = "/var/run/docker.sock";

/// In virtual time and without I/O, as in a simulation.
fn simulated<T>(main: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(main)
}

async fn raw(engine: &Engine, request: &str) -> String {
    let mut io = engine.connect().unwrap().into_io();
    let request = format!("{request} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn an_agent_finds_the_engine_of_its_host_in_good_health() {
    let engine = Engine::default();
    let world = engine.on_host(World::real(), SOCKET);

    let (up, elsewhere, down) = simulated(async {
        let up = ask(&world.net, Path::new(SOCKET)).await;
        engine.stop();
        let down = ask(&world.net, Path::new(SOCKET)).await;
        engine.start();
        (up, ask(&world.net, Path::new(SOCKET)).await, down)
    });

    let ok = Health::Ok {
        engine_version: ENGINE_VERSION.into(),
        api_version: API_VERSION.into(),
    };
    assert_eq!((&up, &elsewhere), (&ok, &ok));
    assert!(matches!(down, Health::NotResponding { .. }), "{down:?}");
}

#[test]
fn paths_and_versions_are_answered_as_the_engine_does() {
    let engine = Engine::default();

    let answers = simulated(async {
        [
            raw(&engine, "GET /_ping").await,
            raw(&engine, "GET /v1.41/containers/json").await,
            raw(&engine, "GET /v1.40/info").await,
            raw(&engine, "GET /v1.53/version").await,
            raw(&engine, "GET /v1.11/version").await,
            raw(&engine, "GET /volcanoes").await,
            raw(&engine, "POST /echo").await,
        ]
    });

    let expected = [
        ("200 OK", "\r\n\r\nOK"),
        ("200 OK", "\"/web\""),
        ("200 OK", "\"ServerVersion\":\"20.10.24\""),
        (
            "400 Bad Request",
            "version 1.53 is too new. Maximum supported API version is 1.41",
        ),
        ("400 Bad Request", "version 1.11 is too old"),
        ("404 Not Found", "page not found"),
        ("400 Bad Request", "Upgrade: tcp"),
    ];
    for (answer, (status, part)) in answers.iter().zip(expected) {
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        assert!(answer.contains(part), "{part} is missing in {answer}");
    }
    assert_eq!((engine.seen().requests, engine.seen().echoes), (7, 0));
}

#[test]
fn an_echo_sends_everything_back_and_ends_after_its_peer() {
    let engine = Engine::default();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();

    simulated(async {
        let io = engine.connect().unwrap().into_io();
        echo(io, &bytes).await.unwrap();
        let mut early = hijack(engine.connect().unwrap().into_io(), b"typed")
            .await
            .unwrap();
        let mut back = [0; 5];
        early.read_exact(&mut back).await.unwrap();
        assert_eq!((&back, engine.seen().open), (b"typed", 1));
    });

    let seen = engine.seen();
    assert_eq!((seen.connections, seen.requests, seen.echoes), (2, 2, 2));
    assert_eq!((seen.finished, seen.echoed_bytes), (1, 1_000_005));
}

#[test]
fn what_is_asked_for_twice_is_created_once_and_a_request_that_arrives_twice_is_known() {
    let engine = Engine::default();

    simulated(async {
        for number in ["first", "second", "second"] {
            let io = engine.connect().unwrap().into_io();
            create(io, "web-1", number).await.unwrap();
        }
    });

    assert_eq!(engine.seen().containers, 1);
    assert_eq!(engine.repeated(), ["second"]);
}

#[test]
fn an_engine_that_stops_is_gone_for_whoever_is_connected() {
    let engine = Engine::default();

    simulated(async {
        let Ok(TargetSocket::Simulated(mut socket)) = engine.connect() else {
            panic!("connected to something else");
        };
        let gone = tokio::time::timeout(Duration::from_secs(3_600), socket.gone.cancelled());
        assert!(gone.await.is_err(), "an idle connection stays");

        engine.stop();

        socket.gone.cancelled().await;
        assert_eq!(socket.io.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(engine.seen().open, 0);
        let refused = engine.connect().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[tokio::test]
async fn the_same_model_serves_a_real_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let engine = Engine::default();
    let asks = async {
        let health = ask(&World::real().net, &path).await;
        assert!(matches!(health, Health::Ok { .. }), "{health:?}");
        let stream = UnixStream::connect(&path).await.unwrap();
        echo(stream, &[7; 500_000]).await.unwrap();
    };

    tokio::select! {
        failed = engine.serve_unix(&listener) => panic!("{failed:?}"),
        () = asks => {}
    }

    assert_eq!(engine.seen().echoed_bytes, 500_000);
}
