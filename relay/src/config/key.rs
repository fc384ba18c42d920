//! Every key, once: its name, its default, and what it means.

/// A key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// As in the file; a dot stands between a table and its key.
    pub name: &'static str,
    /// In text; `None` where there is none, or where it depends on the host.
    pub default: Option<&'static str>,
    /// The flag that sets it.
    pub flag: Option<&'static str>,
    /// One sentence for the reader of the example file.
    pub meaning: &'static str,
}

impl Key {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!(
            "{VARIABLE_PREFIX}{}",
            self.name.replace('.', "_").to_ascii_uppercase()
        )
    }

    /// The key of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// How a person may give the key.
    pub fn ways(&self) -> String {
        let flag = self
            .flag
            .map(|flag| format!("{flag}, "))
            .unwrap_or_default();
        format!("{flag}{} or `{}` in the file", self.variable(), self.name)
    }
}

/// Begins the name of every environment variable of a relay.
pub(super) const VARIABLE_PREFIX: &str = "STERNLINE_RELAY_";

/// Variables with the prefix that are no keys: the command line reads them.
pub(super) const OTHER_VARIABLES: [&str; 1] = ["STERNLINE_RELAY_CONFIG"];

const fn key(
    name: &'static str,
    default: Option<&'static str>,
    flag: Option<&'static str>,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        default,
        flag,
        meaning,
    }
}

/// Every key, in the order in which they are printed: tables last.
pub const KEYS: &[Key] = &[
    key(
        "data_dir",
        Some(crate::data_dir::DATA_DIR_DEFAULT),
        Some("--data-dir"),
        "Where the relay keeps its keys and its store; made where it is missing.",
    ),
    key(
        "public_name",
        None,
        Some("--public-name"),
        "DNS name or address that agents and operators reach the relay under; the host's name.",
    ),
    key(
        "node",
        None,
        None,
        "Name of this node in logs and handshakes; the host's name.",
    ),
    key(
        "listen.https",
        Some("0.0.0.0:443"),
        Some("--https"),
        "The API, and the tunnel under a path (TCP).",
    ),
    key(
        "listen.tunnel",
        Some("0.0.0.0:8000"),
        Some("--tunnel"),
        "The tunnel: WebSocket (TCP) and QUIC (UDP).",
    ),
    key(
        "listen.metrics",
        Some("127.0.0.1:9100"),
        Some("--metrics"),
        "Metrics, liveness and readiness, without TLS: keep it off the internet.",
    ),
    key(
        "public.https_port",
        None,
        None,
        "The HTTPS port as agents see it, where something stands before the relay; the bound one.",
    ),
    key(
        "public.tunnel_port",
        None,
        None,
        "The tunnel's port as agents see it, where something stands before the relay; the bound one.",
    ),
    key(
        "tls.certificate",
        None,
        None,
        "Your certificate in PEM with its chain, reloaded when it changes; without it the relay \
         makes one.",
    ),
    key(
        "tls.key",
        None,
        None,
        "The certificate's private key in PEM.",
    ),
    key("log.format", Some("text"), None, "`text` or `json`."),
    key(
        "log.level",
        Some("info"),
        None,
        "`error`, `warn`, `info`, `debug` or `trace`; also by module: `info,relay::session=debug`.",
    ),
    key(
        "metrics.environments",
        Some("false"),
        None,
        "`true` shows every environment by name at /metrics/environments, and asks agents for \
         their figures.",
    ),
    key(
        "enrolment.token_validity",
        Some("3days"),
        None,
        "How long an enrolment token is good for.",
    ),
    key(
        "agent.image",
        Some(concat!("sternline/agent:", env!("CARGO_PKG_VERSION"))),
        None,
        "The image in the `docker run` line that comes with a token.",
    ),
    key(
        "probe.enabled",
        Some("true"),
        None,
        "`true` answers the probe, with which a customer sees what a network lets through, on \
         all three ports.",
    ),
    key(
        "probe.program",
        None,
        None,
        "The probe's program that /probe hands out; `sternline-probe` beside the relay's own.",
    ),
    key(
        "sessions.resume_window",
        Some("1m"),
        None,
        "How long an agent's session waits for another connection, with its streams; `0s`: it \
         ends with its connection.",
    ),
    key(
        "admission.rate",
        Some("auto"),
        None,
        "Handshakes a second that are taken: `auto` as many as this machine turns out to do, a \
         number, or `off`.",
    ),
    key(
        "drain.timeout",
        Some("20s"),
        None,
        "How long a stop waits for streams to finish.",
    ),
    key(
        "drain.reconnect_window",
        Some("1s"),
        None,
        "Over how long agents spread their return after a stop, at least: many take longer.",
    ),
];
