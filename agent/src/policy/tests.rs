//! What the policy allows, and how it refuses a file with mistakes.

use proptest::prelude::*;

use super::*;

fn policy(tcp: &str) -> Policy {
    Policy::parse(&format!("[targets]\ntcp = [{tcp}]\n")).unwrap()
}

fn judge(policy: &Policy, target: &str) -> Verdict {
    policy.judge(&target.parse().unwrap())
}

#[test]
fn without_a_file_docker_is_allowed_and_the_network_is_not() {
    let policy = Policy::default();

    assert_eq!(judge(&policy, "docker"), Verdict::Allowed);
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

    assert_eq!(judge(&policy, "tcp:db.internal:5432"), Verdict::Allowed);
    assert_eq!(judge(&policy, "tcp:DB.INTERNAL:5432"), Verdict::Allowed);
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

    assert_eq!(judge(&policy, "tcp:10.20.255.1:8050"), Verdict::Allowed);
    assert_eq!(judge(&policy, "tcp:10.21.0.1:8050"), Verdict::Denied);
    assert_eq!(judge(&policy, "tcp:10.20.0.1:8101"), Verdict::Denied);
    assert_eq!(judge(&policy, "tcp:[2001:db8::7]:443"), Verdict::Allowed);
    assert_eq!(judge(&policy, "tcp:web.internal:8050"), Verdict::ByAddress);
    // No network has the port, so the name need not be resolved at all.
    assert_eq!(judge(&policy, "tcp:web.internal:22"), Verdict::Denied);
}

#[test]
fn an_ipv4_address_in_ipv6_clothing_is_the_ipv4_address() {
    let policy = policy("'10.0.0.0/8:80'");

    assert!(policy.permits_address("::ffff:10.1.2.3".parse().unwrap(), 80));
    assert!(!policy.permits_address("::ffff:11.1.2.3".parse().unwrap(), 80));
}

#[test]
fn one_address_is_a_network_of_one() {
    let policy = policy("'127.0.0.1:80', '[::1]:81'");

    assert_eq!(judge(&policy, "tcp:127.0.0.1:80"), Verdict::Allowed);
    assert_eq!(judge(&policy, "tcp:127.0.0.2:80"), Verdict::Denied);
    assert_eq!(judge(&policy, "tcp:[::1]:81"), Verdict::Allowed);
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let text = "[targets]\ndocker = \"yes\"\ntcp = [\n  \"db\",\n  \"db:0\",\n  \"10.0.0.1/8:80\",\n  7,\n]\nudp = []\n[limits]\n";

    let error = Policy::parse(text).unwrap_err().to_string();

    for part in [
        "line 2: `docker` must be true or false, not a string",
        "line 4: `db` has no port",
        "line 5: `0` in `db:0` is no port",
        "line 6: `10.0.0.1/8:80`: `10.0.0.1/8` is an address within the network `10.0.0.0/8`",
        "line 7: expected a string, not an integer",
        "line 9: unknown key `targets.udp`",
        "line 10: unknown key `limits`",
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
        assert!(Rule::parse(entry).is_err(), "{entry} was taken");
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
            "tcp:10.20.0.0/16:8000-8100"
        ]
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

        prop_assert_eq!(verdict == Verdict::Allowed, same && first <= port && port <= last);
    }

    #[test]
    fn a_rule_reads_back_from_its_words(
        name in "[a-z][a-z0-9-]{0,20}(\\.[a-z]{1,9}){0,3}",
        first in 1_u16..,
        last in 1_u16..,
    ) {
        let text = format!("{name}:{}-{}", first.min(last), first.max(last));
        let rule = Rule::parse(&text).unwrap();

        prop_assert_eq!(Rule::parse(&rule.to_string()).unwrap(), rule);
    }
}
