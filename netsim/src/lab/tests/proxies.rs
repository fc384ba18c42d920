//! Proxies and resolvers of a scenario on real sockets: the model's, and other people's
//! programs in their place.

use super::*;

/// A proxy on a host of its own beside the agent.
const BESIDE: &str = r#"
firewall = { otherwise = "drop", rules = [{ from = "10.1.0.8/32", do = "allow" }] }
nat = { addresses = "198.51.100.1" }
[[host]]
name = "proxy-host"
addresses = "10.1.0.8/24"
[[cable]]
name = "proxy-lan"
ends = ["proxy-host", "office:inside"]
[[proxy]]
name = "proxy"
on = "proxy-host"
"#;

/// What a proxy says to a request from the agent's host, with the connection.
fn asked(lab: &Lab, request: &str) -> (String, TcpStream) {
    let agent = lab.host("agent").unwrap().namespace();
    let proxy = "10.1.0.8:3128".parse().unwrap();
    let mut stream = agent
        .within(|| TcpStream::connect_timeout(&proxy, PATIENCE))
        .unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    (String::from_utf8_lossy(&head).into_owned(), stream)
}

/// `agent:secret`, as Basic has it.
const LOGIN: &str = "Proxy-Authorization: Basic YWdlbnQ6c2VjcmV0\r\n";

fn connect(to: &str, login: &str) -> String {
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{login}\r\n")
}

/// A proxy that wants a login and connects to 8000 alone, as who stands in for it.
fn a_login_and_a_port(real: &str) {
    let keys = format!("login = \"agent:secret\"\nallows = 8000\n{real}\n");
    let lab = bare(&scenario(&format!("{BESIDE}{keys}"), "", ""));
    let relay = lab.host("relay").unwrap().namespace();
    let listener = relay.within(|| TcpListener::bind("[::]:8000")).unwrap();

    let (stranger, _) = asked(&lab, &connect("relay.example.com:8000", ""));
    let (elsewhere, _) = asked(&lab, &connect("relay.example.com:8001", LOGIN));
    let (said, mut near) = asked(&lab, &connect("relay.example.com:8000", LOGIN));

    assert!(stranger.contains(" 407 "), "{stranger}");
    assert!(elsewhere.contains(" 403 "), "{elsewhere}");
    assert!(said.contains(" 200 "), "{said}");
    let (mut far, from) = listener.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(&mut near, &mut far).unwrap();
    assert_eq!(from.ip().to_canonical().to_string(), "198.51.100.1");
    assert_eq!(lab.troubles(), Vec::<String>::new());
}

/// Why a test of another's program cannot be run here.
fn lacks(name: &str, program: &str) -> bool {
    let is_there = tool(program).is_some();
    if !is_there {
        skip(name, &format!("the program `{program}` is missing"));
    }
    !is_there
}

#[test]
fn the_models_proxy_wants_a_login_and_refuses_ports_on_real_sockets() {
    in_sandbox(
        "proxies::the_models_proxy_wants_a_login_and_refuses_ports_on_real_sockets",
        || a_login_and_a_port(""),
    );
}

#[test]
fn tinyproxy_wants_a_login_and_refuses_ports_as_the_model_does() {
    let name = "proxies::tinyproxy_wants_a_login_and_refuses_ports_as_the_model_does";
    if !lacks(name, "tinyproxy") {
        in_sandbox(name, || a_login_and_a_port("real = \"tinyproxy\""));
    }
}

#[test]
fn squid_wants_a_login_and_refuses_ports_as_the_model_does() {
    let name = "proxies::squid_wants_a_login_and_refuses_ports_as_the_model_does";
    if !lacks(name, "squid") {
        in_sandbox(name, || a_login_and_a_port("real = \"squid\""));
    }
}

#[test]
fn a_proxy_that_has_crashed_answers_again_once_it_is_back() {
    in_sandbox(
        "proxies::a_proxy_that_has_crashed_answers_again_once_it_is_back",
        || {
            let event =
                "at = [{ time = \"1s\", do = \"crash\", on = \"proxy-host\", for = \"1s\" }]";
            let lab = bare(&scenario(BESIDE, "", event));
            let relay = lab.host("relay").unwrap().namespace();
            let _listener = relay.within(|| TcpListener::bind("[::]:8000")).unwrap();

            let (before, _) = asked(&lab, &connect("203.0.113.10:8000", ""));
            let ended = lab.wait_for(Instant::at(PATIENCE), |one| one.word == Word::Undone);
            let (after, _) = asked(&lab, &connect("203.0.113.10:8000", ""));

            assert!(before.contains(" 200 ") && ended, "{before}");
            assert!(after.contains(" 200 "), "{after}");
            assert_eq!(lab.troubles(), Vec::<String>::new());
        },
    );
}

#[test]
fn a_portal_takes_in_what_passes_its_edge_until_it_is_released() {
    in_sandbox(
        "proxies::a_portal_takes_in_what_passes_its_edge_until_it_is_released",
        || {
            let portal = format!(
                "firewall = {{}}\n{NAT}\n[[proxy]]\nname = \"portal\"\non = \"office\"\n\
                 speaks = \"transparent\"\nport = \"80-8000\"\ncaptive = true\n\
                 strips-upgrade = true\n"
            );
            let event = "at = [{ time = \"2s\", do = \"release\", on = \"portal\" }]";
            let lab = bare(&scenario(&portal, "", event));
            let on = |name: &str| lab.host(name).unwrap().namespace();
            let listener = on("relay")
                .within(|| TcpListener::bind("[::]:8000"))
                .unwrap();
            let request = "GET / HTTP/1.1\r\nHost: relay.example.com\r\nUpgrade: x\r\n\r\n";
            let ask = |address: &str| {
                let address = address.parse().unwrap();
                let mut stream = on("agent")
                    .within(|| TcpStream::connect_timeout(&address, PATIENCE))
                    .unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                stream
            };

            let mut held = String::new();
            ask(SERVER).read_to_string(&mut held).unwrap();
            let mut held_ipv6 = String::new();
            let ipv6 = "[2001:db8:2::10]:8000";
            ask(ipv6).read_to_string(&mut held_ipv6).unwrap();
            let released = lab.wait_for(Instant::at(PATIENCE), |one| one.word == Word::Event);
            let _near = ask(SERVER);
            let (mut far, from) = listener.accept().unwrap();
            let mut room = [0; 256];
            let length = far.read(&mut room).unwrap();

            assert!(
                held.contains("302") && held.contains("login.portal"),
                "{held}"
            );
            assert!(held_ipv6.contains("302"), "{held_ipv6}");
            assert!(released);
            let passed = String::from_utf8_lossy(&room[..length]).into_owned();
            assert!(
                passed.contains("Host: relay") && !passed.contains("Upgrade"),
                "{passed}"
            );
            assert_eq!(from.ip().to_canonical().to_string(), "198.51.100.1");
            assert!(lab.touched().of(Cause::Diverted) > 0);
            assert_eq!(lab.troubles(), Vec::<String>::new());
        },
    );
}

/// What a host finds for a name; empty where there is nothing.
fn found(lab: &Lab, name: &str) -> String {
    let mut command = Command::new("getent");
    command.args(["-s", "dns", "ahostsv4", name]);
    lab.host("agent").unwrap().settle(&mut command).unwrap();
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn dnsmasq_answers_what_an_edge_does_not_lie_about() {
    let name = "proxies::dnsmasq_answers_what_an_edge_does_not_lie_about";
    if lacks(name, "dnsmasq") {
        return;
    }
    in_sandbox(name, || {
        let edge =
            format!("dns = [{{ names = \"*.corp\", do = \"lie\", answer = \"10.1.0.9\" }}]\n{NAT}");
        let event = "at = [{ time = \"3s\", do = \"stop\", on = \"dns\", for = \"2s\" }]";
        let mut scenario = scenario(&edge, "", event);
        let dns = scenario
            .hosts
            .iter_mut()
            .find(|host| host.name.as_str() == "dns");
        dns.unwrap().real = Some(At::nowhere(RealResolver::Dnsmasq));
        let lab = bare(&scenario);

        let (known, inner, unknown) = (
            found(&lab, "relay.example.com"),
            found(&lab, "db.corp"),
            found(&lab, "nowhere.example.com"),
        );
        let stopped = lab.wait_for(Instant::at(PATIENCE), |one| one.word == Word::Event);
        let dns = lab.host("dns").unwrap();
        let is_there = || !dns.open_sockets().unwrap().is_empty();
        let becomes = |wanted: bool| {
            let end = lab.now() + PATIENCE;
            while is_there() != wanted && lab.now() < end {
                lab.wait_until(lab.now() + Duration::from_millis(20));
            }
            is_there() == wanted
        };
        let (went, came) = (becomes(false), becomes(true));
        let again = found(&lab, "relay.example.com");

        assert!(known.contains("203.0.113.10"), "{known}");
        assert!(inner.contains("10.1.0.9"), "{inner}");
        assert_eq!(unknown, "");
        assert!(stopped && went && came, "it failed, and came back");
        assert!(again.contains("203.0.113.10"), "{again}");
        assert_eq!(lab.troubles(), Vec::<String>::new());
    });
}

/// A tunnel of the agent's host to a gateway, which is up from the third second on.
const TUNNEL: &str = r#"
nat = { addresses = "198.51.100.1" }
[[edge]]
name = "gateway"
nat = { addresses = "198.51.100.77" }
[[cable]]
name = "tunnel"
ends = ["agent", "gateway:inside"]
line = { mtu = 1400 }
up = false
[[cable]]
name = "gateway-uplink"
ends = ["gateway:outside", "internet:inside"]
[[vpn]]
name = "corporate"
host = "agent"
cable = "tunnel"
address = "10.8.0.2/24"
mtu = 1400
real = "wireguard-go"
"#;

#[test]
fn what_goes_through_wireguard_comes_out_at_its_gateway_and_no_more_once_it_is_down() {
    let name =
        "proxies::what_goes_through_wireguard_comes_out_at_its_gateway_and_no_more_once_it_is_down";
    if lacks(name, "wireguard-go") {
        return;
    }
    in_sandbox(name, || {
        let event = "at = [{ name = \"up\", time = \"1s\", do = \"vpn-up\", on = \"corporate\", \
                     for = \"3s\" }]";
        let lab = bare(&scenario(TUNNEL, "", event));
        let on = |name: &str| lab.host(name).unwrap().namespace();
        let listener = on("relay")
            .within(|| TcpListener::bind("[::]:8000"))
            .unwrap();
        let from = || {
            let server = SERVER.parse().unwrap();
            // What is sent while the host is told of the change is lost, and sent again by nobody.
            let soon = Duration::from_millis(500);
            let near = on("agent").within(|| TcpStream::connect_timeout(&server, soon));
            let mut near = near.ok()?;
            let (mut far, from) = listener.accept().ok()?;
            near.set_read_timeout(Some(soon)).ok()?;
            far.set_read_timeout(Some(soon)).ok()?;
            exchange(&mut near, &mut far).ok()?;
            Some(from.ip().to_canonical().to_string())
        };
        let comes_from = |wanted: &str| {
            let end = lab.now() + PATIENCE;
            let mut seen = from();
            while seen.as_deref() != Some(wanted) && lab.now() < end {
                seen = from();
            }
            seen.unwrap_or_default()
        };

        let before = from();
        let is_up = lab.wait_for(Instant::at(PATIENCE), |one| one.word == Word::Event);
        let through = comes_from("198.51.100.77");
        let is_down = lab.wait_for(Instant::at(PATIENCE), |one| one.word == Word::Undone);
        let after = comes_from("198.51.100.1");

        assert_eq!(before.as_deref(), Some("198.51.100.1"));
        assert!(is_up && is_down);
        assert_eq!(through, "198.51.100.77", "{:?}", lab.troubles());
        assert_eq!(after, "198.51.100.1");
        assert_eq!(lab.troubles(), Vec::<String>::new());
    });
}

#[test]
fn a_kernels_edge_with_a_portal_is_refused_with_its_reason() {
    in_sandbox(
        "proxies::a_kernels_edge_with_a_portal_is_refused_with_its_reason",
        || {
            let edge = format!(
                "kernel = true\nfirewall = {{}}\n{NAT}\n[[proxy]]\nname = \"portal\"\n\
                 on = \"office\"\nspeaks = \"transparent\"\nport = 80\ncaptive = true\n"
            );
            let options = Options {
                is_bare: true,
                ..Options::default()
            };

            let refused = Lab::start(&scenario(&edge, "", ""), Seed(1), options);

            let why = refused.map(|_| ()).unwrap_err().to_string();
            assert!(why.contains("transparent proxies stand on it"), "{why}");
        },
    );
}
