//! Scenarios are read as they are written, and drawn as the seed says.

use super::*;

const SMALL: &str = r#"
name = "small"
summary = "One of everything that draws."
observed = "these tests"
duration = "60s"

[[host]]
name = "agent"
runs = "agent"
addresses = "10.1.0.2/24"
skew = "-1s..1s"

[[cable]]
name = "uplink"
ends = ["agent", "office:inside"]
line = { delay = "1ms..80ms", jitter = { shape = "pareto", spread = "5ms" }, rate = "10Mbit" }

[[edge]]
name = "office"
firewall = { rules = [{ protocol = "udp", do = "drop" }] }
nat = { addresses = ["198.51.100.1"], ports = "40000-40010" }
idle = { preset = "azure-load-balancer", udp = "30s" }

[[at]]
name = "flap"
time = "5s..6s"
do = "cut"
on = "uplink"
for = "200ms..1s"
times = 3
every = "10s"

[[expect]]
see = "online"
within = "5s"
after = "undone:flap"
"#;

fn small() -> Scenario {
    parse(SMALL).expect("the scenario above is well formed")
}

#[test]
fn what_is_written_reads_as_the_same() {
    let scenario = small();

    let again = parse(&scenario.to_toml());

    assert_eq!(again, Ok(scenario));
}

#[test]
fn a_drawn_scenario_needs_no_seed_any_more() {
    let drawn = small().drawn(Seed(1));

    assert_eq!(drawn.drawn(Seed(2)), drawn);
    assert!(!drawn.to_toml().contains(".."), "{}", drawn.to_toml());
}

#[test]
fn repetitions_become_events_of_their_own_in_order_of_time() {
    let drawn = small().drawn(Seed(3));

    let times: Vec<Duration> = drawn.events.iter().map(|event| event.time.get()).collect();
    assert_eq!(times.len(), 3);
    for (turn, time) in times.iter().enumerate() {
        let first = Duration::from_secs(5 + 10 * turn as u64);
        assert!(first <= *time && *time <= first + Duration::from_secs(1));
    }
    let pauses: Vec<_> = drawn
        .events
        .iter()
        .map(|event| event.lasts.clone())
        .collect();
    assert_ne!(pauses[0], pauses[1], "each repetition draws for itself");
}

#[test]
fn a_key_wins_over_its_preset() {
    let timeouts = small().edges[0].idle.timeouts();

    assert_eq!(timeouts.tcp, Some(Duration::from_secs(240)));
    assert_eq!(timeouts.udp, Some(Duration::from_secs(30)));
    assert_eq!(timeouts.expired, Expired::Silent);
}

#[test]
fn an_expectation_says_one_thing() {
    let operator = |text: &str| {
        let text = SMALL.replace(
            "see = \"online\"\nwithin = \"5s\"\nafter = \"undone:flap\"",
            text,
        );
        let scenario = parse(&text).expect("well formed");
        scenario.expectations[0].operator().map(|_| ())
    };

    assert_eq!(operator("always = \"online\""), Ok(()));
    assert!(operator("see = \"online\"").is_err());
    assert!(operator("always = \"online\"\nnever = \"offline\"").is_err());
    assert!(operator("always = \"online\"\nwithin = \"1s\"").is_err());
    assert!(operator("of = \"agent\"").is_err());
}

/// The document has it behind this line.
const MARK: &str = "<!-- reference -->\n";
const DOCUMENT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/netsim-scenarios.md"
);

/// Write it anew with `STERNLINE_UPDATE_REFERENCE=1 cargo test -p netsim-core reference`,
/// and have the difference reviewed.
#[test]
fn the_reference_in_the_document_is_what_the_code_reads() {
    let kept = std::fs::read_to_string(DOCUMENT).expect("the document");
    let (above, below) = kept.split_once(MARK).expect("the mark");
    let generated = format!("\n{}\n", reference().trim_end());
    if std::env::var_os("STERNLINE_UPDATE_REFERENCE").is_some() {
        let document = format!("{above}{MARK}{generated}");
        std::fs::write(DOCUMENT, document).expect("the document can be written");
        return;
    }

    assert!(
        below == generated,
        "docs/netsim-scenarios.md differs from the code: \
         STERNLINE_UPDATE_REFERENCE=1 cargo test -p netsim-core reference"
    );
}

#[test]
fn the_document_names_every_observation_and_its_example_is_sound() {
    let document = std::fs::read_to_string(DOCUMENT).expect("the document");
    let (_, example) = document.split_once("```toml\n").expect("an example");
    let (example, _) = example.split_once("```").expect("its end");

    let unnamed: Vec<&Word> = Word::ALL
        .iter()
        .filter(|word| !document.contains(&format!("`{word}")))
        .collect();

    assert!(unnamed.is_empty(), "{unnamed:?}");
    assert!(crate::check::check(example).is_ok());
}

#[test]
fn every_key_of_the_format_is_in_its_reference() {
    let page = reference();

    for field in <Scenario as Record>::FIELDS {
        assert!(
            page.contains(&format!("| `{}` |", field.key)),
            "{}",
            field.key
        );
    }
    for preset in Preset::ALL {
        assert!(page.contains(preset.observed()), "{preset}");
    }
}
