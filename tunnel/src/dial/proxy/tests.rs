//! What names a proxy and what does not; and every kind of answer, from the right one to
//! those of somebody who means no good.

use std::ffi::OsString;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

fn proxy(text: &str) -> Proxy {
    text.parse().unwrap()
}

fn shown_login(proxy: &Proxy) -> Option<(&str, &str)> {
    let login = proxy.login.as_ref()?;
    Some((&login.user, &login.password))
}

#[test]
fn a_url_names_kind_host_port_and_login() {
    let cases = [
        ("http://proxy:3128", "http://proxy:3128", None),
        ("proxy:3128", "http://proxy:3128", None),
        ("HTTP://proxy/", "http://proxy:80", None),
        (
            "https://proxy.example.com",
            "https://proxy.example.com:443",
            None,
        ),
        ("socks5://10.0.0.1", "socks5://10.0.0.1:1080", None),
        (
            "socks5h://[2001:db8::1]:9",
            "socks5://[2001:db8::1]:9",
            None,
        ),
        ("http://a:b@proxy", "http://proxy:80", Some(("a", "b"))),
        ("http://a@proxy", "http://proxy:80", Some(("a", ""))),
        (
            "http://a%40b:c%3a%25@proxy",
            "http://proxy:80",
            Some(("a@b", "c:%")),
        ),
        (
            "http://a:p@ss@proxy",
            "http://proxy:80",
            Some(("a", "p@ss")),
        ),
    ];
    for (text, shown, login) in cases {
        let proxy = proxy(text);

        assert_eq!(proxy.to_string(), shown, "{text}");
        assert_eq!(shown_login(&proxy), login, "{text}");
    }
}

#[test]
fn what_names_no_proxy_is_refused_and_not_repeated() {
    let long = format!("http://u:{}@proxy", "p".repeat(256));
    let cases = [
        ("ftp://secret@proxy", ParseProxyError::Scheme),
        ("socks4://proxy", ParseProxyError::Scheme),
        ("http://", ParseProxyError::Host),
        ("", ParseProxyError::Host),
        ("http://pro xy", ParseProxyError::Host),
        ("http://2001:db8::1:80", ParseProxyError::Port),
        ("http://[secret]:80", ParseProxyError::Host),
        ("http://proxy:0", ParseProxyError::Port),
        ("http://proxy:65536", ParseProxyError::Port),
        ("http://proxy:80/secret", ParseProxyError::Path),
        ("http://:secret@proxy", ParseProxyError::Login),
        ("http://u:secret%2@proxy", ParseProxyError::Login),
        ("http://u:secret%0d@proxy", ParseProxyError::Login),
        ("http://u:secret%ff@proxy", ParseProxyError::Login),
        (&long, ParseProxyError::Login),
    ];
    for (text, expected) in cases {
        let error = text.parse::<Proxy>().unwrap_err();

        assert_eq!(error, expected, "{text}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{text}");
    }
}

#[test]
fn a_login_is_neither_displayed_nor_debugged_and_a_library_can_have_it() {
    let proxy = proxy("http://proxy:3128").with_login("ag:s:cret/").unwrap();

    let shown = format!("{proxy} {proxy:?}");
    assert!(!shown.contains("cret") && !shown.contains("ag"), "{shown}");
    let url = proxy.url_with_login();
    assert_eq!(url.as_str(), "http://ag:s%3Acret%2F@proxy:3128");
    assert_eq!(url.parse::<Proxy>().unwrap(), proxy);
    assert!(proxy.with_login("nobody").is_err());
}

#[test]
fn no_proxy_covers_domains_addresses_and_networks() {
    let list = "localhost, .corp.example,*.lan,relay.one:8000 10.0.0.0/8,192.0.2.7,[::1]:443,2001:db8::/32,,300.1.1.1/99";
    let except = NoProxy::parse(list);
    let covered = [
        ("localhost", 1),
        ("corp.example", 1),
        ("a.CORP.example.", 1),
        ("b.lan", 1),
        ("relay.one", 8000),
        ("10.200.0.1", 1),
        ("192.0.2.7", 1),
        ("::1", 443),
        ("2001:db8:1::2", 1),
    ];
    let others = [
        ("notcorp.example", 1),
        ("relay.one", 443),
        ("11.0.0.1", 1),
        ("192.0.2.70", 1),
        ("::1", 444),
        ("10.0.0.0.example", 1),
        ("example", 1),
    ];

    for (host, port) in covered {
        assert!(except.covers(host, port), "{host}:{port}");
    }
    for (host, port) in others {
        assert!(!except.covers(host, port), "{host}:{port}");
    }
    assert!(NoProxy::parse("a, *").covers("anything", 1));
    assert!(!NoProxy::parse(" , ").covers("anything", 1));
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[test]
fn the_environment_s_proxy_is_used_but_for_this_host_and_who_is_excepted() {
    let variables = environment(&[
        ("HTTP_PROXY", "http://not-for-us"),
        ("HTTPS_PROXY", ""),
        ("https_proxy", "http://proxy:3128"),
        ("ALL_PROXY", "socks5://other"),
        ("no_proxy", "relay.two"),
    ]);

    let found = ProxyUse::of_environment(&variables).unwrap().unwrap();

    let towards = |host| found.towards(host, 8000).map(Proxy::to_string);
    assert_eq!(towards("relay.one").as_deref(), Some("http://proxy:3128"));
    for direct in ["relay.two", "localhost", "127.0.0.1", "::1"] {
        assert_eq!(towards(direct), None, "{direct}");
    }
    assert_eq!(ProxyUse::of_environment(&[]), Ok(None));
}

/// A proxy that hears what it is asked, and says `answer`, whatever that was.
async fn asked(
    proxy: &Proxy,
    to: (&str, u16),
    answer: &[u8],
) -> (Result<BoxIo, ProxyError>, Vec<u8>) {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    far.write_all(answer).await.unwrap();
    let (result, heard) = tokio::join!(led(proxy, near, to), async {
        let mut heard = Vec::new();
        // Until the other end is dropped, or for as long as it waits for more.
        let second = std::time::Duration::from_secs(1);
        while let Ok(Ok(1..)) = tokio::time::timeout(second, far.read_buf(&mut heard)).await {}
        drop(far);
        heard
    });
    (result, heard)
}

async fn led(proxy: &Proxy, near: DuplexStream, to: (&str, u16)) -> Result<BoxIo, ProxyError> {
    let roots = Arc::new(RootCertStore::empty());
    proxy
        .lead((Box::new(near), &World::real()), to, &roots)
        .await
}

const RELAY: (&str, u16) = ("relay.example.com", 8000);

#[tokio::test(start_paused = true)]
async fn connect_names_the_relay_shows_the_login_at_once_and_takes_nothing_that_follows() {
    let proxy = proxy("http://agent:secret@proxy");
    let answer = b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\nfirst words";

    let (led, heard) = asked(&proxy, RELAY, answer).await;

    let heard = String::from_utf8(heard).unwrap();
    assert!(
        heard.starts_with(
            "CONNECT relay.example.com:8000 HTTP/1.1\r\nHost: relay.example.com:8000\r\n"
        ),
        "{heard}"
    );
    assert!(
        heard.contains("\r\nProxy-Authorization: Basic YWdlbnQ6c2VjcmV0\r\n"),
        "{heard}"
    );
    let mut first = String::new();
    led.unwrap().read_to_string(&mut first).await.unwrap();
    assert_eq!(first, "first words");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_yes_is_told_with_its_status_and_its_kinds_of_login() {
    let proxy = proxy("proxy");
    let answer = "HTTP/1.1 407 Log\u{1b}[2Jin\r\nProxy-Authenticate: NTLM\r\nproxy-authenticate: Negotiate abc\r\n\r\n";

    let (led, heard) = asked(&proxy, ("2001:db8::1", 443), answer.as_bytes()).await;

    let ProxyError::Http(answer) = led.unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(
        (answer.status, answer.to_string().as_str()),
        (407, "407 Log[2Jin")
    );
    assert_eq!(answer.foreign_schemes().as_deref(), Some("NTLM, Negotiate"));
    assert!(heard.starts_with(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n"));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_of_http_is_told_as_soon_as_that_is_seen() {
    let endless = [b"HTTP/1.1 200 OK\r\n".to_vec(), vec![b'a'; 32 * 1024]].concat();
    let cases: [&[u8]; 6] = [
        b"SSH-2.0-OpenSSH\r\n",
        b"\x05\x00",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        &endless,
    ];
    for answer in cases {
        let (led, _) = asked(&proxy("proxy"), RELAY, answer).await;

        assert!(matches!(led, Err(ProxyError::NotAProxy("HTTP"))), "{led:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_hangs_up_is_told_from_one_that_says_no() {
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\nVi", b"HTT"] {
        let (led, _) = asked(&proxy("proxy"), RELAY, answer).await;

        assert!(matches!(led, Err(ProxyError::Broken(_))), "{led:?}");
    }
    let (led, _) = asked(&proxy("socks5://proxy"), RELAY, &[5]).await;
    assert!(matches!(led, Err(ProxyError::Broken(_))), "{led:?}");
}

#[tokio::test]
async fn a_proxy_over_tls_is_judged_by_its_certificate() {
    crate::install_crypto_provider();
    let made = rcgen::generate_simple_self_signed(vec!["proxy".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.unwrap());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server.unwrap()));
    let mut own = RootCertStore::empty();
    own.add(made.cert.der().clone()).unwrap();

    for (roots, is_trusted) in [(own, true), (RootCertStore::empty(), false)] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (proxy, world, roots) = (proxy("https://proxy"), World::real(), Arc::new(roots));
        let lead = proxy.lead((Box::new(near), &world), RELAY, &roots);
        let serve = async {
            let mut client = acceptor.accept(far).await.ok()?;
            let mut heard = vec![0; 64];
            client.read_exact(&mut heard).await.ok()?;
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            client.flush().await.ok()?;
            Some(heard)
        };
        let (led, heard) = tokio::join!(lead, serve);

        assert_eq!(led.is_ok(), is_trusted, "{:?}", led.err());
        assert_eq!(
            heard.is_some_and(|heard| heard.starts_with(b"CONNECT ")),
            is_trusted
        );
    }
}

#[tokio::test(start_paused = true)]
async fn socks5_has_the_name_resolved_at_the_proxy_and_logs_in_where_that_is_wanted() {
    let login = proxy("socks5://agent:secret@proxy");
    let bound = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let answer = [&[5, 2][..], &[1, 0], &bound, b"first"].concat();

    let (led, heard) = asked(&login, RELAY, &answer).await;

    let name = [
        &[5, 1, 0, 3, 17][..],
        b"relay.example.com",
        &8000_u16.to_be_bytes(),
    ]
    .concat();
    let expected = [&[5, 2, 0, 2][..], b"\x01\x05agent\x06secret", &name].concat();
    assert_eq!(heard, expected);
    let mut first = String::new();
    led.unwrap().read_to_string(&mut first).await.unwrap();
    assert_eq!(first, "first");
    let by_name = [&[5, 0][..], &[5, 0, 0, 3, 2, b'h', b'i', 0, 80]].concat();
    let (led, heard) = asked(&proxy("socks5://proxy"), ("192.0.2.1", 443), &by_name).await;
    assert!(led.is_ok());
    assert_eq!(heard, [5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 1, 187]);
}

#[tokio::test(start_paused = true)]
async fn socks5_says_why_not() {
    let login = "socks5://agent:secret@proxy";
    let cases: [(&str, &[u8], &str); 6] = [
        (
            "socks5://proxy",
            &[5, 255],
            "it wants a login, and took none of ours",
        ),
        (
            login,
            &[5, 2, 1, 1],
            "it wants a login, and took none of ours",
        ),
        (
            "socks5://proxy",
            &[5, 0, 5, 2, 0, 1],
            "it answered: not allowed by its rules",
        ),
        (
            "socks5://proxy",
            &[5, 0, 5, 77, 0, 1],
            "it answered: code 77",
        ),
        (
            "socks5://proxy",
            b"HTTP/1.1 400",
            "what answers is no SOCKS5 proxy",
        ),
        ("socks5://proxy", &[5, 2], "what answers is no SOCKS5 proxy"),
    ];
    for (url, answer, expected) in cases {
        let (led, _) = asked(&proxy(url), RELAY, answer).await;

        assert_eq!(led.unwrap_err().to_string(), expected);
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_what_is_shown_names_the_same_proxy(text in "[a-z5:/@\\[\\]%.0-9]{0,40}") {
        if let Ok(proxy) = text.parse::<Proxy>() {
            prop_assert_eq!(proxy.url_with_login().parse::<Proxy>().unwrap(), proxy);
        }
        let _covers = NoProxy::parse(&text).covers(&text, 1);
    }

    #[test]
    fn no_answer_makes_it_panic(answer in proptest::collection::vec(any::<u8>(), 0..300),
                                is_socks in any::<bool>()) {
        let (url, beginning) = match is_socks {
            true => ("socks5://a:b@proxy", &b"\x05\x02\x01\x00"[..]),
            false => ("http://proxy", &b"HTTP/1.1 "[..]),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        for answer in [answer.clone(), [beginning, &answer].concat()] {
            let _led = runtime.block_on(asked(&proxy(url), RELAY, &answer));
        }
    }
}
