//! Heads, logins and relays over pipes in memory, with every kind of nonsense in them.

use bytes::BytesMut;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    connect::{asked, authority},
    http::{self, Body, HEAD_BYTES_MAX, Head, Next, Reading},
    socks5, through,
};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                       Upgrade: websocket\r\n\r\n";

fn head(text: &str) -> Head {
    match Head::read(text.as_bytes()) {
        Reading::Whole(head, _) => head,
        other => panic!("{text}: {other:?}"),
    }
}

fn connect_with(login: &str) -> Head {
    head(&format!(
        "CONNECT a:443 HTTP/1.1\r\nproxy-authorization: {login}\r\n\r\n"
    ))
}

/// Runs what is asynchronous only by its type.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(future)
}

#[test]
fn what_is_no_http_is_known_by_its_first_bytes() {
    let nonsense = [
        "\x16\x03\x01\x02",
        "\r\n\r\n",
        " GET",
        "get / HTTP/1.1\r\n",
        "GET / HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n",
        "EHLO mail.example.com\r\n",
        "GET /\x01",
    ];
    for text in nonsense {
        assert_eq!(Head::read(text.as_bytes()), Reading::NotHttp, "{text:?}");
    }
}

#[test]
fn a_head_without_end_is_none() {
    let endless = format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(HEAD_BYTES_MAX));
    let line = format!("GET /{}", "b".repeat(HEAD_BYTES_MAX));

    assert_eq!(Head::read(endless.as_bytes()), Reading::NotHttp);
    assert_eq!(Head::read(line.as_bytes()), Reading::NotHttp);
    let read = wait(async {
        let mut held = BytesMut::new();
        let next = http::next(&mut tokio::io::repeat(b'A'), &mut held).await;
        (next.unwrap(), held.len())
    });
    assert!(matches!(read.0, Next::NotHttp) && read.1 <= HEAD_BYTES_MAX);
}

#[test]
fn upgrades_are_taken_out_of_a_head_and_nothing_else_is() {
    let stripped = String::from_utf8(head(UPGRADE).without_upgrade().to_bytes()).unwrap();

    assert_eq!(
        stripped,
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nVia: 1.1 netsim\r\n\r\n"
    );
}

#[test]
fn a_body_ends_where_its_length_says_or_nobody_knows() {
    let cases = [
        ("Content-Length: 7\r\n", Body::Length(7)),
        ("", Body::Length(0)),
        ("Content-Length: -1\r\n", Body::Unknown),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n",
            Body::Unknown,
        ),
    ];
    for (header, body) in cases {
        let text = format!("POST / HTTP/1.1\r\n{header}\r\n");
        assert_eq!(head(&text).body(), body, "{header}");
    }
}

#[test]
fn only_the_right_login_is_one() {
    let login = Some("agent:secret");
    let fits = "Basic YWdlbnQ6c2VjcmV0";

    assert!(asked(&connect_with(fits), login).is_ok());
    assert!(asked(&connect_with("basic  YWdlbnQ6c2VjcmV0"), login).is_ok());
    for wrong in ["Basic YWdlbnQ6", "Digest YWdlbnQ6c2VjcmV0", "Basic", ""] {
        let refused = asked(&connect_with(wrong), login).unwrap_err();
        assert!(
            refused.status.starts_with("407") && refused.stays,
            "{wrong}"
        );
    }
}

#[test]
fn an_authority_is_a_host_and_a_port() {
    let cases = [
        ("relay.example.com:443", Some(("relay.example.com", 443))),
        ("192.0.2.1:80", Some(("192.0.2.1", 80))),
        ("[2001:db8::1]:443", Some(("2001:db8::1", 443))),
        ("2001:db8::1:443", None),
        ("[relay.example.com]:443", None),
        ("relay.example.com", None),
        ("relay.example.com:0", None),
        ("relay.example.com:65536", None),
        (":443", None),
        ("user@relay:443", None),
    ];
    for (text, expected) in cases {
        let read = authority(text);
        let read = read.as_ref().map(|(host, port)| (host.as_str(), *port));
        assert_eq!(read, expected, "{text}");
    }
}

/// What comes out at the other end of a proxy that takes out upgrades.
fn stripped(sent: &[u8]) -> Vec<u8> {
    wait(async {
        let mut out = Vec::new();
        through::without_upgrades(&mut &sent[..], &mut out)
            .await
            .unwrap();
        out
    })
}

#[test]
fn every_request_of_a_connection_loses_its_upgrade_and_bodies_pass() {
    let sent = format!("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nUpgrade: {UPGRADE}tail");

    let out = String::from_utf8(stripped(sent.as_bytes())).unwrap();

    assert_eq!(out.matches("Upgrade").count(), 1, "the body's: {out}");
    assert!(out.ends_with("\r\n\r\ntail"), "{out}");
}

#[test]
fn what_is_no_http_passes_before_it_is_whole() {
    wait(async {
        let (mut client, mut near) = tokio::io::duplex(64);
        let (mut far, mut server) = tokio::io::duplex(64);
        let passing = async { through::without_upgrades(&mut near, &mut far).await };
        let talking = async {
            client.write_all(b"\x16\x03\x01").await.unwrap();
            let mut heard = [0; 3];
            server.read_exact(&mut heard).await.unwrap();
            drop(client);
            heard
        };
        let (passed, heard) = tokio::join!(passing, talking);

        assert!(passed.is_ok());
        assert_eq!(&heard, b"\x16\x03\x01");
    });
}

/// What SOCKS5 makes of a client's words, and what the client hears.
fn negotiated(words: &[u8], login: Option<&str>) -> (bool, Vec<u8>) {
    wait(async {
        let mut heard = Vec::new();
        let mut client = tokio::io::join(words, &mut heard);
        let asked = socks5::negotiate(&mut client, login).await;
        (matches!(asked, Ok(Some(Ok(_)))), heard)
    })
}

proptest! {
    #[test]
    fn no_bytes_make_a_head_panic_or_grow(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Reading::Whole(_, length) = Head::read(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }

    #[test]
    fn nothing_like_a_head_makes_it_panic(text in "(GET|CONNECT) [a-z:0-9]{0,9} HTTP/1.[01]\r\n([A-Za-z]{0,3}:?[ -~\r\n]{0,9}\r\n){0,3}\r\n") {
        if let Reading::Whole(head, length) = Head::read(text.as_bytes()) {
            prop_assert!(length <= text.len());
            let _asked = asked(&head, Some("a:b"));
            let again = head.to_bytes();
            prop_assert!(matches!(Head::read(&again), Reading::Whole(..)));
        }
    }

    #[test]
    fn a_head_cut_off_anywhere_waits_for_more(cut in 0..UPGRADE.len()) {
        prop_assert_eq!(Head::read(&UPGRADE.as_bytes()[..cut]), Reading::More);
    }

    #[test]
    fn no_authority_panics(text in "[\\[\\]:0-9a-z.]{0,30}") {
        if let Some((host, _)) = authority(&text) {
            prop_assert!(!host.is_empty());
        }
    }

    #[test]
    fn no_words_make_socks5_panic(words in proptest::collection::vec(any::<u8>(), 0..600),
                                  has_login in any::<bool>()) {
        let login = has_login.then_some("a:b");
        let mut greeted = vec![5, 2, 0, 2];
        greeted.extend(&words);
        for words in [&words, &greeted] {
            let (_, heard) = negotiated(words, login);
            prop_assert!(heard.len() <= 4);
        }
    }

    #[test]
    fn bytes_that_are_no_http_pass_unchanged(bytes in proptest::collection::vec(128_u8.., 0..500)) {
        prop_assert_eq!(stripped(&bytes), bytes);
    }
}
