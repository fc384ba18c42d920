//! Every shipped scenario in virtual time, with as many seeds as a change must withstand, and
//! every failure that was found once.

use std::{fs, num::NonZeroUsize, path::Path};

use netsim::{
    play::{self, Keeps},
    report::table,
    run::{self, Request},
    shipped,
};
use netsim_core::{check::check, model::World, random::Seed, repro::Repro, shrink::shrink};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_shipped_scenario_holds_with_eighty_seeds_and_all_goals_are_reached() {
    let request = Request {
        scenarios: shipped::all(),
        worlds: vec![World::Sim],
        seeds: "80".parse().expect("a number of seeds"),
        jobs: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        is_whole_suite: true,
        is_full_length: false,
    };
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));

    let suite = run::run(&request, |run, repro| {
        let path = kept.join(format!("{}-{}.toml", run.scenario, run.seed.0));
        fs::write(&path, repro?.to_toml()).expect("there is room for a failure");
        Some(path.display().to_string())
    });

    let suite = suite.expect("virtual time asks for nothing");
    let told = anstream::adapter::strip_str(&table::text(&suite)).to_string();
    assert!(suite.passed(), "{told}");
    assert!(suite.repeated > 0, "some seeds are run twice");
}

#[test]
fn what_failed_once_holds_now() {
    let files = fs::read_dir(root().join("regressions")).expect("the folder");
    for file in files {
        let path = file.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let shown = path.display();
        let text = fs::read_to_string(&path).expect("a file");
        let repro = Repro::parse(&text).unwrap_or_else(|mistakes| panic!("{shown}: {mistakes:?}"));

        let played = play::play(&repro.scenario, repro.seed(), Keeps::Nothing);

        assert_eq!(played.run.failures(), Vec::<String>::new(), "{shown}");
    }
}

/// An agent whose cable is cut three times, and who is expected not to notice.
const NOTICED: &str = r#"
name = "noticed"
summary = "Cuts that an agent notices."
observed = "these tests"
duration = "4m"
host = [
    { name = "relay", runs = "relay", addresses = "203.0.113.10/24" },
    { name = "agent", runs = "agent", addresses = "203.0.113.20/24" },
]
cable = [{ name = "cable", ends = ["agent", "relay"], line = { delay = "1ms..40ms" } }]
at = [{ time = "20s..30s", do = "cut", on = "cable", for = "50s", times = 3, every = "70s" }]
expect = [{ always = "online", from = "5s" }]
"#;

#[test]
fn a_failure_is_the_same_when_it_is_replayed_and_still_one_when_it_is_shrunk() {
    let seed = Seed(7);
    let drawn = check(NOTICED).expect("a sound scenario").drawn(seed);
    let first = play::play(&drawn, seed, Keeps::Shapes);
    let failures = first.run.failures();
    assert_eq!(failures.len(), 1, "{failures:?}");
    let kept = run::repro(drawn, seed, World::Sim, &failures).to_toml();

    let repro = Repro::parse(&kept).expect("it is whole");
    let again = play::play(&repro.scenario, repro.seed(), Keeps::Shapes);
    let shrunk = shrink(&repro.scenario, 60, |smaller| {
        !play::play(smaller, seed, Keeps::Nothing).run.passed()
    });

    assert_eq!(again.run.failures(), failures);
    assert_eq!(first.trace.difference(&again.trace), None);
    assert_eq!(shrunk.scenario.events.len(), 1);
}

#[test]
fn what_passed_on_the_cables_is_kept_with_the_keys_of_its_connections() {
    let drawn = shipped::all().swap_remove(0).drawn(Seed(1));

    let played = play::play(&drawn, Seed(1), Keeps::Packets);

    let file = played.pcapng.expect("it was asked for");
    let contains = |words: &[u8]| file.windows(words.len()).any(|part| part == words);
    assert!(contains(b"CLIENT_TRAFFIC_SECRET_0 "), "the keys of QUIC");
    assert!(contains(b"relay-uplink"), "an interface a cable");
}
