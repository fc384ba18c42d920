//! What the agent is told: flags over environment over file over defaults.
//!
//! Every key is known by one name in all of them: `docker_socket` in the file,
//! `STERNLINE_AGENT_DOCKER_SOCKET` in the environment, `--docker-socket` on the
//! command line. Unknown keys are refused and all mistakes are reported at once.

use std::{
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tunnel::dial::proxy::{ParseProxyError, Proxy};
use wire::{limits::RESUME_WINDOW, transport::Transport};

use crate::{
    state_dir::STATE_DIR_DEFAULT,
    strict_toml::{Document, Mistake, alternatives, kind},
};

/// Read where it exists and no other file is named.
pub const CONFIG_FILE_DEFAULT: &str = "/etc/sternline-agent/config.toml";
/// The customer's policy where it exists and no other file is named.
pub const POLICY_FILE_DEFAULT: &str = "/etc/sternline-agent/policy.toml";
/// The Docker Engine's socket unless told otherwise.
pub const DOCKER_SOCKET_DEFAULT: &str = "/var/run/docker.sock";
/// Begins the name of every key's environment variable.
pub const ENVIRONMENT_PREFIX: &str = "STERNLINE_AGENT_";
/// Names the configuration file in the environment; not a key of the file itself.
const CONFIG_VARIABLE: &str = "STERNLINE_AGENT_CONFIG";
/// The longest wait of a session for another connection: its streams keep what they hold.
const RESUME_WINDOW_MAX: Duration = Duration::from_secs(10 * 60);
/// A configuration larger than this is somebody's mistake: 64 KiB hold a thousand keys.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// Everything the agent is told, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Identity, status and audit log; mode 0700.
    pub state_dir: PathBuf,
    /// The customer's policy.
    pub policy: PolicyPlace,
    /// Holds the enrolment token.
    pub token_file: Option<PathBuf>,
    /// How long a session waits for another connection once it has none, if the relay
    /// agrees; zero: it ends with its connection.
    pub resume_window: Duration,
    /// The only transport to dial with; every one in turn where `None`.
    pub transport: Option<Transport>,
    /// The proxy to dial through.
    pub proxy: ProxySetting,
    /// Holds the proxy's login.
    pub proxy_login_file: Option<PathBuf>,
    /// Holds CAs that vouch, beside the system's, for a proxy that is spoken to over TLS.
    pub ca: Option<PathBuf>,
    /// Holds the CA of whoever may intercept TLS.
    pub interception_ca: Option<PathBuf>,
    /// The Docker Engine's Unix socket.
    pub docker_socket: PathBuf,
    /// What to do where the kernel cannot enforce the sandbox.
    pub sandbox: SandboxDemand,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Filter of log lines: a level, or `target=level` separated by commas.
    pub log_level: String,
    /// The file that was read, where one was.
    pub config_file: Option<PathBuf>,
}

/// Where the policy is, and whether it must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyPlace {
    /// The default place: where no file is, the default policy holds.
    Default(PathBuf),
    /// Somebody named it: where no file is, the agent does not start.
    Named(PathBuf),
}

impl PolicyPlace {
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Default(path) | Self::Named(path) => path,
        }
    }
}

/// The proxy to dial through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxySetting {
    /// That of the environment, where it names one.
    FromEnvironment,
    /// None.
    Direct,
    /// This one.
    Named(Proxy),
}

/// What to do where the kernel cannot enforce the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxDemand {
    /// Enforce what the kernel can, say what it cannot, and run.
    BestEffort,
    /// Do not run unless all of it is enforced.
    Required,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            state_dir: STATE_DIR_DEFAULT.into(),
            policy: PolicyPlace::Default(POLICY_FILE_DEFAULT.into()),
            token_file: None,
            resume_window: RESUME_WINDOW,
            transport: None,
            proxy: ProxySetting::FromEnvironment,
            proxy_login_file: None,
            ca: None,
            interception_ca: None,
            docker_socket: DOCKER_SOCKET_DEFAULT.into(),
            sandbox: SandboxDemand::BestEffort,
            log_format: LogFormat::Text,
            log_level: "info".into(),
            config_file: None,
        }
    }
}

/// All mistakes of the configuration, none left out.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: Option<PathBuf>,
    mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(
                f,
                "the configuration has mistakes (file {}):",
                file.display()
            )?,
            None => f.write_str("the configuration has mistakes:")?,
        }
        self.mistakes
            .iter()
            .try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for ConfigError {}

/// Every key: the one list that file, environment and command line share.
const KEYS: &[&str] = &[
    "ca",
    "docker_socket",
    "interception_ca",
    "log_format",
    "log_level",
    "policy",
    "proxy",
    "proxy_login_file",
    "resume_window",
    "sandbox",
    "state_dir",
    "token_file",
    "transport",
];

/// Sets one of [`KEYS`]; the error says what was expected.
fn set(settings: &mut Settings, key: &str, text: &str) -> Result<(), String> {
    match key {
        "ca" => settings.ca = Some(path(text)?),
        "docker_socket" => settings.docker_socket = path(text)?,
        "interception_ca" => settings.interception_ca = Some(path(text)?),
        "log_format" => settings.log_format = log_format(text)?,
        "log_level" => settings.log_level = log_level(text)?,
        "policy" => settings.policy = PolicyPlace::Named(path(text)?),
        "proxy" => settings.proxy = proxy(text)?,
        "proxy_login_file" => settings.proxy_login_file = Some(path(text)?),
        "resume_window" => settings.resume_window = resume_window(text)?,
        "sandbox" => settings.sandbox = sandbox(text)?,
        "state_dir" => settings.state_dir = path(text)?,
        "token_file" => settings.token_file = Some(path(text)?),
        "transport" => settings.transport = transport(text)?,
        unknown => {
            return Err(format!(
                "unknown key `{unknown}`: expected {}",
                alternatives(KEYS)
            ));
        }
    }
    Ok(())
}

/// Why a login is not taken there.
const VISIBLE_LOGIN: &str = "a command line is visible to every user of the host: put the login into a file (proxy_login_file), or the whole into the configuration file";

/// A key given on the command line: its name in [`Settings`], and its text.
pub type Flag = (&'static str, String);

/// Reads everything. `config_flag` is `--config`; `environment` all variables.
///
/// # Errors
///
/// All mistakes at once; a file that was named and cannot be read is one of them.
pub fn load(
    config_flag: Option<&Path>,
    flags: &[Flag],
    environment: &[(OsString, OsString)],
) -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    let mut mistakes = Vec::new();
    let file = read_file(config_flag, environment, &mut mistakes);
    if let Some((path, text)) = &file {
        apply_file(&mut settings, text, &mut mistakes);
        settings.config_file = Some(path.clone());
    }
    for key in KEYS {
        let name = variable(key);
        let given = environment.iter().find(|(variable, _)| *variable == *name);
        if let Some((_, value)) = given.filter(|(_, value)| !value.is_empty()) {
            let text = value.to_str().ok_or_else(|| "is not UTF-8".to_owned());
            let applied = text.and_then(|text| set(&mut settings, key, text));
            mistakes.extend(applied.err().map(|problem| Mistake {
                place: name,
                problem,
            }));
        }
    }
    for (key, text) in flags {
        let applied = set(&mut settings, key, text);
        let applied = applied.and_then(|()| match (*key, &settings.proxy) {
            ("proxy", ProxySetting::Named(proxy)) if proxy.has_login() => {
                Err(VISIBLE_LOGIN.to_owned())
            }
            _ => Ok(()),
        });
        let place = || format!("--{}", key.replace('_', "-"));
        mistakes.extend(applied.err().map(|problem| Mistake {
            place: place(),
            problem,
        }));
    }
    if mistakes.is_empty() {
        Ok(settings)
    } else {
        Err(ConfigError {
            file: file.map(|(path, _)| path),
            mistakes,
        })
    }
}

/// Variables that begin as ours do and name no key: mistyped, or left by a service
/// manager. Worth a warning, not a refusal.
pub fn unknown_variables(environment: &[(OsString, OsString)]) -> Vec<String> {
    let names = environment.iter().filter_map(|(name, _)| name.to_str());
    names
        .filter(|name| name.starts_with(ENVIRONMENT_PREFIX) && *name != CONFIG_VARIABLE)
        .filter(|name| !KEYS.iter().any(|key| variable(key) == **name))
        .map(str::to_owned)
        .collect()
}

fn variable(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.to_ascii_uppercase())
}

fn read_file(
    flag: Option<&Path>,
    environment: &[(OsString, OsString)],
    mistakes: &mut Vec<Mistake>,
) -> Option<(PathBuf, String)> {
    let variable = environment
        .iter()
        .find(|(name, value)| *name == *CONFIG_VARIABLE && !value.is_empty());
    let named = flag
        .map(PathBuf::from)
        .or_else(|| variable.map(|(_, value)| value.into()));
    let path = named.clone().unwrap_or_else(|| CONFIG_FILE_DEFAULT.into());
    match read_bounded(&path) {
        Ok(text) => Some((path, text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => None,
        Err(error) => {
            let problem = format!("cannot be read: {error}");
            mistakes.push(Mistake {
                place: path.display().to_string(),
                problem,
            });
            None
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > CONFIG_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it is larger than {CONFIG_BYTES_MAX} bytes"
        )));
    }
    fs::read_to_string(path)
}

fn apply_file(settings: &mut Settings, text: &str, mistakes: &mut Vec<Mistake>) {
    let document = Document::parse(text, mistakes);
    for (name, value) in &document.table {
        let key = name.get_ref().as_ref();
        match value.get_ref().as_str() {
            _ if !KEYS.contains(&key) => {
                let problem = format!("unknown key `{key}`: expected {}", alternatives(KEYS));
                mistakes.push(document.mistake(name, problem));
            }
            Some(text) => {
                if let Err(problem) = set(settings, key, text) {
                    mistakes.push(document.mistake(value, format!("`{key}`: {problem}")));
                }
            }
            None => {
                let problem = format!("`{key}` must be a string, not {}", kind(value.get_ref()));
                mistakes.push(document.mistake(value, problem));
            }
        }
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("must name a file, not nothing".into())
    } else {
        Ok(text.into())
    }
}

fn proxy(text: &str) -> Result<ProxySetting, String> {
    if text == "none" {
        return Ok(ProxySetting::Direct);
    }
    // What was written is not repeated: it may hold a password.
    let proxy = text.parse().map(ProxySetting::Named);
    proxy.map_err(|problem: ParseProxyError| format!("is neither `none` nor a proxy: {problem}"))
}

fn transport(text: &str) -> Result<Option<Transport>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let names: Vec<&str> = ["auto"]
        .into_iter()
        .chain(Transport::ALL.map(Transport::as_str))
        .collect();
    let known = text.parse().map(Some);
    known.map_err(|_| {
        format!(
            "`{text}` is not a transport: expected {}",
            alternatives(&names)
        )
    })
}

fn resume_window(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(window) if window <= RESUME_WINDOW_MAX => Ok(window),
        Ok(_) | Err(_) => Err(format!(
            "expected a time such as `60s`, at most `{}`, and `0s` for none; not `{text}`",
            humantime::format_duration(RESUME_WINDOW_MAX)
        )),
    }
}

fn sandbox(text: &str) -> Result<SandboxDemand, String> {
    match text {
        "best-effort" => Ok(SandboxDemand::BestEffort),
        "required" => Ok(SandboxDemand::Required),
        _ => Err(format!(
            "expected `best-effort` or `required`, not `{text}`"
        )),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("expected `text` or `json`, not `{text}`")),
    }
}

fn log_level(text: &str) -> Result<String, String> {
    let parsed = tracing_subscriber::EnvFilter::builder().parse(text);
    parsed.map(|_| text.to_owned()).map_err(|_| {
        format!("`{text}` is no filter: expected `error`, `warn`, `info`, `debug`, `trace`, or `target=level` separated by commas")
    })
}

#[cfg(test)]
mod tests;
