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
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
    time_provider::TimeProvider,
    version::TLS13,
};

use crate::world::Clock;

/// ALPN of the WebSocket transports: an ordinary web connection to anybody between.
pub const ALPN_HTTP: &[u8] = b"http/1.1";

/// ALPN of the QUIC transport.
pub const ALPN_QUIC: &[u8] = b"sternline/1";

/// The provider with the hybrid post-quantum key exchange first.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
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
    let provider = provider();
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
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(TimeOfDay::of(clock)))
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
