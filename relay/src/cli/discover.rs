//! Where the relay is, and what proves the operator to it and it to the operator.
//!
//! Told on the command line or in the environment, or found in the data directory
//! of a relay on the same host. Reads files; connects to nothing.

use std::{
    ffi::OsString,
    fmt, fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use reqwest::Url;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;
use tunnel::dial::proxy::{NoProxy, Proxy, ProxyUse};
use zeroize::Zeroizing;

use super::{
    Global,
    failure::{Exit, Failure},
};
use crate::data_dir::{ADMIN_TOKEN, CA_CERTIFICATE, DATA_DIR_DEFAULT, RUN};

/// Largest file that is read here: a bundle of every public CA is a third of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The port of a relay's URL that names none.
const HTTPS_PORT_DEFAULT: u16 = 443;

/// All that it takes to reach the relay as an operator.
#[derive(Clone)]
pub struct Access {
    /// The name or address that the relay's certificate must be for; an IPv6
    /// address without brackets.
    pub host: String,
    /// The port of its HTTPS.
    pub port: u16,
    /// Where `host` is, when no name service shall be asked.
    pub connect: Option<IpAddr>,
    /// Who may vouch for the relay's certificate.
    pub roots: Arc<RootCertStore>,
    /// The proxy on the way, where there is one.
    pub proxy: Option<ProxyUse>,
    /// Who may vouch for a proxy's certificate.
    pub proxy_roots: Arc<RootCertStore>,
    /// The operator's credential.
    pub api_token: Zeroizing<String>,
    /// Where the credential came from, for error messages.
    pub api_token_source: String,
    /// Whose process it is, when a data directory of this host told the address.
    pub pid: Option<u32>,
}

impl Access {
    /// The relay's URL without a path.
    pub fn origin(&self) -> String {
        match self.host.contains(':') {
            true => format!("https://[{}]:{}", self.host, self.port),
            false => format!("https://{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("origin", &self.origin())
            .field("connect", &self.connect)
            .field("api_token", &"****")
            .field("api_token_source", &self.api_token_source)
            .finish_non_exhaustive()
    }
}

/// What a running relay writes for the operator's commands on its host.
#[derive(Debug, Deserialize)]
struct RunFile {
    pid: u32,
    https_addr: SocketAddr,
    metrics_addr: SocketAddr,
    public_name: String,
}

/// Finds the relay: the URL of `global` first, else the data directory. `api_token`
/// is the value of `STERNLINE_API_TOKEN`; a proxy may be among the variables.
///
/// # Errors
///
/// Says which of address, token and certificate is missing or unreadable.
pub fn discover(
    global: &Global,
    api_token: Option<String>,
    variables: &[(OsString, OsString)],
) -> Result<Access, Failure> {
    let api_token = api_token.filter(|token| !token.trim().is_empty());
    match global
        .relay
        .as_deref()
        .map(str::trim)
        .filter(|url| !url.is_empty())
    {
        Some(url) => {
            let access = from_url(url, global, api_token)?;
            through_proxy(access, global, variables)
        }
        None => from_data_dir(global, api_token),
    }
}

/// Where the relay on this host answers whether it is ready.
///
/// # Errors
///
/// None runs with the data directory, or its file is unreadable.
pub fn local_health(global: &Global) -> Result<SocketAddr, Failure> {
    let told = global.data_dir.as_deref();
    let run = read_run_file(
        told.unwrap_or_else(|| Path::new(DATA_DIR_DEFAULT)),
        told.is_some(),
    )?;
    let address = local_address(run.metrics_addr.ip());
    Ok(SocketAddr::new(address, run.metrics_addr.port()))
}

/// The way to a relay elsewhere, with the proxy that is told or in the environment.
fn through_proxy(
    access: Access,
    global: &Global,
    variables: &[(OsString, OsString)],
) -> Result<Access, Failure> {
    let bad = |text: String| {
        let advice = "give http://HOST:PORT, https://HOST:PORT, socks5://HOST:PORT or none; a \
                      login belongs into HTTPS_PROXY, because a command line is visible to all";
        Failure::new(Exit::Usage, text).advise(advice)
    };
    let proxy = match global.proxy.as_deref() {
        Some("none") => None,
        Some(told) => {
            let proxy: Result<Proxy, _> = told.parse();
            let proxy = proxy.map_err(|problem| bad(format!("--proxy names none: {problem}")))?;
            if proxy.has_login() {
                return Err(bad("--proxy takes no login".to_owned()));
            }
            let except = NoProxy::of_environment(variables);
            Some(ProxyUse { proxy, except })
        }
        None => {
            let found = ProxyUse::of_environment(variables);
            found.map_err(|error| bad(error.to_string()))?
        }
    };
    let is_judged = proxy
        .as_ref()
        .is_some_and(|on_the_way| on_the_way.proxy.is_over_tls());
    let proxy_roots = match is_judged {
        true => Arc::new(with_system_roots(RootCertStore::clone(&access.roots))),
        false => Arc::clone(&access.roots),
    };
    Ok(Access {
        proxy,
        proxy_roots,
        ..access
    })
}

fn from_url(url: &str, global: &Global, env_token: Option<String>) -> Result<Access, Failure> {
    let (host, port) = parse_url(url)?;
    let data_dir = global.data_dir.as_deref();
    let (api_token, api_token_source) = match told_token(global, env_token)? {
        Some(found) => found,
        None => match data_dir {
            Some(dir) => stored_token(dir)?,
            None => {
                return Err(
                    Failure::new(Exit::Config, "no API token was given for the relay")
                        .advise("set STERNLINE_API_TOKEN, or give --api-token-file FILE"),
                );
            }
        },
    };
    let stored_ca = data_dir
        .map(|dir| dir.join(CA_CERTIFICATE))
        .filter(|path| path.exists());
    let roots = match global.ca.as_ref().or(stored_ca.as_ref()) {
        Some(path) => roots_from_file(path)?,
        None => system_roots(url)?,
    };
    Ok(Access {
        host,
        port,
        connect: None,
        proxy: None,
        proxy_roots: Arc::new(RootCertStore::empty()),
        roots: Arc::new(roots),
        api_token,
        api_token_source,
        pid: None,
    })
}

fn from_data_dir(global: &Global, env_token: Option<String>) -> Result<Access, Failure> {
    let dir = global
        .data_dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
    let run = read_run_file(&dir, global.data_dir.is_some())?;
    let (api_token, api_token_source) = match told_token(global, env_token)? {
        Some(found) => found,
        None => stored_token(&dir)?,
    };
    let stored_ca = dir.join(CA_CERTIFICATE);
    let roots = match &global.ca {
        Some(path) => roots_from_file(path)?,
        None if stored_ca.exists() => with_system_roots(roots_from_file(&stored_ca)?),
        None => system_roots(&run.public_name)?,
    };
    let local = local_address(run.https_addr.ip());
    // A certificate of the relay's own making covers the loopback addresses, and
    // an address has no name service that could be told where it is.
    let host = match run.public_name.parse::<IpAddr>() {
        Ok(_) => local.to_string(),
        Err(_) => run.public_name,
    };
    Ok(Access {
        host,
        port: run.https_addr.port(),
        connect: Some(local),
        // A proxy has no business between two processes of one host.
        proxy: None,
        proxy_roots: Arc::new(RootCertStore::empty()),
        roots: Arc::new(roots),
        api_token,
        api_token_source,
        pid: Some(run.pid),
    })
}

/// The address at which this host reaches a listener bound to `bound`.
const fn local_address(bound: IpAddr) -> IpAddr {
    match bound {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address @ (IpAddr::V4(_) | IpAddr::V6(_)) => address,
    }
}

fn parse_url(text: &str) -> Result<(String, u16), Failure> {
    let bad = |cause: &str| {
        Failure::new(Exit::Usage, format!("`{text}` is no relay's URL: {cause}"))
            .advise("give it as https://HOST or https://HOST:PORT")
    };
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let url = Url::parse(&full).map_err(|error| bad(&error.to_string()))?;
    if url.scheme() != "https" {
        return Err(bad("the API token only travels over https"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it has more than a host and a port"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("a user name or password has no place in it"));
    }
    let host = url.host_str().ok_or_else(|| bad("it has no host"))?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    Ok((host, url.port().unwrap_or(HTTPS_PORT_DEFAULT)))
}

/// The token that was told: the file of the command line before the environment.
fn told_token(
    global: &Global,
    env_token: Option<String>,
) -> Result<Option<(Zeroizing<String>, String)>, Failure> {
    match (&global.api_token_file, env_token) {
        (Some(path), _) => {
            let text = read_text(path, "the API token")?;
            Ok(Some((
                checked_token(text, &path.display().to_string())?,
                shown(path),
            )))
        }
        (None, Some(token)) => {
            let source = "STERNLINE_API_TOKEN";
            Ok(Some((
                checked_token(Zeroizing::new(token), source)?,
                source.to_owned(),
            )))
        }
        (None, None) => Ok(None),
    }
}

fn stored_token(dir: &Path) -> Result<(Zeroizing<String>, String), Failure> {
    let path = dir.join(ADMIN_TOKEN);
    let text = read_text(&path, "the relay's first admin token")
        .map_err(|failure| failure.advise("give another one in STERNLINE_API_TOKEN"))?;
    Ok((
        checked_token(text, &path.display().to_string())?,
        shown(&path),
    ))
}

/// Trims the token; what could not stand in an HTTP header is refused without being shown.
fn checked_token(text: Zeroizing<String>, source: &str) -> Result<Zeroizing<String>, Failure> {
    let token = Zeroizing::new(text.trim().to_owned());
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            Failure::new(Exit::Config, format!("{source} holds no API token"))
                .advise("an API token is one word that begins with `sta_`"),
        );
    }
    Ok(token)
}

fn read_run_file(dir: &Path, is_told: bool) -> Result<RunFile, Failure> {
    let path = dir.join(RUN);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let message = match is_told {
                true => format!("no relay runs with the data directory {}", shown(dir)),
                false => format!("no relay was named, and none runs here with {}", shown(dir)),
            };
            return Err(Failure::new(Exit::Config, message).advise(
                "start it with `sternline-relay serve`, or name one with --relay URL \
                 (or STERNLINE_RELAY) and STERNLINE_API_TOKEN",
            ));
        }
        Err(error) => return Err(unreadable(&path, "the address of the local relay", &error)),
    };
    serde_json::from_slice(&text).map_err(|error| {
        Failure::new(
            Exit::Config,
            format!("{} is damaged: {error}", shown(&path)),
        )
        .advise("restart the relay: it writes the file when it starts")
    })
}

fn roots_from_file(path: &Path) -> Result<RootCertStore, Failure> {
    let text = read_text(path, "the CA certificate")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|error| {
            Failure::new(
                Exit::Config,
                format!("{} is no PEM file: {error}", shown(path)),
            )
        })?;
        roots.add(certificate).map_err(|error| {
            let message = format!("{} holds no usable CA certificate: {error}", shown(path));
            Failure::new(Exit::Config, message)
        })?;
    }
    if roots.is_empty() {
        return Err(Failure::new(
            Exit::Config,
            format!("{} holds no certificate", shown(path)),
        )
        .advise("it must hold the CA's certificate in PEM (BEGIN CERTIFICATE)"));
    }
    Ok(roots)
}

/// The machine's own CAs.
fn system_roots(relay: &str) -> Result<RootCertStore, Failure> {
    let roots = tunnel::tls::system_roots();
    if roots.is_empty() {
        let message = format!("this machine has no CA certificate to check {relay} with");
        return Err(Failure::new(Exit::Config, message).advise(
            "install the `ca-certificates` package, or give the relay's CA with --ca FILE",
        ));
    }
    Ok(roots)
}

/// A relay on this host may use a certificate of a public CA as well as its own.
fn with_system_roots(mut roots: RootCertStore) -> RootCertStore {
    roots.extend(tunnel::tls::system_roots().roots);
    roots
}

fn read_text(path: &Path, what: &str) -> Result<Zeroizing<String>, Failure> {
    let size = fs::metadata(path)
        .map_err(|error| unreadable(path, what, &error))?
        .len();
    if size > FILE_BYTES_MAX {
        let message = format!("{} has {size} bytes: it is not {what}", shown(path));
        return Err(Failure::new(Exit::Config, message));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, what, &error))?;
    Ok(Zeroizing::new(text))
}

fn unreadable(path: &Path, what: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::new(
        Exit::Config,
        format!("cannot read {} ({what}): {error}", shown(path)),
    );
    match error.kind() {
        ErrorKind::PermissionDenied => failure.advise(
            "run the command as the relay's user (or with sudo), or give --relay URL and \
             STERNLINE_API_TOKEN",
        ),
        _ => failure,
    }
}

fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}

#[cfg(test)]
mod tests;
