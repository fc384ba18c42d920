//! The state directory: private to the agent, and to one process of it at a time.
//!
//! One [in memory](StateDir::in_memory) keeps the same bytes under the same names; with
//! it an agent runs where there is no disk, and starts again with what it has kept.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::fs::FlockOperation;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::file::{self, Durability};

/// Where the state lives unless told otherwise.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/sternline-agent";

/// How often, and how far apart, another process is waited for: two seconds.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What one in memory is called in messages.
const IN_MEMORY: &str = "(memory)";

/// The state directory, locked until the last clone of this value is dropped or the
/// process ends, however it ends.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Disk { _lock: Arc<File> },
    Memory(Memory),
}

/// Files by name.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<String, Zeroizing<Vec<u8>>>>>);

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys are among what it holds.
        f.write_str("Memory")
    }
}

/// Why the state directory cannot be used.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// It is not there and cannot be made.
    #[error("cannot create the state directory {path}: {source}; create it for the agent's user, or name another with --state-dir", path = path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be read or written.
    #[error("cannot use the state directory {path}: {source}; it must belong to the agent's user", path = path.display())]
    Use {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another agent's process has it.
    #[error("another sternline-agent is running with the state directory {path}: stop it, or name another with --state-dir", path = .0.display())]
    Busy(PathBuf),
}

impl StateDir {
    /// Makes the directory where it is missing (mode 0700), and locks it.
    ///
    /// # Errors
    ///
    /// See [`StateDirError`]; a second process on one directory is refused.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
        created.map_err(|source| StateDirError::Create {
            path: path.into(),
            source,
        })?;
        let unusable = |source| StateDirError::Use {
            path: path.into(),
            source,
        };
        let path = path.canonicalize().map_err(unusable)?;
        make_private(&path).map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match lock_patiently(&lock) {
            Ok(true) => {
                let place = Place::Disk {
                    _lock: Arc::new(lock),
                };
                Ok(Self { path, place })
            }
            Ok(false) => Err(StateDirError::Busy(path)),
            Err(source) => Err(StateDirError::Use { path, source }),
        }
    }

    /// One without a disk, empty. Clones share it, as two starts of one agent do.
    pub fn in_memory() -> Self {
        Self {
            path: IN_MEMORY.into(),
            place: Place::Memory(Memory::default()),
        }
    }

    /// The directory, absolute and without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a disk below it.
    pub const fn is_on_disk(&self) -> bool {
        matches!(self.place, Place::Disk { .. })
    }

    /// A file of the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads a file that holds secrets; one that others may read is taken from them.
    ///
    /// # Errors
    ///
    /// It is not there, larger than `bytes_max`, no text, or the disk fails.
    pub fn read_private(&self, name: &str, bytes_max: u64) -> io::Result<Zeroizing<String>> {
        let memory = match &self.place {
            Place::Disk { .. } => return read_private(&self.file(name), bytes_max),
            Place::Memory(memory) => memory,
        };
        let files = memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        let content = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let text = std::str::from_utf8(content).map_err(io::Error::other)?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Replaces a file that holds secrets (mode 0600) as one step that survives a loss of
    /// power.
    ///
    /// # Errors
    ///
    /// As [`file::replace`]: the former content is still there.
    pub fn replace_private(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let memory = match &self.place {
            Place::Disk { .. } => {
                return file::replace(&self.file(name), content, 0o600, Durability::Durable);
            }
            Place::Memory(memory) => memory,
        };
        let mut files = memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(name.to_owned(), Zeroizing::new(content.to_owned()));
        Ok(())
    }
}

fn read_private(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<String>> {
    let metadata = fs::metadata(path)?;
    if metadata.len() > bytes_max {
        return Err(io::Error::other(format!(
            "it is larger than {bytes_max} bytes"
        )));
    }
    if metadata.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the file was readable by others; taken from them");
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    fs::read_to_string(path).map(Zeroizing::new)
}

/// Locks the file, or says that somebody has it. Waits a little for one who is going:
/// a service manager starts the next process as soon as the last was told to end.
#[expect(
    clippy::disallowed_methods,
    reason = "before the runtime, on the only thread there is"
)]
fn lock_patiently(lock: &File) -> io::Result<bool> {
    let mut tries = LOCK_TRIES;
    loop {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if tries == 0 => return Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => tries -= 1,
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// Takes the directory from everybody else. One that belongs to another user is
/// left as it is: the administrator has shared it on purpose.
fn make_private(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_on_one_directory_is_refused_until_the_first_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/state");
        let first = StateDir::open(&path).unwrap();

        assert!(matches!(StateDir::open(&path), Err(StateDirError::Busy(_))));
        drop(first);

        assert!(StateDir::open(&path).is_ok());
    }

    #[test]
    fn the_directory_is_private_even_if_it_was_not_before() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();

        let _state = StateDir::open(folder.path()).unwrap();

        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_in_memory_keeps_what_is_written_for_every_clone_and_nobody_else() {
        let state = StateDir::in_memory();
        let other = state.clone();
        state.replace_private("a.json", b"kept").unwrap();

        let read = other.read_private("a.json", 4).unwrap();
        let elsewhere = StateDir::in_memory().read_private("a.json", 4).unwrap_err();

        assert_eq!(read.as_str(), "kept");
        assert_eq!(elsewhere.kind(), io::ErrorKind::NotFound);
        assert!(!format!("{state:?}").contains("kept"));
    }

    #[test]
    fn a_directory_under_a_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b"").unwrap();

        let error = StateDir::open(&folder.path().join("file/state")).unwrap_err();

        assert!(error.to_string().contains("file/state"), "{error}");
    }
}
