//! A report as a directory: the page, the two reports for programs, and what replays each
//! failure.
//!
//! A directory that holds anything else is never written to. One that holds a report gets
//! the new one, file by file: each is replaced at once, so that a reader sees the old or
//! the new, and never half of one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use super::{About, html, json, junit};
use crate::outcome::Suite;

/// The page, for people.
pub const PAGE: &str = "index.html";

/// The report for programs; it is what says that a directory is a report.
pub const JSON: &str = "report.json";

/// The report for CI systems.
pub const JUNIT: &str = "junit.xml";

/// Where repro files are.
pub const FAILURES: &str = "failures";

/// How much of a file is read to see what it is.
const LOOKED_AT: u64 = 4096;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something else is there.
    #[error(
        "{directory}: {what}, and is not overwritten: give --report a new or an empty directory, \
         or one that an earlier --report has written"
    )]
    NoReport {
        /// The directory.
        directory: String,
        /// What is there.
        what: &'static str,
    },
    /// A repro has a name that is no file's.
    #[error("`{0}` is no name of a repro file: it is to be NAME.toml")]
    BadName(String),
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file or directory.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Whether a report may be written there; to be asked before a long run and not after it.
///
/// # Errors
///
/// Something is there that is no report, or it cannot be read.
pub fn examine(directory: &Path) -> Result<(), WriteError> {
    let no_report = |what| {
        let directory = directory.display().to_string();
        Err(WriteError::NoReport { directory, what })
    };
    let mut entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return no_report("this is a file");
        }
        Err(error) => return Err(failed(directory, error)),
    };
    if entries.next().is_none() || is_report(&directory.join(JSON)) {
        return Ok(());
    }
    no_report("this directory holds something that is no report")
}

/// Whether a file is a report of ours. Ours begin with what they are; another's file may be
/// of any size, and is not read whole.
fn is_report(path: &Path) -> bool {
    let Ok(file) = fs::File::open(path) else {
        return false;
    };
    let mut begin = Vec::new();
    let read = file.take(LOOKED_AT).read_to_end(&mut begin);
    let begin = String::from_utf8_lossy(&begin);
    read.is_ok() && begin.contains(json::KIND)
}

/// Writes a report, and says where its page is. `repros` are repro files by their names.
///
/// # Errors
///
/// Something is there that is no report, or it cannot be written.
pub fn directory(
    directory: &Path,
    suite: &Suite,
    about: &About,
    repros: &BTreeMap<String, String>,
) -> Result<PathBuf, WriteError> {
    examine(directory)?;
    if let Some(name) = repros.keys().find(|name| !is_plain(name)) {
        return Err(WriteError::BadName(name.clone()));
    }
    let failures = directory.join(FAILURES);
    fs::create_dir_all(&failures).map_err(|error| failed(&failures, error))?;
    // First what says that this is a report: what is cut short can be written again.
    replace(directory, JSON, &json::text(suite, about))?;
    for (name, text) in repros {
        replace(&failures, name, text)?;
    }
    remove_others(&failures, &repros.keys().map(String::as_str).collect())?;
    replace(directory, JUNIT, &junit::report(suite))?;
    replace(directory, PAGE, &html::page(suite, about))?;
    Ok(directory.join(PAGE))
}

/// Whether a name is a file's in `failures`, and no path to elsewhere.
fn is_plain(name: &str) -> bool {
    let stem = name.strip_suffix(".toml").unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !stem.is_empty() && stem.chars().all(fits)
}

/// Repro files of the report before; what else somebody put there stays.
fn remove_others(failures: &Path, kept: &BTreeSet<&str>) -> Result<(), WriteError> {
    let entries = fs::read_dir(failures).map_err(|error| failed(failures, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| failed(failures, error))?;
        let name = entry.file_name();
        let is_other = name
            .to_str()
            .is_some_and(|name| is_plain(name) && !kept.contains(name));
        if is_other {
            fs::remove_file(entry.path()).map_err(|error| failed(&entry.path(), error))?;
        }
    }
    Ok(())
}

/// Puts a file in its place at once, with the rights that the user's umask leaves.
fn replace(folder: &Path, name: &str, text: &str) -> Result<(), WriteError> {
    let path = folder.join(name);
    let write = || -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.prefix(".report-").tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error| failed(&path, error))
}

fn failed(path: &Path, source: io::Error) -> WriteError {
    let path = path.display().to_string();
    WriteError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    fn repros(names: &[&str]) -> BTreeMap<String, String> {
        let texts = names.iter();
        texts
            .map(|name| ((*name).to_owned(), format!("# {name}\n")))
            .collect()
    }

    fn write(path: &Path, names: &[&str]) -> Result<PathBuf, WriteError> {
        directory(path, &fixture::suite(), &fixture::about(), &repros(names))
    }

    fn listed(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).expect("a directory");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.to_str().expect("UTF-8").to_owned())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_report_is_a_page_two_files_and_the_repros() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("some/report");

        let page = write(&path, &["open-sim-7.toml"]).expect("it is new");

        assert_eq!(page, path.join("index.html"));
        assert_eq!(
            listed(&path),
            ["failures", "index.html", "junit.xml", "report.json"]
        );
        let repro = fs::read_to_string(path.join("failures/open-sim-7.toml"));
        assert_eq!(repro.expect("it is there"), "# open-sim-7.toml\n");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&page).expect("a file").permissions().mode();
            assert_ne!(mode & 0o600, 0);
            assert_eq!(mode & 0o111, 0);
        }
    }

    #[test]
    fn a_report_is_replaced_without_what_others_put_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        write(path, &["open-sim-7.toml", "open-sim-8.toml"]).expect("it is empty");
        fs::write(path.join("failures/notes.txt"), "mine").expect("a file");

        write(path, &["open-sim-8.toml"]).expect("it holds a report");

        assert_eq!(
            listed(&path.join(FAILURES)),
            ["notes.txt", "open-sim-8.toml"]
        );
    }

    #[test]
    fn what_is_no_report_is_not_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(JSON), "{\"kind\": \"another\"}").expect("a file");

        let problem = write(folder.path(), &[]).expect_err("it is another's");

        assert!(
            problem.to_string().contains("give --report a new"),
            "{problem}"
        );
        assert_eq!(listed(folder.path()), [JSON]);
        let file = folder.path().join(JSON);
        let problem = examine(&file).expect_err("a file").to_string();
        assert!(problem.contains("this is a file"), "{problem}");
    }

    #[test]
    fn a_repro_cannot_leave_its_directory() {
        let folder = tempfile::tempdir().expect("a folder");

        for name in [
            "../x.toml",
            "/x.toml",
            ".toml",
            "x",
            "a/b.toml",
            "x.toml/..",
        ] {
            let problem = write(folder.path(), &[name]).expect_err("no name of a file");
            assert!(matches!(problem, WriteError::BadName(_)), "{problem}");
        }
        assert!(listed(folder.path()).is_empty());
    }
}
