//! A CA and a server's certificate for peers that need one: P-256, as Sternline's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::{
    failure::{Context, Failure},
    process::{self, Cores},
};

/// Files in PEM.
#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// Makes them anew: for `localhost` and `127.0.0.1`.
pub(super) fn make(folder: &Path) -> Result<Certificates, Failure> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "bench CA");
    let key = KeyPair::generate().context("a key")?;
    let ca = CertifiedIssuer::self_signed(params, key).context("a CA")?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).context("a certificate")?;
    params
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    let key = KeyPair::generate().context("a key")?;
    let leaf = params.signed_by(&key, &ca).context("a certificate")?;
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).context(path.display())?;
        Ok(path)
    };
    Ok(Certificates {
        ca: write("ca.crt", ca.pem())?,
        certificate: write("tls.crt", leaf.pem() + &ca.pem())?,
        key: write("tls.key", key.serialize_pem())?,
    })
}

impl Certificates {
    /// The same as PKCS #12, for programs that take nothing else.
    pub(super) fn pkcs12(&self, password: &str) -> Result<PathBuf, Failure> {
        let path = self.key.with_extension("pfx");
        let mut command = Command::new("openssl");
        command
            .args(["pkcs12", "-export", "-passout", &format!("pass:{password}")])
            .arg("-inkey")
            .arg(&self.key)
            .arg("-in")
            .arg(&self.certificate)
            .arg("-out")
            .arg(&path);
        process::output(&mut command, Cores::All)
            .context("PKCS #12 is made by `openssl` (apt install openssl)")?;
        Ok(path)
    }
}
