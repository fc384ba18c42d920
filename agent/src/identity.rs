//! Who this agent is: its key, the relay it belongs to, and how often it has started.
//!
//! Kept in `identity.json` (mode 0600), replaced as one step, so that a kill at any
//! instant leaves the old or the new one. The key is written before the first dial:
//! should the agent die after the relay accepted it, it finishes with the same key
//! and the same token. The start counter is raised on the disk before anything is
//! dialled; by it the relay sees that an identity runs twice.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use wire::{
    id::AgentId,
    key::{PublicKey, Secret},
    token::RelayAddress,
};
use zeroize::{Zeroize, Zeroizing};

use crate::state_dir::StateDir;

/// The file's name in the state directory.
pub const IDENTITY_FILE: &str = "identity.json";
/// The layout that this version writes and the only one it reads.
const FORMAT: u32 = 1;
/// No identity is larger: 16 addresses of the longest names are below 8 KiB.
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;

/// One agent's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// How far enrolment has come.
    pub stage: Stage,
    /// Name of the environment, for people.
    pub environment: String,
    /// Where the relay is reached, best first; never empty.
    pub addresses: Vec<RelayAddress>,
    /// The key that the relay must prove at every session.
    pub relay_identity: PublicKey,
    /// The Ed25519 key; it never leaves this host.
    pub seed: Secret,
    /// How often a process with this identity has started.
    pub start_counter: u64,
    /// SHA-256 of the token that it enrols or has enrolled with.
    pub token_sha256: [u8; 32],
}

/// How far enrolment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The key is made; whether the relay knows it is not known here.
    Enrolling,
    /// The relay knows the key under this id.
    Enrolled(AgentId),
}

/// Why an identity cannot be read or written.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written; the former content is still there.
    #[error("cannot write {path}: {source}; nothing was changed", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} is not a valid identity: {problem}; restore it from a backup, or remove it and enrol again with a new token", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, never with any part of the content.
        problem: String,
    },
    /// A newer version wrote it.
    #[error("{path} has format {format} and this version knows {FORMAT}: update sternline-agent", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format it has.
        format: u32,
    },
}

/// Reads the identity; `None` where this host has none yet.
///
/// # Errors
///
/// See [`IdentityError`]. A file that others may read is taken from them.
pub fn load(state: &StateDir) -> Result<Option<Identity>, IdentityError> {
    let path = state.file(IDENTITY_FILE);
    let text = match state.read_private(IDENTITY_FILE, IDENTITY_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(IdentityError::Read { path, source }),
    };
    parse(&text, path).map(Some)
}

/// Reads the identity of an agent that may be running: nothing is locked, nothing changed.
///
/// # Errors
///
/// See [`IdentityError`].
pub fn peek(state_dir: &Path) -> Result<Option<Identity>, IdentityError> {
    let path = state_dir.join(IDENTITY_FILE);
    let read = || {
        if fs::metadata(&path)?.len() > IDENTITY_BYTES_MAX {
            return Err(io::Error::other("it is larger than an identity"));
        }
        fs::read_to_string(&path).map(Zeroizing::new)
    };
    match read() {
        Ok(text) => parse(&text, path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Read { path, source }),
    }
}

fn parse(text: &str, path: PathBuf) -> Result<Identity, IdentityError> {
    // serde_json's messages may quote a value, so only the place is passed on.
    let damaged = |error: serde_json::Error| IdentityError::Damaged {
        path: path.clone(),
        problem: format!("line {}, column {}", error.line(), error.column()),
    };
    let FormatOnly { format } = serde_json::from_str(text).map_err(damaged)?;
    if format > FORMAT {
        return Err(IdentityError::Newer { path, format });
    }
    let record: Record = serde_json::from_str(text).map_err(damaged)?;
    let identity = record.into_identity();
    let bad = |name: &str| IdentityError::Damaged {
        path,
        problem: format!("`{name}` is malformed"),
    };
    identity.map_err(bad)
}

/// Writes the identity as one step that survives a loss of power.
///
/// # Errors
///
/// [`IdentityError::Write`], with the former content in place.
pub fn save(state: &StateDir, identity: &Identity) -> Result<(), IdentityError> {
    let path = state.file(IDENTITY_FILE);
    let mut record = Record::from_identity(identity);
    let text = serde_json::to_vec_pretty(&record).map(Zeroizing::new);
    record.seed.zeroize();
    text.map_err(io::Error::from)
        .and_then(|text| state.replace_private(IDENTITY_FILE, &text))
        .map_err(|source| IdentityError::Write { path, source })
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// The file's layout.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    state: RecordState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
    environment: String,
    relay_addresses: Vec<RecordAddress>,
    relay_identity: String,
    seed: String,
    start_counter: u64,
    token_sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RecordState {
    Enrolling,
    Enrolled,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordAddress {
    host: String,
    tunnel_port: u16,
    https_port: u16,
}

impl Record {
    fn from_identity(identity: &Identity) -> Self {
        let (state, agent_id) = match identity.stage {
            Stage::Enrolling => (RecordState::Enrolling, None),
            Stage::Enrolled(id) => (RecordState::Enrolled, Some(id.to_string())),
        };
        let addresses = identity.addresses.iter().map(|address| RecordAddress {
            host: address.host.clone(),
            tunnel_port: address.tunnel_port,
            https_port: address.https_port,
        });
        Self {
            format: FORMAT,
            state,
            agent_id,
            environment: identity.environment.clone(),
            relay_addresses: addresses.collect(),
            relay_identity: identity.relay_identity.to_string(),
            seed: BASE64URL_NOPAD.encode(identity.seed.expose()),
            start_counter: identity.start_counter,
            token_sha256: HEXLOWER.encode(&identity.token_sha256),
        }
    }

    /// Checks every field; the error is the name of the first that is malformed.
    fn into_identity(self) -> Result<Identity, &'static str> {
        let stage = match (self.state, self.agent_id) {
            (RecordState::Enrolling, None) => Stage::Enrolling,
            (RecordState::Enrolled, Some(id)) => {
                Stage::Enrolled(id.parse().map_err(|_| "agent_id")?)
            }
            (RecordState::Enrolling, Some(_)) | (RecordState::Enrolled, None) => {
                return Err("state");
            }
        };
        let addresses: Vec<RelayAddress> = self
            .relay_addresses
            .into_iter()
            .map(|address| {
                let RecordAddress {
                    host,
                    tunnel_port,
                    https_port,
                } = address;
                RelayAddress {
                    host,
                    tunnel_port,
                    https_port,
                }
            })
            .collect();
        if addresses.is_empty() {
            return Err("relay_addresses");
        }
        let seed = Zeroizing::new(self.seed);
        let seed = BASE64URL_NOPAD.decode(seed.as_bytes()).map(Zeroizing::new);
        let hash = HEXLOWER
            .decode(self.token_sha256.as_bytes())
            .map_err(|_| "token_sha256")?;
        Ok(Identity {
            stage,
            environment: self.environment,
            addresses,
            relay_identity: PublicKey::from_text(&self.relay_identity).ok_or("relay_identity")?,
            seed: seed
                .ok()
                .and_then(|bytes| Secret::from_slice(&bytes))
                .ok_or("seed")?,
            start_counter: self.start_counter,
            token_sha256: hash.try_into().map_err(|_| "token_sha256")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{MetadataExt, PermissionsExt},
    };

    use super::*;

    fn identity(stage: Stage) -> Identity {
        Identity {
            stage,
            environment: "berlin".into(),
            addresses: vec![RelayAddress {
                host: "relay.example".into(),
                tunnel_port: 8000,
                https_port: 443,
            }],
            relay_identity: PublicKey([3; 32]),
            seed: Secret::from_bytes([5; 32]),
            start_counter: 7,
            token_sha256: [9; 32],
        }
    }

    fn state() -> (tempfile::TempDir, StateDir) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        (folder, state)
    }

    #[test]
    fn reads_back_what_was_written_in_both_stages() {
        let (_folder, state) = state();
        assert_eq!(load(&state).unwrap(), None);

        for stage in [
            Stage::Enrolling,
            Stage::Enrolled(AgentId::from_bytes([1; 16])),
        ] {
            save(&state, &identity(stage)).unwrap();

            assert_eq!(load(&state).unwrap(), Some(identity(stage)));
        }
    }

    #[test]
    fn the_file_is_private_and_taken_back_from_others() {
        let (_folder, state) = state();
        save(&state, &identity(Stage::Enrolling)).unwrap();
        let path = state.file(IDENTITY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();

        load(&state).unwrap();

        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_kill_while_writing_leaves_the_former_identity_in_force() {
        let (_folder, state) = state();
        save(&state, &identity(Stage::Enrolling)).unwrap();
        let half = b"{ \"format\": 1, \"state\": \"enro";
        fs::write(state.file("identity.json.tmp"), half).unwrap();

        let loaded = load(&state).unwrap();

        assert_eq!(loaded, Some(identity(Stage::Enrolling)));
    }

    #[test]
    fn an_identity_cut_anywhere_is_refused_without_showing_the_key() {
        let (_folder, state) = state();
        let path = state.file(IDENTITY_FILE);
        save(&state, &identity(Stage::Enrolling)).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        let seed = BASE64URL_NOPAD.encode(&[5; 32]);

        for length in 0..whole.trim_end().len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = load(&state).expect_err("a cut identity was taken");

            assert!(
                matches!(error, IdentityError::Damaged { .. }),
                "cut to {length}: {error}"
            );
            assert!(!format!("{error} {error:?}").contains(&seed));
        }
    }

    #[test]
    fn an_identity_of_a_newer_version_says_so() {
        let (_folder, state) = state();
        fs::write(
            state.file(IDENTITY_FILE),
            "{\"format\": 2, \"shape\": \"other\"}",
        )
        .unwrap();

        let error = load(&state).unwrap_err();

        assert!(
            matches!(error, IdentityError::Newer { format: 2, .. }),
            "{error}"
        );
    }

    #[test]
    fn an_identity_never_prints_its_key() {
        let printed = format!("{:?}", identity(Stage::Enrolling));

        assert!(
            printed.contains("****") && !printed.contains("5, 5"),
            "{printed}"
        );
    }
}
