//! Use cases on releases and the files in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::info;
use zeroize::Zeroizing;

use super::{Control, Error, Principal, stack::check_stack_name};
use crate::{
    id::CustomerId,
    limits::{
        BLOB_BYTES_MAX, BLOBS_BYTES_MAX, BUNDLE_FILES_MAX, NOTE_CHARS_MAX, RELEASES_MAX,
        RELEASES_SHOWN_MAX,
    },
    store::{BlobRecord, KeepError, ReleaseRecord},
};

/// What a release is made of. Its JSON is canonical, and its digest the release's.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The stack's name.
    pub stack: String,
    /// Compose files by their path in the bundle, in the order in which they are merged.
    pub compose: Vec<String>,
    /// Everything that is in the bundle, by path.
    #[serde(default)]
    pub files: BTreeMap<String, BundleFile>,
    /// Profiles that are active.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub profiles: BTreeSet<String>,
    /// The release's own variables; everybody may read them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Names of secret variables that were given with the release.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// What images are pinned to from the start.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<String, String>,
    /// Something else for a release whose images shall be looked up anew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refresh: String,
}

/// A file in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleFile {
    /// `sha256:…` of its bytes.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

/// A release at one moment.
#[derive(Debug, Clone)]
pub struct ReleaseView {
    /// Counts up for every stack.
    pub number: u64,
    /// Names its content.
    pub digest: String,
    /// Who made it.
    pub author: String,
    /// What its author has to say.
    pub note: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it is made of.
    pub manifest: Manifest,
    /// What its images are pinned to, learnt ones included.
    pub pins: BTreeMap<String, String>,
}

/// What is different between two releases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReleaseDiff {
    /// By path.
    pub files: Vec<FileDiff>,
    /// By name.
    pub variables: Vec<ValueDiff>,
    /// Names of secret variables that only the first was given with.
    pub secrets_removed: Vec<String>,
    /// Names of secret variables that only the second was given with.
    pub secrets_added: Vec<String>,
    /// Profiles, where they differ.
    pub profiles: Option<(Vec<String>, Vec<String>)>,
    /// By image reference.
    pub pins: Vec<ValueDiff>,
}

/// A file that differs. Both texts are there where both are text and short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileDiff {
    /// Its path.
    pub path: String,
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
    /// What is in the first.
    pub before: Option<String>,
    /// What is in the second.
    pub after: Option<String>,
}

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValueDiff {
    /// What it is of.
    pub name: String,
    /// In the first.
    pub before: Option<String>,
    /// In the second.
    pub after: Option<String>,
}

/// Longest file whose text is part of a difference; a Compose file of 50 services has 100 kB.
const DIFF_BYTES_MAX: u64 = 256 * 1024;

/// `sha256:…` of these bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    format!(
        "sha256:{}",
        HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
    )
}

/// Where a blob's bytes are sealed for.
fn place_of(digest: &str) -> String {
    format!("blob:{digest}")
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
    })
}

fn invalid(field: &'static str, reason: impl Into<String>) -> Error {
    Error::Invalid {
        field,
        reason: reason.into(),
    }
}

impl Manifest {
    /// Its canonical form.
    pub(super) fn canonical(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|e| invalid("manifest", e.to_string()))
    }

    /// Checks what a client has sent.
    pub(super) fn check(&self) -> Result<(), Error> {
        check_stack_name(&self.stack)?;
        if self.compose.is_empty() {
            return Err(invalid("compose", "name at least one Compose file"));
        }
        if self.files.len() > BUNDLE_FILES_MAX {
            let count = self.files.len();
            let reason = format!("{count} files, more than {BUNDLE_FILES_MAX}");
            return Err(invalid("files", reason));
        }
        let mut compose = self.compose.iter();
        if let Some(path) = compose.find(|path| !self.files.contains_key(*path)) {
            let reason = format!("`{}` is not among the files", path.escape_debug());
            return Err(invalid("compose", reason));
        }
        let bytes = self.files.values().map(|file| file.size).sum::<u64>();
        if bytes > compose::load::BUNDLE_BYTES_MAX {
            let most = compose::load::BUNDLE_BYTES_MAX;
            return Err(invalid("files", format!("{bytes} bytes, more than {most}")));
        }
        for (path, file) in &self.files {
            let is_inside = !path.starts_with('/')
                && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if !is_inside || path.chars().any(char::is_control) {
                let reason = format!("`{}` is no path in a bundle", path.escape_debug());
                return Err(invalid("files", reason));
            }
            if !is_digest(&file.digest) {
                return Err(invalid(
                    "files",
                    format!("{path}: its digest is not sha256:…"),
                ));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Manifest {
    /// Values of variables are left out: one may yet be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("stack", &self.stack)
            .field("compose", &self.compose)
            .field("files", &self.files.len())
            .field("variables", &self.variables.keys())
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Which of these blobs the relay does not have yet.
    ///
    /// # Errors
    ///
    /// What is no digest; a failing store.
    pub async fn missing_blobs(
        &self,
        principal: &Principal,
        digests: &[String],
    ) -> Result<Vec<String>, Error> {
        if digests.len() > BUNDLE_FILES_MAX {
            return Err(invalid("digests", format!("more than {BUNDLE_FILES_MAX}")));
        }
        if let Some(wrong) = digests.iter().find(|text| !is_digest(text)) {
            let reason = format!("`{}` is not sha256:…", wrong.escape_debug());
            return Err(invalid("digests", reason));
        }
        Ok(self
            .store
            .missing_blobs(principal.customer(), digests)
            .await?)
    }

    /// Keeps a file of releases, sealed.
    ///
    /// # Errors
    ///
    /// Bytes of another digest; too many of them; a full or failing store.
    pub async fn put_blob(
        &self,
        principal: &Principal,
        digest: &str,
        bytes: &[u8],
    ) -> Result<(), Error> {
        if digest_of(bytes) != digest {
            return Err(invalid(
                "digest",
                "the bytes have another one: they changed while they were read, send them again",
            ));
        }
        self.keep_blob(principal.customer(), digest, bytes).await
    }

    pub(super) async fn keep_blob(
        &self,
        customer: &CustomerId,
        digest: &str,
        bytes: &[u8],
    ) -> Result<(), Error> {
        if bytes.len() > BLOB_BYTES_MAX {
            return Err(Error::LimitReached {
                what: "bytes in one file of a release",
                limit: BLOB_BYTES_MAX as u64,
            });
        }
        let blob = BlobRecord {
            customer: customer.clone(),
            digest: digest.to_owned(),
            size: bytes.len() as u64,
            sealed: self.seal(&place_of(digest), bytes)?,
            created_at: self.now(),
        };
        let kept = self.store.put_blob(blob, BLOBS_BYTES_MAX).await;
        kept.map_err(|e| match e {
            KeepError::LimitReached => Error::LimitReached {
                what: "bytes in files of releases",
                limit: BLOBS_BYTES_MAX,
            },
            KeepError::Store(e) => e.into(),
        })
    }

    /// A file of releases; `None` where it never came.
    pub(super) async fn open_blob(
        &self,
        customer: &CustomerId,
        digest: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let Some(blob) = self.store.blob(customer, digest).await? else {
            return Ok(None);
        };
        Ok(Some(self.unseal(&place_of(digest), &blob.sealed)?))
    }

    /// Makes a release of a manifest, or finds the one that it is.
    pub(super) async fn make_release(
        &self,
        principal: &Principal,
        manifest: &Manifest,
        note: &str,
    ) -> Result<ReleaseRecord, Error> {
        if note.chars().count() > NOTE_CHARS_MAX || note.contains('\0') {
            return Err(invalid(
                "note",
                format!("more than {NOTE_CHARS_MAX} characters"),
            ));
        }
        let text = manifest.canonical()?;
        let record = ReleaseRecord {
            customer: principal.customer().clone(),
            stack: manifest.stack.clone(),
            number: 0,
            digest: digest_of(format!("sternline release v1\n{text}").as_bytes()),
            manifest: text,
            author: principal.name().to_owned(),
            note: note.to_owned(),
            created_at: self.now(),
            pins: BTreeMap::new(),
        };
        let (drawn_at, digest) = (record.created_at, record.digest.clone());
        let made = self.store.add_release(record, RELEASES_MAX).await;
        let made = made.map_err(|e| match e {
            KeepError::LimitReached => Error::LimitReached {
                what: "releases of one stack",
                limit: RELEASES_MAX,
            },
            KeepError::Store(e) => e.into(),
        })?;
        if made.created_at == drawn_at {
            info!(%principal, stack = manifest.stack, release = made.number, digest, "release");
        }
        Ok(made)
    }

    /// The stack's releases, newest first, as many as are shown.
    ///
    /// # Errors
    ///
    /// No such stack; a failing store.
    pub async fn releases(
        &self,
        principal: &Principal,
        stack: &str,
    ) -> Result<Vec<ReleaseView>, Error> {
        let customer = principal.customer();
        let records = self
            .store
            .releases(customer, stack, RELEASES_SHOWN_MAX)
            .await?;
        if records.is_empty() {
            return Err(Error::StackUnknown {
                name: stack.to_owned(),
            });
        }
        records.into_iter().map(ReleaseView::of).collect()
    }

    /// One release.
    ///
    /// # Errors
    ///
    /// No such release; a failing store.
    pub async fn release(
        &self,
        principal: &Principal,
        stack: &str,
        number: u64,
    ) -> Result<ReleaseView, Error> {
        ReleaseView::of(self.release_record(principal, stack, number).await?)
    }

    pub(super) async fn release_record(
        &self,
        principal: &Principal,
        stack: &str,
        number: u64,
    ) -> Result<ReleaseRecord, Error> {
        let found = self
            .store
            .stack_release(principal.customer(), stack, number)
            .await?;
        found.ok_or_else(|| Error::ReleaseUnknown {
            stack: stack.to_owned(),
            release: number,
        })
    }

    /// What is different between two releases. Values of secrets are in neither.
    ///
    /// # Errors
    ///
    /// No such release; a failing store.
    pub async fn diff_releases(
        &self,
        principal: &Principal,
        stack: &str,
        (from, to): (u64, u64),
    ) -> Result<ReleaseDiff, Error> {
        let from = self.release(principal, stack, from).await?;
        let to = self.release(principal, stack, to).await?;
        let (a, b) = (&from.manifest, &to.manifest);
        let mut diff = ReleaseDiff {
            variables: values_diff(&a.variables, &b.variables),
            secrets_removed: a.secrets.difference(&b.secrets).cloned().collect(),
            secrets_added: b.secrets.difference(&a.secrets).cloned().collect(),
            pins: values_diff(&from.pins, &to.pins),
            ..ReleaseDiff::default()
        };
        if a.profiles != b.profiles {
            let names = |set: &BTreeSet<String>| set.iter().cloned().collect();
            diff.profiles = Some((names(&a.profiles), names(&b.profiles)));
        }
        let paths: BTreeSet<&String> = a.files.keys().chain(b.files.keys()).collect();
        for path in paths {
            let (before, after) = (a.files.get(path), b.files.get(path));
            if before == after {
                continue;
            }
            diff.files.push(FileDiff {
                path: path.clone(),
                change: match (before, after) {
                    (None, _) => "added",
                    (_, None) => "removed",
                    _ => "changed",
                },
                before: self.short_text(principal.customer(), before).await?,
                after: self.short_text(principal.customer(), after).await?,
            });
        }
        Ok(diff)
    }

    async fn short_text(
        &self,
        customer: &CustomerId,
        file: Option<&BundleFile>,
    ) -> Result<Option<String>, Error> {
        let Some(file) = file.filter(|file| file.size <= DIFF_BYTES_MAX) else {
            return Ok(None);
        };
        let bytes = self.open_blob(customer, &file.digest).await?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()))
    }
}

impl ReleaseView {
    pub(super) fn of(record: ReleaseRecord) -> Result<Self, Error> {
        let manifest = read_manifest(&record)?;
        let mut pins = manifest.pins.clone();
        for (image, digest) in record.pins {
            pins.entry(image).or_insert(digest);
        }
        Ok(Self {
            number: record.number,
            digest: record.digest,
            author: record.author,
            note: record.note,
            created_at: record.created_at,
            manifest,
            pins,
        })
    }
}

pub(super) fn read_manifest(record: &ReleaseRecord) -> Result<Manifest, Error> {
    serde_json::from_str(&record.manifest).map_err(|_| Error::ReleaseUnreadable {
        stack: record.stack.clone(),
        release: record.number,
    })
}

fn values_diff(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<ValueDiff> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differ = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name));
    let one = |name: &String| ValueDiff {
        name: name.clone(),
        before: before.get(name).cloned(),
        after: after.get(name).cloned(),
    };
    differ.map(one).collect()
}
