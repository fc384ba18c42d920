//! Proxies of the shipped networks: what clients of any kind hear from them, and what
//! becomes of the real tunnel behind them.

use data_encoding::BASE64;
use netsim_core::{
    model::ProxyKind,
    term::{At, Scalar, Text},
};
use tunnel::world::{AsyncUdpSocket, BoxIo, Net, TargetEnd, TargetSocket};

use super::*;

const PROXY: &str = "10.1.0.8:3128";

/// A client's words to the proxy, and its whole answer, until it hangs up or nothing more
/// comes for a second.
async fn said(client: &mut BoxIo, words: &[u8]) -> Vec<u8> {
    client.write_all(words).await.unwrap();
    let mut heard = Vec::new();
    let second = Duration::from_secs(1);
    while let Ok(Ok(1..)) = tokio::time::timeout(second, client.read_buf(&mut heard)).await {}
    heard
}

async fn said_to_new(site: &Site, to: &str, words: &str) -> String {
    let mut client = site
        .agent
        .net
        .connect_tcp(to.parse().unwrap())
        .await
        .unwrap();
    let heard = said(&mut client, words.as_bytes()).await;
    String::from_utf8(heard).unwrap()
}

fn connect_to(to: &str, login: Option<&str>) -> String {
    let login = login.map(|login| {
        let shown = BASE64.encode(login.as_bytes());
        format!("Proxy-Authorization: Basic {shown}\r\n")
    });
    format!(
        "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{}\r\n",
        login.unwrap_or_default()
    )
}

/// Faults that touched nothing so far.
fn vacuous(sim: &Sim) -> Vec<String> {
    sim.with_network(|network| network.vacuous())
}

/// A host's sockets, with TCP led through a CONNECT proxy.
#[derive(Debug)]
struct ThroughProxy {
    inner: Arc<dyn Net>,
    login: Option<&'static str>,
}

#[async_trait::async_trait]
impl Net for ThroughProxy {
    async fn connect_tcp(&self, address: SocketAddr) -> std::io::Result<BoxIo> {
        let mut tcp = self.inner.connect_tcp(PROXY.parse().unwrap()).await?;
        let request = connect_to(&address.to_string(), self.login);
        tcp.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 200 ") {
            let head = String::from_utf8_lossy(&head).into_owned();
            return Err(std::io::Error::other(head));
        }
        Ok(tcp)
    }

    fn connect_udp(&self, peer: SocketAddr) -> std::io::Result<Arc<dyn AsyncUdpSocket>> {
        self.inner.connect_udp(peer)
    }

    async fn connect_target(&self, end: TargetEnd<'_>) -> std::io::Result<TargetSocket> {
        self.inner.connect_target(end).await
    }
}

fn through_proxy(sim: Sim, login: Option<&'static str>) -> Site {
    let mut site = Site::new(sim);
    let inner = Arc::clone(&site.agent.net);
    site.agent.net = Arc::new(ThroughProxy { inner, login });
    site
}

#[test]
fn a_login_is_asked_for_once_and_then_the_tunnel_comes_up() {
    run(scenario("connect-proxy-basic"), Seed(1), |sim| async move {
        let site = Site::new(sim.clone());
        let to = PROXY.parse().unwrap();
        let mut client = site.agent.net.connect_tcp(to).await.unwrap();
        let target = "relay.example.com:8000";

        let without = said(&mut client, connect_to(target, None).as_bytes()).await;
        let wrong = connect_to(target, Some("agent:guess"));
        let wrong = said(&mut client, wrong.as_bytes()).await;
        let right = connect_to(target, Some("agent:secret"));
        let right = said(&mut client, right.as_bytes()).await;
        drop(site);

        assert!(without.starts_with(b"HTTP/1.1 407 "));
        assert!(
            String::from_utf8(without)
                .unwrap()
                .contains("Proxy-Authenticate: Basic realm=")
        );
        assert!(wrong.starts_with(b"HTTP/1.1 407 "));
        assert!(right.starts_with(b"HTTP/1.1 200 "));
    });
    run(scenario("connect-proxy-basic"), Seed(1), |sim| async move {
        let mut site = through_proxy(sim, Some("agent:secret"));

        let (agent, relay) = site.connect(AUTO).await;

        assert_eq!(agent.transport, Transport::Ws);
        let bulk = vec![7; 1 << 20];
        assert_eq!(ask(&relay, &agent.session, &bulk).await, bulk);
        assert_eq!(vacuous(&site.sim), Vec::<String>::new());
    });
}

#[test]
fn a_proxy_connects_to_the_ports_it_allows_and_says_what_it_does_not_do() {
    run(
        scenario("connect-proxy-443-only"),
        Seed(1),
        |sim| async move {
            let site = Site::new(sim);
            let cases = [
                (connect_to("relay.example.com:8000", None), "403"),
                (connect_to("relay.example.com:443", None), "200"),
                (connect_to("nobody.example.com:443", None), "502"),
                (connect_to("203.0.113.53:443", None), "502"),
                (connect_to("relay.example.com", None), "400"),
                (
                    "GET http://relay.example.com/ HTTP/1.1\r\n\r\n".into(),
                    "405",
                ),
                ("\x16\x03\x01".into(), "400"),
            ];
            for (words, status) in cases {
                let heard = said_to_new(&site, PROXY, &words).await;
                let expected = format!("HTTP/1.1 {status} ");
                assert!(heard.starts_with(&expected), "{words}: {heard}");
            }
        },
    );
    run(
        scenario("connect-proxy-443-only"),
        Seed(1),
        |sim| async move {
            let mut site = through_proxy(sim, None);

            let (agent, _relay) = site.connect(AUTO).await;

            assert_eq!(agent.transport, Transport::Ws443);
        },
    );
}

#[test]
fn a_destination_that_does_not_answer_is_a_gateway_that_timed_out() {
    let mut scenario = scenario("connect-proxy-443-only");
    let office = scenario
        .edges
        .iter_mut()
        .find(|edge| edge.name.as_str() == "office")
        .unwrap();
    office.firewall.as_mut().unwrap().rules.remove(0);
    run(scenario, Seed(1), |sim| async move {
        let site = Site::new(sim);
        let mut client = site
            .agent
            .net
            .connect_tcp(PROXY.parse().unwrap())
            .await
            .unwrap();
        let request = connect_to("relay.example.com:443", None);
        client.write_all(request.as_bytes()).await.unwrap();
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();

        assert!(heard.starts_with("HTTP/1.1 504 "), "{heard}");
    });
}

#[test]
fn a_proxy_that_nobody_uses_is_told_of() {
    let mut scenario = scenario("proxy-cuts-every-60s");
    let said = "no connection came to the proxy proxy".to_owned();
    run(scenario.clone(), Seed(1), |sim| async move {
        let all = vacuous(&sim);
        assert!(
            !all.contains(&said),
            "it is known why nobody uses it: {all:?}"
        );
    });
    for expectation in &mut scenario.expectations {
        let mut unmarked = (**expectation).clone();
        unmarked.known_failing = None;
        *expectation = At::nowhere(unmarked);
    }

    run(scenario, Seed(1), |sim| async move {
        let said = "no connection came to the proxy proxy".to_owned();
        assert!(vacuous(&sim).contains(&said), "{:?}", vacuous(&sim));
    });
}

#[test]
fn every_connection_is_cut_when_its_time_is_up() {
    run(
        scenario("proxy-cuts-every-60s"),
        Seed(1),
        |sim| async move {
            let mut site = through_proxy(sim, None);
            for _ in 0..2 {
                let (agent, relay) = site.connect(AUTO).await;
                let begun = site.sim.now();
                assert_eq!(ask(&relay, &agent.session, b"hello").await, b"hello");

                tokio::time::timeout(Duration::from_secs(65), relay.closed())
                    .await
                    .unwrap();

                let lasted = site.sim.now().since(begun);
                assert!(lasted > Duration::from_secs(55), "{lasted:?}");
            }
        },
    );
}

/// What a SOCKS5 client hears after its words, byte for byte.
async fn socks(sim: &Sim, words: &[u8]) -> Vec<u8> {
    let agent = sim.world(sim.hosts("agent")[0]);
    let mut client = agent.net.connect_tcp(PROXY.parse().unwrap()).await.unwrap();
    said(&mut client, words).await
}

fn socks_scenario(login: Option<&str>) -> Scenario {
    let mut scenario = scenario("connect-proxy-443-only");
    scenario.proxies[0].speaks = ProxyKind::Socks5;
    scenario.proxies[0].login = login.map(|login| Text::from_text(login).unwrap());
    scenario
}

#[test]
fn socks5_connects_by_address_and_by_name_and_says_why_not() {
    run(socks_scenario(None), Seed(1), |sim| async move {
        let site = Site::new(sim);
        let by_name = |name: &str, port: u16| {
            let mut words = vec![5, 1, 0, 5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
            words.extend(name.as_bytes());
            words.extend(port.to_be_bytes());
            words
        };
        let by_address = vec![5, 1, 0, 5, 1, 0, 1, 203, 0, 113, 10, 1, 187];
        let refused = vec![5, 1, 0, 5, 1, 0, 1, 203, 0, 113, 53, 1, 187];
        let bind = vec![5, 1, 0, 5, 2, 0, 1, 203, 0, 113, 10, 1, 187];
        let other_kind = vec![5, 1, 0, 5, 1, 0, 9];
        let cases = [
            (by_address, 0),
            (by_name("relay.example.com", 443), 0),
            (by_name("relay.example.com", 8000), 2),
            (by_name("nobody.example.com", 443), 4),
            (refused, 5),
            (bind, 7),
            (other_kind, 8),
        ];
        for (words, reply) in cases {
            let heard = socks(&site.sim, &words).await;
            assert_eq!(heard[..4], [5, 0, 5, reply], "{words:?}");
        }
        assert_eq!(
            socks(&site.sim, &[5, 1, 2]).await,
            [5, 255],
            "no login is known"
        );
        assert!(socks(&site.sim, &[4, 1]).await.is_empty(), "SOCKS4");
    });
}

#[test]
fn socks5_asks_for_a_login_where_it_has_one() {
    run(socks_scenario(Some("me:pw")), Seed(1), |sim| async move {
        let site = Site::new(sim);
        let request = [5, 1, 0, 1, 203, 0, 113, 10, 1, 187];
        let login = |password: &[u8]| {
            let mut words = vec![5, 2, 0, 2, 1, 2, b'm', b'e', 2];
            words.extend(password);
            words.extend(request);
            words
        };

        assert_eq!(socks(&site.sim, &[5, 1, 0]).await, [5, 255]);
        assert_eq!(socks(&site.sim, &login(b"no")).await, [5, 2, 1, 1]);
        assert_eq!(
            socks(&site.sim, &login(b"pw")).await[..6],
            [5, 2, 1, 0, 5, 0]
        );
    });
}

#[test]
fn a_captive_portal_answers_for_everybody_until_it_is_released() {
    let scenario = scenario("captive-portal");
    let released = scenario.events[0].time.get();
    run(scenario, Seed(1), |sim| async move {
        let mut site = Site::new(sim);

        let heard = said_to_new(
            &site,
            "203.0.113.10:80",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        );
        let heard = heard.await;
        let held = site.dial(AUTO).await.unwrap_err();
        let took = site.sim.now();
        let agent = loop {
            if let Ok(agent) = site.dial(AUTO).await {
                break agent;
            }
        };
        let up = site.sim.now().since_start();
        let relay = site.welcomed.recv().await.unwrap();

        assert!(heard.starts_with("HTTP/1.1 302 "), "{heard}");
        assert!(heard.contains("Location: http://login.portal.example/"));
        assert_eq!(held.kind(), "websocket", "{held}");
        assert!(took < Instant::at(Duration::from_secs(15)), "{took}");
        assert!(
            up > released && up < released + Duration::from_secs(3),
            "{up:?}"
        );
        assert_eq!(agent.transport, Transport::Ws);
        assert_eq!(ask(&relay, &agent.session, b"free").await, b"free");
        assert_eq!(vacuous(&site.sim), Vec::<String>::new());
    });
}

#[test]
fn whoever_intercepts_tls_is_refused_by_name() {
    run(scenario("tls-inspection"), Seed(1), |sim| async move {
        let site = Site::new(sim);

        let refused = site.dial(AUTO).await.unwrap_err();

        assert_eq!(refused.kind(), "intercepted", "{refused}");
        let advice = refused.advice();
        assert!(
            advice.contains("CN=Example Corp Web Gateway CA"),
            "{advice}"
        );
        assert!(site.sim.now() < Instant::at(Duration::from_secs(15)));
        assert_eq!(vacuous(&site.sim), Vec::<String>::new());
    });
}

#[test]
fn an_interceptor_that_takes_out_upgrades_lets_no_websocket_through() {
    let mut scenario = scenario("tls-inspection");
    scenario.proxies[0].strips_upgrade = true;
    run(scenario, Seed(1), |sim| async move {
        let site = Site::new(sim);

        let refused = site.dial(AUTO).await.unwrap_err();

        assert_eq!(refused.kind(), "websocket", "{refused}");
    });
}

/// What arrives first at a port of a host.
async fn arrives(listener: impl Listen) -> String {
    let (mut came, _) = listener.accept().await.unwrap();
    let mut first = Vec::with_capacity(1024);
    came.read_buf(&mut first).await.unwrap();
    came.write_all(b"HTTP/1.1 426 Upgrade Required\r\n\r\n")
        .await
        .unwrap();
    String::from_utf8(first).unwrap()
}

#[test]
fn upgrades_are_taken_out_of_what_is_in_the_clear_and_tls_passes() {
    run(scenario("upgrade-stripped"), Seed(1), |sim| async move {
        let mut site = Site::new(sim.clone());
        let web = sim.listen(sim.hosts("relay")[0], 80).unwrap();
        let words = "GET / HTTP/1.1\r\nHost: relay.example.com\r\n\
                     Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";

        let heard = said_to_new(&site, "203.0.113.10:80", words);
        let (arrived, heard) = tokio::join!(arrives(web), heard);
        let (agent, relay) = site.connect(AUTO).await;

        assert!(!arrived.contains("pgrade"), "{arrived}");
        assert!(arrived.contains("Connection: keep-alive\r\n"), "{arrived}");
        assert!(heard.starts_with("HTTP/1.1 426 "), "{heard}");
        assert_eq!(agent.transport, Transport::Ws);
        assert_eq!(
            ask(&relay, &agent.session, &[3; 300_000]).await.len(),
            300_000
        );
        assert_eq!(vacuous(&sim), Vec::<String>::new());
    });
}
