//! The policy file, watched: read again when it changes, the last good one kept.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config::PolicyPlace,
    policy::{Policy, PolicyError},
};

/// How often the file is looked at. One `stat` each; SIGHUP does not wait for it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A policy larger than this is not read.
const POLICY_BYTES_MAX: u64 = 1024 * 1024;

/// The policy in force, and what is wrong with the file if it is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInForce {
    /// What holds.
    pub policy: Arc<Policy>,
    /// Whether it came from the file, or is the default.
    pub from_file: bool,
    /// Why the file as it is on the disk is not in force.
    pub error: Option<String>,
}

impl PolicyInForce {
    /// A policy that came from no file.
    pub fn of(policy: Policy) -> Self {
        Self {
            policy: Arc::new(policy),
            from_file: false,
            error: None,
        }
    }

    /// Where a person finds it, given the file's path: for messages to the vendor.
    pub fn place(&self, path: &Path) -> String {
        match self.from_file {
            true => format!("the policy {} on the agent's host", path.display()),
            false => "the default policy on the agent's host".to_owned(),
        }
    }

    /// A policy that stays in force for ever, with no file behind it: of an agent that runs
    /// where there is no disk.
    pub fn for_ever(policy: Policy) -> watch::Receiver<Self> {
        watch::channel(Self::of(policy)).1
    }
}

/// Why the agent cannot start with this policy file.
#[derive(Debug, Error)]
pub enum PolicyFileError {
    /// It was named and cannot be read: to run without it could allow too much.
    #[error("cannot read the policy file {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It has mistakes.
    #[error("the policy file {path} has mistakes: {source}")]
    Mistakes {
        /// The file.
        path: String,
        /// All of them.
        source: PolicyError,
    },
}

/// What tells one content of the file from another without reading it. Editors
/// that rename change the inode, others the time of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Owner of the policy file.
#[derive(Debug)]
pub struct PolicyFile {
    place: PolicyPlace,
    stamp: Option<Stamp>,
    in_force: watch::Sender<PolicyInForce>,
}

impl PolicyFile {
    /// Reads the file. Without one at the default place the default policy holds.
    ///
    /// # Errors
    ///
    /// At the start a policy that cannot be read or has mistakes is no policy: the
    /// agent must not guess what the customer meant.
    pub fn open(place: PolicyPlace) -> Result<Self, PolicyFileError> {
        let path = place.path().display().to_string();
        let (stamp, policy) = match read(place.path()) {
            Ok((stamp, text)) => {
                let policy = Policy::parse(&text);
                let mistakes = |source| PolicyFileError::Mistakes { path, source };
                (Some(stamp), policy.map_err(mistakes)?)
            }
            Err(error) if is_absent(&error) && matches!(place, PolicyPlace::Default(_)) => {
                (None, Policy::default())
            }
            Err(source) => return Err(PolicyFileError::Read { path, source }),
        };
        let policy = Arc::new(policy);
        let first = PolicyInForce {
            policy,
            from_file: stamp.is_some(),
            error: None,
        };
        Ok(Self {
            place,
            stamp,
            in_force: watch::Sender::new(first),
        })
    }

    /// The policy in force, as it changes.
    pub fn subscribe(&self) -> watch::Receiver<PolicyInForce> {
        self.in_force.subscribe()
    }

    /// Looks at the file every two seconds, and at once when `wake` says so.
    pub async fn watch(mut self, wake: Arc<Notify>, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = wake.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            self.look();
        }
    }

    /// Reads the file again where it has changed.
    pub fn look(&mut self) {
        let found = match fs::metadata(self.place.path()) {
            Ok(metadata) => Some(Stamp::of(&metadata)),
            Err(error) if is_absent(&error) => None,
            // Unreadable for a moment, or for good: reading it says which.
            Err(_) => self.stamp,
        };
        if found == self.stamp && !self.is_failing_to_read() {
            return;
        }
        match read(self.place.path()) {
            Ok((stamp, text)) => {
                self.stamp = Some(stamp);
                match Policy::parse(&text) {
                    Ok(policy) => self.enforce(policy),
                    Err(error) => self.keep(error.to_string()),
                }
            }
            Err(error) => {
                self.stamp = None;
                self.keep(format!("cannot read it: {error}"));
            }
        }
    }

    fn is_failing_to_read(&self) -> bool {
        self.stamp.is_none() && self.in_force.borrow().error.is_some()
    }

    fn enforce(&self, policy: Policy) {
        let next = PolicyInForce {
            policy: Arc::new(policy),
            from_file: true,
            error: None,
        };
        let changed = self.in_force.send_if_modified(|current| {
            let changed = *current != next;
            *current = next;
            changed
        });
        if changed {
            tracing::info!(file = %self.place.path().display(), "policy read and in force");
        }
    }

    /// The former policy stays: a slip of an editor neither opens nor cuts anything.
    fn keep(&self, problem: String) {
        let changed = self.in_force.send_if_modified(|current| {
            let changed = current.error.as_ref() != Some(&problem);
            current.error = Some(problem);
            changed
        });
        if changed {
            let in_force = self.in_force.borrow();
            tracing::error!(
                file = %self.place.path().display(),
                error = in_force.error.as_deref().unwrap_or_default(),
                "the policy file is not usable; the former policy stays in force"
            );
        }
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn read(path: &Path) -> io::Result<(Stamp, String)> {
    let mut file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() > POLICY_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it is larger than {POLICY_BYTES_MAX} bytes"
        )));
    }
    let mut text = String::new();
    io::Read::read_to_string(&mut file, &mut text)?;
    // Stamped before it was read: a change in between is seen at the next look.
    Ok((Stamp::of(&metadata), text))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Access;

    fn written(text: &str) -> (tempfile::TempDir, PolicyPlace) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        fs::write(&path, text).unwrap();
        (folder, PolicyPlace::Named(path))
    }

    fn reaches_docker(policy: &watch::Receiver<PolicyInForce>) -> bool {
        policy.borrow().policy.docker().access != Access::None
    }

    #[test]
    fn an_edit_takes_effect_and_a_broken_one_keeps_the_former() {
        let (_folder, place) = written("[targets]\ndocker = false\n");
        let path = place.path().to_owned();
        let mut file = PolicyFile::open(place).unwrap();
        let policy = file.subscribe();

        fs::write(&path, "[targets]\ndocker = maybe\n").unwrap();
        file.look();
        assert!(!reaches_docker(&policy));
        assert!(policy.borrow().error.as_ref().unwrap().contains("line 2"));

        fs::write(&path, "[targets]\ndocker = true\ntcp = []\n").unwrap();
        file.look();
        assert!(reaches_docker(&policy));
        assert_eq!(policy.borrow().error, None);
    }

    #[test]
    fn a_file_that_disappears_keeps_its_policy_and_takes_effect_when_it_returns() {
        let (_folder, place) = written("[targets]\ndocker = false\n");
        let path = place.path().to_owned();
        let mut file = PolicyFile::open(place).unwrap();
        let policy = file.subscribe();

        fs::remove_file(&path).unwrap();
        file.look();
        assert!(!reaches_docker(&policy) && policy.borrow().error.is_some());

        fs::write(&path, "[targets]\ndocker = true\n").unwrap();
        file.look();
        assert!(reaches_docker(&policy) && policy.borrow().error.is_none());
    }

    #[test]
    fn a_named_file_must_be_there_and_be_valid_at_the_start() {
        let (folder, broken) = written("docker = true\n");
        let missing = PolicyPlace::Named(folder.path().join("missing.toml"));

        assert!(matches!(
            PolicyFile::open(broken),
            Err(PolicyFileError::Mistakes { .. })
        ));
        assert!(matches!(
            PolicyFile::open(missing),
            Err(PolicyFileError::Read { .. })
        ));
    }

    #[test]
    fn a_file_that_appears_at_the_default_place_takes_effect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let mut file = PolicyFile::open(PolicyPlace::Default(path.clone())).unwrap();
        let policy = file.subscribe();
        assert!(reaches_docker(&policy) && !policy.borrow().from_file);

        fs::write(&path, "[targets]\ndocker = false\n").unwrap();
        file.look();

        assert!(!reaches_docker(&policy) && policy.borrow().from_file);
    }
}
