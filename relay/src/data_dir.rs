//! The relay's files: one directory, mode 0700, each file 0600, replaced atomically.
//!
//! One relay at a time uses the directory; a lock on it says so.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;
use tracing::warn;
use zeroize::Zeroizing;

use crate::limits::FILE_BYTES_MAX;

/// Where a relay keeps its data unless told otherwise.
pub const DATA_DIR_DEFAULT: &str = "/var/lib/sternline-relay";

/// The relay's identity: an Ed25519 seed.
pub const IDENTITY_KEY: &str = "identity.key";
/// Seals what is secret in the store: 32 bytes.
pub const SEAL_KEY: &str = "seal.key";
/// The certificate that vouches for the relay's own one.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// Its key.
pub const CA_KEY: &str = "ca.key";
/// The relay's own certificate.
pub const TLS_CERTIFICATE: &str = "tls.crt";
/// Its key.
pub const TLS_KEY: &str = "tls.key";
/// The first administrator's API token.
pub const ADMIN_TOKEN: &str = "admin.token";
/// The store.
pub const STORE: &str = "relay.db";
/// Whom to tell over QUIC when the relay was killed.
pub const QUIC_PEERS: &str = "quic.peers";
/// Where a running relay listens.
pub const RUN: &str = "run.json";
/// What a handshake costs this machine, in microseconds: a figure for the next start.
pub const HANDSHAKE_COST: &str = "handshake.cost";

/// Why a file or the directory cannot be used. Says what a person can do.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// It cannot be made.
    #[error(
        "cannot make the data directory `{}`: {source}; make it and give it to the relay's user, \
         or name another one with --data-dir", path.display()
    )]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another relay uses it.
    #[error(
        "another relay uses the data directory `{}`: stop it, or name another directory with \
         --data-dir", path.display()
    )]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}; {}", path.display(), read_advice(source))]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than any that belongs there.
    #[error("`{}` has more than {FILE_BYTES_MAX} bytes: it is not the file that belongs there", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// A file cannot be written; the former one, if any, is untouched.
    #[error(
        "cannot write `{}`: {source}; check the free space, and the owner of the directory; \
         nothing was half-written", path.display()
    )]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn read_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::IsADirectory => "name a file in it",
        _ => "check its owner and mode",
    }
}

/// The relay's directory, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl DataDir {
    /// Makes the directory where there is none, and locks it.
    ///
    /// # Errors
    ///
    /// Where it cannot be made or read, or another relay uses it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let make = |source| DataDirError::Make {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(make)?;
        let lock = File::open(path).map_err(make)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DataDirError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(e) => return Err(make(e.into())),
        }
        let mode = lock.metadata().map_err(make)?.permissions().mode();
        if mode & 0o077 != 0 {
            warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777),
                "others may enter the data directory: chmod 700");
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The path of one of the relay's files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads one of the relay's files; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Where it cannot be read or is too large.
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, DataDirError> {
        match read_file(&self.file(name)) {
            Err(DataDirError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Writes one of the relay's files, whole or not at all, with mode 0600.
    ///
    /// # Errors
    ///
    /// Where it cannot be written; the former file is untouched.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), DataDirError> {
        let path = self.file(name);
        let temporary = self.file(&format!(".{name}.new"));
        let written = write_through(&temporary, content)
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| File::open(&self.path)?.sync_all());
        written.map_err(|source| {
            if let Err(e) = fs::remove_file(&temporary)
                && e.kind() != io::ErrorKind::NotFound
            {
                warn!(path = %temporary.display(), error = %e, "left-over file stays");
            }
            DataDirError::Write { path, source }
        })
    }

    /// Removes one of the relay's files; that there is none is no error.
    ///
    /// # Errors
    ///
    /// Where it is there and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), DataDirError> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(DataDirError::Write { path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Reads a file of bounded size.
///
/// # Errors
///
/// Where it cannot be read or is too large.
pub fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, DataDirError> {
    let read = |source| DataDirError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read)?;
    let mut content = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(read)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(DataDirError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(content)
}

/// Writes a file of mode 0600 down to the disk.
fn write_through(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_directory_is_made_for_its_owner_alone() {
        let root = TempDir::new().unwrap();
        let path = root.path().join("a/b");

        let _dir = DataDir::open(&path).unwrap();

        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn a_second_relay_is_refused_until_the_first_is_gone() {
        let root = TempDir::new().unwrap();
        let first = DataDir::open(root.path()).unwrap();

        let second = DataDir::open(root.path());

        assert!(
            matches!(second, Err(DataDirError::InUse { .. })),
            "{second:?}"
        );
        drop(first);
        assert!(DataDir::open(root.path()).is_ok());
    }

    #[test]
    fn a_file_is_private_and_leaves_nothing_beside_it() {
        let root = TempDir::new().unwrap();
        let dir = DataDir::open(root.path()).unwrap();

        dir.write(TLS_KEY, b"one").unwrap();
        dir.write(TLS_KEY, b"two").unwrap();

        assert_eq!(mode(&dir.file(TLS_KEY)), 0o600);
        assert_eq!(dir.read(TLS_KEY).unwrap().unwrap().as_slice(), b"two");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_keeps_the_former_file() {
        let root = TempDir::new().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        dir.write(RUN, b"former").unwrap();
        fs::create_dir(dir.file(".run.json.new")).unwrap();

        let failed = dir.write(RUN, b"later");

        assert!(
            matches!(failed, Err(DataDirError::Write { .. })),
            "{failed:?}"
        );
        assert_eq!(dir.read(RUN).unwrap().unwrap().as_slice(), b"former");
    }

    #[test]
    fn a_file_that_is_not_there_is_none_and_may_be_removed() {
        let root = TempDir::new().unwrap();
        let dir = DataDir::open(root.path()).unwrap();

        assert!(dir.read(RUN).unwrap().is_none());
        dir.remove(RUN).unwrap();
    }

    #[test]
    fn a_file_too_large_to_be_ours_is_not_read() {
        let root = TempDir::new().unwrap();
        let path = root.path().join("large");
        fs::write(&path, vec![0; usize::try_from(FILE_BYTES_MAX).unwrap() + 1]).unwrap();

        let read = read_file(&path);

        assert!(
            matches!(read, Err(DataDirError::TooLarge { .. })),
            "{read:?}"
        );
    }
}
