//! A failure in a file: the drawn scenario, in which no range is left to draw from, and
//! what failed. It replays without the scenario that it came from.
//!
//! The seed in it decides no more than what the dice of single packets say: which of them
//! a lossy cable loses. A file that was cut off is refused with the line where it ends.

use crate::{
    check,
    model::{Scenario, World},
    random::Seed,
    term::{Fields, Mistake, Name, Reader, Record, Scalar, Term, Text, record},
};

/// The last line: a file that lacks it was cut off.
const END: &str = "# end of repro";

/// The version of this format.
const FORMAT: u32 = 1;

record! {
    /// A failure in a file.
    pub struct Repro {
        /// The version of the format.
        "repro" format: u32,
        /// Where it failed.
        "world" world: World,
        /// The seed, in hexadecimal.
        "seed" seed: Text,
        /// The commit of the program that saw it.
        "commit" commit: Name,
        /// What failed, for a reader.
        "fails" fails: Vec<Text>,
        /// The drawn scenario.
        "scenario" scenario: Scenario,
    }
}

impl Repro {
    /// A failure to be written down. `scenario` is drawn; `fails` says what was wrong.
    pub fn new(scenario: Scenario, seed: Seed, (world, commit): (World, &str)) -> Self {
        Self {
            format: FORMAT,
            world,
            seed: Text::from_text(&format!("{:016x}", seed.0)).unwrap_or_default(),
            commit: Name::of(commit),
            fails: Vec::new(),
            scenario,
        }
    }

    /// Adds what failed.
    pub fn add_failure(&mut self, sentence: &str) {
        if let Ok(text) = Text::from_text(sentence) {
            self.fails.push(text);
        }
    }

    /// The seed.
    pub fn seed(&self) -> Seed {
        Seed(u64::from_str_radix(self.seed.as_str(), 16).unwrap_or(0))
    }

    /// As a file.
    pub fn to_toml(&self) -> String {
        let table = self.encode().unwrap_or_else(|| toml::Table::new().into());
        let body = toml::to_string(&table).unwrap_or_default();
        format!("# Replay with: sternline-netsim replay FILE\n{body}\n{END}\n")
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It was cut off, is of another version, or its scenario does not make sense: every
    /// mistake with its line.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        if text.trim_end().lines().next_back() != Some(END) {
            return Err(vec![Mistake {
                line: text.lines().count().max(1),
                column: 1,
                problem: format!(
                    "the file was cut off here: its last line is not `{END}`; get it again"
                ),
            }]);
        }
        let (mut reader, table) = Reader::parse(text);
        let fields = Fields::of(Some(table.get_ref()), 0..0, Self::FIELDS, &mut reader);
        let repro = Self::decode_fields(&fields, &mut reader);
        if repro.format != FORMAT && reader.is_clean() {
            let problem = format!("this is format {}, and {FORMAT} is known", repro.format);
            reader.report(&(0..0), problem);
        }
        if u64::from_str_radix(repro.seed.as_str(), 16).is_err() && reader.is_clean() {
            reader.report(&(0..0), "the seed is no hexadecimal number");
        }
        check::examine(&repro.scenario, &mut reader);
        if reader.is_clean() {
            Ok(repro)
        } else {
            Err(reader.mistakes())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn repro() -> Repro {
        let text = r#"
name = "small"
summary = "An agent and its relay."
observed = "these tests"
duration = "60s"
host = [
    { name = "relay", runs = "relay", addresses = "203.0.113.10/24" },
    { name = "agent", runs = "agent", addresses = "203.0.113.20/24" },
]
cable = [{ name = "cable", ends = ["agent", "relay"], line = { delay = "1ms..80ms" } }]
at = [{ time = "1s..9s", do = "cut", on = "cable", for = "1s", times = 3, every = "10s" }]
expect = [{ never = "stream-reset" }]
"#;
        let scenario = check::check(text).expect("a sound scenario").drawn(Seed(9));
        let mut repro = Repro::new(scenario, Seed(9), (World::Sim, "2f1c9c9"));
        repro.add_failure("never stream-reset failed at 3 s");
        repro
    }

    #[test]
    fn a_repro_reads_as_it_was_written_and_draws_nothing_more() {
        let repro = repro();

        let read = Repro::parse(&repro.to_toml()).expect("it is whole");

        assert_eq!(read, repro);
        assert_eq!(read.seed(), Seed(9));
        assert_eq!(read.scenario.drawn(Seed(1)), read.scenario);
    }

    #[test]
    fn a_scenario_that_makes_no_sense_is_refused_with_its_line() {
        let text = repro()
            .to_toml()
            .replacen("on = \"cable\"", "on = \"cabel\"", 1);

        let mistakes = Repro::parse(&text).expect_err("there is no such cable");

        assert!(mistakes[0].line > 1, "{mistakes:?}");
        assert!(
            mistakes[0].problem.contains("did you mean `cable`"),
            "{mistakes:?}"
        );
    }

    #[test]
    fn another_format_is_refused() {
        let text = repro().to_toml().replacen("repro = 1", "repro = 2", 1);

        assert!(Repro::parse(&text).is_err());
    }

    proptest! {
        #[test]
        fn a_file_cut_off_anywhere_is_refused_with_the_line(share in 0.0..1.0_f64) {
            let text = repro().to_toml();
            let whole = text.trim_end().len();
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation,
                clippy::cast_sign_loss, reason = "a share of a short file")]
            let cut = (whole as f64 * share) as usize;
            let cut_off = text.get(..cut).unwrap_or_default();

            let mistakes = Repro::parse(cut_off).expect_err("it was cut off");

            prop_assert_eq!(mistakes[0].line, cut_off.lines().count().max(1));
        }
    }
}
