//! Configurations as people write them, right and wrong.

use super::*;

fn inputs(file: &str) -> Inputs {
    Inputs {
        file: Some(("relay.toml".into(), file.to_owned())),
        hostname: "Host-1.example".to_owned(),
        ..Inputs::default()
    }
}

fn mistakes(inputs: &Inputs) -> Vec<String> {
    load(inputs).map(|loaded| loaded.config).unwrap_err().0
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let loaded = load(&Inputs {
        hostname: "h".to_owned(),
        ..Inputs::default()
    })
    .unwrap();

    let config = loaded.config;
    assert_eq!(config.https, "0.0.0.0:443".parse().unwrap());
    assert_eq!(config.tunnel, "0.0.0.0:8000".parse().unwrap());
    assert_eq!(config.metrics, "127.0.0.1:9100".parse().unwrap());
    assert_eq!(
        config.tls,
        TlsSource::Own {
            public_name: "h".to_owned()
        }
    );
    assert_eq!(config.token_validity, crate::limits::TOKEN_VALIDITY);
    assert_eq!(config.drain_timeout, crate::limits::DRAIN_TIMEOUT);
    assert_eq!(config.reconnect_window, crate::limits::RECONNECT_WINDOW);
}

#[test]
fn a_flag_is_above_a_variable_and_a_variable_above_the_file() {
    let mut inputs =
        inputs("node = \"a\"\n[listen]\nhttps = \"1.1.1.1:1\"\ntunnel = \"1.1.1.1:2\"");
    for (name, value) in [
        ("LISTEN_HTTPS", "2.2.2.2:1"),
        ("LISTEN_TUNNEL", "2.2.2.2:2"),
    ] {
        inputs
            .variables
            .insert(format!("STERNLINE_RELAY_{name}"), value.to_owned());
    }
    inputs.flags.https = Some("3.3.3.3:1".to_owned());

    let loaded = load(&inputs).unwrap();

    let config = &loaded.config;
    assert_eq!(config.https, "3.3.3.3:1".parse().unwrap());
    assert_eq!(config.tunnel, "2.2.2.2:2".parse().unwrap());
    assert_eq!(config.node, "a");
    let origin = |key| {
        loaded
            .effective
            .iter()
            .find(|e| e.key == key)
            .unwrap()
            .origin
            .as_str()
    };
    assert_eq!(origin("listen.https"), "--https");
    assert_eq!(origin("listen.tunnel"), "STERNLINE_RELAY_LISTEN_TUNNEL");
    assert_eq!(origin("node"), "relay.toml");
    assert_eq!(origin("log.level"), "default");
}

#[test]
fn every_key_is_taken_from_a_variable() {
    for key in KEYS {
        let mut inputs = Inputs::default();
        inputs.variables.insert(key.variable(), "\u{7f}".to_owned());

        let refused = load(&inputs);

        // A path may be any text; every other key refuses this one.
        let told = match refused {
            Ok(loaded) => loaded.effective.iter().any(|e| e.origin == key.variable()),
            Err(mistakes) => mistakes.0.iter().any(|m| m.contains(key.name)),
        };
        assert!(told, "{} is not taken", key.variable());
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_where_they_stand() {
    let mut inputs = inputs(
        "public_nmae = \"x\"\n[listen]\nhttps = \"443\"\ntunnel = [1]\n\
         [tls]\nkey = \"k.pem\"\n[log]\nformat = \"xml\"\n[drain]\ntimeout = 20\n",
    );
    inputs.variables.insert(
        "STERNLINE_RELAY_ENROLMENT_TOKEN_VALIDITY".into(),
        "1s".into(),
    );
    inputs.flags.public_name = Some("relay.example:443".into());

    let told = mistakes(&inputs);

    for expected in [
        "relay.toml: there is no key `public_nmae`: did you mean `public_name`?",
        "relay.toml: `listen.https` is `443`: give ADDRESS:PORT",
        "relay.toml: `listen.tunnel` is array: it must be one value",
        "`tls.key` is set and `tls.certificate` is not: set STERNLINE_RELAY_TLS_CERTIFICATE or",
        "relay.toml: `log.format` is `xml`: give `text` or `json`",
        "relay.toml: `drain.timeout` is `20`: give a time with its unit",
        "STERNLINE_RELAY_ENROLMENT_TOKEN_VALIDITY: `enrolment.token_validity` is `1s`: give 1m to",
        "--public-name: `public_name` is `relay.example:443`: give a DNS name or an address",
    ] {
        assert!(
            told.iter().any(|m| m.starts_with(expected)),
            "{expected}\nnot in {told:#?}"
        );
    }
    assert_eq!(told.len(), 8, "{told:#?}");
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_line() {
    let told = mistakes(&inputs("node = \"a\"\nnode = \"b\"\n"));

    assert!(
        told[0].starts_with("relay.toml: is not TOML") && told[0].contains("line 2"),
        "{told:?}"
    );
}

#[test]
fn two_listeners_on_one_port_are_told_apart_unless_they_differ_in_address() {
    let both = |https: &str, tunnel: &str| {
        load(&inputs(&format!(
            "[listen]\nhttps = \"{https}\"\ntunnel = \"{tunnel}\""
        )))
        .is_ok()
    };

    assert!(!both("0.0.0.0:443", "127.0.0.1:443"));
    assert!(!both("[::]:443", "0.0.0.0:443"));
    assert!(both("127.0.0.2:443", "127.0.0.1:443"));
    assert!(both("0.0.0.0:0", "0.0.0.0:0"));
}

#[test]
fn a_variable_that_is_none_of_ours_is_told_and_not_refused() {
    let mut inputs = Inputs {
        hostname: "h".into(),
        ..Inputs::default()
    };
    inputs
        .variables
        .insert("STERNLINE_RELAY_PORT".into(), "tcp://10.0.0.1:443".into());
    inputs
        .variables
        .insert("STERNLINE_RELAY_CONFIG".into(), "relay.toml".into());

    let loaded = load(&inputs).unwrap();

    assert_eq!(loaded.unknown_variables, ["STERNLINE_RELAY_PORT"]);
}

#[test]
fn what_is_printed_gives_the_same_configuration_again() {
    let mut first = inputs("[log]\nformat = \"json\"\n[tls]\ncertificate = \"c\"\nkey = \"k\"");
    first.flags.https = Some("127.0.0.1:0".to_owned());
    let printed = load(&first).unwrap().to_toml();

    let second = load(&inputs(&printed)).unwrap();

    let config = second.config;
    assert_eq!(config.https, "127.0.0.1:0".parse().unwrap());
    assert_eq!(
        (config.log_format, config.public_name.as_str()),
        (Format::Json, "host-1.example")
    );
    assert!(matches!(config.tls, TlsSource::Files { .. }));
}

#[test]
fn the_example_file_names_every_key_and_is_the_default() {
    let example = include_str!("../../relay.example.toml");

    let loaded = load(&inputs(example)).unwrap();

    assert!(
        loaded.effective.iter().all(|e| e.origin != "relay.toml"),
        "it sets something"
    );
    for key in KEYS {
        let name = key.name.rsplit('.').next().unwrap();
        assert!(
            example.contains(&format!("# {name} = ")),
            "{} is missing",
            key.name
        );
        assert!(
            example.contains(key.meaning),
            "{} is not explained",
            key.name
        );
    }
}
