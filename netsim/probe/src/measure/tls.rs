//! TLS as production speaks it, with everything that the other end shows kept, and judged by
//! nobody here.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::TLS13,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tunnel::{tls::KeyShares, world::BoxIo};

use super::tcp::{bounded, of_io};
use crate::observe::{Certificate, Chain, Fault, FaultKind};

/// Certificates of a chain that are kept.
const CHAIN_MAX: usize = 6;

/// Bytes of what is not TLS that are kept.
const FIRST_BYTES: usize = 160;

/// What the other end has shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown(Arc<Mutex<Option<Chain>>>);

impl Shown {
    pub(super) fn chain(&self) -> Option<Chain> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Who would vouch for certificates, as a browser judges them.
type Judge = Option<Arc<WebPkiServerVerifier>>;

/// Who vouches for certificates. Made once a run: it takes a while.
#[derive(Debug, Clone, Default)]
pub(super) struct Judges {
    /// For anybody's.
    all: Judge,
    /// For those of whoever may intercept.
    interceptors: Judge,
}

impl Judges {
    /// With these roots.
    pub(super) fn of(all: &Arc<RootCertStore>, interceptors: Option<&Arc<RootCertStore>>) -> Self {
        Self {
            all: judge(all),
            interceptors: interceptors.and_then(judge),
        }
    }
}

/// A judge with these roots; without any root nobody can be vouched for.
fn judge(roots: &Arc<RootCertStore>) -> Judge {
    let provider = KeyShares::Hybrid.provider();
    let judge = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider);
    judge.build().ok()
}

/// A client that takes any certificate, and keeps it.
pub(super) fn client(
    (alpn, shares): (&[u8], KeyShares),
    judges: &Judges,
    shown: &Shown,
) -> Result<ClientConfig, Fault> {
    let provider = shares.provider();
    let keeper = Keeper {
        algorithms: provider.signature_verification_algorithms,
        judges: judges.clone(),
        shown: shown.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Fault::new(FaultKind::Other, error.to_string()))?;
    let mut config = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(keeper))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Keeper {
    algorithms: WebPkiSupportedAlgorithms,
    judges: Judges,
    shown: Shown,
}

impl ServerCertVerifier for Keeper {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ask = |judge: &Arc<WebPkiServerVerifier>| {
            judge.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
        };
        let not_vouched = match &self.judges.all {
            Some(judge) => ask(judge).err().map(|error| bounded(&error.to_string())),
            None => Some("this host trusts no CA".to_owned()),
        };
        let interceptors = self.judges.interceptors.as_ref();
        let all = std::iter::once(end_entity)
            .chain(intermediates)
            .take(CHAIN_MAX);
        let chain = Chain {
            certificates: all.filter_map(read).collect(),
            not_vouched,
            names_host: names(end_entity, server_name),
            may_intercept: interceptors.is_some_and(|judge| ask(judge).is_ok()),
        };
        *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(chain);
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

fn read(certificate: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let key = tunnel::sha256(parsed.public_key().raw);
    Some(Certificate {
        subject: bounded(&parsed.subject().to_string()),
        issuer: bounded(&parsed.issuer().to_string()),
        is_self_signed: parsed.subject() == parsed.issuer(),
        spki_sha256: data_encoding::HEXLOWER.encode(&key),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}

/// Whether a certificate names a host, whoever vouches for it.
fn names(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> bool {
    let parsed = rustls::server::ParsedCertificate::try_from(certificate);
    parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, host).is_ok())
}

/// A host's name as TLS takes it.
pub(super) fn name(host: &str) -> Result<ServerName<'static>, Fault> {
    let name = match host.parse::<IpAddr>() {
        Ok(address) => Ok(ServerName::from(address)),
        Err(_) => ServerName::try_from(host.to_owned()),
    };
    name.map_err(|error| Fault::new(FaultKind::Other, format!("{host} is no name: {error}")))
}

/// The first bytes that came, beside the connection.
#[derive(Debug, Clone, Default)]
pub(super) struct First(Arc<Mutex<Vec<u8>>>);

impl First {
    fn bytes(&self) -> Vec<u8> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Keeps the first bytes that come.
pub(super) struct Listening {
    io: BoxIo,
    first: First,
}

impl Listening {
    pub(super) fn over(io: BoxIo) -> (BoxIo, First) {
        let first = First::default();
        let listening = Self {
            io,
            first: first.clone(),
        };
        (Box::new(listening), first)
    }
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let mut first = self.first.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = FIRST_BYTES.saturating_sub(first.len());
        first.extend(buf.filled()[before..].iter().take(room));
        read
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Why TLS failed, with what came in its place.
pub(super) fn failed(error: &io::Error, first: &First) -> Fault {
    let bytes = first.bytes();
    // From change_cipher_spec to application_data (RFC 8446 §5.1).
    let is_tls = bytes.first().is_none_or(|byte| (20..=23).contains(byte));
    if bytes.first() == Some(&wire::prelude::PRELUDE_MAGIC) {
        return Fault::new(FaultKind::Busy, "the relay says that it has no time now");
    }
    if !is_tls {
        let shown = String::from_utf8_lossy(&bytes);
        let says = format!("it answers something that is not TLS: {}", bounded(&shown));
        return Fault::new(FaultKind::NotTls, says);
    }
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::AlertReceived(alert)) => {
            Fault::new(FaultKind::Alert, format!("TLS alert {alert:?}"))
        }
        Some(other) => Fault::new(FaultKind::Protocol, bounded(&other.to_string())),
        None => of_io(error),
    }
}
