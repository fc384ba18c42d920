//! From PEM files to a certificate that rustls can use.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;
use crate::data_dir::{self, DataDir};

/// A certificate that can be used.
pub(super) struct Loaded {
    pub(super) certified_key: Arc<CertifiedKey>,
    /// When it ends.
    pub(super) expires_at: Timestamp,
    /// Tells one certificate from another: the chain itself.
    pub(super) fingerprint: Vec<CertificateDer<'static>>,
}

/// Loads the relay's own certificate.
pub(super) fn own(dir: &DataDir, provider: &CryptoProvider) -> Result<Loaded, TlsError> {
    from_files(
        &dir.file(data_dir::TLS_CERTIFICATE),
        &dir.file(data_dir::TLS_KEY),
        provider,
    )
}

/// Loads a certificate with its chain, and the key that belongs to it.
pub(super) fn from_files(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Loaded, TlsError> {
    let chain = chain(certificate)?;
    let private_key = private_key(key)?;
    let expires_at = expires_at(certificate, &chain[0])?;
    let certified_key =
        CertifiedKey::from_der(chain.clone(), private_key, provider).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => content(
                key,
                format!(
                    "the key does not belong to the certificate in `{}`",
                    certificate.display()
                ),
            ),
            other => content(key, format!("the key cannot be used: {other}")),
        })?;
    Ok(Loaded {
        certified_key: Arc::new(certified_key),
        expires_at,
        fingerprint: chain,
    })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = data_dir::read_file(path)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| content(path, format!("is no PEM file: {e}")))?;
    if chain.is_empty() {
        let reason = "holds no certificate: it must have one in PEM (BEGIN CERTIFICATE), \
                      the relay's own first";
        return Err(content(path, reason.to_owned()));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = data_dir::read_file(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|e| {
        let reason =
            format!("holds no private key in PEM that is not encrypted (BEGIN PRIVATE KEY): {e}");
        content(path, reason)
    })
}

fn expires_at(path: &Path, certificate: &CertificateDer<'_>) -> Result<Timestamp, TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|e| content(path, format!("the certificate is malformed: {e}")))?;
    Timestamp::from_second(parsed.validity().not_after.timestamp())
        .map_err(|e| content(path, format!("the certificate's end is no time: {e}")))
}

fn content(path: &Path, reason: String) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        reason,
    }
}
