//! Programs of other people, configured as a scenario has it: proxies and resolvers that
//! stand in the place of models. A tunnel is in [`super::wireguard`].
//!
//! Each is told everything by files of its host's folder and by its command line, so that
//! nothing of how it is set up on this machine matters. What each cannot do is refused by
//! `netsim_core::check`.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use netsim_core::{
    model::{self, RealProxy, RealResolver, RealVpn, Scenario},
    term::PortRange,
};

use super::{
    host::Host,
    namespace::feed,
    preflight::Missing,
    programs::{LOOK, Program},
    settings::names,
    tool,
    watch::last_lines,
};
use crate::proxy;

/// How long a program has to be there: Squid takes a second on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// The port of DNS.
const DNS_PORT: u16 = 53;

/// Where Squid has the program that knows logins.
const SQUID_HELPERS: [&str; 3] = ["/usr/lib/squid", "/usr/lib64/squid", "/usr/libexec/squid"];

/// A program, and the Debian package that has it.
const fn of_proxy(real: RealProxy) -> (&'static str, &'static str) {
    match real {
        RealProxy::Tinyproxy => ("tinyproxy", "tinyproxy"),
        RealProxy::Squid => ("squid", "squid"),
        RealProxy::Mitmproxy => ("mitmdump", "mitmproxy"),
    }
}

const fn of_resolver(real: RealResolver) -> (&'static str, &'static str) {
    match real {
        RealResolver::Dnsmasq => ("dnsmasq", "dnsmasq-base"),
    }
}

const fn of_vpn(real: RealVpn) -> (&'static str, &'static str) {
    match real {
        RealVpn::WireguardGo => ("wireguard-go", "wireguard-go"),
    }
}

/// Programs that a scenario asks for, and that are not here.
pub fn missing(scenario: &Scenario) -> Vec<Missing> {
    lacking(scenario, |program| match program {
        "squid" => tool(program).is_some() && squid_helper().is_some(),
        program => tool(program).is_some(),
    })
}

fn lacking(scenario: &Scenario, is_there: impl Fn(&str) -> bool) -> Vec<Missing> {
    let proxies = scenario.proxies.iter().flat_map(|proxy| &proxy.real);
    let hosts = scenario.hosts.iter().flat_map(|host| &host.real);
    let asked = proxies.map(|real| of_proxy(**real));
    let asked = asked.chain(hosts.map(|real| of_resolver(**real)));
    let vpns = scenario.vpns.iter().flat_map(|vpn| &vpn.real);
    let asked = asked.chain(vpns.map(|real| of_vpn(**real)));
    asked
        .filter(|(program, _)| !is_there(program))
        .map(|(program, package)| Missing {
            what: format!(
                "the scenario {} asks for the program `{program}`, which is missing",
                *scenario.name
            ),
            advice: format!("install the package {package}, or leave out `real`"),
        })
        .collect()
}

fn squid_helper() -> Option<PathBuf> {
    let mut all = SQUID_HELPERS.iter().map(Path::new);
    let helper = |folder: &Path| folder.join("basic_ncsa_auth");
    all.find(|folder| helper(folder).is_file()).map(helper)
}

pub(super) fn path_of(program: &str) -> io::Result<PathBuf> {
    tool(program).ok_or_else(|| io::Error::other(format!("the program `{program}` is missing")))
}

/// A proxy on a host, listening on a port; its files are written, and it is not started.
pub(super) fn proxy(
    real: RealProxy,
    (scenario, config): (&Scenario, &model::Proxy),
    (host, port): (&Arc<Host>, u16),
) -> io::Result<Program> {
    let folder = host.folder().join(config.name.as_str());
    fs::create_dir_all(&folder)?;
    let path = path_of(of_proxy(real).0)?;
    let in_folder = |name: &str| folder.join(name).display().to_string();
    let (file, text, arguments) = match real {
        RealProxy::Tinyproxy => {
            let arguments = vec!["-d".to_owned(), "-c".to_owned(), in_folder("conf")];
            ("conf", tinyproxy(config, port), arguments)
        }
        RealProxy::Squid => {
            fs::write(folder.join("hosts"), one_address_a_name(scenario, config))?;
            let arguments = vec!["-N".to_owned(), "-f".to_owned(), in_folder("conf")];
            ("conf", squid(config, port, &folder)?, arguments)
        }
        RealProxy::Mitmproxy => {
            let arguments = vec!["--set".to_owned(), format!("confdir={}", in_folder(""))];
            ("config.yaml", mitmproxy(config, port, &folder)?, arguments)
        }
    };
    fs::write(folder.join(file), text)?;
    let arguments = arguments.into_iter().map(Into::into).collect();
    let program = Program::new(Arc::clone(host), path, arguments);
    Ok(match real {
        // It refuses to run as root.
        RealProxy::Squid => program.without_root(),
        RealProxy::Tinyproxy | RealProxy::Mitmproxy => program,
    })
}

fn tinyproxy(config: &model::Proxy, port: u16) -> String {
    let mut text = format!("Port {port}\nTimeout 3600\nMaxClients 1024\nLogLevel Info\n");
    if let Some((user, password)) = login(config) {
        text.push_str(&format!("BasicAuth {user} {password}\n"));
    }
    if !config.allows.contains(&PortRange::ALL) {
        for port in config.allows.iter().flat_map(|one| one.first..=one.last) {
            text.push_str(&format!("ConnectPort {port}\n"));
        }
    }
    text
}

fn squid(config: &model::Proxy, port: u16, folder: &Path) -> io::Result<String> {
    let mut text = format!(
        "http_port {port}\nvisible_hostname {0}\npid_filename none\ncache_log {1}/cache.log\n\
         hosts_file {1}/hosts\naccess_log none\nlogfile_rotate 0\ncache deny all\ncache_mem 8 MB\n\
         netdb_filename none\npinger_enable off\nmax_filedescriptors 4096\n\
         shutdown_lifetime 0 seconds\ncoredump_dir none\nacl CONNECT method CONNECT\n",
        config.name.as_str(),
        folder.display()
    );
    if let Some((user, password)) = login(config) {
        let helper = squid_helper();
        let helper =
            helper.ok_or_else(|| io::Error::other("Squid's basic_ncsa_auth is missing"))?;
        let file = folder.join("logins");
        // One of the ways in which it takes a password.
        let hash = feed("md5sum", &[], password)?;
        let hash = hash.split_whitespace().next().unwrap_or_default();
        fs::write(&file, format!("{user}:{hash}\n"))?;
        text.push_str(&format!(
            "auth_param basic program {} {}\nauth_param basic children 2 startup=1\n\
             auth_param basic realm netsim\nacl known proxy_auth REQUIRED\n\
             http_access deny !known\n",
            helper.display(),
            file.display()
        ));
    }
    if !config.allows.contains(&PortRange::ALL) {
        let ports = config
            .allows
            .iter()
            .map(|one| format!("{}-{}", one.first, one.last));
        let ports: Vec<String> = ports.collect();
        text.push_str(&format!(
            "acl allowed port {}\nhttp_access deny CONNECT !allowed\n",
            ports.join(" ")
        ));
    }
    text.push_str("http_access allow CONNECT\nhttp_access deny all\n");
    Ok(text)
}

/// Of several lines with a name in its hosts file, Squid takes the last, also where that is of
/// a family that the host has not.
fn one_address_a_name(scenario: &Scenario, config: &model::Proxy) -> String {
    let host = scenario.host(&config.on);
    let has = |address: &IpAddr| {
        let mut own = host.iter().flat_map(|host| host.addresses.iter());
        own.any(|own| own.addr().is_ipv4() == address.is_ipv4())
    };
    let lines = names(scenario).into_iter().filter_map(|(name, addresses)| {
        let address = addresses.into_iter().find(has)?;
        Some(format!("{address} {name}\n"))
    });
    lines.collect()
}

fn mitmproxy(config: &model::Proxy, port: u16, folder: &Path) -> io::Result<String> {
    let name = config.intercepts_as.as_ref().map(|name| name.as_str());
    let authority = proxy::authority_pem(name.unwrap_or_default());
    fs::write(folder.join("mitmproxy-ca.pem"), authority)?;
    Ok(format!(
        "mode: transparent\nlisten_port: {port}\nssl_insecure: true\n\
         connection_strategy: lazy\n"
    ))
}

fn login(config: &model::Proxy) -> Option<(&str, &str)> {
    config.login.as_ref()?.as_str().split_once(':')
}

/// A resolver on a host that knows every name of the scenario; it is not started.
pub(super) fn resolver(
    real: RealResolver,
    scenario: &Scenario,
    host: &Arc<Host>,
) -> io::Result<Program> {
    let path = path_of(of_resolver(real).0)?;
    let file = host.folder().join("names");
    fs::write(&file, hosts(&names(scenario)))?;
    let RealResolver::Dnsmasq = real;
    let mut arguments = [
        // Neither a daemon nor another user; what it says goes to its log.
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--log-queries",
        // What it does not know does not exist.
        "--local=/#/",
    ]
    .map(Into::into)
    .to_vec();
    arguments.push(format!("--port={DNS_PORT}").into());
    arguments.push(format!("--addn-hosts={}", file.display()).into());
    Ok(Program::new(Arc::clone(host), path, arguments))
}

fn hosts(names: &[(String, Vec<IpAddr>)]) -> String {
    let lines = names.iter().flat_map(|(name, addresses)| {
        let all = addresses.iter();
        all.map(move |address| format!("{address} {name}\n"))
    });
    lines.collect()
}

/// Waits until a resolver answers on its host.
pub(super) fn resolver_answers(resolver: &Program) -> io::Result<()> {
    answers(resolver, DNS_PORT)
}

/// Waits until a program listens on a port of its host.
///
/// # Errors
///
/// It has ended, or does not listen; with what it printed last.
pub(super) fn answers(program: &Program, port: u16) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        let open = program.host().open_sockets()?;
        if open.iter().any(|one| one.local.port() == port) {
            return Ok(());
        }
        if !program.is_running() || begun.elapsed() > PATIENCE {
            let said = last_lines(program.log(), 10);
            return Err(io::Error::other(format!(
                "{} does not listen on port {port}:\n{said}",
                program.name()
            )));
        }
        std::thread::park_timeout(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use netsim_core::check::check;

    use super::*;

    fn config(keys: &str) -> model::Proxy {
        let text = format!(
            "name = \"x\"\nsummary = \"x\"\nobserved = \"these tests\"\nduration = \"1s\"\n\
             host = [\n{{ name = \"relay\", runs = \"relay\", addresses = \"203.0.113.1/24\" }},\n\
             {{ name = \"agent\", runs = \"agent\", addresses = \"203.0.113.2/24\" }}]\n\
             cable = [{{ name = \"c\", ends = [\"agent\", \"relay\"] }}]\n\
             expect = [{{ never = \"corrupted\" }}]\n\
             [[proxy]]\nname = \"proxy\"\non = \"agent\"\n{keys}\n"
        );
        let scenario = check(&text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        scenario.proxies[0].clone()
    }

    #[test]
    fn tinyproxy_is_told_of_logins_and_of_every_port() {
        let text = tinyproxy(
            &config("login = \"agent:secret\"\nallows = [443, \"8000-8001\"]"),
            8,
        );

        for line in [
            "Port 8",
            "BasicAuth agent secret",
            "ConnectPort 443",
            "ConnectPort 8001",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        assert!(!tinyproxy(&config(""), 8).contains("ConnectPort"));
    }

    #[test]
    fn squid_lets_through_no_port_that_is_not_named_and_nothing_but_connect() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = squid(&config("allows = 443"), 3128, folder.path()).expect("no login");

        let rules: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("http_access"))
            .collect();
        assert_eq!(
            rules,
            [
                "http_access deny CONNECT !allowed",
                "http_access allow CONNECT",
                "http_access deny all"
            ]
        );
        assert!(text.contains("acl allowed port 443-443\n"), "{text}");
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package_and_no_other_is() {
        let all = crate::shipped::all();
        let of = |name: &str| {
            let found = all.iter().find(|one| one.name.as_str() == name);
            lacking(found.expect("it is shipped"), |_| false)
        };

        assert_eq!(of("open"), []);
        let said: Vec<String> = of("connect-proxy-443-only")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            said,
            [
                "the scenario connect-proxy-443-only asks for the program `squid`, which is \
                 missing: install the package squid, or leave out `real`"
            ]
        );
    }
}
