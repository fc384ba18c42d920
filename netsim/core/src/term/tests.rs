//! Terms are read as they are written, and mistakes are all found.

use std::time::Duration;

use proptest::prelude::*;
use toml::Value;

use super::*;

record! {
    /// A record for these tests.
    struct Sample {
        /// A name.
        "name" name: At<Name>,
        /// How long.
        "lasts" lasts: Choice<Duration> = Choice::Fixed(Duration::from_secs(1)),
        /// How likely.
        "loss" loss: Choice<Probability> = Choice::Fixed(Probability::NONE),
        /// Parts.
        "part" parts: Vec<Sample> = vec![],
    }
}

fn read(text: &str) -> (Sample, Vec<Mistake>) {
    let (mut reader, table) = Reader::parse(text);
    let known = <Sample as Record>::FIELDS;
    let fields = Fields::of(Some(table.get_ref()), 0..0, known, &mut reader);
    let sample = Sample::decode_fields(&fields, &mut reader);
    (sample, reader.mistakes())
}

fn written(sample: &Sample) -> String {
    match sample.encode() {
        Some(Value::Table(table)) => table.to_string(),
        other => panic!("a record is a table, not {other:?}"),
    }
}

#[test]
fn every_mistake_is_found_at_once_with_its_place() {
    let (_, mistakes) = read("name = \"A B\"\nlosts = 1\n\n[[part]]\nloss = 2\n");

    let found: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "line 1, column 8: `A B` is not a name of small letters, digits and hyphens, at most \
             40 of them",
            "line 2, column 1: unknown key `losts`; did you mean `lasts`?",
            "line 4, column 1: the key `name` is missing: a name of small letters, digits and \
             hyphens",
            "line 5, column 8: `2` is not a probability between 0 and 1, such as `0.02`",
        ]
    );
}

#[test]
fn what_is_not_toml_is_named_beside_other_mistakes() {
    let (_, mistakes) = read("name = = 1\nunknown = 2\n");

    let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
    assert!(lines.contains(&1) && lines.contains(&2), "{mistakes:?}");
}

#[test]
fn a_column_counts_characters_and_not_bytes() {
    let (_, mistakes) = read("name = \"a\"\npart = [{ name = \"a\", \"ü\" = 1 }]\n");

    assert_eq!((mistakes[0].line, mistakes[0].column), (2, 23));
}

#[test]
fn an_empty_range_is_a_mistake() {
    let (_, mistakes) = read("name = \"a\"\nlasts = \"5s..1s\"\n");

    assert_eq!(
        mistakes[0].problem,
        "the range `5s..1s` is empty: turn its ends round"
    );
}

#[test]
fn an_empty_list_of_choices_is_a_mistake() {
    let (_, mistakes) = read("name = \"a\"\nlasts = []\n");

    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
}

#[test]
fn one_seed_draws_one_value_and_another_seed_another() {
    let (sample, _) = read("name = \"a\"\nlasts = \"1s..1h\"\n");
    let drawn = |seed| {
        let mut sample = sample.clone();
        sample.draw("sample", Seed(seed));
        sample.lasts.get()
    };

    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
}

#[test]
fn taking_away_a_part_does_not_shift_what_another_draws() {
    let one = "[[part]]\nname = \"x\"\nlasts = \"1s..1h\"\n";
    let other = "[[part]]\nname = \"y\"\nlasts = \"1s..1h\"\n";
    let drawn = |text: &str| {
        let (mut sample, _) = read(text);
        sample.draw("sample", Seed(5));
        sample.parts.last().map(|part| part.lasts.get())
    };

    let both = drawn(&format!("name = \"a\"\n{one}{other}"));
    let alone = drawn(&format!("name = \"a\"\n{other}"));

    assert_eq!(both, alone);
}

#[test]
fn a_mistyped_word_finds_the_one_that_was_meant() {
    assert_eq!(nearest("fierwall", &["nat", "firewall"]), Some("firewall"));
    assert_eq!(nearest("xyz", &["nat", "firewall"]), None);
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0_u64..u64::MAX / 2).prop_map(Duration::from_nanos),
        (0_u64..100_000).prop_map(Duration::from_secs),
        (0_u64..100_000).prop_map(Duration::from_millis),
    ]
}

fn choice() -> impl Strategy<Value = Choice<Duration>> {
    prop_oneof![
        duration().prop_map(Choice::Fixed),
        (duration(), duration()).prop_map(|(a, b)| Choice::Between(a.min(b), a.max(b))),
        (duration(), prop::collection::vec(duration(), 0..4))
            .prop_map(|(first, others)| Choice::OneOf(first, others)),
    ]
}

fn sample() -> impl Strategy<Value = Sample> {
    let leaf = ("[a-z0-9-]{1,40}", choice(), 0.0..=1.0_f64).prop_map(|(name, lasts, loss)| {
        let loss = Probability::from_text(&loss.to_string()).expect("between 0 and 1");
        Sample {
            name: At::nowhere(Name::of(name)),
            lasts,
            loss: Choice::Fixed(loss),
            parts: vec![],
        }
    });
    let leaf = leaf.boxed();
    (leaf.clone(), prop::collection::vec(leaf, 0..4)).prop_map(|(mut whole, parts)| {
        whole.parts = parts;
        whole
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_as_the_same(sample in sample()) {
        let (read, mistakes) = read(&written(&sample));

        prop_assert_eq!(mistakes, []);
        prop_assert_eq!(read, sample);
    }

    #[test]
    fn what_is_drawn_lies_in_its_range(choice in choice(), seed in any::<u64>()) {
        let mut drawn = choice.clone();

        drawn.draw("purpose", Seed(seed));

        let value = drawn.get();
        prop_assert!(matches!(drawn, Choice::Fixed(_)));
        match choice {
            Choice::Fixed(fixed) => prop_assert_eq!(value, fixed),
            Choice::Between(low, high) => prop_assert!(low <= value && value <= high),
            Choice::OneOf(first, others) => {
                prop_assert!(value == first || others.contains(&value));
            }
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let (_, _) = read(&text);
    }

    #[test]
    fn no_value_makes_a_scalar_panic(text in "[-0-9a-zA-Z.:/% ]{0,20}") {
        let line = format!("name = \"{text}\"\nlasts = \"{text}\"\nloss = \"{text}\"\n");

        let (_, _) = read(&line);
    }
}

#[test]
fn quantities_are_written_with_the_unit_that_fits() {
    let rewritten = |value: Value| value.as_str().map(str::to_owned).unwrap_or_default();

    let rate = Rate::from_text("10Mbit").expect("a rate");
    let size = Size::from_text("64KiB").expect("a size");
    let offset = Offset::from_text("-2d").expect("an offset");

    assert_eq!(rewritten(rate.to_value()), "10Mbit");
    assert_eq!(rewritten(size.to_value()), "64KiB");
    assert_eq!(rewritten(offset.to_value()), "-2d");
}

#[test]
fn a_port_range_that_runs_backwards_is_refused() {
    assert!(PortRange::from_text("9-1").is_err());
    assert_eq!(PortRange::from_text("0-65535"), Ok(PortRange::ALL));
}
