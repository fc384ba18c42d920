//! A certificate of the relay's own making, for a start without configuration.
//!
//! A CA of ten years signs a certificate of ninety days, renewed when a third is
//! left. Operators trust the CA's file; agents trust neither.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::{Timestamp, civil::Date, tz::Offset};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tracing::info;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::TlsError;
use crate::{
    credential::SecretHash,
    data_dir::{CA_CERTIFICATE, CA_KEY, DataDir, TLS_CERTIFICATE, TLS_KEY},
};

/// How long the CA is good for.
const CA_DAYS: i64 = 3_650;

/// How long a certificate is good for.
const LEAF_DAYS: i64 = 90;

/// What is left of a certificate when it is renewed: a third, so that a relay that
/// stands still over a month's holiday still has a valid one.
const RENEWAL_DAYS: i64 = 30;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Makes what is missing, and renews the certificate where it ends soon, does not
/// cover the name, or is of another CA.
pub(super) fn ensure(dir: &DataDir, public_name: &str, now: Timestamp) -> Result<(), TlsError> {
    let authority = Authority::load_or_make(dir, now)?;
    if let Some(pem) = dir.read(TLS_CERTIFICATE)?
        && dir.read(TLS_KEY)?.is_some()
        && authority.still_serves(&pem, public_name, now)
    {
        return Ok(());
    }
    let (certificate, key) = authority.issue(public_name, now)?;
    // The key first: a crash in between leaves a pair that does not match, which is
    // seen as such and made again at the next look.
    dir.write(TLS_KEY, key.as_bytes())?;
    dir.write(TLS_CERTIFICATE, certificate.as_bytes())?;
    info!(path = %dir.file(TLS_KEY).display(), "certificate's key made");
    info!(path = %dir.file(TLS_CERTIFICATE).display(), public_name, "certificate made");
    Ok(())
}

struct Authority {
    key: KeyPair,
    /// Rebuilt from the key alone: names and identifiers follow from it.
    params: CertificateParams,
}

impl Authority {
    fn load_or_make(dir: &DataDir, now: Timestamp) -> Result<Self, TlsError> {
        if let Some(pem) = dir.read(CA_KEY)? {
            let reason = |e: &dyn std::fmt::Display| TlsError::Content {
                path: dir.file(CA_KEY),
                reason: format!(
                    "is no private key of a CA: {e}; put it back, or remove it together with \
                     `{CA_CERTIFICATE}`, `{TLS_CERTIFICATE}` and `{TLS_KEY}` to have others made"
                ),
            };
            let text = std::str::from_utf8(&pem).map_err(|e| reason(&e))?;
            let authority = Self::new(KeyPair::from_pem(text).map_err(|e| reason(&e))?, now);
            if dir.read(CA_CERTIFICATE)?.is_none() {
                authority.write_certificate(dir)?;
            }
            return Ok(authority);
        }
        let key = KeyPair::generate().map_err(|e| make("CA", &e))?;
        let authority = Self::new(key, now);
        let pem = Zeroizing::new(authority.key.serialize_pem());
        dir.write(CA_KEY, pem.as_bytes())?;
        info!(path = %dir.file(CA_KEY).display(), "CA's key made");
        authority.write_certificate(dir)?;
        Ok(authority)
    }

    fn new(key: KeyPair, now: Timestamp) -> Self {
        let mut params = CertificateParams::default();
        let fingerprint = SecretHash::of_public(key.public_key_raw());
        let short: String = fingerprint.as_bytes()[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Sternline relay CA {short}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, CA_DAYS);
        Self { key, params }
    }

    fn write_certificate(&self, dir: &DataDir) -> Result<(), TlsError> {
        let certificate = self
            .params
            .self_signed(&self.key)
            .map_err(|e| make("CA", &e))?;
        dir.write(CA_CERTIFICATE, certificate.pem().as_bytes())?;
        info!(path = %dir.file(CA_CERTIFICATE).display(), "CA's certificate made");
        Ok(())
    }

    fn issue(
        &self,
        public_name: &str,
        now: Timestamp,
    ) -> Result<(String, Zeroizing<String>), TlsError> {
        let failed = |e: rcgen::Error| make(public_name, &e);
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, public_name);
        params.subject_alt_names = covered(public_name)
            .into_iter()
            .map(|name| match name {
                Covered::Address(address) => Ok(SanType::IpAddress(address)),
                Covered::Name(name) => name.try_into().map(SanType::DnsName),
            })
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, LEAF_DAYS);
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
    }

    /// Whether a certificate is of this CA, covers the name, and is far from its end.
    fn still_serves(&self, pem: &[u8], public_name: &str, now: Timestamp) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(pem) else {
            return false;
        };
        let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
            return false;
        };
        let left = certificate.validity().not_after.timestamp() - now.as_second();
        let issuer = certificate.issuer().iter_common_name().next();
        let own = self.params.distinguished_name.get(&DnType::CommonName);
        let is_of_this_ca = match (issuer.and_then(|name| name.as_str().ok()), own) {
            (Some(name), Some(rcgen::DnValue::Utf8String(own))) => name == own,
            _ => false,
        };
        is_of_this_ca && left > RENEWAL_DAYS * DAY_SECONDS && covers(&certificate, public_name)
    }
}

/// A name or an address that a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Covered {
    Address(IpAddr),
    Name(String),
}

/// The public name and every name of loopback.
fn covered(public_name: &str) -> Vec<Covered> {
    let public = match public_name.parse() {
        Ok(address) => Covered::Address(address),
        Err(_) => Covered::Name(public_name.to_owned()),
    };
    let mut all = vec![public];
    for name in [
        Covered::Name("localhost".to_owned()),
        Covered::Address(Ipv4Addr::LOCALHOST.into()),
        Covered::Address(Ipv6Addr::LOCALHOST.into()),
    ] {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

fn covers(certificate: &X509Certificate<'_>, public_name: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return false;
    };
    let names = &names.value.general_names;
    covered(public_name).iter().all(|wanted| {
        names.iter().any(|name| match (wanted, name) {
            (Covered::Name(wanted), GeneralName::DNSName(name)) => wanted == name,
            (Covered::Address(IpAddr::V4(wanted)), GeneralName::IPAddress(bytes)) => {
                wanted.octets() == **bytes
            }
            (Covered::Address(IpAddr::V6(wanted)), GeneralName::IPAddress(bytes)) => {
                wanted.octets() == **bytes
            }
            _ => false,
        })
    })
}

/// From the day before, for clocks that are behind, to so many days after.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let (from, until) = (day(now, -1), day(now, days));
    params.not_before = date_time_ymd(from.year().into(), month(from), from.day().unsigned_abs());
    params.not_after = date_time_ymd(
        until.year().into(),
        month(until),
        until.day().unsigned_abs(),
    );
}

/// The date so many days from now; a clock at the end of time stays there.
fn day(now: Timestamp, days: i64) -> Date {
    let shifted = now.as_second().saturating_add(days * DAY_SECONDS);
    Offset::UTC
        .to_datetime(Timestamp::from_second(shifted).unwrap_or(now))
        .date()
}

fn month(date: Date) -> u8 {
    date.month().unsigned_abs()
}

fn make(name: &str, error: &rcgen::Error) -> TlsError {
    TlsError::Make {
        name: name.to_owned(),
        reason: error.to_string(),
    }
}
