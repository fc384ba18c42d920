//! TLS 1.3 on the dialler's side: whom to trust, and what was seen.
//!
//! An agent does not go by certificates: the relay proves its identity key over the
//! TLS exporter in the session's handshake, so that certificates come and go. The
//! certificate is kept all the same, because its issuer names an interceptor.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, NamedGroup, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
    version::TLS13,
};
use thiserror::Error;

pub use rustls::RootCertStore;

use crate::world::Clock;

/// ALPN of the WebSocket transports: an ordinary web connection to anybody between.
pub const ALPN_HTTP: &[u8] = b"http/1.1";

/// ALPN of the QUIC transport.
pub const ALPN_QUIC: &[u8] = b"sternline/1";

/// The provider with the hybrid post-quantum key exchange first.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Which keys a ClientHello offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyShares {
    /// The hybrid post-quantum one first. The ClientHello takes two packets.
    Hybrid,
    /// Elliptic curves alone. The ClientHello fits one packet.
    Classical,
}

impl KeyShares {
    /// By whether only elliptic curves are wanted.
    pub const fn of(is_classical: bool) -> Self {
        match is_classical {
            true => Self::Classical,
            false => Self::Hybrid,
        }
    }

    /// The provider that offers them.
    pub fn provider(self) -> Arc<CryptoProvider> {
        let mut provider = aws_lc_rs::default_provider();
        if self == Self::Classical {
            let curves = [
                NamedGroup::X25519,
                NamedGroup::secp256r1,
                NamedGroup::secp384r1,
            ];
            provider
                .kx_groups
                .retain(|group| curves.contains(&group.name()));
        }
        Arc::new(provider)
    }
}

/// The time of day as TLS asks for it, by the world's clock.
#[derive(Debug)]
pub struct TimeOfDay(Arc<dyn Clock>);

impl TimeOfDay {
    /// By this clock.
    pub fn of(clock: &Arc<dyn Clock>) -> Self {
        Self(Arc::clone(clock))
    }

    fn since_1970(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.unix_seconds()).unwrap_or_default())
    }
}

impl TimeProvider for TimeOfDay {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.since_1970()))
    }
}

impl quinn::TimeSource for TimeOfDay {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + self.since_1970()
    }
}

/// Remembers the certificate that the other end of one connection showed.
#[derive(Debug, Clone, Default)]
pub struct SeenCertificate(Arc<Mutex<Option<Vec<u8>>>>);

impl SeenCertificate {
    fn set(&self, certificate: &CertificateDer<'_>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate.to_vec());
    }

    /// Who issued it, as a person would read it; `None` where none was seen.
    pub fn issuer(&self) -> Option<String> {
        let certificate = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).ok()?;
        Some(certificate.issuer().to_string())
    }
}

/// A client that goes by the identity key in the handshake above TLS.
///
/// # Panics
///
/// Never: TLS 1.3 is what the provider is for.
pub fn identity_client(
    alpn: &[u8],
    seen: &SeenCertificate,
    clock: &Arc<dyn Clock>,
) -> ClientConfig {
    identity_client_with((alpn, KeyShares::Hybrid), seen, clock)
}

/// The same with these keys offered.
///
/// # Panics
///
/// Never: TLS 1.3 is what the provider is for.
pub fn identity_client_with(
    (alpn, shares): (&[u8], KeyShares),
    seen: &SeenCertificate,
    clock: &Arc<dyn Clock>,
) -> ClientConfig {
    let provider = shares.provider();
    let verifier = AnyCertificate {
        algorithms: provider.signature_verification_algorithms,
        seen: seen.clone(),
    };
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(TimeOfDay::of(clock)))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// A client that goes by certificates.
///
/// # Panics
///
/// Never: TLS 1.3 is what the provider is for.
pub fn certificate_client(
    alpn: &[u8],
    roots: &Arc<RootCertStore>,
    clock: &Arc<dyn Clock>,
) -> ClientConfig {
    certificate_client_with((alpn, KeyShares::Hybrid), roots, clock)
}

/// The same with these keys offered.
///
/// # Panics
///
/// Never: TLS 1.3 is what the provider is for.
pub fn certificate_client_with(
    (alpn, shares): (&[u8], KeyShares),
    roots: &Arc<RootCertStore>,
    clock: &Arc<dyn Clock>,
) -> ClientConfig {
    let (provider, time) = (shares.provider(), Arc::new(TimeOfDay::of(clock)));
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// The roots that the operating system trusts. Unreadable ones are left out.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::debug!(%error, "system certificate left out");
    }
    roots.add_parsable_certificates(loaded.certs);
    roots
}

/// A bundle of certificates that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadBundle {
    /// Not one certificate in PEM.
    #[error("it holds no certificate in PEM")]
    Empty,
    /// What stands between the markers is none.
    #[error("it holds something that is no certificate: {0}")]
    Malformed(String),
}

/// The certificates of a PEM bundle, as those who vouch.
///
/// # Errors
///
/// See [`BadBundle`]. One that cannot be read spoils the bundle: somebody relies on it.
pub fn roots_of_pem(pem: &[u8]) -> Result<RootCertStore, BadBundle> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let malformed = |error: &dyn std::fmt::Display| BadBundle::Malformed(error.to_string());
        let certificate = certificate.map_err(|error| malformed(&error))?;
        let added = roots.add(certificate);
        added.map_err(|error| malformed(&error))?;
    }
    match roots.is_empty() {
        true => Err(BadBundle::Empty),
        false => Ok(roots),
    }
}

/// Takes any certificate, and checks that the other end holds its key.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
    seen: SeenCertificate,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.seen.set(end_entity);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
