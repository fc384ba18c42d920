//! `check FILE`: whether a scenario makes sense, and every mistake at once.

use std::{fs, io, path::Path};

use netsim_core::{check::check, limits, model::Scenario, term::Mistake};

/// Why a file is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// It does not make sense.
    #[error("{}", listed(.file, .mistakes))]
    Mistaken {
        /// The file.
        file: String,
        /// What is wrong, in the order of the file.
        mistakes: Vec<Mistake>,
    },
}

/// Each mistake on a line, as compilers write it, so that editors find the place.
fn listed(file: &str, mistakes: &[Mistake]) -> String {
    let mut lines: Vec<String> = mistakes
        .iter()
        .map(|mistake| {
            let Mistake {
                line,
                column,
                problem,
            } = mistake;
            format!("{file}:{line}:{column}: {problem}")
        })
        .collect();
    let noun = if mistakes.len() == 1 {
        "mistake"
    } else {
        "mistakes"
    };
    lines.push(format!("{file}: {} {noun}", mistakes.len()));
    lines.join("\n")
}

/// Reads and checks a file.
///
/// # Errors
///
/// It cannot be read, or its scenario does not make sense.
pub fn file(path: &Path) -> Result<Scenario, CheckError> {
    let file = path.display().to_string();
    let read = read_bounded(path, limits::SCENARIO_BYTES_MAX);
    let text = read.map_err(|source| CheckError::Unreadable {
        file: file.clone(),
        source,
    })?;
    check(&text).map_err(|mistakes| CheckError::Mistaken { file, mistakes })
}

/// Reads no more than a file may have, and a byte by which its reader sees that it is too
/// long.
pub(crate) fn read_bounded(path: &Path, most: usize) -> io::Result<String> {
    let mut text = String::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    let file = fs::File::open(path)?;
    io::Read::read_to_string(&mut io::Read::take(file, most + 1), &mut text)?;
    Ok(text)
}

/// What a sound scenario consists of, in a line.
pub fn praise(path: &Path, scenario: &Scenario) -> String {
    format!(
        "{}: sound: {} hosts, {} cables, {} edges, {} events, {} expectations",
        path.display(),
        scenario.hosts.len(),
        scenario.cables.len(),
        scenario.edges.len(),
        scenario.events.len(),
        scenario.expectations.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped::SHIPPED;

    fn written(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("scenario.toml");
        fs::write(&path, text).expect("a file");
        (folder, path)
    }

    #[test]
    fn a_sound_file_is_described() {
        let (_folder, path) = written(SHIPPED[0].1);

        let scenario = file(&path).expect("it is shipped");

        assert!(praise(&path, &scenario).contains("sound: 3 hosts, 4 cables, 2 edges"));
    }

    #[test]
    fn every_mistake_has_its_place_as_compilers_write_it() {
        let (_folder, path) =
            written(&SHIPPED[0].1.replace("runs = \"agent\"", "runs = \"agnet\""));

        let problem = file(&path).expect_err("a mistake was put in").to_string();

        assert!(
            problem.contains("scenario.toml:20:8: unknown role `agnet`"),
            "{problem}"
        );
        assert!(problem.ends_with("scenario.toml: 1 mistake"), "{problem}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let problem = file(Path::new("no/such.toml")).expect_err("it is not there");

        assert!(matches!(&problem, CheckError::Unreadable { .. }));
        assert!(
            problem.to_string().starts_with("no/such.toml: "),
            "{problem}"
        );
    }

    #[test]
    fn a_file_that_is_no_text_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("scenario.toml");
        fs::write(&path, [0xff, 0xfe, 0]).expect("a file");

        assert!(matches!(file(&path), Err(CheckError::Unreadable { .. })));
    }
}
