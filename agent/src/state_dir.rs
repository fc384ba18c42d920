//! The state directory: private to the agent, and to one process of it at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::FlockOperation;
use thiserror::Error;

/// Where the state lives unless told otherwise.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/sternline-agent";

/// How often, and how far apart, another process is waited for: two seconds.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The state directory, locked until this value is dropped or the process ends,
/// however it ends.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
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
            Ok(true) => Ok(Self { path, _lock: lock }),
            Ok(false) => Err(StateDirError::Busy(path)),
            Err(source) => Err(StateDirError::Use { path, source }),
        }
    }

    /// The directory, absolute and without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
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
    fn a_directory_under_a_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b"").unwrap();

        let error = StateDir::open(&folder.path().join("file/state")).unwrap_err();

        assert!(error.to_string().contains("file/state"), "{error}");
    }
}
