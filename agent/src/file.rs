//! Files that are whole or not there: written beside, then renamed into place.
//!
//! A kill at any instant leaves the old or the new content, never a mixture. What a
//! crash leaves beside is a file ending in `.tmp`, which nobody reads and the next
//! write replaces. One process writes a file at a time; see
//! [`StateDir`](crate::state_dir::StateDir) for how that is kept.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Whether a written file must survive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// File and folder are flushed to the disk before the call returns.
    Durable,
    /// The kernel flushes when it likes: for what is written again in seconds anyway.
    Fleeting,
}

/// Replaces the content of `path` as one step. `mode` holds from the first instant.
///
/// # Errors
///
/// Where anything fails, a full disk included, the old content stays and nothing
/// is left beside it.
pub fn replace(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let beside = beside(path);
    let written = write_new(&beside, content, mode, durability)
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| match durability {
            Durability::Durable => sync_folder(path),
            Durability::Fleeting => Ok(()),
        });
    if written.is_err() {
        // The first error is the one that matters; a leftover is harmless.
        drop(fs::remove_file(&beside));
    }
    written
}

fn write_new(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(content)?;
    match durability {
        Durability::Durable => file.sync_all(),
        Durability::Fleeting => Ok(()),
    }
}

/// Makes a rename in the folder of `path` survive a loss of power.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn replaces_the_whole_content_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        replace(&path, b"a longer first content", 0o600, Durability::Durable).unwrap();

        replace(&path, b"second", 0o600, Durability::Durable).unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_beside_is_replaced_by_the_next_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(beside(&path), b"half a fi").unwrap();

        replace(&path, b"whole", 0o600, Durability::Fleeting).unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert!(!beside(&path).exists());
    }

    #[test]
    fn a_full_disk_keeps_the_old_content_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        // Renaming over a folder fails as late as a full disk can make it fail.
        fs::create_dir(&path).unwrap();

        let written = replace(&path, b"content", 0o600, Durability::Durable);

        assert!(written.is_err());
        assert!(path.is_dir() && !beside(&path).exists());
    }
}
