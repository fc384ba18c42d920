//! What the policy allows, and how it refuses a file with mistakes.

use proptest::prelude::*;

use super::*;

fn policy(tcp: &str) -> Policy {
    Policy::parse(&format!("[targets]\ntcp = [{tcp}]\n")).unwrap()
}

fn judge(policy: &Policy, target: &str) -> Verdict {
    policy.judge(&target.parse().unwrap())
}

/// What is said of an address, given that the target is not denied by its name.
#[expect(
    clippy::unwrap_in_result,
    reason = "a fixture that fails is a test that fails"
)]
fn permits(policy: &Policy, host: &str, address: &str, port: u16) -> Result<(), AddressDenied> {
    policy.permits(
        host,
        address.parse().expect("an address"),
        port,
        &["172.20.0.1".parse().expect("an address")],
    )
}

#[test]
fn without_a_file_docker_is_allowed_and_the_network_is_not() {
    let policy = Policy::default();

    assert_eq!(judge(&policy, "docker"), Verdict::Docker);
    assert_eq!(judge(&policy, "tcp:127.0.0.1:80"), Verdict::Denied);
    assert_eq!(judge(&policy, "tcp:db.internal:5432"), Verdict::Denied);
}

#[test]
fn docker_can_be_forbidden() {
    let policy = Policy::parse("[targets]\ndocker = false\n").unwrap();

    assert_eq!(judge(&policy, "docker"), Verdict::Denied);
    assert!(policy.words().is_empty());
}

#[test]
fn a_name_matches_exactly_and_without_regard_to_case() {
    let policy = policy("'DB.Internal:5432'");

    assert_eq!(judge(&policy, "tcp:db.internal:5432"), Verdict::ByAddress);
    assert_eq!(judge(&policy, "tcp:DB.INTERNAL:5432"), Verdict::ByAddress);
    for other in [
        "tcp:db.internal:5433",
        "tcp:x.db.internal:5432",
        "tcp:db.internal.x:5432",
    ] {
        assert_eq!(judge(&policy, other), Verdict::Denied, "{other}");
    }
}

#[test]
fn a_network_matches_addresses_and_leaves_names_to_what_they_resolve_to() {
    let policy = policy("'10.20.0.0/16:8000-8100', '[2001:db8::/32]:443'");

    assert_eq!(judge(&policy, "tcp:10.20.255.1:8050"), Verdict::ByAddress);
    assert_eq!(judge(&policy, "tcp:10.21.0.1:8050"), Verdict::Denied);
    assert_eq!(judge(&policy, "tcp:10.20.0.1:8101"), Verdict::Denied);
    assert_eq!(judge(&policy, "tcp:[2001:db8::7]:443"), Verdict::ByAddress);
    assert_eq!(judge(&policy, "tcp:web.internal:8050"), Verdict::ByAddress);
    // No network has the port, so the name need not be resolved at all.
    assert_eq!(judge(&policy, "tcp:web.internal:22"), Verdict::Denied);
}

#[test]
fn an_ipv4_address_in_ipv6_clothing_is_the_ipv4_address() {
    let policy = policy("'10.0.0.0/8:80'");

    assert_eq!(permits(&policy, "x", "::ffff:10.1.2.3", 80), Ok(()));
    assert_eq!(
        permits(&policy, "x", "::ffff:11.1.2.3", 80),
        Err(AddressDenied::NoRule)
    );
}

#[test]
fn one_address_is_a_network_of_one() {
    let policy = policy("'127.0.0.1:80', '[::1]:81'");

    assert_eq!(judge(&policy, "tcp:127.0.0.1:80"), Verdict::ByAddress);
    assert_eq!(judge(&policy, "tcp:127.0.0.2:80"), Verdict::Denied);
    assert_eq!(judge(&policy, "tcp:[::1]:81"), Verdict::ByAddress);
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let text = "[targets]\ndocker = \"yes\"\ntcp = [\n  \"db\",\n  \"db:0\",\n  \"10.0.0.1/8:80\",\n  7,\n]\nudp = []\n[other]\n";

    let error = Policy::parse(text).unwrap_err().to_string();

    for part in [
        "line 2: `docker` must be true or false, not a string",
        "line 4: `db` has no port",
        "line 5: `0` in `db:0` is no port",
        "line 6: `10.0.0.1/8:80`: `10.0.0.1/8` is an address within the network `10.0.0.0/8`",
        "line 7: expected a string, not an integer",
        "line 9: unknown key `targets.udp`",
        "line 10: unknown key `other`",
    ] {
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
}

#[test]
fn entries_that_could_mean_something_else_are_refused() {
    for entry in [
        "2001:db8::1:443",
        "[10.0.0.1]:80",
        "[::1]x:80",
        "10.0.0:80",
        "0x7f.1:80",
        "host:80-70",
        "host:+80",
        "host:",
        ":80",
        "a b:80",
        "10.0.0.0/33:80",
        "host/8:80",
    ] {
        assert!(Entry::parse(entry).is_err(), "{entry} was taken");
    }
}

#[test]
fn the_example_policy_is_valid() {
    let policy = Policy::parse(include_str!("../../examples/policy.toml")).unwrap();

    assert_eq!(
        policy.words(),
        [
            "docker",
            "tcp:db.internal:5432",
            "tcp:10.20.0.0/16:8000-8100",
            "tcp:127.0.0.1:9090"
        ]
    );
    assert_eq!(
        policy.rules(),
        [
            "docker.access = \"limited\"",
            "docker.exec = true",
            "docker.bind_mounts = [\"/srv/app\", \"/etc/app/**:ro\"]",
            "docker.capabilities = [\"NET_BIND_SERVICE\"]",
            "docker.registries = [\"docker.io/library\", \"registry.example.com\"]",
            "docker.ports = [\"8080\", \"9000-9100\"]",
            "limits.streams = 200",
            "limits.streams_per_minute = 1200",
            "limits.bytes_per_second = \"50MiB\"",
            "limits.target_bytes_per_second.\"db.internal:5432\" = \"2MiB\""
        ]
    );
}

#[test]
fn the_packaged_policy_is_valid() {
    let policy = Policy::parse(include_str!("../../../packaging/debian/policy.toml")).unwrap();

    assert_eq!(policy.words(), ["docker"]);
}

#[test]
fn what_leads_to_the_host_must_be_named_however_wide_a_rule_is() {
    let wide = policy("'0.0.0.0/0:1-65535', '[::]/0:1-65535', 'evil.example:80'");

    for address in [
        "127.0.0.1",
        "169.254.169.254",
        "172.20.0.1",
        "::1",
        "0.0.0.0",
        "fe80::1",
    ] {
        let denied = permits(&wide, address, address, 80);
        assert!(
            matches!(denied, Err(AddressDenied::Unnamed(_))),
            "{address}: {denied:?}"
        );
        // A name that a rule has is no other way to it.
        let denied = permits(&wide, "evil.example", address, 80);
        assert!(
            matches!(denied, Err(AddressDenied::Unnamed(_))),
            "{address}: {denied:?}"
        );
    }
    assert_eq!(permits(&wide, "evil.example", "192.0.2.1", 80), Ok(()));

    let named = policy("'127.0.0.1:80', '169.254.169.254:80', '172.20.0.1:80', 'localhost:81'");
    for address in ["127.0.0.1", "169.254.169.254", "172.20.0.1"] {
        assert_eq!(permits(&named, address, address, 80), Ok(()), "{address}");
    }
    assert_eq!(permits(&named, "localhost", "::1", 81), Ok(()));
    assert!(permits(&named, "localhost", "169.254.169.254", 81).is_err());
}

#[test]
fn every_key_of_docker_has_its_mistakes_named() {
    let text = "[docker]\naccess = \"limited\"\nexec = 1\nbind_mounts = [\"srv\"]\ncapabilities = \"ALL\"\n\
        host_namespaces = [\"mount\"]\nports = [\"0\"]\nfoo = 1\n[limits]\nstreams = 0\nfoo = 2\n\
        bytes_per_second = true\ntarget_bytes_per_second = { redis = \"1MiB\", docker = \"fast\" }\n";

    let error = Policy::parse(text).unwrap_err().to_string();

    for part in [
        "line 3: `exec` must be true or false, not an integer",
        "line 4: `srv` is not a path to mount",
        "line 5: `capabilities` must be an array of strings, not a string",
        "line 6: `mount` is not a namespace",
        "line 7: `0` is no port",
        "line 8: unknown key `docker.foo`",
        "line 10: `streams` must be a whole number from 1",
        "line 11: unknown key `limits.foo`",
        "line 12: expected bytes a second, such as \"10MiB\", not a boolean",
        "line 13: `redis` has no port",
        "line 13: `fast` is no number of bytes a second",
    ] {
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
}

#[test]
fn a_key_that_would_have_no_effect_is_a_mistake() {
    for (text, part) in [
        ("[docker]\n", "line 1: `[docker]` needs `access`"),
        (
            "[docker]\naccess = \"all\"\n",
            "line 2: `access` must be `none`, `read-only`, `limited` or `full`",
        ),
        (
            "[docker]\naccess = \"full\"\nexec = false\n",
            "line 3: `exec` has no effect",
        ),
        (
            "[docker]\naccess = \"read-only\"\nbuild = true\n",
            "line 3: `build` has no effect",
        ),
        (
            "[targets]\ndocker = true\n[docker]\naccess = \"full\"\n",
            "say the same thing",
        ),
    ] {
        let error = Policy::parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
}

#[test]
fn a_policy_reads_back_from_its_rules() {
    let text = "[docker]\naccess = \"limited\"\nexec = true\nfiles = true\nbuild = true\n\
        opaque_upgrades = true\nprivileged = true\nvolumes_from = true\n\
        bind_mounts = [\"/a\", \"/b/**:ro\"]\ncapabilities = [\"ALL\"]\n\
        host_namespaces = [\"network\", \"pid\"]\ndevices = [\"/dev/kvm\", \"gpu\"]\n\
        registries = [\"docker.io\"]\nlog_drivers = [\"syslog\"]\nports = [\"1-2\", \"3\"]\n\
        [limits]\nstreams = 1\nstreams_per_minute = 2\nbytes_per_second = 2048\n\
        target_bytes_per_second = { stacks = \"3KiB\", \"[2001:db8::/32]:1-2\" = \"1GiB\" }\n";
    let policy = Policy::parse(text).unwrap();

    // Dotted keys are the same tables.
    assert_eq!(Policy::parse(&policy.rules().join("\n")).unwrap(), policy);
}

#[test]
fn one_target_in_two_spellings_has_one_rate() {
    let text = "[limits.target_bytes_per_second]\n'a.b:1' = '1MiB'\n'A.B:1-1' = '2MiB'\n";

    let error = Policy::parse(text).unwrap_err().to_string();

    assert_eq!(
        error,
        "line 3: `a.b:1` has a rate already, in another spelling"
    );
}

proptest! {
    #[test]
    fn any_text_is_a_policy_or_an_error(text in ".{0,200}") {
        if let Err(error) = Policy::parse(&text) {
            prop_assert!(!error.0.is_empty());
        }
    }

    #[test]
    fn what_is_not_within_a_rule_is_denied(
        address: u32,
        port in 1_u16..,
        network: u32,
        prefix in 0_u8..=32,
        first in 1_u16..,
        last in 1_u16..,
    ) {
        let network = ipnet::Ipv4Net::new(network.into(), prefix).unwrap().trunc();
        let (first, last) = (first.min(last), first.max(last));
        let policy = policy(&format!("'{network}:{first}-{last}'"));
        let shift = 32 - u32::from(prefix);
        let same = u64::from(address) >> shift == u64::from(u32::from(network.addr())) >> shift;

        let host = std::net::Ipv4Addr::from(address).to_string();
        let verdict = policy.judge(&Target::Tcp { host, port });

        let judged = verdict == Verdict::ByAddress;
        prop_assert_eq!(judged, same && first <= port && port <= last);
    }

    #[test]
    fn a_rule_reads_back_from_its_words(
        name in "[a-z][a-z0-9-]{0,20}(\\.[a-z]{1,9}){0,3}",
        first in 1_u16..,
        last in 1_u16..,
    ) {
        let text = format!("{name}:{}-{}", first.min(last), first.max(last));
        let rule = Entry::parse(&text).unwrap();

        prop_assert_eq!(Entry::parse(&rule.to_string()).unwrap(), rule);
    }
}
