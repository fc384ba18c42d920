//! The scenarios that the program brings along, as files of `netsim/scenarios`.

use netsim_core::{check::check, model::Scenario};

macro_rules! shipped {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../scenarios/", $name, ".toml")),
        )
    };
}

/// Names and texts, in the order in which they are listed.
pub const SHIPPED: &[(&str, &str)] = &[
    shipped!("open"),
    shipped!("udp-blocked"),
    shipped!("8000-blocked"),
    shipped!("reject-rst"),
    shipped!("reject-icmp"),
    shipped!("default-deny-inbound"),
    shipped!("idle-350-silent"),
    shipped!("idle-240-silent"),
    shipped!("idle-12-silent"),
    shipped!("idle-rst"),
    shipped!("udp-30s-nat"),
    shipped!("nat-rebind"),
    shipped!("cgnat-double"),
    shipped!("vpn-connect-flap"),
    shipped!("vpn-killswitch"),
    shipped!("pmtu-blackhole-1280"),
    shipped!("tls-inspection"),
    shipped!("tls-inspection-allowed"),
    shipped!("large-hello-swallowed"),
    shipped!("connect-proxy-basic"),
    shipped!("connect-proxy-443-only"),
    shipped!("proxy-cuts-every-60s"),
    shipped!("upgrade-stripped"),
    shipped!("captive-portal"),
    shipped!("dns-hijack"),
    shipped!("dns-split"),
    shipped!("resolver-outage"),
    shipped!("ipv6-only-nat64"),
    shipped!("ipv6-broken"),
    shipped!("relay-rolling-restart"),
    shipped!("lossy-burst-bufferbloat"),
    shipped!("clock-skew"),
    shipped!("suspend-resume"),
    // What others have failed at; docs/rivals.md has the list.
    shipped!("dead-peer"),
    shipped!("crash-and-login-again"),
    shipped!("saturated-link"),
    shipped!("restart-loop"),
    shipped!("large-streams"),
];

/// Every shipped scenario.
pub fn all() -> Vec<Scenario> {
    SHIPPED
        .iter()
        .map(|(_, text)| check(text).expect("a test checks every shipped scenario"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use netsim_core::{model::Pattern, random::Seed, term::Choice};

    use super::*;

    #[test]
    fn every_shipped_scenario_is_sound() {
        for (name, text) in SHIPPED {
            if let Err(mistakes) = check(text) {
                let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                panic!("{name}:\n{}", lines.join("\n"));
            }
        }
    }

    #[test]
    fn every_file_is_shipped_under_the_name_that_it_gives_itself() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files = fs::read_dir(folder).expect("the folder of scenarios");
        let files: BTreeSet<String> = files
            .map(|entry| entry.expect("an entry").path())
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect();

        let listed: BTreeSet<String> = SHIPPED.iter().map(|(name, _)| (*name).into()).collect();
        let named: BTreeSet<String> = all().iter().map(|one| one.name.to_string()).collect();

        assert_eq!(files, listed);
        assert_eq!(named, listed);
    }

    #[test]
    fn a_scenario_survives_being_drawn_and_written() {
        for scenario in all() {
            for seed in 0..20 {
                let drawn = scenario.drawn(Seed(seed));
                let again = check(&drawn.to_toml());
                assert_eq!(
                    again.as_ref(),
                    Ok(&drawn),
                    "{} with seed {seed}",
                    *scenario.name
                );
            }
        }
    }

    #[test]
    fn every_scenario_demands_that_nothing_comes_in_and_nobody_listens() {
        for scenario in all() {
            let forbids = |word: &str| {
                scenario.expectations.iter().any(|one| {
                    let never = one.never.as_deref();
                    never.map(Pattern::to_string).as_deref() == Some(word)
                        && one.known_failing.is_none()
                })
            };
            assert!(
                forbids("inbound-flow") && forbids("listening"),
                "{}",
                *scenario.name
            );
        }
    }

    #[test]
    fn what_must_work_today_is_not_marked_as_failing() {
        let must_work = [
            "open",
            "udp-blocked",
            "8000-blocked",
            "reject",
            "default-deny-inbound",
        ];
        let scenarios = all();
        let marked = scenarios
            .iter()
            .filter(|one| {
                must_work
                    .iter()
                    .any(|name| one.name.as_str().starts_with(name))
            })
            .flat_map(|one| one.expectations.iter())
            .filter(|expectation| expectation.known_failing.is_some());

        assert_eq!(marked.count(), 0);
    }

    #[test]
    fn waits_are_bounded_so_that_expectations_can_be_judged() {
        for scenario in all() {
            let run = scenario.duration.get();
            for expectation in &scenario.expectations {
                let within = expectation
                    .within
                    .as_ref()
                    .map(Choice::get)
                    .unwrap_or_default();
                assert!(within < run, "{}: {}", *scenario.name, **expectation);
            }
        }
    }
}
