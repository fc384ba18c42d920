//! Which proxy is used and with which login; files that hold nothing of use.

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn named(proxy: &str) -> Settings {
    Settings {
        proxy: ProxySetting::Named(proxy.parse().unwrap()),
        ..Settings::default()
    }
}

/// The proxy to the relay, and whether it is shown a login.
fn towards_relay(dialling: &Dialling) -> Option<(String, bool)> {
    let on_the_way = dialling.proxy.as_ref()?;
    let proxy = on_the_way.towards("relay.example.com", 8000)?;
    Some((proxy.to_string(), proxy.has_login()))
}

fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn a_configured_proxy_wins_over_the_environment_and_none_over_both() {
    let variables = environment(&[("HTTPS_PROXY", "http://other:3128")]);
    let direct = Settings {
        proxy: ProxySetting::Direct,
        ..Settings::default()
    };
    let proxy_of =
        |settings: &Settings| towards_relay(&Dialling::of(settings, &variables).unwrap());

    let (own, other) = ("http://own:3128".to_owned(), "http://other:3128".to_owned());
    assert_eq!(proxy_of(&named("own:3128")), Some((own, false)));
    assert_eq!(proxy_of(&Settings::default()), Some((other, false)));
    assert_eq!(proxy_of(&direct), None);
}

#[test]
fn no_proxy_of_the_environment_spares_the_relay_whoever_named_the_proxy() {
    let variables = environment(&[
        ("ALL_PROXY", "socks5://other"),
        ("NO_PROXY", "localhost, .example.com"),
    ]);

    for settings in [named("own:3128"), Settings::default()] {
        assert_eq!(
            towards_relay(&Dialling::of(&settings, &variables).unwrap()),
            None
        );
    }
}

#[test]
fn a_login_comes_from_its_file_and_is_shown_nowhere() {
    let (_folder, path) = written("login", "agent:s3cret\n");
    let settings = Settings {
        proxy_login_file: Some(path),
        ..named("http://proxy:3128")
    };

    let dialling = Dialling::of(&settings, &[]).unwrap();

    let proxy = "http://proxy:3128".to_owned();
    assert_eq!(towards_relay(&dialling), Some((proxy, true)));
    assert!(!format!("{dialling:?} {settings:?}").contains("s3cret"));
}

#[test]
fn a_file_that_is_of_no_use_is_refused_by_name_without_its_content() {
    let (_folder, path) = written("file", "s3cret");
    let cases = [
        Settings {
            proxy_login_file: Some(path.clone()),
            ..named("proxy")
        },
        Settings {
            ca: Some(path.clone()),
            ..Settings::default()
        },
        Settings {
            interception_ca: Some(path.clone()),
            ..Settings::default()
        },
    ];

    for settings in cases {
        let error = Dialling::of(&settings, &[]).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    let alone = Settings {
        proxy_login_file: Some(path),
        ..Settings::default()
    };
    let error = Dialling::of(&alone, &[]).unwrap_err();
    assert!(matches!(error, DiallingError::LoginWithoutProxy), "{error}");
}

#[test]
fn bundles_in_pem_say_who_may_intercept_and_who_vouches_for_a_proxy() {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let (_folder, path) = written("ca.pem", &format!("{pem}{pem}"));
    let settings = Settings {
        ca: Some(path.clone()),
        interception_ca: Some(path),
        ..named("https://proxy")
    };

    let dialling = Dialling::of(&settings, &[]).unwrap();

    // The system may have none; the customer's own are there either way.
    assert!(dialling.roots.len() >= 2);
    assert_eq!(dialling.interceptors.unwrap().len(), 2);
    let plain = Dialling::of(&named("proxy"), &[]).unwrap();
    assert!(plain.interceptors.is_none() && plain.roots.is_empty());
}

#[test]
fn a_variable_that_names_no_proxy_says_how_to_do_without() {
    let variables = environment(&[("https_proxy", "gopher://user:s3cret@proxy")]);

    let error = Dialling::of(&Settings::default(), &variables).unwrap_err();

    let text = error.to_string();
    assert!(
        text.contains("https_proxy") && text.contains("proxy = \"none\""),
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
}
