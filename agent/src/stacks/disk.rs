//! What stacks keep on the agent's disk, below its state directory:
//!
//! ```text
//! stacks/NAME.json          a record, 0600: it has the values of secret variables
//! stacks/salt               random bytes, so that the hash of a secret tells nothing
//! stacks/blobs/HEX          a file's bytes by their digest; HEX.part: not all of them yet
//! stacks/files/NAME/…       files of releases as containers mount them
//! ```
//!
//! Every write is whole or not there, and survives a loss of power. What nobody refers to
//! any more is removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use compose::{exchange::BlobState, load::secret, model::Shipped};
use sha2::{Digest, Sha256};

use super::record::{Record, Version};
use crate::file::{self, Durability};

/// A record larger than this is not read: above what an assignment may be.
const RECORD_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes that are hashed at a time.
const HASH_CHUNK_BYTES: usize = 128 * 1024;

/// A file that should be a record, and why it is none.
pub type Broken = (String, io::Error);

/// See the module.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Makes the folders where they are missing.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let folder = state_dir.join("stacks");
        for path in [&folder, &folder.join("blobs"), &folder.join("files")] {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        Ok(Self { folder })
    }

    /// All records, and what cannot be read, by name.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn records(&self) -> io::Result<(Vec<Record>, Vec<Broken>)> {
        let (mut records, mut broken) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read_record(&path) {
                Ok(record) => records.push(record),
                Err(error) => broken.push((path.display().to_string(), error)),
            }
        }
        records.sort_by(|a, b| a.stack.cmp(&b.stack));
        Ok((records, broken))
    }

    /// Keeps a record in place of the former one.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec(record).map_err(io::Error::other)?;
        file::replace(
            &self.record(&record.stack),
            &text,
            0o600,
            Durability::Durable,
        )
    }

    /// Forgets a stack, and its files, but for those that another stack ships as well.
    ///
    /// # Errors
    ///
    /// The disk's; what is left is swept at the next start.
    pub fn forget(&self, forgotten: &Record) -> io::Result<()> {
        unless_absent(fs::remove_file(self.record(&forgotten.stack)))?;
        unless_absent(fs::remove_dir_all(self.files(&forgotten.stack)))?;
        let (others, _) = self.records()?;
        let kept: BTreeSet<String> = others.iter().flat_map(blobs_of).collect();
        for digest in blobs_of(forgotten) {
            if !kept.contains(&digest) {
                self.remove_blob(&digest)?;
            }
        }
        Ok(())
    }

    fn record(&self, stack: &str) -> PathBuf {
        self.folder.join(format!("{stack}.json"))
    }

    fn blob(&self, digest: &str) -> io::Result<PathBuf> {
        let hex = hex_of(digest).ok_or_else(|| invalid(format!("`{digest}` is no digest")))?;
        Ok(self.folder.join("blobs").join(hex))
    }

    /// A blob that is there as a whole.
    pub fn whole_blob(&self, digest: &str) -> io::Result<Option<PathBuf>> {
        let path = self.blob(digest)?;
        Ok(path.exists().then_some(path))
    }

    /// How much there is of a blob.
    pub fn blob_state(&self, digest: &str) -> io::Result<BlobState> {
        let path = self.blob(digest)?;
        if let Ok(metadata) = fs::metadata(&path) {
            return Ok(BlobState {
                received: metadata.len(),
                complete: true,
            });
        }
        let received = fs::metadata(part_of(&path)).map_or(0, |metadata| metadata.len());
        Ok(BlobState {
            received,
            complete: false,
        })
    }

    /// Adds to a blob what follows after `offset`, and once `size` bytes are there checks
    /// them. Bytes that are not the digest's are thrown away.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: another number of bytes is there, or it is too many. `InvalidData`: it
    /// is not what its digest says. Else the disk's.
    pub fn append_blob(
        &self,
        digest: &str,
        (offset, size): (u64, u64),
        bytes: &[u8],
    ) -> io::Result<BlobState> {
        let state = self.blob_state(digest)?;
        if state.complete {
            return Ok(state);
        }
        let path = self.blob(digest)?;
        let part = part_of(&path);
        if state.received != offset {
            let line = format!("there are {} bytes of it, not {offset}", state.received);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, line));
        }
        let received = offset + bytes.len() as u64;
        if received > size {
            let line = format!("{received} bytes are more than its {size}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, line));
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(&part)?;
        if let Err(error) = file.write_all(bytes) {
            // Whoever sends goes on from what is known to be there.
            file.set_len(offset)?;
            return Err(error);
        }
        if received < size {
            return Ok(BlobState {
                received,
                complete: false,
            });
        }
        file.sync_all()?;
        file.rewind()?;
        if hash(file)? != digest {
            fs::remove_file(&part)?;
            return Err(invalid(
                "the bytes are not what their digest says".to_owned(),
            ));
        }
        fs::rename(&part, &path)?;
        File::open(self.folder.join("blobs"))?.sync_all()?;
        Ok(BlobState {
            received,
            complete: true,
        })
    }

    /// Digests of shipped files that are not there.
    pub fn missing(&self, version: &Version) -> io::Result<Vec<String>> {
        let mut missing = Vec::new();
        for (digest, _) in version.blobs() {
            if self.whole_blob(&digest)?.is_none() {
                missing.push(digest);
            }
        }
        Ok(missing)
    }

    /// Removes blobs that none of these refers to, and that are no part of what `spared`
    /// names, such as an image that is on its way.
    pub fn sweep(&self, records: &[Record], spared: &BTreeSet<String>) -> io::Result<()> {
        let used: BTreeSet<String> = records.iter().flat_map(blobs_of).collect();
        for entry in fs::read_dir(self.folder.join("blobs"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = format!("sha256:{}", name.trim_end_matches(".part"));
            if !used.contains(&digest) && !spared.contains(&digest) {
                unless_absent(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }

    /// Removes one blob.
    pub fn remove_blob(&self, digest: &str) -> io::Result<()> {
        unless_absent(fs::remove_file(self.blob(digest)?))
    }

    /// Where the files of a stack's releases are.
    pub fn files(&self, stack: &str) -> PathBuf {
        self.folder.join("files").join(stack)
    }

    /// Writes the files of a release where containers mount them: below its folder, under
    /// their keys. A key begins with what its content is (see
    /// [`addressed`](super::addressed)), so what is there is not written again, and what a
    /// container of an older release has mounted does not change.
    pub fn ship(&self, version: &Version) -> io::Result<()> {
        let root = self.files(&version.stack.name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&root)?;
        for (key, shipped) in &version.stack.files {
            let path = below(&root, key)?;
            if path.exists() {
                continue;
            }
            let beside = below(&root, &format!("{key}.new"))?;
            unless_absent(fs::remove_dir_all(&beside).or_else(|_| fs::remove_file(&beside)))?;
            self.write(&beside, shipped, version)?;
            fs::rename(&beside, &path)?;
        }
        Ok(())
    }

    fn write(&self, path: &Path, shipped: &Shipped, version: &Version) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)?;
        }
        match shipped {
            Shipped::File { digest, mode, .. } => {
                fs::copy(self.blob(digest)?, path)?;
                fs::set_permissions(path, Permissions::from_mode(mode & 0o777))?;
                File::open(path)?.sync_all()
            }
            Shipped::Folder { entries } => {
                DirBuilder::new().recursive(true).mode(0o755).create(path)?;
                for (name, entry) in entries {
                    self.write(&below(path, name)?, entry, version)?;
                }
                Ok(())
            }
            Shipped::Text { .. } | Shipped::Secret { .. } => {
                let content = self.content(shipped, version)?;
                file::replace(path, &content, 0o444, Durability::Durable)
            }
        }
    }

    /// The bytes of a config or a secret. A folder has none.
    pub fn content(&self, shipped: &Shipped, version: &Version) -> io::Result<Vec<u8>> {
        let secrets: BTreeMap<String, &str> = version
            .secrets
            .iter()
            .map(|(name, value)| (name.clone(), value.0.as_str()))
            .collect();
        let absent = |name: String| invalid(format!("the secret variable {name} has no value"));
        match shipped {
            Shipped::File { digest, .. } => fs::read(self.blob(digest)?),
            Shipped::Text { text } => {
                Ok(secret::reveal(text, &secrets).map_err(absent)?.into_bytes())
            }
            Shipped::Secret { variable } => match secrets.get(variable) {
                Some(value) => Ok(value.as_bytes().to_vec()),
                None => Err(absent(variable.clone())),
            },
            Shipped::Folder { .. } => {
                Err(invalid("a folder cannot be copied as a file".to_owned()))
            }
        }
    }

    /// Removes files of releases that are neither run nor gone back to.
    pub fn sweep_files(&self, record: &Record) -> io::Result<()> {
        let versions = [&record.target, &record.committed];
        let used: BTreeSet<&str> = versions
            .into_iter()
            .flatten()
            .flat_map(|version| version.stack.files.keys())
            .filter_map(|key| key.split('/').next())
            .collect();
        let folder = match fs::read_dir(self.files(&record.stack)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            folder => folder?,
        };
        for entry in folder {
            let entry = entry?;
            if !used.contains(entry.file_name().to_string_lossy().as_ref()) {
                fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }

    /// Random bytes that are always the same on this host, for fingerprints of secrets.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn salt(&self, fresh: [u8; 32]) -> io::Result<Vec<u8>> {
        let path = self.folder.join("salt");
        match fs::read(&path) {
            Ok(salt) if salt.len() == fresh.len() => Ok(salt),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                file::replace(&path, &fresh, 0o600, Durability::Durable)?;
                Ok(fresh.to_vec())
            }
        }
    }
}

/// `sha256:` and the digest of what is read, in hex.
pub fn hash(mut from: impl Read) -> io::Result<String> {
    let (mut hasher, mut chunk) = (Sha256::new(), vec![0; HASH_CHUNK_BYTES]);
    loop {
        match from.read(&mut chunk)? {
            0 => break,
            read => hasher.update(chunk.get(..read).unwrap_or_default()),
        }
    }
    let hex = data_encoding::HEXLOWER.encode(&hasher.finalize());
    Ok(format!("sha256:{hex}"))
}

/// Digests of the files that a stack ships, and shipped before.
fn blobs_of(record: &Record) -> Vec<String> {
    let versions = [&record.target, &record.committed].into_iter().flatten();
    let blobs = versions.flat_map(Version::blobs);
    blobs.map(|(digest, _)| digest).collect()
}

fn read_record(path: &Path) -> io::Result<Record> {
    if fs::metadata(path)?.len() > RECORD_BYTES_MAX {
        return Err(invalid(format!(
            "it is larger than {RECORD_BYTES_MAX} bytes"
        )));
    }
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

fn hex_of(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    let is_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (hex.len() == 64 && is_hex).then_some(hex)
}

fn part_of(path: &Path) -> PathBuf {
    path.with_extension("part")
}

/// A path below a folder, whoever chose its name.
fn below(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let name = Path::new(name);
    let mut parts = name.components();
    if parts.any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(invalid(format!(
            "`{}` leads out of its folder",
            name.display()
        )));
    }
    Ok(folder.join(name))
}

fn invalid(line: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, line)
}

fn unless_absent(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
