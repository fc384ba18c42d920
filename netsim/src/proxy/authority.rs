//! A certificate authority of somebody between: it signs for whatever name is asked for.

use std::{io, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// See the module.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Of every certificate that it signs: a key a name would only cost time.
    leaf_key: KeyPair,
}

impl Authority {
    /// An authority with this name in its certificate.
    pub(super) fn new(name: &str) -> Self {
        let made = |what| move |error| panic!("{what} is made from nothing but dice: {error}");
        let key = KeyPair::generate().unwrap_or_else(made("a key"));
        let leaf_key = KeyPair::generate().unwrap_or_else(made("a key"));
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let signed = params.self_signed(&key);
        let certificate = signed.expect("what it was given is a certificate of a CA");
        Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            leaf_key,
        }
    }

    /// TLS as the server of this name, which may be an address.
    pub(super) fn server(&self, name: &str, alpn: Vec<Vec<u8>>) -> io::Result<Arc<ServerConfig>> {
        let mut params = CertificateParams::new([name.to_owned()]).map_err(io::Error::other)?;
        params.distinguished_name = named(name);
        let leaf = params.signed_by(&self.leaf_key, &self.issuer);
        let chain = vec![
            leaf.map_err(io::Error::other)?.der().clone(),
            self.certificate.clone(),
        ];
        let key = PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(tunnel::tls::provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                let builder = builder.with_no_client_auth();
                builder.with_single_cert(chain, PrivateKeyDer::Pkcs8(key))
            })
            .map_err(io::Error::other)?;
        config.alpn_protocols = alpn;
        Ok(Arc::new(config))
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}
