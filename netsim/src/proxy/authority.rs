//! A certificate authority of somebody between: it signs for whatever name is asked for.

use std::{io, sync::Arc};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tunnel::{tls::TimeOfDay, world::Clock};

/// See the module.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    /// Of every certificate that it signs: a key a name would only cost time.
    leaf_key: KeyPair,
    clock: Arc<dyn Clock>,
}

impl Authority {
    /// An authority with this name in its certificate.
    pub(super) fn new(name: &str, clock: &Arc<dyn Clock>) -> Self {
        let leaf_key = key();
        let (key, params, certificate) = own(name);
        Self {
            certificate,
            issuer: Issuer::new(params, key),
            leaf_key,
            clock: Arc::clone(clock),
        }
    }

    /// Its own certificate, in DER.
    pub(super) fn certificate(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    /// The same in PEM.
    #[cfg(target_os = "linux")]
    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// What time it is where it signs.
    pub(super) const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// TLS as the server of this name, which may be an address.
    pub(super) fn server(&self, name: &str, alpn: Vec<Vec<u8>>) -> io::Result<Arc<ServerConfig>> {
        let mut params = CertificateParams::new([name.to_owned()]).map_err(io::Error::other)?;
        params.distinguished_name = named(name);
        let leaf = params.signed_by(&self.leaf_key, &self.issuer);
        let chain = vec![
            leaf.map_err(io::Error::other)?.der().clone(),
            self.certificate.der().clone(),
        ];
        let key = PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der());
        let (provider, time) = (tunnel::tls::provider(), TimeOfDay::of(&self.clock));
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(time))
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

/// Key and certificate of an authority, one after the other in PEM: for a program that
/// intercepts in the place of the model.
#[cfg(target_os = "linux")]
pub(crate) fn pem(name: &str) -> String {
    let (key, _, certificate) = own(name);
    format!("{}{}", key.serialize_pem(), certificate.pem())
}

fn key() -> KeyPair {
    KeyPair::generate()
        .unwrap_or_else(|error| panic!("a key is made from nothing but dice: {error}"))
}

fn own(name: &str) -> (KeyPair, CertificateParams, Certificate) {
    let key = key();
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let signed = params.self_signed(&key);
    let certificate = signed.expect("what it was given is a certificate of a CA");
    (key, params, certificate)
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}
