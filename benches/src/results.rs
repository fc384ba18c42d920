//! The results as files: named sections of `RESULTS.md`, plots, and raw rounds as JSON.
//!
//! A run replaces its own sections and leaves all others as they are, so that each kind
//! of measurement can be made again alone. A section lies between two comments,
//! `<!-- section: NAME -->` and `<!-- end: NAME -->`; what stands outside is a person's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::failure::{Context, Failure};

/// The folder that results are written to.
#[derive(Debug, Clone)]
pub struct Results {
    folder: PathBuf,
}

impl Results {
    /// Results in this folder, which is made where it is missing.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// This crate's own folder in the source tree: where committed results are.
    pub fn default_folder() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    /// Replaces one section of `RESULTS.md`, or adds it at the end.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn section(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.folder.join("RESULTS.md");
        let document = match fs::read_to_string(&path) {
            Ok(document) => document,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "# Results\n".to_owned(),
            Err(error) => return Err(error).context(path.display()),
        };
        let replaced = replace_section(&document, name, text).context(path.display())?;
        self.write("RESULTS.md", replaced.as_bytes())
    }

    /// Writes a plot, and returns its path as `RESULTS.md` links to it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn plot(&self, name: &str, svg: &str) -> Result<String, Failure> {
        let path = format!("plots/{name}.svg");
        self.write(&path, svg.as_bytes())?;
        Ok(path)
    }

    /// Writes the raw rounds behind a section, and returns their path as `RESULTS.md`
    /// links to it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn raw<T: Serialize>(&self, name: &str, rounds: &T) -> Result<String, Failure> {
        let path = format!("raw/{name}.json");
        let mut text = serde_json::to_string_pretty(rounds).context(&path)?;
        text.push('\n');
        self.write(&path, text.as_bytes())?;
        Ok(path)
    }

    /// Reads raw rounds that a former run has left; `None` where there are none that
    /// can be understood.
    pub fn rounds<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let bytes = fs::read(self.folder.join(format!("raw/{name}.json"))).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).context(parent.display())?;
        }
        fs::write(&path, bytes).context(path.display())
    }
}

/// The document with one section replaced, or added where there was none.
///
/// # Errors
/// The section begins and does not end: a person has to look at it.
pub fn replace_section(document: &str, name: &str, text: &str) -> Result<String, Failure> {
    let (begin, end) = (
        format!("<!-- section: {name} -->\n"),
        format!("<!-- end: {name} -->\n"),
    );
    let section = format!("{begin}{}\n{end}", text.trim_end());
    let Some((before, rest)) = document.split_once(&begin) else {
        let gap = if document.is_empty() { "" } else { "\n" };
        return Ok(format!("{document}{gap}{section}"));
    };
    let Some((_, after)) = rest.split_once(&end) else {
        return Err(Failure::new(format!(
            "section `{name}` has no end: put the line `{}` back where it ends",
            end.trim_end()
        )));
    };
    Ok(format!("{before}{section}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# Results\n\nBy hand.\n\n\
        <!-- section: a -->\nold a\n<!-- end: a -->\n\nBetween.\n\n\
        <!-- section: ab -->\nold ab\n<!-- end: ab -->\n";

    #[test]
    fn a_section_is_replaced_and_the_rest_stays_to_the_byte() {
        let replaced = replace_section(DOCUMENT, "a", "new\n\n").unwrap();

        assert_eq!(replaced, DOCUMENT.replace("old a\n", "new\n"));
    }

    #[test]
    fn a_section_whose_name_begins_like_anothers_is_not_taken_for_it() {
        let replaced = replace_section(DOCUMENT, "ab", "new").unwrap();

        assert_eq!(replaced, DOCUMENT.replace("old ab\n", "new\n"));
    }

    #[test]
    fn a_new_section_is_added_at_the_end() {
        let added = replace_section(DOCUMENT, "c", "new").unwrap();

        assert_eq!(
            added,
            format!("{DOCUMENT}\n<!-- section: c -->\nnew\n<!-- end: c -->\n")
        );
    }

    #[test]
    fn to_write_a_section_again_changes_nothing() {
        let once = replace_section(DOCUMENT, "c", "new").unwrap();

        let twice = replace_section(&once, "c", "new").unwrap();

        assert_eq!(once, twice);
    }

    #[test]
    fn a_section_without_its_end_is_left_to_a_person() {
        let broken = DOCUMENT.replace("<!-- end: a -->\n", "");

        let failure = replace_section(&broken, "a", "new").unwrap_err();

        assert!(failure.to_string().contains("<!-- end: a -->"));
    }

    #[test]
    fn sections_plots_and_raw_rounds_are_files_beside_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::new(folder.path());

        results.section("a", "text").unwrap();
        let plot = results.plot("speed", "<svg/>").unwrap();
        let raw = results.raw("a", &[1, 2]).unwrap();

        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(read("RESULTS.md").contains("\ntext\n"));
        assert_eq!(read(&plot), "<svg/>");
        assert_eq!(read(&raw), "[\n  1,\n  2\n]\n");
    }
}
