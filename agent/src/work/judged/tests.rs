//! A judged socket at the end of a pipe: what an Engine sees of a client, and the client of
//! both.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tunnel::world::SimulatedSocket;

use super::*;

type Read = <SimulatedSocket as SpliceIo>::Read;
type Write = <SimulatedSocket as SpliceIo>::Write;

struct Bench {
    read: JudgedRead<Read, Write>,
    write: JudgedWrite<Write>,
    observer: Observer<Write>,
    engine: DuplexStream,
    policy: watch::Sender<PolicyInForce>,
}

fn in_force(text: &str) -> PolicyInForce {
    PolicyInForce {
        policy: Arc::new(Policy::parse(text).unwrap()),
        from_file: true,
        error: None,
    }
}

fn bench(policy: &str, room: usize) -> Bench {
    let (near, engine) = tokio::io::duplex(room);
    let (policy, receiver) = watch::channel(in_force(policy));
    let rules = Rules {
        policy: receiver,
        path: "/policy.toml".into(),
    };
    let (judged, observer) = judge(SimulatedSocket::new(Box::new(near)), rules);
    let (read, write) = judged.halves();
    Bench {
        read,
        write,
        observer,
        engine,
        policy,
    }
}

const READ_ONLY: &str = "[docker]\naccess = \"read-only\"\n";

async fn read_until(from: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        from.read_exact(&mut byte).await.unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_refused_request_is_answered_here_and_the_next_one_by_the_engine() {
    let Bench {
        mut read,
        mut write,
        observer,
        mut engine,
        ..
    } = bench(READ_ONLY, 4_096);

    write
        .write_all(b"DELETE /containers/x HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let refused = read_until(&mut read, "}\n").await;
    write
        .write_all(b"GET /info HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let seen = read_until(&mut engine, "\r\n\r\n").await;
    engine
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await
        .unwrap();
    let answered = read_until(&mut read, "ok").await;

    assert!(refused.starts_with("HTTP/1.1 403 Forbidden"), "{refused}");
    assert!(
        refused.contains("the policy /policy.toml on the agent's host"),
        "{refused}"
    );
    assert_eq!(seen, "GET /info HTTP/1.1\r\n\r\n");
    assert!(answered.starts_with("HTTP/1.1 200 OK"), "{answered}");
    let verdict = observer.next().await;
    assert_eq!(verdict.path, "/containers/x");
}

#[tokio::test]
async fn a_large_body_passes_through_an_engine_that_takes_little_at_a_time() {
    let Bench {
        mut read,
        mut write,
        mut engine,
        ..
    } = bench("[docker]\naccess = \"limited\"\nbuild = true\n", 100);
    let body = vec![7; 300_000];
    let head = format!(
        "POST /images/load HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let sent = [head.as_bytes(), &body].concat();

    let client = async {
        write.write_all(&sent).await.unwrap();
        write.flush().await.unwrap();
    };
    let taken = async {
        let mut seen = vec![0; sent.len()];
        engine.read_exact(&mut seen).await.unwrap();
        engine
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        seen
    };
    let ((), seen, answer) = tokio::join!(client, taken, read_until(&mut read, "\r\n\r\n"));

    assert!(seen == sent);
    assert!(answer.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn what_was_sent_ahead_goes_on_when_the_answer_has_come() {
    let Bench {
        mut read,
        mut write,
        mut engine,
        ..
    } = bench(READ_ONLY, 4_096);
    let request = "GET /info HTTP/1.1\r\n\r\n";
    write.write_all(request.repeat(2).as_bytes()).await.unwrap();

    let asked = read_until(&mut engine, "\r\n\r\n").await;
    engine
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut read, "\r\n\r\n").await;
    let asked_again = read_until(&mut engine, "\r\n\r\n").await;

    assert_eq!((&asked[..], &asked_again[..]), (request, request));
}

#[tokio::test]
async fn every_request_is_judged_by_the_rules_of_its_moment() {
    let Bench {
        mut read,
        mut write,
        mut engine,
        policy,
        ..
    } = bench(READ_ONLY, 4_096);
    let request = b"DELETE /containers/x HTTP/1.1\r\n\r\n";
    write.write_all(request).await.unwrap();
    assert!(read_until(&mut read, "}\n").await.contains("403"));

    policy.send_replace(in_force("[docker]\naccess = \"limited\"\n"));
    write.write_all(request).await.unwrap();

    assert!(
        read_until(&mut engine, "\r\n\r\n")
            .await
            .starts_with("DELETE")
    );
}

#[tokio::test]
async fn what_is_no_request_ends_the_connection() {
    let Bench {
        mut read,
        mut write,
        ..
    } = bench(READ_ONLY, 4_096);

    write.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
    let mut all = String::new();
    read.read_to_string(&mut all).await.unwrap();

    assert!(
        all.starts_with("HTTP/1.1 400 Bad Request") && all.contains("HTTP/2"),
        "{all}"
    );
}
