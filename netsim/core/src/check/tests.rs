//! Each kind of mistake is found, at its line, with what to do; and one of each kind in
//! one file are found at once.

use proptest::prelude::*;

use super::*;

const SOUND: &str = r#"name = "sound"
summary = "An agent behind a firewall and a NAT."
observed = "these tests"
duration = "60s"

[[host]]
name = "relay"
runs = "relay"
addresses = "203.0.113.10/24"

[[host]]
name = "agent"
runs = "agent"
addresses = "10.1.0.2/24"

[[edge]]
name = "office"
firewall = {}
nat = { addresses = "198.51.100.1" }

[[cable]]
name = "lan"
ends = ["agent", "office:inside"]

[[cable]]
name = "uplink"
ends = ["office:outside", "relay"]

[[at]]
name = "flap"
time = "10s"
do = "cut"
on = "uplink"
for = "1s"

[[expect]]
see = "online"
within = "5s"
after = "undone:flap"
of = "agent"
"#;

/// The mistakes of the sound scenario with one passage put in another's place.
fn mistakes(passage: &str, instead: &str) -> Vec<String> {
    assert!(SOUND.contains(passage), "{passage} is not in the scenario");
    let text = SOUND.replacen(passage, instead, 1);
    let found = check(&text).expect_err("a mistake was put in");
    found.iter().map(ToString::to_string).collect()
}

fn only_mistake(passage: &str, instead: &str) -> String {
    let found = mistakes(passage, instead);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap_or_default()
}

#[test]
fn a_sound_scenario_passes() {
    let checked = check(SOUND);

    assert!(checked.is_ok(), "{checked:?}");
}

#[test]
fn mistakes_of_form_and_of_meaning_are_found_at_once() {
    let text = SOUND
        .replace("summary", "sumary")
        .replace(
            "ends = [\"agent\", \"office:inside\"]",
            "ends = [\"agnt\", \"office\"]",
        )
        .replace("time = \"10s\"", "time = \"5m\"")
        .replace("of = \"agent\"", "of = \"relay\"")
        .replace("\"198.51.100.1\"", "\"198.51.100.300\"");

    let found = check(&text).expect_err("five mistakes were put in");

    let problems: Vec<String> = found.iter().map(ToString::to_string).collect();
    let expected = [
        "line 1, column 1: the key `summary` is missing: a text",
        "line 2, column 1: unknown key `sumary`; did you mean `summary`?",
        "line 17, column 8: the edge `office` has no inside: let a cable end at `office:inside`",
        "line 19, column 21: `198.51.100.300` is not an IP address",
        "line 23, column 9: no host or edge is called `agnt`; did you mean `agent`?",
        "line 23, column 17: `office` is an edge: write `office:inside` or `office:outside`",
        "line 31, column 8: this happens after 300s, and the run is over after 60s",
    ];
    for one in expected {
        assert!(
            problems.contains(&one.to_owned()),
            "{one} is not in {problems:#?}"
        );
    }
    assert!(
        problems
            .iter()
            .any(|one| one.contains("`relay` is no agent")),
        "{problems:#?}"
    );
}

#[test]
fn a_cable_with_one_end_is_named() {
    let found = mistakes(
        "ends = [\"agent\", \"office:inside\"]",
        "ends = [\"agent\"]",
    );

    assert!(
        found[0].contains("the edge `office` has no inside"),
        "{found:#?}"
    );
    assert_eq!(
        found[1],
        "line 22, column 8: the cable `lan` has 1 ends; a cable has two: `ends = [\"a\", \"b\"]`"
    );
}

#[test]
fn a_cable_that_ends_where_it_began_is_named() {
    let found = mistakes(
        "\"agent\", \"office:inside\"",
        "\"office:inside\", \"office:inside\"",
    );

    assert!(
        found
            .iter()
            .any(|one| one.contains("both ends are at `office`")),
        "{found:#?}"
    );
}

#[test]
fn a_host_that_nobody_can_reach_is_named() {
    let found = mistakes(
        "ends = [\"office:outside\", \"relay\"]",
        "ends = [\"office:outside\", \"agent\"]",
    );

    assert!(
        found
            .iter()
            .any(|one| one.contains("no cable ends at `relay`")),
        "{found:#?}"
    );
    assert!(
        found
            .iter()
            .any(|one| one.contains("2 cables end at `agent`")),
        "{found:#?}"
    );
}

#[test]
fn an_address_given_twice_is_named_where_both_are_within_reach() {
    let problem = only_mistake(
        "nat = { addresses = \"198.51.100.1\" }",
        "nat = { addresses = \"203.0.113.10\" }",
    );

    assert!(problem.contains("203.0.113.10 is given twice"), "{problem}");
}

#[test]
fn the_same_address_behind_two_nats_is_no_mistake() {
    let more = r#"
[[host]]
name = "neighbour"
runs = "agent"
addresses = "10.1.0.2/24"

[[edge]]
name = "next-door"
nat = { addresses = "198.51.100.2" }

[[edge]]
name = "internet"

[[cable]]
name = "lan-2"
ends = ["neighbour", "next-door:inside"]

[[cable]]
name = "uplink-2"
ends = ["next-door:outside", "internet:inside"]

[[cable]]
name = "uplink"
ends = ["office:outside", "internet:inside"]

[[cable]]
name = "backbone"
ends = ["internet:outside", "relay"]
"#;
    let old = "[[cable]]\nname = \"uplink\"\nends = [\"office:outside\", \"relay\"]\n";

    let checked = check(&SOUND.replace(old, more));

    assert!(checked.is_ok(), "{checked:?}");
}

#[test]
fn a_circle_of_edges_is_named() {
    let more = "[[edge]]\nname = \"b\"\n\
        [[cable]]\nname = \"x\"\nends = [\"office:outside\", \"b:inside\"]\n\
        [[cable]]\nname = \"y\"\nends = [\"b:outside\", \"office:outside\"]\n\n[[at]]";

    let found = mistakes("[[at]]", more);

    assert!(
        found.iter().any(|one| one.contains("closes a circle")),
        "{found:#?}"
    );
}

#[test]
fn an_agent_without_a_way_to_a_relay_is_named() {
    let problem = only_mistake("\"203.0.113.10/24\"", "\"2001:db8::10/64\"");

    assert!(
        problem.contains("no way leads from `agent` to a relay"),
        "{problem}"
    );
}

#[test]
fn a_name_that_is_taken_is_named() {
    let found = mistakes("name = \"flap\"", "name = \"lan\"");

    assert_eq!(
        found[0],
        "line 30, column 8: the name `lan` is taken; every name stands for one thing"
    );
}

/// Each passage, put in another's place, is named as it should be.
fn each_is_named(cases: &[(&str, &str, &str)]) {
    for (passage, instead, expected) in cases {
        let found = mistakes(passage, instead);
        assert!(
            found.iter().any(|one| one.contains(expected)),
            "{instead}: {expected} is not in {found:#?}"
        );
    }
}

#[test]
fn mistakes_of_events_are_named_with_what_to_do() {
    let lasts = "for = \"1s\"";
    each_is_named(&[
        (lasts, "for = \"1s\"\ntimes = 2", "`times` needs `every`"),
        (
            lasts,
            "for = \"1s\"\nevery = \"2s\"",
            "`every` needs `times`",
        ),
        (lasts, "for = \"55s\"", "undone only after the end"),
        (
            lasts,
            "for = \"2s\"\ntimes = 2\nevery = \"2s\"",
            "run into each other",
        ),
        (
            lasts,
            "for = \"1s\"\nby = \"2d\"",
            "`by` means nothing with `cut`",
        ),
        (
            "do = \"cut\"",
            "do = \"line\"",
            "`line` needs the key `line`",
        ),
        ("time = \"10s\"", "time = \"-1s\"", "`-1s` is negative"),
        (
            "time = \"10s\"",
            "time = \"20s..10s\"",
            "is empty: turn its ends round",
        ),
        (
            "on = \"uplink\"",
            "on = \"office\"",
            "`office` is an edge, not a cable",
        ),
        (
            "on = \"uplink\"",
            "on = \"uplnk\"",
            "did you mean `uplink`?",
        ),
    ]);
}

#[test]
fn mistakes_of_expectations_are_named_with_what_to_do() {
    let of = "of = \"agent\"";
    each_is_named(&[
        (of, "of = \"agnt\"", "did you mean `agent`?"),
        (
            of,
            "of = \"agent\"\nuntil = \"2m\"",
            "after the end of the run",
        ),
        ("undone:flap", "undone:flip", "did you mean `flap`?"),
        ("undone:flap", "undone", "say of which event"),
        (
            "see = \"online\"",
            "always = \"attempt\"",
            "`within` and `after` belong to `see`",
        ),
        ("within = \"5s\"\n", "", "`see` needs `within`"),
    ]);
}

#[test]
fn mistakes_of_boxes_are_named_with_what_to_do() {
    let (firewall, nat) = ("firewall = {}", "nat = { addresses = \"198.51.100.1\" }");
    each_is_named(&[
        (
            firewall,
            "firewall = { unsolicited = \"allow\" }",
            "no box at all",
        ),
        (firewall, "dpi = {}", "dislikes nothing"),
        (
            firewall,
            "dns = [{ names = \"*\", do = \"lie\" }]",
            "a lie needs addresses",
        ),
        (nat, "nat = { addresses = [] }", "outer address"),
        (
            "nat = {",
            "nat = { ports = \"0-9\",",
            "port 0 cannot be used",
        ),
    ]);
}

#[test]
fn mistakes_of_hosts_and_runs_are_named_with_what_to_do() {
    let address = "\"10.1.0.2/24\"";
    each_is_named(&[
        (address, "[\"10.1.0.2/24\", \"10.1.0.3/24\"]", "one of each"),
        (address, "\"10.1.0.2/24\"\ncount = 255", "do not fit"),
        ("duration = \"60s\"", "duration = \"0s\"", "lasts no time"),
    ]);
}

#[test]
fn an_mtu_that_no_host_can_use_is_named() {
    let problem = only_mistake(
        "ends = [\"agent\", \"office:inside\"]",
        "ends = [\"agent\", \"office:inside\"]\nline = { mtu = 100 }",
    );

    assert!(problem.contains("an MTU of 100"), "{problem}");
}

#[test]
fn rebinding_needs_a_nat() {
    let text = SOUND
        .replace(
            "do = \"cut\"\non = \"uplink\"\nfor = \"1s\"",
            "do = \"rebind\"\non = \"office\"",
        )
        .replace("nat = { addresses = \"198.51.100.1\" }\n", "")
        .replace("undone:flap", "event:flap");

    let found = check(&text).expect_err("there is no NAT");

    assert!(found[0].problem.contains("has no NAT"), "{found:?}");
}

#[test]
fn two_proxies_do_not_share_a_port() {
    let proxy = |name: &str, port: &str| {
        format!(
            "[[proxy]]\nname = \"{name}\"\non = \"office\"\nspeaks = \"transparent\"\nport = {port}\n"
        )
    };
    let with_two = |ports: [&str; 2]| {
        let [first, second] = ports;
        format!(
            "{SOUND}\n{}{}",
            proxy("portal", first),
            proxy("stripper", second)
        )
    };

    let found = check(&with_two(["\"80-443\"", "443"])).expect_err("both take 443");

    assert!(
        found[0].problem.contains("`portal` has this port"),
        "{found:?}"
    );
    assert_eq!(check(&with_two(["80", "443"])).err(), None);
}

#[test]
fn a_real_proxy_is_asked_for_nothing_that_it_cannot_do() {
    let with = |keys: &str| {
        let proxy = format!("[[proxy]]\nname = \"proxy\"\non = \"agent\"\n{keys}\n");
        check(&format!("{SOUND}\n{proxy}")).map_err(|found| found[0].problem.clone())
    };

    for sound in [
        "real = \"tinyproxy\"\nlogin = \"agent:s3cret\"\nallows = [443, 8000]",
        "real = \"squid\"\nlogin = \"agent:p@ss\"\nallows = \"1000-2000\"",
    ] {
        assert!(with(sound).is_ok(), "{sound}");
    }
    for (wrong, part) in [
        ("real = \"nginx\"", "nginx"),
        ("real = \"squid\"\nspeaks = \"socks5\"", "by CONNECT"),
        ("real = \"squid\"\ncut-after = \"60s\"", "only connects"),
        ("real = \"tinyproxy\"\nallows = \"1000-2000\"", "every port"),
        ("real = \"tinyproxy\"\nlogin = \"agent:p@ss\"", "in a login"),
        ("real = \"mitmproxy\"", "intercepts TLS"),
    ] {
        let problem = with(wrong).expect_err(wrong);
        assert!(problem.contains(part), "{wrong}: {problem}");
    }
}

#[test]
fn an_event_may_be_about_one_copy_of_several_and_no_other() {
    let with = |on: &str, count: u32| {
        let text = SOUND
            .replace(
                "runs = \"agent\"",
                &format!("runs = \"agent\"\ncount = {count}"),
            )
            .replace(
                "do = \"cut\"\non = \"uplink\"",
                &format!("do = \"suspend\"\non = \"{on}\""),
            )
            .replace("of = \"agent\"", &format!("of = \"{on}\""));
        check(&text).map_err(|found| found[0].problem.clone())
    };

    assert!(with("agent-2", 3).is_ok());
    for (on, count) in [
        ("agent-3", 3),
        ("agent-03", 30),
        ("agent-0", 1),
        ("agent-", 3),
    ] {
        assert!(with(on, count).is_err(), "{on} of {count}");
    }
    let text = SOUND.replace("runs = \"agent\"", "runs = \"agent\"\ncount = 3");
    let cut = text.replace("on = \"uplink\"", "on = \"lan-2\"");
    assert_eq!(check(&cut).err(), None);
    let taken = text.replace("name = \"uplink\"", "name = \"agent-1\"");
    let found = check(&taken.replace("on = \"uplink\"", "on = \"agent-1\""));
    let found = found.expect_err("that is the second agent");
    assert!(found[0].problem.contains("copy of another"), "{found:?}");
}

#[test]
fn a_real_resolver_is_a_resolver() {
    let text = SOUND.replace("runs = \"agent\"", "runs = \"agent\"\nreal = \"dnsmasq\"");

    let found = check(&text).expect_err("an agent answers nobody");

    assert!(found[0].problem.contains("no resolver"), "{found:?}");
}

#[test]
fn a_file_without_end_is_refused_before_it_is_read() {
    let found = check(&"#".repeat(limits::SCENARIO_BYTES_MAX + 1)).expect_err("it is too long");

    assert_eq!(found.len(), 1);
}

proptest! {
    #[test]
    fn a_file_cut_off_anywhere_is_refused_without_a_panic(cut in 0_usize..510) {
        prop_assert!(check(&SOUND[..cut]).is_err());
    }

    #[test]
    fn a_line_taken_out_never_panics(line in 0_usize..46) {
        let kept: Vec<&str> = SOUND.lines().enumerate()
            .filter(|(number, _)| *number != line).map(|(_, text)| text).collect();

        let _checked = check(&kept.join("\n"));
    }
}
