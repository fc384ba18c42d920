//! Instructions of the hot path, counted by valgrind: on a busy machine as on a quiet
//! one, and again to within one in a thousand where there are many streams.
//!
//! Each case runs twice, once with more repetitions, and the difference is what the
//! further repetitions took: start-up and preparation cancel out.

use std::{fmt::Write, process::Command};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Context, Failure},
    hot::{CASES, Case},
    process::{self, Cores},
    results::Results,
};

/// Repetitions of the shorter run, and how many more the longer one has: a multiple of
/// what lies between two acknowledgements or grants of credit, so that both have their
/// share of them.
const SHORT: u64 = 64;
const MORE: u64 = 256;

/// What is counted.
#[derive(Debug, Clone, Args)]
pub struct CallgrindArgs {
    /// Only cases with one of these words in their name
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    only: Vec<String>,
    /// Write the results into RESULTS.md, too
    #[arg(long)]
    pub write: bool,
}

/// One case alone, as often as told: what valgrind looks at.
#[derive(Debug, Clone, Args)]
pub struct HotArgs {
    /// Its name
    case: String,
    /// How often
    times: u64,
}

/// What one case takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Counted {
    /// Which case.
    pub case: String,
    /// What is counted by.
    pub unit: String,
    /// Instructions for one of these.
    pub instructions: f64,
    /// Instructions for one byte of payload, where there is any.
    pub per_byte: Option<f64>,
}

/// Runs one case.
///
/// # Errors
/// There is no such case.
pub fn run_hot(args: &HotArgs) -> Result<(), Failure> {
    let case = Case::find(&args.case).context(format_args!(
        "there is no case `{}`: {}",
        args.case,
        CASES.map(|case| case.name).join(", ")
    ))?;
    let mut repeat = case.prepare();
    for _ in 0..args.times {
        repeat();
    }
    Ok(())
}

/// Counts, and prints the table.
///
/// # Errors
/// valgrind is lacking or fails.
pub fn run(args: &CallgrindArgs, results: &Results) -> Result<(), Failure> {
    let is_wanted = |case: &&Case| {
        args.only.is_empty()
            || args
                .only
                .iter()
                .any(|word| case.name.contains(word.as_str()))
    };
    let mut counted = Vec::new();
    for case in CASES.iter().filter(is_wanted) {
        counted.push(count(case)?);
        eprintln!("{}: counted", case.name);
    }
    let text = markdown(&counted);
    println!("{text}");
    if args.write {
        results.raw("callgrind", &counted)?;
        results.section("callgrind", &text)?;
    }
    Ok(())
}

fn count(case: &Case) -> Result<Counted, Failure> {
    // What is done a thousand times in one repetition needs fewer of them.
    let (short, more) = if case.units > 1 {
        (2, 4)
    } else {
        (SHORT, MORE)
    };
    let (few, many) = (
        instructions(case, short)?,
        instructions(case, short + more)?,
    );
    let each = (many - few) as f64 / more as f64;
    let payload = case.bytes as f64;
    Ok(Counted {
        case: case.name.to_owned(),
        unit: case.unit.to_owned(),
        instructions: each / case.units as f64,
        per_byte: (case.bytes > 0).then(|| each / payload),
    })
}

/// All instructions of a run, from start to end.
fn instructions(case: &Case, times: u64) -> Result<u64, Failure> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let out = folder.path().join("callgrind.out");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(process::myself()?)
        .args(["hot", case.name, &times.to_string()]);
    process::output(&mut command, Cores::All)
        .context("instructions are counted by valgrind (apt install valgrind)")?;
    let text = std::fs::read_to_string(&out).context(out.display())?;
    total(&text).context("callgrind's output has no total")
}

/// The sum in callgrind's output; `totals:` or `summary:`, by its version.
fn total(text: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| {
            line.strip_prefix("totals:")
                .or_else(|| line.strip_prefix("summary:"))
        })
        .find_map(|rest| rest.trim().parse().ok())
}

fn markdown(counted: &[Counted]) -> String {
    let mut text = String::from(
        "## Instructions of the hot path\n\n\
         `sternline-bench callgrind`: instructions in user space by valgrind, of one more \
         repetition. Encoding copies the payload, and a copied byte counts as about one \
         instruction here, where a processor moves many at a time; decoding shares its \
         memory.\n\n\
         | | instructions | for each | for a byte of payload |\n| --- | --- | --- | --- |\n",
    );
    for one in counted {
        let per_byte = one
            .per_byte
            .map_or_else(|| "–".to_owned(), |each| format!("{each:.2}"));
        writeln!(
            text,
            "| {} | {:.0} | {} | {per_byte} |",
            one.case, one.instructions, one.unit
        )
        .expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_in_either_of_callgrinds_words() {
        assert_eq!(total("version: 1\ntotals: 4711\n"), Some(4711));
        assert_eq!(total("events: Ir\nsummary: 12\nfn=x\n"), Some(12));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn a_case_that_does_not_exist_is_answered_with_those_that_do() {
        let args = HotArgs {
            case: "nothing".to_owned(),
            times: 1,
        };

        let failure = run_hot(&args).unwrap_err();

        assert!(failure.to_string().contains("session bulk"));
    }
}
