//! What a relay is told: flags over environment variables over the file over defaults.
//!
//! Every key can be given in each of the three ways. All mistakes are told at once,
//! each with where it stands and what belongs there. Nothing secret is a key: keys
//! name files, and what is printed at the start holds no secret.

mod check;
mod key;
mod raw;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{gate::HandshakeRate, log::Format, tls::TlsSource};

pub use self::key::{KEYS, Key};
use self::raw::Raw;

/// Everything a relay is told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where its files are.
    pub data_dir: PathBuf,
    /// The name that agents and operators reach it under.
    pub public_name: String,
    /// Name of this node.
    pub node: String,
    /// HTTPS: the API, and the tunnel under a path.
    pub https: SocketAddr,
    /// The tunnel: WebSocket on TCP and QUIC on UDP.
    pub tunnel: SocketAddr,
    /// Metrics and health, plain HTTP.
    pub metrics: SocketAddr,
    /// The HTTPS port as agents see it; `None`: the one that is bound.
    pub public_https_port: Option<u16>,
    /// The tunnel's port as agents see it; `None`: the one that is bound.
    pub public_tunnel_port: Option<u16>,
    /// Where the certificate comes from.
    pub tls: TlsSource,
    /// The form of log lines.
    pub log_format: Format,
    /// Which log lines, as `tracing` filters say it.
    pub log_level: String,
    /// Whether metrics show every environment by name.
    pub metrics_by_environment: bool,
    /// How long an enrolment token is good for.
    pub token_validity: Duration,
    /// The image in the `docker run` line.
    pub agent_image: String,
    /// Whether the probe is answered.
    pub probe: bool,
    /// The probe's program that is handed out; `None`: the one beside the relay's own.
    pub probe_program: Option<PathBuf>,
    /// How long a session may be without a connection, at most.
    pub resume_window: Duration,
    /// How many handshakes a second are taken.
    pub handshake_rate: HandshakeRate,
    /// How long a drain waits for streams to finish.
    pub drain_timeout: Duration,
    /// Over how long agents spread their next attempt after a drain.
    pub reconnect_window: Duration,
}

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--data-dir`.
    pub data_dir: Option<String>,
    /// `--https`.
    pub https: Option<String>,
    /// `--tunnel`.
    pub tunnel: Option<String>,
    /// `--metrics`.
    pub metrics: Option<String>,
    /// `--public-name`.
    pub public_name: Option<String>,
}

/// All that a configuration is made of; nothing else is read.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The command line.
    pub flags: Flags,
    /// The environment of the process.
    pub variables: BTreeMap<String, String>,
    /// Name and content of the file, if one was named.
    pub file: Option<(PathBuf, String)>,
    /// The host's name: the default of `public_name` and `node`.
    pub hostname: String,
}

/// A checked configuration, and where each value comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every key with its value and origin, for printing.
    pub effective: Vec<Effective>,
    /// Environment variables that look like ours and are not.
    pub unknown_variables: Vec<String>,
}

/// A key in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The key.
    pub key: &'static str,
    /// Its value in text; `None` where it has none.
    pub value: Option<String>,
    /// Where the value comes from.
    pub origin: String,
}

impl Effective {
    /// Whether nobody gave the value, and the host's name stands in.
    pub fn is_of_host(&self) -> bool {
        self.value.is_some() && self.origin == ORIGIN_HOST
    }
}

/// Origin of a value that is the host's name.
const ORIGIN_HOST: &str = "host";

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has a mistake:")?,
            count => write!(f, "the configuration has {count} mistakes:")?,
        }
        for mistake in &self.0 {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Reads and checks a configuration.
///
/// # Errors
///
/// Every mistake in it, together.
pub fn load(inputs: &Inputs) -> Result<Loaded, Mistakes> {
    let raw = Raw::collect(inputs);
    check::check(raw, &inputs.hostname)
}

impl Loaded {
    /// The configuration in effect as a file that gives the same one.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut table = "";
        for effective in &self.effective {
            let (of, name) = effective.key.split_once('.').unwrap_or(("", effective.key));
            if of != table {
                text.push_str(&format!("\n[{of}]\n"));
                table = of;
            }
            match &effective.value {
                Some(value) => {
                    let value = toml::Value::String(value.clone());
                    text.push_str(&format!("{name} = {value}  # {}\n", effective.origin));
                }
                None => text.push_str(&format!("# {name} is not set\n")),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests;
