//! What the probe has said of a case, as far as it is judged: read from its JSON report.

use serde::{Deserialize, Serialize};

use super::claim::{Cause, Claim, Verdict};

/// The kind that a report names.
const KIND: &str = "sternline-probe report";

/// The version of the report that is understood.
const VERSION: u32 = 1;

/// What the probe has said of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Its name in the report.
    pub flow: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The code of the cause that is named first.
    pub cause: Option<String>,
    /// That cause, as a sentence.
    pub says: String,
}

impl Flow {
    /// The same as a claim.
    ///
    /// # Errors
    ///
    /// The cause is none that there is.
    pub fn claim(&self) -> Result<Claim, String> {
        let cause: Option<Cause> = self.cause.as_deref().map(str::parse).transpose()?;
        // An open flow with a cause is one with a caveat; of what cannot be told, the cause says
        // why, and accuses nobody.
        Ok(match (self.verdict, cause) {
            (Verdict::Open, Some(_)) => Claim {
                verdict: Verdict::Caveat,
                cause,
            },
            (Verdict::Open | Verdict::CannotTell, _) => Claim {
                verdict: self.verdict,
                cause: None,
            },
            (Verdict::Caveat | Verdict::Blocked, _) => Claim {
                verdict: self.verdict,
                cause,
            },
        })
    }
}

/// A report of the probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The verdict of all.
    pub verdict: String,
    /// The exit code.
    pub exit: i32,
    /// What is said of each flow.
    pub flows: Vec<Flow>,
    /// What is said of the first host of images.
    pub images: Option<Verdict>,
}

#[derive(Deserialize)]
struct Report {
    kind: String,
    version: u32,
    verdict: String,
    flows: Vec<ReportFlow>,
    #[serde(default)]
    images: Vec<ReportImage>,
}

#[derive(Deserialize)]
struct ReportImage {
    verdict: Verdict,
}

#[derive(Deserialize)]
struct ReportFlow {
    flow: String,
    verdict: Verdict,
    #[serde(default)]
    causes: Vec<ReportCause>,
}

#[derive(Deserialize)]
struct ReportCause {
    code: String,
    says: String,
}

impl Answer {
    /// Reads what a probe has printed.
    ///
    /// # Errors
    ///
    /// It is no report of it, or its end does not fit what it says.
    pub fn read(text: &str, exit: Option<i32>) -> Result<Self, String> {
        let report: Report = serde_json::from_str(text).map_err(|error| {
            let begin: String = text.chars().take(200).collect();
            format!("the probe printed no report ({error}): {begin:?}")
        })?;
        if report.kind != KIND || report.version != VERSION {
            let Report { kind, version, .. } = report;
            return Err(format!(
                "this is no report that is known: {kind:?} {version}"
            ));
        }
        let exit = exit.ok_or("the probe was killed")?;
        let meant = match report.verdict.as_str() {
            "open" => 0,
            "degraded" => 10,
            "blocked" => 20,
            "cannot-tell" => 30,
            other => return Err(format!("`{other}` is no verdict of a report")),
        };
        if exit != meant {
            let verdict = report.verdict;
            return Err(format!("the probe says {verdict} and ended with {exit}"));
        }
        let flows = report.flows.into_iter().map(|flow| {
            let first = flow.causes.into_iter().next();
            let (cause, says) =
                first.map_or((None, String::new()), |one| (Some(one.code), one.says));
            Flow {
                flow: flow.flow,
                verdict: flow.verdict,
                cause,
                says,
            }
        });
        Ok(Self {
            verdict: report.verdict,
            exit,
            flows: flows.collect(),
            images: report.images.first().map(|one| one.verdict),
        })
    }
}

/// What came of a case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What the probe said; none where it said nothing.
    pub answer: Option<Answer>,
    /// How long the probe took, in milliseconds.
    pub took_ms: u64,
    /// Why the case has shown nothing: a fault that touched no packet, a world that did not
    /// come up, a probe that gave no report.
    pub problems: Vec<String>,
    /// Why it was not run here.
    pub skipped: Option<String>,
    /// Packets by what was done to them.
    pub touched: Vec<(String, u64)>,
}
