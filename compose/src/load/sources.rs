//! What the loader is given: files, variables, and which of them to begin with.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::variables::Variables;

/// Most bytes of one Compose file, or of one file of variables or labels. A file of 50 services
/// with everything has about 100 kB.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// Most bytes that ship with one release. A release lies in the relay's store and travels to
/// every environment; what is larger belongs into an image.
pub const BUNDLE_BYTES_MAX: u64 = 64 << 20;
/// Most files of one folder that ships.
pub const FOLDER_FILES_MAX: usize = 2000;
/// Most folders in one another that ship.
pub const FOLDER_DEPTH_MAX: usize = 32;

/// A file's bytes and its permission bits.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub bytes: Arc<[u8]>,
    /// Such as `0o644`.
    pub mode: u32,
}

impl File {
    /// A file that everybody may read.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self {
            bytes: bytes.into(),
            mode: 0o644,
        }
    }
}

impl fmt::Debug for File {
    /// Content is left out: it may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({} bytes, {:o})", self.bytes.len(), self.mode)
    }
}

/// What is at a path.
#[derive(Debug, Clone)]
pub enum Found {
    /// A file.
    File(File),
    /// A folder: the names in it.
    Folder(Vec<String>),
    /// A symbolic link, a socket, a device: nothing that ships. The text says which.
    Other(&'static str),
    /// Nothing.
    Absent,
    /// It cannot be read. The text says why.
    Unreadable(String),
}

/// Files by their path in a bundle: relative, with `/`, without `.` and `..`; the bundle's root
/// is the empty path. A disk does not follow symbolic links.
pub trait Files {
    /// What is at this path?
    fn look(&self, path: &str) -> Found;
}

/// Files in memory: a release's bundle.
pub type Bundle = BTreeMap<String, File>;

impl Files for Bundle {
    fn look(&self, path: &str) -> Found {
        if let Some(file) = self.get(path) {
            return Found::File(file.clone());
        }
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let below = self
            .range(prefix.clone()..)
            .map_while(|(name, _)| name.strip_prefix(prefix.as_str()));
        let names: BTreeSet<&str> = below.filter_map(|rest| rest.split('/').next()).collect();
        if names.is_empty() && !path.is_empty() {
            return Found::Absent;
        }
        Found::Folder(names.into_iter().map(str::to_owned).collect())
    }
}

/// Files that remember which of them were asked for and there.
pub(super) struct Recording<'a> {
    files: &'a dyn Files,
    seen: RefCell<Bundle>,
}

impl<'a> Recording<'a> {
    pub(super) fn new(files: &'a dyn Files) -> Self {
        Self {
            files,
            seen: RefCell::default(),
        }
    }

    pub(super) fn into_seen(self) -> Bundle {
        self.seen.into_inner()
    }
}

impl Files for Recording<'_> {
    fn look(&self, path: &str) -> Found {
        let found = self.files.look(path);
        if let Found::File(file) = &found {
            self.seen.borrow_mut().insert(path.to_owned(), file.clone());
        }
        found
    }
}

/// What a stack is loaded from.
#[derive(Clone)]
pub struct Sources<'a> {
    /// Every file that may be named.
    pub files: &'a dyn Files,
    /// Paths of the Compose files; a later one is merged over the earlier ones.
    pub compose: Vec<String>,
    /// The stack's name, before what the files say.
    pub name: Option<String>,
    /// What the project's folder is called on the author's machine: its name is the stack's
    /// where nothing else gives one.
    pub folder: Option<String>,
    /// Which profiles are active; `*` is all of them.
    pub profiles: BTreeSet<String>,
    /// What is interpolated.
    pub variables: Variables,
}

impl<'a> Sources<'a> {
    /// One file, no variables.
    #[must_use]
    pub fn new(files: &'a dyn Files, compose: &str) -> Self {
        Self {
            files,
            compose: vec![compose.to_owned()],
            name: None,
            folder: None,
            profiles: BTreeSet::new(),
            variables: Variables::default(),
        }
    }
}

impl fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("compose", &self.compose)
            .field("name", &self.name)
            .field("folder", &self.folder)
            .field("profiles", &self.profiles)
            .field("variables", &self.variables)
            .finish_non_exhaustive()
    }
}

/// A relative path in the bundle, put together from a folder and what was written.
///
/// # Errors
///
/// Why it is none: absolute, of a home, out of the bundle.
pub fn join(base: &str, path: &str) -> Result<String, &'static str> {
    if path.starts_with('/') {
        return Err("is absolute");
    }
    if path.starts_with('~') {
        return Err("is in somebody's home");
    }
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err("leads out of the project's folder");
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The folder that a path is in; empty for the root.
#[must_use]
pub(super) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_has_folders_where_paths_have_slashes() {
        let file = File::new(b"x".as_slice());
        let bundle = Bundle::from([
            ("a/b/c".to_owned(), file.clone()),
            ("a/d".to_owned(), file.clone()),
            ("a-e".to_owned(), file),
        ]);

        assert!(matches!(bundle.look("a/d"), Found::File(_)));
        assert!(matches!(bundle.look("a"), Found::Folder(names) if names == ["b", "d"]));
        assert!(matches!(bundle.look(""), Found::Folder(names) if names == ["a", "a-e"]));
        assert!(matches!(bundle.look("a/x"), Found::Absent));
    }

    #[test]
    fn no_path_leads_out_of_the_bundle() {
        assert_eq!(join("deploy", "../conf/./x"), Ok("conf/x".to_owned()));
        assert_eq!(join("", "./a//b/"), Ok("a/b".to_owned()));
        assert!(join("deploy", "../../x").is_err());
        assert!(join("", "/etc/passwd").is_err());
        assert!(join("", "~/x").is_err());
    }
}
