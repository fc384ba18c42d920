//! From options and environment to a plan, with every mistake named.

use std::{
    ffi::OsString,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tunnel::{
    dial::proxy::{BadVariable, NoProxy, ParseProxyError, Proxy, ProxyUse},
    tls::{self, BadBundle, RootCertStore},
};
use wire::{
    key::PublicKey,
    token::{EnrolToken, HTTPS_PORT_DEFAULT, ParseTokenError, TUNNEL_PORT_DEFAULT},
};

use super::{EXIT_NO_INPUT, EXIT_USAGE, IdleLadder, RunArguments};
use crate::{
    measure::{Depth, Plan},
    observe::Target,
    protocol::LATER_MAX,
};

/// Silences, in seconds: at and above the timers of usual boxes.
const QUICK_RUNGS: [u64; 2] = [20, 45];
const FULL_RUNGS: [u64; 9] = [20, 45, 65, 125, 185, 245, 305, 355, 605];

/// The longest file of certificates.
const BUNDLE_BYTES_MAX: usize = 1024 * 1024;

/// What is wrong with a command line. Never holds a token or a password.
#[derive(Debug, Error)]
pub enum Misuse {
    /// No relay was named.
    #[error("name the relay: sternline-probe HOST, or give --token")]
    NoHost,
    /// The host is none.
    #[error("{0} is neither a name nor an address; as in relay.example or relay.example:443")]
    Host(String),
    /// The pin is none.
    #[error("--pin: it begins with ed25519: and has 43 characters more; the vendor's page has it")]
    Pin,
    /// The token is none.
    #[error("--token: {0}")]
    Token(#[from] ParseTokenError),
    /// The proxy is none.
    #[error("--proxy: {0}")]
    Proxy(ParseProxyError),
    /// The environment's proxy is none.
    #[error("{0}; or give --no-proxy")]
    Environment(#[from] BadVariable),
    /// The silences are none.
    #[error("--idle-rungs: as in 2s,4s,8s, each up to {} s", LATER_MAX.as_secs())]
    Rungs,
    /// A file cannot be read.
    #[error("--ca: cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds no certificates.
    #[error("--ca: {path}: {problem}", path = path.display())]
    Bundle {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: BadBundle,
    },
}

impl Misuse {
    /// Of the program that ends with it.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Read { .. } | Self::Bundle { .. } => EXIT_NO_INPUT,
            _ => EXIT_USAGE,
        }
    }
}

/// What a run is to do.
pub(super) fn plan(
    arguments: &RunArguments,
    environment: &[(OsString, OsString)],
) -> Result<Plan, Misuse> {
    let token = arguments.token.as_deref().map(str::parse::<EnrolToken>);
    let token = token.transpose()?;
    let (host, ports) = who(arguments, token.as_ref())?;
    let pin = match (&arguments.pin, &token) {
        (Some(text), _) => Some(PublicKey::from_text(text.trim()).ok_or(Misuse::Pin)?),
        (None, Some(token)) => Some(token.relay_identity),
        (None, None) => None,
    };
    let depth = match (arguments.quick, arguments.full) {
        (true, _) => Depth::Quick,
        (_, true) => Depth::Full,
        _ => Depth::Usual,
    };
    Ok(Plan {
        target: Target {
            host,
            https_port: ports.0,
            tunnel_port: ports.1,
            pin: pin.map(|pin| pin.to_string()),
        },
        pin,
        addresses: (!arguments.address.is_empty()).then(|| arguments.address.clone()),
        proxy: proxy(arguments.proxy.as_deref(), arguments.no_proxy, environment)?,
        roots: Arc::new(roots(arguments.ca.as_deref())?),
        interceptors: own_roots(arguments.ca.as_deref())?.map(Arc::new),
        depth,
        rungs: rungs_of(arguments, depth)?,
        registry: arguments.registry.clone(),
    })
}

fn who(
    arguments: &RunArguments,
    token: Option<&EnrolToken>,
) -> Result<(String, (u16, u16)), Misuse> {
    let of_token = token.and_then(|token| token.addresses.first());
    let (host, port) = match (&arguments.host, of_token) {
        (Some(text), _) => host_and_port(text)?,
        (None, Some(address)) => (address.host.clone(), None),
        (None, None) => return Err(Misuse::NoHost),
    };
    let of_token = of_token.filter(|address| address.host == host);
    let https = of_token.map_or(HTTPS_PORT_DEFAULT, |address| address.https_port);
    let tunnel = of_token.map_or(TUNNEL_PORT_DEFAULT, |address| address.tunnel_port);
    let https = arguments.https_port.or(port).unwrap_or(https);
    Ok((host, (https, arguments.tunnel_port.unwrap_or(tunnel))))
}

/// `HOST`, `HOST:PORT`, an address, `[ADDRESS]:PORT`, or a URL as people paste it.
pub(super) fn host_and_port(text: &str) -> Result<(String, Option<u16>), Misuse> {
    let wrong = || Misuse::Host(text.chars().filter(|c| !c.is_control()).take(80).collect());
    let rest = text
        .trim()
        .trim_start_matches("https://")
        .trim_end_matches('/');
    if let Ok(address) = rest.parse::<IpAddr>() {
        return Ok((address.to_string(), None));
    }
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            (address.to_string(), port.strip_prefix(':'))
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (rest.to_owned(), None),
        },
    };
    let is_name =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    if host.is_empty() || host.len() > 253 || !host.bytes().all(is_name) {
        return Err(wrong());
    }
    let port = port
        .map(str::parse::<u16>)
        .transpose()
        .map_err(|_| wrong())?;
    Ok((host, port.filter(|port| *port != 0)))
}

/// The proxy that is given, or that of the environment.
pub(super) fn proxy(
    given: Option<&str>,
    is_unwanted: bool,
    environment: &[(OsString, OsString)],
) -> Result<Option<ProxyUse>, Misuse> {
    if is_unwanted {
        return Ok(None);
    }
    match given {
        Some(text) => {
            let proxy: Proxy = text.parse().map_err(Misuse::Proxy)?;
            Ok(Some(ProxyUse {
                proxy,
                except: NoProxy::default(),
            }))
        }
        None => Ok(ProxyUse::of_environment(environment)?),
    }
}

/// The system's CAs, and those of a file.
pub(super) fn roots(ca: Option<&Path>) -> Result<RootCertStore, Misuse> {
    let mut roots = tls::system_roots();
    roots.extend(own_roots(ca)?.into_iter().flat_map(|own| own.roots));
    Ok(roots)
}

/// The CAs of a file alone.
fn own_roots(ca: Option<&Path>) -> Result<Option<RootCertStore>, Misuse> {
    let read_from = |path: &Path| {
        let read = fs::read(path).map_err(|source| Misuse::Read {
            path: path.to_owned(),
            source,
        })?;
        let bundle = tls::roots_of_pem(&read[..read.len().min(BUNDLE_BYTES_MAX)]);
        bundle.map_err(|problem| Misuse::Bundle {
            path: path.to_owned(),
            problem,
        })
    };
    ca.map(read_from).transpose()
}

/// The silences that were asked for, or those of a depth.
fn rungs_of(arguments: &RunArguments, depth: Depth) -> Result<Vec<Duration>, Misuse> {
    let Some(list) = &arguments.idle_rungs else {
        return Ok(rungs(arguments.idle, depth));
    };
    let rung = |text: &str| {
        let seconds: u64 = text.trim().trim_end_matches('s').parse().ok()?;
        let rung = Duration::from_secs(seconds);
        (rung <= LATER_MAX).then_some(rung)
    };
    let rungs: Option<Vec<Duration>> = list.split(',').take(16).map(rung).collect();
    rungs.ok_or(Misuse::Rungs)
}

/// The silences of a ladder; without one, of a depth.
pub fn rungs(ladder: Option<IdleLadder>, depth: Depth) -> Vec<Duration> {
    let ladder = ladder.unwrap_or(match depth {
        Depth::Quick => IdleLadder::Off,
        Depth::Usual => IdleLadder::Quick,
        Depth::Full => IdleLadder::Full,
    });
    let seconds: &[u64] = match ladder {
        IdleLadder::Off => &[],
        IdleLadder::Quick => &QUICK_RUNGS,
        IdleLadder::Full => &FULL_RUNGS,
    };
    seconds.iter().copied().map(Duration::from_secs).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::ProbeArguments;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        probe: ProbeArguments,
    }

    fn parsed(words: &[&str]) -> Line {
        let words = ["probe"].iter().chain(words);
        Line::try_parse_from(words).unwrap()
    }

    fn planned(words: &[&str]) -> Result<Plan, Misuse> {
        plan(&parsed(words).probe.run, &[])
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Line::command().debug_assert();
    }

    #[test]
    fn a_host_is_a_name_an_address_or_what_people_paste() {
        let read = |text| host_and_port(text).unwrap();

        assert_eq!(read("relay.example"), ("relay.example".into(), None));
        assert_eq!(
            read("https://relay.example:8443/"),
            ("relay.example".into(), Some(8443))
        );
        assert_eq!(read("2001:db8::1"), ("2001:db8::1".into(), None));
        assert_eq!(read("[2001:db8::1]:443"), ("2001:db8::1".into(), Some(443)));
        assert!(host_and_port("a b").is_err() && host_and_port("a:b").is_err());
    }

    #[test]
    fn a_quick_run_leaves_no_connection_silent_and_a_full_one_all() {
        let rungs = |words: &[&str]| planned(words).unwrap().rungs.len();

        assert_eq!(rungs(&["relay.example", "--quick"]), 0);
        assert_eq!(rungs(&["relay.example"]), QUICK_RUNGS.len());
        assert_eq!(rungs(&["relay.example", "--full"]), FULL_RUNGS.len());
        assert_eq!(
            rungs(&["relay.example", "--quick", "--idle-rungs", "2s,4s"]),
            2
        );
    }

    #[test]
    fn a_wrong_pin_and_a_wrong_token_are_refused_without_being_repeated() {
        let pin = planned(&["relay.example", "--pin", "secret-pin"]).unwrap_err();
        let token = planned(&["--token", "stl1_secret"]).unwrap_err();

        assert!(!format!("{pin} {token}").contains("secret"));
        assert_eq!((pin.exit_code(), token.exit_code()), (64, 64));
    }

    #[test]
    fn a_command_beside_a_host_needs_none() {
        let words = ["probe", "verify", "rules.toml"];

        assert!(Line::try_parse_from(words).is_ok());
        let none = Line::try_parse_from(["probe"]);
        assert!(none.is_err(), "no relay was named");
    }
}
