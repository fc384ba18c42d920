//! Proxies of the shipped networks: what clients of any kind hear from them, and what
//! becomes of the real tunnel behind them.

use data_encoding::BASE64;
use netsim_core::{
    model::ProxyKind,
    term::{At, Scalar, Text},
};
use tunnel::world::BoxIo;

use super::*;
use crate::proxy::Setting;

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

/// An agent that is configured to use the scenario's proxy, as it says.
fn through_proxy(sim: Sim, login: Option<&str>) -> Site {
    let mut setting = sim
        .with_network(|network| {
            let scenario = network.scenario();
            Setting::of(scenario, scenario.host(&Name::of("agent"))?)
        })
        .unwrap();
    setting.login = login.map(str::to_owned);
    let mut site = Site::new(sim);
    site.proxy = setting.in_use();
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

        assert_eq!(agent.transport(), Transport::Ws);
        assert_eq!(
            agent.way.to_string(),
            "ws through the proxy http://10.1.0.8:3128"
        );
        let bulk = vec![7; 1 << 20];
        assert_eq!(ask(&relay, &agent.session, &bulk).await, bulk);
        // Names are the proxy's to ask for: of the agent's own questions none was needed yet.
        let unused = vacuous(&site.sim);
        assert!(
            !unused.iter().any(|one| one.contains("proxy")),
            "{unused:?}"
        );
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

            assert_eq!(agent.transport(), Transport::Ws443);
        },
    );
}

#[test]
fn a_login_that_is_wrong_or_missing_is_told_with_what_to_do() {
    for (login, advice) in [
        (
            Some("agent:guess"),
            "check user and password for http://10.1.0.8:3128",
        ),
        (None, "give user and password for http://10.1.0.8:3128"),
    ] {
        run(scenario("connect-proxy-basic"), Seed(1), |sim| async move {
            let site = through_proxy(sim, login);

            let refused = site.dial(AUTO).await.unwrap_err();

            assert_eq!(refused.kind(), "proxy_login", "{refused}");
            assert!(refused.advice().starts_with(advice), "{}", refused.advice());
            let shown = format!("{refused} {refused:?}");
            assert!(shown.contains("407") && !shown.contains("guess"), "{shown}");
            // What passes the proxy by is swallowed, and not waited for as long as could be.
            assert!(site.sim.now() < Instant::at(Duration::from_secs(5)));
        });
    }
}

#[test]
fn a_port_that_the_proxy_does_not_connect_to_is_named_to_its_administrator() {
    run(
        scenario("connect-proxy-443-only"),
        Seed(1),
        |sim| async move {
            let site = through_proxy(sim, None);

            let only = TransportChoice::Only(Transport::Ws);
            let refused = site.dial(only).await.unwrap_err();

            assert_eq!(refused.kind(), "proxy_refused", "{refused}");
            let advice = refused.advice();
            let asked = "to allow CONNECT to relay.example.com:8000";
            assert!(advice.ends_with(asked), "{advice}");
        },
    );
}

#[test]
fn a_proxy_that_is_gone_is_passed_by_where_that_is_possible() {
    let mut scenario = scenario("connect-proxy-443-only");
    let office = scenario
        .edges
        .iter_mut()
        .find(|edge| edge.name.as_str() == "office")
        .unwrap();
    office.firewall = None;
    scenario.proxies.clear();
    scenario.hosts.iter_mut().for_each(|host| host.proxy = None);
    run(scenario, Seed(1), |sim| async move {
        let mut site = Site::new(sim);
        let proxy = "http://10.1.0.8:3128".parse().unwrap();
        site.proxy = Some(ProxyUse {
            proxy,
            except: Default::default(),
        });

        let (agent, _relay) = site.connect(AUTO).await;

        assert_eq!(agent.way.proxy, None);
        assert_eq!(agent.transport(), Transport::Quic);
        assert!(site.sim.now() < Instant::at(Duration::from_secs(1)));
    });
}

#[test]
fn the_tunnel_comes_up_through_socks5_whose_proxy_resolves_the_name() {
    let mut scenario = socks_scenario(Some("agent:secret"));
    let agent = scenario
        .hosts
        .iter_mut()
        .find(|host| host.name.as_str() == "agent");
    agent.unwrap().resolver = None;
    run(scenario, Seed(1), |sim| async move {
        let mut site = through_proxy(sim, Some("agent:secret"));

        let (agent, relay) = site.connect(AUTO).await;

        assert_eq!(agent.transport(), Transport::Ws443);
        assert_eq!(ask(&relay, &agent.session, b"hello").await, b"hello");
    });
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
    let scenario = scenario("proxy-cuts-every-60s");
    let mut marked = scenario.clone();
    for expectation in &mut marked.expectations {
        let mut known = (**expectation).clone();
        known.known_failing = Text::from_text("nobody uses it yet").ok();
        *expectation = At::nowhere(known);
    }
    for (scenario, is_told) in [(scenario, true), (marked, false)] {
        run(scenario, Seed(1), |sim| async move {
            let said = "no connection came to the proxy proxy".to_owned();
            assert_eq!(
                vacuous(&sim).contains(&said),
                is_told,
                "{:?}",
                vacuous(&sim)
            );
        });
    }
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
        assert_eq!(agent.transport(), Transport::Ws);
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
        let counts = [Transport::Ws, Transport::Ws443].map(|over| site.tally.counts(over));
        let found = counts.map(|counts| (counts.failed, counts.intercepted));
        assert_eq!(found, [(1, 1), (1, 1)]);
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
        assert_eq!(agent.transport(), Transport::Ws);
        assert_eq!(
            ask(&relay, &agent.session, &[3; 300_000]).await.len(),
            300_000
        );
        assert_eq!(vacuous(&sim), Vec::<String>::new());
    });
}
