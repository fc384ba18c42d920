//! The relay's certificate: where it comes from, and its replacement while in use.
//!
//! A handshake takes whatever certificate is current at that instant; sessions that
//! are open never look at it again, so a reload drops nobody. What cannot be used
//! never replaces what can. TLS 1.3 only, with the hybrid post-quantum key exchange
//! preferred. Agents do not trust this certificate: they pin the identity key.

mod authority;
mod load;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tunnel::{tls::TimeOfDay, world::Clock};

use self::load::Loaded;
use crate::{
    data_dir::{DataDir, DataDirError},
    limits::CERTIFICATE_POLL,
    metrics::{Metrics, ReloadOutcome},
};

/// What QUIC's handshake must agree on.
const ALPN_QUIC: &[u8] = b"sternline/1";

/// What HTTPS' handshake must agree on.
const ALPN_HTTPS: &[u8] = b"http/1.1";

/// How long before a vendor's certificate ends a warning is logged.
const EXPIRY_WARNING_SECONDS: i64 = 14 * 24 * 60 * 60;

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSource {
    /// The vendor's files.
    Files {
        /// PEM, the relay's own certificate first.
        certificate: PathBuf,
        /// PEM.
        key: PathBuf,
    },
    /// Made here, by a CA made here, and renewed by itself.
    Own {
        /// What the certificate shall cover beside loopback.
        public_name: String,
    },
}

/// Why there is no usable certificate. Says what a person can do.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// A file does not hold what it must.
    #[error("`{}`: {reason}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what belongs there.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for `{name}`: {reason}")]
    Make {
        /// Whose.
        name: String,
        /// Why.
        reason: String,
    },
    /// The TLS library refuses what it is given: its own configuration, which only a bug can
    /// cause, or a certificate in memory.
    #[error("cannot set up TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// The relay's end of TLS on all its ports.
pub struct ServerTls {
    source: TlsSource,
    data_dir: Arc<DataDir>,
    clock: Arc<dyn Clock>,
    current: Arc<Current>,
    doors: DoorTls,
}

/// TLS at a relay's doors.
#[derive(Debug, Clone)]
pub struct DoorTls {
    /// For HTTPS and for WebSocket, on TCP.
    pub tcp: Arc<ServerConfig>,
    /// For QUIC.
    pub quic: Arc<ServerConfig>,
}

impl DoorTls {
    /// With one certificate and its chain, for as long as the doors are open. No file is
    /// read, and it is the clock that says what time it is.
    ///
    /// # Errors
    ///
    /// The key is none that TLS can use, or does not belong to the certificate.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certified_key = CertifiedKey::from_der(chain, key, &provider)?;
        let certificate = Arc::new(SingleCertAndKey::from(certified_key));
        Self::of(&provider, &certificate, clock)
    }

    fn of<C: ResolvesServerCert + 'static>(
        provider: &Arc<CryptoProvider>,
        certificate: &Arc<C>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let config = |alpn| server_config(provider, certificate.clone(), clock, alpn);
        Ok(Self {
            tcp: Arc::new(config(ALPN_HTTPS)?),
            quic: Arc::new(config(ALPN_QUIC)?),
        })
    }
}

impl ServerTls {
    /// Loads the certificate, and makes one first where the source says so.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, made or used.
    pub fn new(
        source: TlsSource,
        data_dir: Arc<DataDir>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let now = time_of_day(&*clock);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let loaded = match &source {
            TlsSource::Files { certificate, key } => load::from_files(certificate, key, &provider)?,
            TlsSource::Own { public_name } => {
                authority::ensure(&data_dir, public_name, now)?;
                load::own(&data_dir, &provider)?
            }
        };
        let current = Arc::new(Current {
            loaded: ArcSwap::from_pointee(loaded),
        });
        let doors = DoorTls::of(&provider, &current, &clock)?;
        Ok(Self {
            source,
            data_dir,
            clock,
            current,
            doors,
        })
    }

    /// For the relay's doors.
    pub const fn doors(&self) -> &DoorTls {
        &self.doors
    }

    /// When the certificate in use ends.
    pub fn expires_at(&self) -> Timestamp {
        self.current.loaded.load().expires_at
    }

    /// Takes up what has changed: the vendor's files, or the approaching end of the
    /// relay's own certificate. `true` if another certificate is in use from now on.
    ///
    /// # Errors
    ///
    /// Where the changed files cannot be used; the former certificate stays in use.
    pub fn refresh(&self, now: Timestamp) -> Result<bool, TlsError> {
        let provider = self.doors.tcp.crypto_provider();
        let loaded = match &self.source {
            TlsSource::Files { certificate, key } => load::from_files(certificate, key, provider)?,
            TlsSource::Own { public_name } => {
                authority::ensure(&self.data_dir, public_name, now)?;
                load::own(&self.data_dir, provider)?
            }
        };
        if loaded.fingerprint == self.current.loaded.load().fingerprint {
            return Ok(false);
        }
        self.current.loaded.store(Arc::new(loaded));
        Ok(true)
    }

    /// Refreshes at every [`CERTIFICATE_POLL`] and whenever it is asked to, until
    /// the token is cancelled.
    ///
    /// Cancel safe: files are read between waits.
    pub async fn watch(
        self: Arc<Self>,
        asked: Arc<Notify>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) {
        let mut told = String::new();
        let mut warned_at = None;
        loop {
            metrics.certificate_expires(self.expires_at().as_second());
            self.warn_of_expiry(time_of_day(&*self.clock), &mut warned_at);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = asked.notified() => told.clear(),
                () = tokio::time::sleep(CERTIFICATE_POLL) => {}
            }
            let tls = self.clone();
            let refresh = move || tls.refresh(time_of_day(&*tls.clock));
            let refreshed = tokio::task::spawn_blocking(refresh).await;
            match refreshed {
                Ok(Ok(changed)) => {
                    told.clear();
                    if changed {
                        metrics.certificate_reloaded(ReloadOutcome::Reloaded);
                        info!(expires_at = %self.expires_at(), "certificate reloaded");
                    }
                }
                Ok(Err(e)) => {
                    // Told once for each different cause, not at every poll.
                    let cause = e.to_string();
                    if cause != told {
                        metrics.certificate_reloaded(ReloadOutcome::Failed);
                        error!(
                            error = cause,
                            "certificate not reloaded: the former one stays"
                        );
                        told = cause;
                    }
                }
                Err(e) => error!(error = %e, "certificate not reloaded: the former one stays"),
            }
        }
    }

    /// Warns once a day while the vendor's certificate is about to end.
    fn warn_of_expiry(&self, now: Timestamp, warned_at: &mut Option<i64>) {
        let left = self.expires_at().as_second() - now.as_second();
        let day = now.as_second().div_euclid(24 * 60 * 60);
        if left < EXPIRY_WARNING_SECONDS && *warned_at != Some(day) {
            warn!(expires_at = %self.expires_at(), "certificate ends soon: put a later one in place");
            *warned_at = Some(day);
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Whether a certificate and its key can be used, without using them.
///
/// # Errors
///
/// Why they cannot.
pub fn check_files(certificate: &Path, key: &Path) -> Result<(), TlsError> {
    load::from_files(certificate, key, &aws_lc_rs::default_provider()).map(|_| ())
}

fn time_of_day(clock: &dyn Clock) -> Timestamp {
    Timestamp::from_second(clock.unix_seconds()).unwrap_or(Timestamp::MAX)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    certificate: Arc<dyn ResolvesServerCert>,
    clock: &Arc<dyn Clock>,
    alpn: &[u8],
) -> Result<ServerConfig, TlsError> {
    let time = Arc::new(TimeOfDay::of(clock));
    let mut config = ServerConfig::builder_with_details(provider.clone(), time)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![alpn.to_vec()];
    // Agents reconnect rarely and in bulk: remembering sessions for them would cost
    // memory and two records each, and save nothing while a table of 256 overflows.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The certificate that the next handshake takes.
struct Current {
    loaded: ArcSwap<Loaded>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.loaded.load().certified_key.clone())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
