//! Certificates on a disk, without a connection.

use std::fs;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::data_dir::{CA_CERTIFICATE, CA_KEY, TLS_CERTIFICATE, TLS_KEY};

const DAY: i64 = 24 * 60 * 60;

fn at_day(day: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + day * DAY).unwrap()
}

/// A clock that stands.
#[derive(Debug)]
struct Standing(Timestamp);

impl Clock for Standing {
    fn now(&self) -> std::time::Instant {
        tokio::time::Instant::now().into_std()
    }

    fn unix_milliseconds(&self) -> i64 {
        self.0.as_millisecond()
    }
}

fn clock(day: i64) -> Arc<dyn Clock> {
    Arc::new(Standing(at_day(day)))
}

struct Fixture {
    _root: TempDir,
    dir: Arc<DataDir>,
}

impl Fixture {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let dir = Arc::new(DataDir::open(root.path()).unwrap());
        Self { _root: root, dir }
    }

    fn own(&self, name: &str, day: i64) -> Result<ServerTls, TlsError> {
        let source = TlsSource::Own {
            public_name: name.to_owned(),
        };
        ServerTls::new(source, self.dir.clone(), clock(day))
    }

    fn text(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.file(name)).unwrap()
    }

    /// Puts a vendor's certificate and key in place; returns their source.
    fn vendor(&self, name: &str) -> TlsSource {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(self.dir.file("vendor.crt"), certificate.pem()).unwrap();
        fs::write(self.dir.file("vendor.key"), key.serialize_pem()).unwrap();
        TlsSource::Files {
            certificate: self.dir.file("vendor.crt"),
            key: self.dir.file("vendor.key"),
        }
    }
}

fn served(tls: &ServerTls) -> Vec<u8> {
    tls.current.loaded.load().fingerprint[0].to_vec()
}

#[test]
fn a_first_start_makes_a_ca_and_a_certificate_and_the_next_one_keeps_them() {
    let fixture = Fixture::new();
    let first = fixture.own("relay.example", 0).unwrap();

    let second = fixture.own("relay.example", 1).unwrap();

    assert_eq!(served(&first), served(&second));
    for name in [CA_CERTIFICATE, CA_KEY, TLS_CERTIFICATE, TLS_KEY] {
        assert!(!fixture.text(name).is_empty(), "{name} is missing");
    }
}

#[test]
fn another_public_name_gets_another_certificate_of_the_same_ca() {
    let fixture = Fixture::new();
    let first = fixture.own("relay.example", 0).unwrap();
    let ca = fixture.text(CA_CERTIFICATE);

    let second = fixture.own("192.0.2.7", 0).unwrap();

    assert_ne!(served(&first), served(&second));
    assert_eq!(fixture.text(CA_CERTIFICATE), ca);
}

#[test]
fn an_own_certificate_renews_itself_while_in_use_before_it_ends() {
    let fixture = Fixture::new();
    let tls = fixture.own("relay.example", 0).unwrap();
    let first = served(&tls);

    let early = tls.refresh(at_day(50)).unwrap();
    let late = tls.refresh(at_day(61)).unwrap();

    assert!(!early && late);
    assert_ne!(served(&tls), first);
    assert!(tls.expires_at() > at_day(120));
}

#[test]
fn a_key_that_was_lost_is_made_again_with_its_certificate() {
    let fixture = Fixture::new();
    let first = served(&fixture.own("relay.example", 0).unwrap());
    fixture.dir.remove(TLS_KEY).unwrap();

    let second = fixture.own("relay.example", 0).unwrap();

    assert_ne!(served(&second), first);
}

#[test]
fn a_vendors_certificate_is_taken_up_when_its_files_change() {
    let fixture = Fixture::new();
    let source = fixture.vendor("one.example");
    let tls = ServerTls::new(source, fixture.dir.clone(), clock(0)).unwrap();
    let first = served(&tls);

    let unchanged = tls.refresh(at_day(0)).unwrap();
    fixture.vendor("two.example");
    let changed = tls.refresh(at_day(0)).unwrap();

    assert!(!unchanged && changed);
    assert_ne!(served(&tls), first);
}

#[test]
fn files_that_cannot_be_used_leave_the_former_certificate_in_use() {
    let fixture = Fixture::new();
    let tls = ServerTls::new(fixture.vendor("one.example"), fixture.dir.clone(), clock(0)).unwrap();
    let first = served(&tls);

    fs::write(fixture.dir.file("vendor.crt"), "garbage").unwrap();
    let broken = tls.refresh(at_day(0));

    assert!(
        matches!(broken, Err(TlsError::Content { .. })),
        "{broken:?}"
    );
    assert_eq!(served(&tls), first);
}

#[test]
fn a_key_of_another_certificate_is_refused_by_name() {
    let fixture = Fixture::new();
    let source = fixture.vendor("one.example");
    let other = KeyPair::generate().unwrap().serialize_pem();
    fs::write(fixture.dir.file("vendor.key"), other).unwrap();

    let refused = ServerTls::new(source, fixture.dir, clock(0));

    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("does not belong to the certificate"),
        "{text}"
    );
}

#[test]
fn a_name_that_no_certificate_can_have_is_refused_with_the_name() {
    let fixture = Fixture::new();

    let refused = fixture.own("müller.example", 0);

    assert!(matches!(refused, Err(TlsError::Make { .. })), "{refused:?}");
}
