//! Brings one assignment to its agent, and the files that it misses.

use std::time::Duration;

use bytes::Bytes;
use compose::exchange::{Accepted, BLOB_PART_BYTES_MAX, BlobState, Desired};
use http::Method;
use tracing::debug;
use wire::id::EnvironmentId;

use super::link::{Caller, Link, body_of, encoded};
use crate::{
    control::{AskError, Control, Error},
    limits::STACK_PART_TIMEOUT,
    store::AssignmentRecord,
};

/// How often a file is begun anew whose agent has another number of its bytes.
const TRIES: usize = 3;

/// An assignment that is brought, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) stack: String,
    pub(super) number: u64,
    /// Nothing shall run.
    pub(super) is_absence: bool,
    pub(super) deadline: Duration,
}

/// Why it was not brought.
#[derive(Debug)]
pub(super) enum Undelivered {
    /// The agent did not take it.
    Asked(AskError),
    /// The relay's own store failed.
    Store(Error),
}

impl From<AskError> for Undelivered {
    fn from(error: AskError) -> Self {
        Self::Asked(error)
    }
}

impl From<Error> for Undelivered {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Delivery {
    pub(super) fn of(record: &AssignmentRecord) -> Self {
        Self {
            stack: record.stack.clone(),
            number: record.number,
            is_absence: record.release.is_none(),
            deadline: Duration::from_secs(record.deadline_seconds.into()),
        }
    }
}

/// Brings an assignment. `taken` is called as soon as the agent has it, files apart;
/// `is_newest` is asked between parts of files.
///
/// `false`: a later one has taken its place meanwhile.
pub(super) async fn deliver(
    (control, caller): (&Control, Caller<'_>),
    record: &AssignmentRecord,
    taken: impl Fn(),
    is_newest: impl Fn() -> bool,
) -> Result<bool, Undelivered> {
    let Some(assignment) = control.assignment_for_agent(record).await? else {
        return Ok(false);
    };
    let body = body_of(&assignment)?;
    let is_absence = matches!(assignment.desired, Desired::Absent { .. });
    drop(assignment);
    let mut link = Link::open(caller).await?;
    let path = format!("/v1/stacks/{}", encoded(&record.stack));
    let accepted: Accepted = link.document(Method::PUT, &path, body).await?;
    taken();
    debug!(
        stack = record.stack,
        number = record.number,
        missing = accepted.missing.len(),
        is_absence,
        "assignment taken by the agent"
    );
    for digest in accepted.missing {
        let bytes = control.blob_for_agent(record.environment, &digest).await?;
        let Some(bytes) = bytes else {
            return Err(missing(record.environment, &digest).into());
        };
        let bytes = Bytes::from_owner(bytes);
        if !send(&mut link, &digest, bytes, &is_newest).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn missing(environment: EnvironmentId, digest: &str) -> AskError {
    AskError::Broken(format!(
        "{environment} asks for a file that no release has: {digest}"
    ))
}

/// Sends what the agent does not have of a file, part by part.
async fn send(
    link: &mut Link,
    digest: &str,
    bytes: Bytes,
    is_newest: impl Fn() -> bool,
) -> Result<bool, Undelivered> {
    let path = format!("/v1/blobs/{digest}");
    let mut state: BlobState = link.document(Method::GET, &path, Bytes::new()).await?;
    let mut tries = 0;
    loop {
        let from = usize::try_from(state.received).unwrap_or(usize::MAX);
        if state.complete {
            return Ok(true);
        }
        if !is_newest() {
            return Ok(false);
        }
        let from = from.min(bytes.len());
        let to = bytes.len().min(from + BLOB_PART_BYTES_MAX);
        let part = bytes.slice(from..to);
        let place = format!("{path}?offset={from}&size={}", bytes.len());
        state = match link.part(&place, part, STACK_PART_TIMEOUT).await {
            Ok(state) => state,
            Err(AskError::Refused(_)) if tries < TRIES => {
                tries += 1;
                link.document(Method::GET, &path, Bytes::new()).await?
            }
            Err(error) => return Err(error.into()),
        };
        if !state.complete && from == bytes.len() {
            let reason = "the agent does not find the file complete".to_owned();
            return Err(AskError::Broken(reason).into());
        }
    }
}
