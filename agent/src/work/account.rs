//! How a stream went, and who asked for it, in the words of the customer's record.

use tunnel::{OpenRequest, Spliced};

use crate::audit::Event;

/// How a stream went.
pub(super) enum Outcome {
    Spliced(Spliced),
    /// It was for the compose engine, and has ended; why, where it broke.
    Served(Result<(), String>),
    /// The policy changed and forbids it.
    Revoked,
}

impl Outcome {
    pub(super) const fn spliced(&self) -> Option<&Spliced> {
        match self {
            Self::Spliced(spliced) => Some(spliced),
            Self::Served(_) | Self::Revoked => None,
        }
    }

    pub(super) fn into_event(self, duration_ms: u64) -> Event {
        let (outcome, bytes) = match self {
            Self::Revoked => ("revoked by a change of the policy".to_owned(), None),
            Self::Served(Ok(())) => ("ok".to_owned(), None),
            Self::Served(Err(why)) => (why, None),
            Self::Spliced(Spliced {
                sent,
                received,
                end: Ok(()),
            }) => ("ok".to_owned(), Some((sent, received))),
            Self::Spliced(Spliced {
                sent,
                received,
                end: Err(error),
            }) => (error.to_string(), Some((sent, received))),
        };
        let (sent_bytes, received_bytes) = bytes.unzip();
        Event::Ended {
            outcome,
            sent_bytes,
            received_bytes,
            duration_ms,
        }
    }
}

/// Who asked for what, in the words of the record.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) principal: String,
    pub(super) request_id: String,
    pub(super) target: String,
}

impl Asked {
    pub(super) fn of(open: &OpenRequest) -> Self {
        Self {
            principal: open.principal.clone(),
            request_id: open.request_id.to_string(),
            target: open.target.to_string(),
        }
    }

    /// For the agent's own log.
    pub(super) fn trace(&self, event: &Event) {
        // The principal's text is a peer's: `?` escapes what could forge a line.
        let Self {
            principal,
            request_id,
            target,
        } = self;
        match event {
            Event::Opened { .. } => tracing::info!(?principal, request_id, target, "stream opened"),
            Event::Refused { code, reason } => {
                tracing::warn!(
                    ?principal,
                    request_id,
                    target,
                    code,
                    reason,
                    "stream refused"
                );
            }
            Event::Request {
                method,
                path,
                rule,
                reason,
                ..
            } => match rule {
                Some(rule) => tracing::warn!(
                    ?principal,
                    request_id,
                    ?method,
                    ?path,
                    rule,
                    reason,
                    "request refused"
                ),
                None => tracing::info!(?principal, request_id, ?method, ?path, "request allowed"),
            },
            Event::Stack {
                stack,
                action,
                release,
                outcome,
            } => tracing::info!(
                ?principal,
                request_id,
                stack,
                action,
                release,
                outcome,
                "stack"
            ),
            Event::Ended {
                outcome,
                sent_bytes,
                received_bytes,
                duration_ms,
            } => tracing::info!(
                ?principal,
                request_id,
                target,
                outcome,
                sent_bytes,
                received_bytes,
                duration_ms,
                "stream ended"
            ),
        }
    }
}
