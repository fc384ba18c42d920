//! Precedence, strictness and completeness of the configuration.

use super::*;

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let (_folder, path) =
        written("transport = \"quic\"\nstate_dir = \"/file\"\nsandbox = \"required\"\n");
    let environment = environment(&[
        ("STERNLINE_AGENT_TRANSPORT", "ws"),
        ("STERNLINE_AGENT_STATE_DIR", "/environment"),
    ]);

    let settings = load(Some(&path), &[("transport", "ws-443".into())], &environment).unwrap();

    assert_eq!(settings.transport, Some(Transport::Ws443));
    assert_eq!(settings.state_dir, Path::new("/environment"));
    assert_eq!(settings.sandbox, SandboxDemand::Required);
    assert_eq!(settings.docker_socket, Path::new(DOCKER_SOCKET_DEFAULT));
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let (_folder, path) =
        written("transport = \"carrier-pigeon\"\ncolour = \"red\"\nsandbox = 7\n");
    let environment = environment(&[("STERNLINE_AGENT_LOG_FORMAT", "xml")]);

    let error = load(Some(&path), &[("sandbox", "off".into())], &environment).unwrap_err();

    let text = error.to_string();
    for part in [
        "line 1: `transport`: `carrier-pigeon` is not a transport",
        "line 2: unknown key `colour`",
        "line 3: `sandbox` must be a string, not an integer",
        "STERNLINE_AGENT_LOG_FORMAT: expected `text` or `json`, not `xml`",
        "--sandbox: expected `best-effort` or `required`, not `off`",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn a_proxy_s_login_is_not_taken_from_the_command_line_and_never_repeated() {
    let url = "http://agent:s3cret@proxy:3128";
    let (_folder, path) = written(&format!("proxy = \"{url}\"\n"));
    let (_other, bad) = written("proxy = \"ftp://agent:s3cret@proxy\"\n");

    let in_file = load(Some(&path), &[], &[]).unwrap();
    let as_flag = load(None, &[("proxy", url.into())], &[]).unwrap_err();
    let no_proxy = load(Some(&bad), &[], &[]).unwrap_err();
    let none = load(Some(&path), &[("proxy", "none".into())], &[]).unwrap();

    assert!(matches!(&in_file.proxy, ProxySetting::Named(proxy) if proxy.has_login()));
    assert!(
        as_flag.to_string().contains("proxy_login_file"),
        "{as_flag}"
    );
    assert!(
        no_proxy.to_string().contains("line 1: `proxy`"),
        "{no_proxy}"
    );
    let shown = format!("{in_file:?} {as_flag} {as_flag:?} {no_proxy} {no_proxy:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert_eq!(none.proxy, ProxySetting::Direct);
}

#[test]
fn a_named_file_that_is_missing_is_a_mistake_and_the_default_one_is_not() {
    let named = load(Some(Path::new("/nowhere/config.toml")), &[], &[]);

    assert!(
        named
            .unwrap_err()
            .to_string()
            .contains("/nowhere/config.toml")
    );
    assert!(load(None, &[], &[]).is_ok());
}

#[test]
fn a_named_policy_must_exist_and_the_default_one_need_not() {
    let named = load(None, &[("policy", "/p.toml".into())], &[]).unwrap();

    assert_eq!(named.policy, PolicyPlace::Named("/p.toml".into()));
    assert_eq!(
        Settings::default().policy,
        PolicyPlace::Default(POLICY_FILE_DEFAULT.into())
    );
}

#[test]
fn an_empty_variable_counts_as_none_and_an_unknown_one_is_noticed() {
    let environment = environment(&[
        ("STERNLINE_AGENT_TRANSPORT", ""),
        ("STERNLINE_AGENT_TRANSPROT", "ws"),
        ("STERNLINE_AGENT_CONFIG", ""),
    ]);

    assert_eq!(load(None, &[], &environment).unwrap().transport, None);
    assert_eq!(
        unknown_variables(&environment),
        ["STERNLINE_AGENT_TRANSPROT"]
    );
}

#[test]
fn the_example_configuration_is_valid_and_names_every_key() {
    let text = include_str!("../../examples/config.toml");
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let (_folder, path) = written(&uncommented);

    let loaded = load(Some(&path), &[], &[]);

    assert!(loaded.is_ok(), "{}", loaded.unwrap_err());
    for key in KEYS {
        assert!(text.contains(&format!("{key} = ")), "{key} is missing");
    }
}
