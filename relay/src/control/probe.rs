//! What the probe found at an environment, before there was an agent.
//!
//! A report is somebody's word: whoever has the environment's token, and a network between.
//! So of all that it says little is kept, everything bounded, and nothing is decided by it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use wire::token::EnrolToken;

use super::{Control, Error, Principal};
use crate::{
    credential::SecretHash,
    limits::PROBE_SUMMARY_BYTES_MAX,
    store::{ProbeReportRecord, RedeemError},
};

/// What a report calls itself.
const KIND: &str = "sternline-probe report";

/// Flows that are kept: those of a relay over two address families, and registries.
const FLOWS_MAX: usize = 24;

/// Causes of one flow that are kept: the main one is the first.
const CAUSES_MAX: usize = 4;

/// The longest sentence that is kept.
const SENTENCE_CHARS_MAX: usize = 400;

/// The longest word.
const WORD_CHARS_MAX: usize = 64;

/// All that a run, or a flow of it, may come to.
const VERDICTS: [&str; 5] = ["open", "caveat", "degraded", "blocked", "cannot-tell"];

/// What is kept of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSummary {
    /// What the run came to.
    pub verdict: String,
    /// Each flow.
    pub flows: Vec<ProbeFlow>,
}

/// One flow of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeFlow {
    /// Such as `https`.
    pub flow: String,
    /// Where.
    #[serde(default)]
    pub port: u16,
    /// `tcp` or `udp`.
    #[serde(default)]
    pub protocol: String,
    /// What it came to.
    pub verdict: String,
    /// Why, the main cause first.
    #[serde(default)]
    pub causes: Vec<ProbeCause>,
}

/// Why a flow is not open, or open with a caveat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeCause {
    /// A stable word.
    pub code: String,
    /// A sentence.
    #[serde(default)]
    pub says: String,
}

/// The newest report of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// When it came.
    pub received_at: Timestamp,
    /// What it said.
    pub summary: ProbeSummary,
}

/// Why a report is not kept.
#[derive(Debug, thiserror::Error)]
pub enum ProbeReportError {
    /// What was shown is no token, or none of this relay's.
    #[error("this is no enrolment token of this relay: ask the vendor for one")]
    TokenUnknown,
    /// An agent has enrolled with it.
    #[error("the token has been used by an agent: ask the vendor for another")]
    TokenUsed,
    /// It is too old.
    #[error("the token has expired: ask the vendor for another")]
    TokenExpired,
    /// Anything that every use case may fail of.
    #[error(transparent)]
    Other(#[from] Error),
}

#[derive(Deserialize)]
struct Report {
    kind: String,
    version: u32,
    #[serde(flatten)]
    summary: ProbeSummary,
}

impl Control {
    /// Keeps what a run of the probe found, in place of what an earlier one did. The token is
    /// good for enrolling afterwards.
    ///
    /// # Errors
    ///
    /// No valid token; no report; a failing store.
    pub async fn keep_probe_report(
        &self,
        token: &str,
        report: &[u8],
    ) -> Result<(), ProbeReportError> {
        let token: EnrolToken = token.parse().map_err(|_| ProbeReportError::TokenUnknown)?;
        let summary = summarise(report)?;
        let summary = serde_json::to_string(&summary).unwrap_or_default();
        let now = self.now();
        let record = ProbeReportRecord {
            received_at: now,
            summary,
        };
        let hash = SecretHash::of_secret(&token.secret);
        let kept = self.store.keep_probe_report(&hash, record, now).await;
        let environment = kept.map_err(|error| match error {
            RedeemError::Unknown => ProbeReportError::TokenUnknown,
            RedeemError::Used => ProbeReportError::TokenUsed,
            RedeemError::Expired => ProbeReportError::TokenExpired,
            RedeemError::Store(error) => Error::Store(error).into(),
        })?;
        info!(environment, "report of the probe kept");
        Ok(())
    }

    /// What the newest run of the probe with a token of this environment found.
    ///
    /// # Errors
    ///
    /// No such environment; a failing store.
    pub async fn probe_report(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Option<ProbeReport>, Error> {
        let id = self.resolve_environment(principal, name).await?;
        let Some(record) = self.store.probe_report(id).await? else {
            return Ok(None);
        };
        match serde_json::from_str(&record.summary) {
            Ok(summary) => Ok(Some(ProbeReport {
                received_at: record.received_at,
                summary,
            })),
            Err(error) => {
                warn!(%error, "a kept report of the probe cannot be read: it is not shown");
                Ok(None)
            }
        }
    }
}

/// What is kept of a report: bounded, and of words that are known.
fn summarise(report: &[u8]) -> Result<ProbeSummary, Error> {
    let invalid = |reason: String| Error::Invalid {
        field: "report",
        reason,
    };
    let report: Report = serde_json::from_slice(report)
        .map_err(|error| invalid(format!("it is no report of the probe: {error}")))?;
    if report.kind != KIND || report.version != 1 {
        return Err(invalid(format!(
            "its kind and version must be `{KIND}` and 1"
        )));
    }
    let mut summary = report.summary;
    summary.flows.truncate(FLOWS_MAX);
    for flow in &mut summary.flows {
        flow.causes.truncate(CAUSES_MAX);
        cut(&mut flow.flow, WORD_CHARS_MAX);
        cut(&mut flow.protocol, WORD_CHARS_MAX);
        for cause in &mut flow.causes {
            cut(&mut cause.code, WORD_CHARS_MAX);
            cut(&mut cause.says, SENTENCE_CHARS_MAX);
        }
    }
    let flows = summary.flows.iter().map(|flow| &flow.verdict);
    if let Some(unknown) = flows
        .chain([&summary.verdict])
        .find(|verdict| !VERDICTS.contains(&verdict.as_str()))
    {
        let shown: String = unknown.chars().take(WORD_CHARS_MAX).collect();
        return Err(invalid(format!("`{}` is no verdict", shown.escape_debug())));
    }
    // Sentences of the last flows go first: what is kept is a summary.
    while size(&summary) > PROBE_SUMMARY_BYTES_MAX {
        let longest = summary.flows.iter_mut().rev();
        match longest
            .flat_map(|flow| &mut flow.causes)
            .find(|one| !one.says.is_empty())
        {
            Some(cause) => cause.says.clear(),
            None => drop(summary.flows.pop()),
        }
    }
    Ok(summary)
}

fn size(summary: &ProbeSummary) -> usize {
    serde_json::to_vec(summary).map_or(0, |text| text.len())
}

fn cut(text: &mut String, chars_max: usize) {
    if let Some((at, _)) = text.char_indices().nth(chars_max) {
        text.truncate(at);
    }
}
