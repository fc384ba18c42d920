//! How the relay is dialled: which transport, through which proxy, and who may stand
//! between. From the configuration and the environment, before the sandbox.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tunnel::{
    DialOptions, TransportChoice, Trust, World,
    dial::{
        KnownAddresses,
        proxy::{BadVariable, NoProxy, ParseProxyError, Proxy, ProxyUse},
    },
    tls::{self, BadBundle, RootCertStore},
};
use wire::{id::InstanceId, limits::RESUME_WINDOW, transport::Transport};
use zeroize::Zeroizing;

use crate::{
    config::{ProxySetting, Settings},
    identity::Identity,
    report,
};

/// The longest file with a login: user, password, the colon and the end of the line.
const LOGIN_BYTES_MAX: u64 = 1024;

/// The longest file of certificates: a bundle of every public CA is a third of it.
const BUNDLE_BYTES_MAX: u64 = 1024 * 1024;

/// How the relay is dialled.
#[derive(Debug, Clone)]
pub struct Dialling {
    /// The only transport, or every one.
    pub transport: Option<Transport>,
    /// How long a session waits for another connection, if the relay agrees.
    pub resume_window: Duration,
    /// The proxy on the way, where there is one.
    pub proxy: Option<ProxyUse>,
    /// Vouch for a proxy that is spoken to over TLS.
    pub roots: Arc<RootCertStore>,
    /// Vouch for whoever may intercept TLS; nobody may where this is `None`.
    pub interceptors: Option<Arc<RootCertStore>>,
    /// Where the relay was found before.
    pub addresses_known: Arc<KnownAddresses>,
}

/// What must be corrected before the relay can be dialled.
#[derive(Debug, Error)]
pub enum DiallingError {
    /// The environment's proxy.
    #[error("{0}; or set proxy = \"none\" to dial without one")]
    Environment(#[from] BadVariable),
    /// A file of the configuration.
    #[error("`{key}`: cannot read {path}: {source}", path = path.display())]
    Read {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds no login.
    #[error("`proxy_login_file`: {path}: {problem}", path = path.display())]
    Login {
        /// The file.
        path: PathBuf,
        /// Why; never what it holds.
        problem: ParseProxyError,
    },
    /// A login, and nobody to show it to.
    #[error("`proxy_login_file` is set and no proxy is: set `proxy`, or remove the former")]
    LoginWithoutProxy,
    /// The file holds no certificates.
    #[error("`{key}`: {path}: {problem}", path = path.display())]
    Bundle {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        problem: BadBundle,
    },
}

impl Default for Dialling {
    fn default() -> Self {
        Self {
            transport: None,
            resume_window: RESUME_WINDOW,
            proxy: None,
            roots: Arc::new(RootCertStore::empty()),
            interceptors: None,
            addresses_known: Arc::default(),
        }
    }
}

impl Dialling {
    /// As it is configured. Reads the files that are named, and the system's CAs where they
    /// are needed.
    ///
    /// # Errors
    ///
    /// See [`DiallingError`].
    pub fn of(
        settings: &Settings,
        environment: &[(OsString, OsString)],
    ) -> Result<Self, DiallingError> {
        let proxy = match &settings.proxy {
            ProxySetting::Direct => None,
            ProxySetting::FromEnvironment => ProxyUse::of_environment(environment)?,
            ProxySetting::Named(proxy) => Some(ProxyUse {
                proxy: proxy.clone(),
                except: NoProxy::of_environment(environment),
            }),
        };
        let proxy = match (&settings.proxy_login_file, proxy) {
            (Some(path), Some(on_the_way)) => Some(ProxyUse {
                proxy: with_login(on_the_way.proxy, path)?,
                ..on_the_way
            }),
            (Some(_), None) if settings.proxy == ProxySetting::FromEnvironment => {
                return Err(DiallingError::LoginWithoutProxy);
            }
            (_, proxy) => proxy,
        };
        let is_judged = proxy
            .as_ref()
            .is_some_and(|on_the_way| on_the_way.proxy.is_over_tls());
        let roots = match (is_judged, &settings.ca) {
            (false, None) => RootCertStore::empty(),
            (_, ca) => {
                let mut roots = tls::system_roots();
                if let Some(path) = ca {
                    roots.roots.extend(bundle("ca", path)?.roots);
                }
                roots
            }
        };
        let interceptors = settings.interception_ca.as_deref();
        let interceptors = interceptors.map(|path| bundle("interception_ca", path));
        Ok(Self {
            transport: settings.transport,
            resume_window: settings.resume_window,
            proxy,
            roots: Arc::new(roots),
            interceptors: interceptors.transpose()?.map(Arc::new),
            addresses_known: Arc::default(),
        })
    }

    /// A name for the network that the host is in, as this is configured: a change of the
    /// proxy is a change of the network. `None` where there is no way out.
    pub fn network(&self, world: &World) -> Option<String> {
        let network = tunnel::dial::network(world)?;
        Some(match &self.proxy {
            Some(on_the_way) => format!("{network} {}", on_the_way.proxy),
            None => network,
        })
    }

    /// For one attempt of an agent to reach its relay.
    pub fn options(&self, identity: &Identity, instance: InstanceId) -> DialOptions {
        let trust = Trust::Identity(identity.relay_identity);
        let who = (report::SOFTWARE.to_owned(), instance);
        DialOptions {
            transports: self
                .transport
                .map_or(TransportChoice::Auto, TransportChoice::Only),
            proxy: self.proxy.clone(),
            roots: Arc::clone(&self.roots),
            interceptors: self.interceptors.clone(),
            addresses_known: Arc::clone(&self.addresses_known),
            resume_window: self.resume_window,
            ..DialOptions::new(identity.addresses.clone(), trust, who)
        }
    }
}

fn with_login(proxy: Proxy, path: &Path) -> Result<Proxy, DiallingError> {
    let text = read("proxy_login_file", path, LOGIN_BYTES_MAX)?;
    let login = text.trim_end_matches(['\r', '\n']);
    let proxy = proxy.with_login(login);
    proxy.map_err(|problem| DiallingError::Login {
        path: path.to_owned(),
        problem,
    })
}

fn bundle(key: &'static str, path: &Path) -> Result<RootCertStore, DiallingError> {
    let text = read(key, path, BUNDLE_BYTES_MAX)?;
    let roots = tls::roots_of_pem(text.as_bytes());
    roots.map_err(|problem| DiallingError::Bundle {
        key,
        path: path.to_owned(),
        problem,
    })
}

fn read(
    key: &'static str,
    path: &Path,
    bytes_max: u64,
) -> Result<Zeroizing<String>, DiallingError> {
    let read = || {
        if fs::metadata(path)?.len() > bytes_max {
            let problem = format!("it is larger than {bytes_max} bytes");
            return Err(io::Error::other(problem));
        }
        fs::read_to_string(path).map(Zeroizing::new)
    };
    read().map_err(|source| DiallingError::Read {
        key,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
