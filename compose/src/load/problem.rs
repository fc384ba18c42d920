//! What is wrong with a stack's files, where, and what to do about it.

use std::{fmt, sync::Arc};

/// A file that something was read from, and the folder that its relative paths start in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file's path in the bundle, with `/`.
    pub file: String,
    /// The folder in the bundle; empty for its root.
    pub base: String,
}

/// A place in a file. Lines and columns count from 1; 0 is the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which file.
    pub origin: Arc<Origin>,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

impl Place {
    /// The file as a whole.
    #[must_use]
    pub fn file(path: &str) -> Self {
        let origin = Origin {
            file: path.to_owned(),
            base: String::new(),
        };
        Self {
            origin: Arc::new(origin),
            line: 0,
            column: 0,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// One mistake, or one warning. Shown, it has names of secret variables and never their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// Which attribute, such as `services.web.ports[0]`; empty where it is none.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do next; empty where the message says it.
    pub help: String,
}

impl Problem {
    /// A problem of an attribute.
    pub fn new(place: &Place, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            path: path.into(),
            message: message.into(),
            help: String::new(),
        }
    }

    /// The same, with what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Problem {
    /// `compose.yml:12:5: services.web.ports[0]: what is wrong. What to do`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}: ", self.place);
        if !self.path.is_empty() {
            text.push_str(&format!("{}: ", self.path));
        }
        text.push_str(&self.message);
        if !self.help.is_empty() {
            text.push_str(&format!(". {}", self.help));
        }
        f.write_str(&super::secret::mask(&text))
    }
}
