//! Discovery reads what it is told and what a relay has left, and says what is missing.

use std::fs;

use tempfile::TempDir;

use super::*;

fn global() -> Global {
    Global {
        relay: None,
        ca: None,
        proxy: None,
        data_dir: None,
        api_token_file: None,
        json: false,
    }
}

fn ca_pem() -> String {
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters
        .self_signed(&rcgen::KeyPair::generate().unwrap())
        .unwrap()
        .pem()
}

/// A data directory as a running relay leaves it.
fn data_dir(https_addr: &str, public_name: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let run = format!(
        r#"{{"pid":7,"https_addr":"{https_addr}","tunnel_addr":"0.0.0.0:8000",
            "metrics_addr":"127.0.0.1:9100","public_name":"{public_name}"}}"#
    );
    fs::write(dir.path().join("run.json"), run).unwrap();
    fs::write(dir.path().join("admin.token"), "sta_stored\n").unwrap();
    fs::write(dir.path().join("ca.crt"), ca_pem()).unwrap();
    dir
}

fn in_dir(dir: &TempDir) -> Global {
    Global {
        data_dir: Some(dir.path().to_owned()),
        ..global()
    }
}

fn failure(result: Result<Access, Failure>) -> (Exit, String) {
    let failure = result.map(|access| access.origin()).unwrap_err();
    (
        failure.exit(),
        super::super::output::without_colour(&failure.to_string()),
    )
}

#[test]
fn a_data_directory_tells_address_token_and_certificate() {
    let dir = data_dir("0.0.0.0:8443", "relay.example");

    let access = discover(&in_dir(&dir), None, &[]).unwrap();

    assert_eq!(access.origin(), "https://relay.example:8443");
    assert_eq!(access.connect, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(access.api_token.as_str(), "sta_stored");
    assert_eq!(access.pid, Some(7));
    assert!(!access.roots.is_empty());
}

#[test]
fn a_public_name_that_is_an_address_is_reached_on_this_host() {
    let dir = data_dir("[::]:443", "203.0.113.9");

    let access = discover(&in_dir(&dir), None, &[]).unwrap();

    assert_eq!(access.origin(), "https://[::1]:443");
}

#[test]
fn a_token_that_was_told_goes_before_the_stored_one() {
    let dir = data_dir("127.0.0.1:443", "relay.example");

    let access = discover(&in_dir(&dir), Some("sta_told".into()), &[]).unwrap();

    assert_eq!(access.api_token.as_str(), "sta_told");
}

#[test]
fn a_token_file_goes_before_the_environment() {
    let dir = data_dir("127.0.0.1:443", "relay.example");
    let file = dir.path().join("mine.token");
    fs::write(&file, " sta_mine \n").unwrap();
    let global = Global {
        api_token_file: Some(file),
        ..in_dir(&dir)
    };

    let access = discover(&global, Some("sta_told".into()), &[]).unwrap();

    assert_eq!(access.api_token.as_str(), "sta_mine");
}

#[test]
fn a_url_goes_before_the_data_directory_which_still_gives_token_and_certificate() {
    let dir = data_dir("127.0.0.1:443", "relay.example");
    let global = Global {
        relay: Some("https://other.example:9443/".into()),
        ..in_dir(&dir)
    };

    let access = discover(&global, None, &[]).unwrap();

    assert_eq!(access.origin(), "https://other.example:9443");
    assert_eq!(
        (access.connect, access.api_token.as_str()),
        (None, "sta_stored")
    );
}

#[test]
fn a_url_without_a_token_says_how_to_give_one() {
    let global = Global {
        relay: Some("relay.example".into()),
        ..global()
    };

    let (exit, text) = failure(discover(&global, Some("  ".into()), &[]));

    assert_eq!(exit, Exit::Config);
    assert!(text.contains("STERNLINE_API_TOKEN"), "{text}");
}

#[test]
fn a_directory_without_a_running_relay_says_so() {
    let dir = TempDir::new().unwrap();

    let (exit, text) = failure(discover(&in_dir(&dir), None, &[]));

    assert_eq!(exit, Exit::Config);
    assert!(
        text.contains("no relay runs with the data directory"),
        "{text}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let dir = data_dir("127.0.0.1:443", "relay.example");
    fs::remove_file(dir.path().join("admin.token")).unwrap();

    let (exit, text) = failure(discover(&in_dir(&dir), None, &[]));

    assert_eq!(exit, Exit::Config);
    assert!(text.contains("admin.token"), "{text}");
}

#[test]
fn a_damaged_file_is_named() {
    let dir = data_dir("127.0.0.1:443", "relay.example");
    fs::write(dir.path().join("ca.crt"), "nothing").unwrap();

    let (exit, text) = failure(discover(&in_dir(&dir), None, &[]));

    assert_eq!(exit, Exit::Config);
    assert!(text.contains("ca.crt"), "{text}");
}

#[test]
fn a_token_that_is_no_word_is_refused_and_never_shown() {
    let global = Global {
        relay: Some("relay.example".into()),
        ..global()
    };

    let (exit, text) = failure(discover(&global, Some("sta_one sta_two".into()), &[]));

    assert_eq!(exit, Exit::Config);
    assert!(!text.contains("sta_one"), "{text}");
}

#[test]
fn urls_are_read_and_those_that_would_leak_the_token_are_refused() {
    assert_eq!(
        parse_url("relay.example"),
        Ok(("relay.example".into(), 443))
    );
    assert_eq!(parse_url("https://[::1]:8443"), Ok(("::1".into(), 8443)));
    for text in [
        "http://relay.example",
        "https://",
        "https://a/b",
        "https://u:p@a",
        "ftp://a",
    ] {
        assert!(parse_url(text).is_err(), "{text} was taken");
    }
}

#[test]
fn a_relay_elsewhere_is_reached_through_the_proxy_and_one_on_this_host_never() {
    let variables = [("HTTPS_PROXY".into(), "http://op:s3cret@proxy:3128".into())];
    let dir = data_dir("0.0.0.0:8443", "relay.example");
    let told = |proxy: Option<&str>| Global {
        relay: Some("https://relay.example".into()),
        proxy: proxy.map(str::to_owned),
        ..in_dir(&dir)
    };
    let proxy_of = |global: &Global| {
        let access = discover(global, None, &variables).unwrap();
        assert!(!format!("{access:?}").contains("s3cret"));
        access.proxy.map(|on_the_way| on_the_way.proxy.to_string())
    };

    assert_eq!(proxy_of(&told(None)).as_deref(), Some("http://proxy:3128"));
    let other = proxy_of(&told(Some("socks5://other")));
    assert_eq!(other.as_deref(), Some("socks5://other:1080"));
    assert_eq!(proxy_of(&told(Some("none"))), None);
    assert_eq!(proxy_of(&in_dir(&dir)), None);
}

#[test]
fn a_proxy_s_login_is_not_taken_from_the_command_line() {
    let dir = data_dir("0.0.0.0:8443", "relay.example");
    for bad in ["http://op:s3cret@proxy", "ftp://proxy"] {
        let global = Global {
            relay: Some("https://relay.example".into()),
            proxy: Some(bad.into()),
            ..in_dir(&dir)
        };

        let (exit, text) = failure(discover(&global, None, &[]));

        assert_eq!(exit, Exit::Usage);
        assert!(
            text.contains("--proxy") && !text.contains("s3cret"),
            "{text}"
        );
    }
}
