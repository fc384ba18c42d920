//! From values as they were given to a configuration that holds.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use super::{
    Config, Effective, Loaded, Mistakes, ORIGIN_HOST,
    key::{KEYS, Key},
    raw::Raw,
};
use crate::{
    gate::HandshakeRate,
    log::{self, Format},
    tls::TlsSource,
};

/// Shortest validity of a token that a person can use.
const VALIDITY_MIN: Duration = Duration::from_secs(60);

/// Longest: a secret that lies about for a year will be found.
const VALIDITY_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Longest drain: whoever stops a service waits no longer.
const DRAIN_MAX: Duration = Duration::from_secs(60 * 60);

/// Longest window for reconnects: agents clamp it to the same.
const WINDOW_MAX: Duration = Duration::from_secs(60 * 60);

/// Longest wait of a session for another connection: its streams keep what they hold.
const RESUME_MAX: Duration = Duration::from_secs(10 * 60);
/// Handshakes a second that somebody may want.
const RATES: RangeInclusive<u32> = 1..=1_000_000;

struct Checker {
    raw: Raw,
    mistakes: Vec<String>,
}

pub(super) fn check(mut raw: Raw, hostname: &str) -> Result<Loaded, Mistakes> {
    let mistakes = std::mem::take(&mut raw.mistakes);
    let mut checker = Checker { raw, mistakes };
    let config = checker.config(hostname);
    match config {
        Some(config) if checker.mistakes.is_empty() => {
            let effective = checker.effective(&config);
            Ok(Loaded {
                config,
                effective,
                unknown_variables: checker.raw.unknown_variables,
            })
        }
        _ => Err(Mistakes(checker.mistakes)),
    }
}

impl Checker {
    /// Checks every key before it gives up on any.
    fn config(&mut self, hostname: &str) -> Option<Config> {
        let fallback = host(hostname).unwrap_or_else(|_| "localhost".to_owned());
        let data_dir = self.required("data_dir", path);
        let public_name = self
            .optional("public_name", host)
            .unwrap_or_else(|| fallback.clone());
        let node = self.optional("node", label).unwrap_or(fallback);
        let https = self.required("listen.https", address);
        let tunnel = self.required("listen.tunnel", address);
        let metrics = self.required("listen.metrics", address);
        let public_https_port = self.optional("public.https_port", port);
        let public_tunnel_port = self.optional("public.tunnel_port", port);
        let tls = self.tls(&public_name);
        let log_format = self.required("log.format", format);
        let log_level = self.required("log.level", level);
        let metrics_by_environment = self.required("metrics.environments", switch);
        let token_validity = self.required("enrolment.token_validity", |text| {
            duration(text, VALIDITY_MIN, VALIDITY_MAX)
        });
        let agent_image = self.required("agent.image", image);
        let probe = self.required("probe.enabled", switch);
        let probe_program = self.optional("probe.program", path);
        let resume_window = self.required("sessions.resume_window", |text| {
            duration(text, Duration::ZERO, RESUME_MAX)
        });
        let handshake_rate = self.required("admission.rate", handshake_rate);
        let drain_timeout = self.required("drain.timeout", |text| {
            duration(text, Duration::ZERO, DRAIN_MAX)
        });
        let reconnect_window = self.required("drain.reconnect_window", |text| {
            duration(text, Duration::ZERO, WINDOW_MAX)
        });
        self.ports_differ([
            ("listen.https", https),
            ("listen.tunnel", tunnel),
            ("listen.metrics", metrics),
        ]);
        Some(Config {
            data_dir: data_dir?,
            public_name,
            node,
            https: https?,
            tunnel: tunnel?,
            metrics: metrics?,
            public_https_port,
            public_tunnel_port,
            tls: tls?,
            log_format: log_format?,
            log_level: log_level?,
            metrics_by_environment: metrics_by_environment?,
            token_validity: token_validity?,
            agent_image: agent_image?,
            probe: probe?,
            probe_program,
            resume_window: resume_window?,
            handshake_rate: handshake_rate?,
            drain_timeout: drain_timeout?,
            reconnect_window: reconnect_window?,
        })
    }

    fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.raw.given.get(name)?;
        match parse(given.text.trim()) {
            Ok(value) => Some(value),
            Err(reason) => {
                let shown = given.text.escape_debug();
                self.mistakes
                    .push(format!("{}: `{name}` is `{shown}`: {reason}", given.origin));
                None
            }
        }
    }

    fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        debug_assert!(
            Key::find(name).is_some_and(|key| key.default.is_some()),
            "{name}"
        );
        self.optional(name, parse)
    }

    fn tls(&mut self, public_name: &str) -> Option<TlsSource> {
        let was_given = |name| self.raw.given.contains_key(name);
        let lone = match (was_given("tls.certificate"), was_given("tls.key")) {
            (true, false) => Some(("tls.certificate", "tls.key")),
            (false, true) => Some(("tls.key", "tls.certificate")),
            (true, true) | (false, false) => None,
        };
        if let Some((given, missing)) = lone {
            let ways = Key::find(missing).map(Key::ways).unwrap_or_default();
            self.mistakes.push(format!(
                "`{given}` is set and `{missing}` is not: set {ways} too"
            ));
        }
        match (
            self.optional("tls.certificate", path),
            self.optional("tls.key", path),
        ) {
            (Some(certificate), Some(key)) => Some(TlsSource::Files { certificate, key }),
            (None, None) => Some(TlsSource::Own {
                public_name: public_name.to_owned(),
            }),
            _ => None,
        }
    }

    /// Two of our own listeners on one TCP port: told here, where both names are known.
    fn ports_differ(&mut self, listeners: [(&'static str, Option<SocketAddr>); 3]) {
        for (index, (first, one)) in listeners.iter().enumerate() {
            for (second, other) in &listeners[index + 1..] {
                if let (Some(one), Some(other)) = (one, other)
                    && one.port() != 0
                    && one.port() == other.port()
                    && overlap(one.ip(), other.ip())
                {
                    let ways = Key::find(second).map(Key::ways).unwrap_or_default();
                    self.mistakes.push(format!(
                        "`{first}` and `{second}` are both port {}: change one, with {ways}",
                        one.port()
                    ));
                }
            }
        }
    }

    fn effective(&self, config: &Config) -> Vec<Effective> {
        let derived = |name: &str| match name {
            "public_name" => Some(config.public_name.clone()),
            "node" => Some(config.node.clone()),
            _ => None,
        };
        let effective = |key: &'static Key| {
            let given = self.raw.given.get(key.name);
            let origin =
                given.map_or_else(|| ORIGIN_HOST.to_owned(), |given| given.origin.to_string());
            let value = given
                .map(|given| given.text.clone())
                .or_else(|| derived(key.name));
            Effective {
                key: key.name,
                value,
                origin,
            }
        };
        KEYS.iter().map(effective).collect()
    }
}

/// Whether two listeners on the same port get in each other's way.
const fn overlap(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            one.is_unspecified() || other.is_unspecified() || one.to_bits() == other.to_bits()
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            one.is_unspecified() || other.is_unspecified() || one.to_bits() == other.to_bits()
        }
        // `[::]` takes IPv4 as well unless told otherwise.
        (IpAddr::V4(_), IpAddr::V6(six)) | (IpAddr::V6(six), IpAddr::V4(_)) => six.is_unspecified(),
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("a path is missing".to_owned())
    } else {
        Ok(text.into())
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "give ADDRESS:PORT, such as 0.0.0.0:8000 or [::]:8000".to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| "give a port, 1 to 65535".to_owned())
}

/// A DNS name or an address, as it stands in certificates and tokens.
fn host(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("give a DNS name or an address without a port, such as relay.example".to_owned())
}

fn label(text: &str) -> Result<String, String> {
    let may_be = (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if may_be {
        return Ok(text.to_owned());
    }
    Err("give 1 to 63 letters, digits, `-`, `_` and `.`".to_owned())
}

fn image(text: &str) -> Result<String, String> {
    let may_be = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\'');
    if may_be {
        Ok(text.to_owned())
    } else {
        Err("give an image, such as name:tag".to_owned())
    }
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "json" => Ok(Format::Json),
        "text" => Ok(Format::Text),
        _ => Err("give `text` or `json`".to_owned()),
    }
}

fn handshake_rate(text: &str) -> Result<HandshakeRate, String> {
    match text {
        "auto" => Ok(HandshakeRate::Auto),
        "off" => Ok(HandshakeRate::Unlimited),
        number => number
            .parse()
            .ok()
            .filter(|rate| RATES.contains(rate))
            .map(HandshakeRate::Fixed)
            .ok_or_else(|| {
                let (min, max) = (RATES.start(), RATES.end());
                format!("give `auto`, `off`, or handshakes a second from {min} to {max}")
            }),
    }
}

fn switch(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_| "give `true` or `false`".to_owned())
}

fn level(text: &str) -> Result<String, String> {
    log::check_filter(text)
        .map(|()| text.to_owned())
        .map_err(|e| {
            format!("give `error`, `warn`, `info`, `debug` or `trace`, or a filter by module: {e}")
        })
}

fn duration(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text)
        .map_err(|_| "give a time with its unit, such as 90s, 15m, 2h or 3days".to_owned())?;
    if (min..=max).contains(&parsed) {
        return Ok(parsed);
    }
    let (min, max) = (
        humantime::format_duration(min),
        humantime::format_duration(max),
    );
    Err(format!("give {min} to {max}"))
}
