//! The vendor's own certificate, and its replacement under open sessions.

use std::{fs, path::Path, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::Method;
use serde_json::json;
use tests::{Agent, AgentSetup, Relay, RelaySetup, SOON, eventually};

/// Certificate files are looked at every 30 s.
const RELOADED: Duration = Duration::from_secs(60);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// Writes a certificate for `localhost` and its key, each replaced as a whole.
fn issue(authority: &Authority, folder: &Path) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".into()]).expect("a name");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    for (name, text) in [
        ("vendor.key", key.serialize_pem()),
        ("vendor.crt", certificate.pem()),
    ] {
        fs::write(folder.join("next"), text).expect("a file in a temporary folder");
        fs::rename(folder.join("next"), folder.join(name)).expect("a file in a temporary folder");
    }
}

async fn vendors(folder: &Path, authority: &Authority) -> Relay {
    issue(authority, folder);
    let ca = folder.join("ca.crt");
    fs::write(&ca, authority.pem()).expect("a file in a temporary folder");
    let (certificate, key) = (folder.join("vendor.crt"), folder.join("vendor.key"));
    Relay::start_with(RelaySetup {
        config: Some(format!(
            "[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n"
        )),
        ca: Some(ca),
        ..RelaySetup::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_certificate_is_used_and_drops_nobody() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = authority();
    let relay = vendors(folder.path(), &authority).await;
    let added = relay
        .request(Method::POST, "environments", Some(json!({"name": "acme"})))
        .await;
    let (status, added) = added.expect("the API answers");
    assert_eq!(status, 201, "{added}");
    let token = added["token"].as_str().expect("a token");
    let _agent = Agent::start(AgentSetup::with_token(token).over("ws"));
    let before = relay.shows("acme", "online", SOON).await;

    issue(&authority, folder.path());

    eventually("the certificate is read again", RELOADED, async || {
        let reloads = relay.metric("sternline_relay_certificate_reloads_total", &["reloaded"]);
        (reloads.await >= 1.0).then_some(())
    })
    .await;
    let after = relay.environment("acme").await;
    assert_eq!(
        after["session"]["epoch"], before["session"]["epoch"],
        "the agent was dropped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_leaves_the_former_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = authority();
    let relay = vendors(folder.path(), &authority).await;

    fs::write(folder.path().join("vendor.crt"), "nonsense").expect("it is ours");

    eventually("the failure is counted", RELOADED, async || {
        let failures = relay.metric("sternline_relay_certificate_reloads_total", &["failed"]);
        (failures.await >= 1.0).then_some(())
    })
    .await;
    let answer = relay.request(Method::GET, "relay", None).await;
    assert_eq!(answer.expect("the former certificate is in use").0, 200);
}
