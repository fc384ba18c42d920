//! What is said of a flow, in the words of the probe's report: `open`, `caveat: mtu`,
//! `blocked: dns`, `cannot-tell`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Codes of causes, as the probe's report has them.
pub const CAUSES: [&str; 18] = [
    "dns",
    "no-route",
    "host-firewall",
    "firewall-drop",
    "firewall-reject",
    "proxy",
    "transparent-proxy",
    "tls-interception",
    "inspection",
    "idle-timer",
    "mtu",
    "relay",
    "captive-portal",
    "clock",
    "port-exhaustion",
    "ipv6",
    "rate",
    "unknown",
];

/// What is named where who it is cannot be told.
const UNKNOWN: &str = "unknown";

/// One of [`CAUSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause(usize);

impl Cause {
    /// Its code.
    pub const fn as_str(self) -> &'static str {
        CAUSES[self.0]
    }
}

impl FromStr for Cause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = CAUSES.iter().position(|one| *one == text);
        found
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no cause; causes are {}", CAUSES.join(", ")))
    }
}

/// The verdict of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It goes through.
    Open,
    /// It goes through, and something is in its way.
    Caveat,
    /// It does not go through.
    Blocked,
    /// The probe does not know.
    CannotTell,
}

impl Verdict {
    /// As in the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Caveat => "caveat",
            Self::Blocked => "blocked",
            Self::CannotTell => "cannot-tell",
        }
    }
}

/// A verdict and its cause: one thing that may be said of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The verdict.
    pub verdict: Verdict,
    /// The cause that is named first; none of a flow that is open, or of which nothing can be
    /// told.
    pub cause: Option<Cause>,
}

impl Claim {
    /// An open flow that nothing is wrong with.
    pub const OPEN: Self = Self {
        verdict: Verdict::Open,
        cause: None,
    };
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verdict.as_str())?;
        match self.cause {
            Some(cause) => write!(f, ": {}", cause.as_str()),
            None => Ok(()),
        }
    }
}

impl FromStr for Claim {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (verdict, cause) = match text.split_once(": ") {
            Some((verdict, cause)) => (verdict, Some(cause.parse()?)),
            None => (text, None),
        };
        let verdict = match verdict {
            "open" => Verdict::Open,
            "caveat" => Verdict::Caveat,
            "blocked" => Verdict::Blocked,
            "cannot-tell" => Verdict::CannotTell,
            _ => return Err(format!("`{verdict}` is no verdict")),
        };
        let wants_cause = matches!(verdict, Verdict::Caveat | Verdict::Blocked);
        if wants_cause == cause.is_some() {
            Ok(Self { verdict, cause })
        } else {
            Err(format!(
                "`{text}`: `caveat` and `blocked` have a cause, and alone they do"
            ))
        }
    }
}

/// What is true of a flow. The first claim is the whole truth; others are as true, or as much
/// of it as anybody can know there: `blocked: relay | cannot-tell`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Truth(Vec<Claim>);

impl Truth {
    /// Nothing is wrong.
    pub fn open() -> Self {
        Self(vec![Claim::OPEN])
    }

    /// The whole truth.
    pub fn first(&self) -> Claim {
        self.0.first().copied().unwrap_or(Claim::OPEN)
    }

    /// Whether this may be said.
    pub fn admits(&self, said: Claim) -> bool {
        self.0.iter().any(|one| match one.verdict {
            Verdict::CannotTell => said.verdict == Verdict::CannotTell,
            Verdict::Open | Verdict::Caveat | Verdict::Blocked => *one == said,
        })
    }

    /// The true cause in whose row an answer counts: the one that was named, where it may be,
    /// else the first. None where nothing is wrong, or where that may be said, and was.
    pub fn cause_for(&self, said: Claim) -> Option<Cause> {
        let named = match said.verdict {
            Verdict::CannotTell => None,
            Verdict::Open | Verdict::Caveat | Verdict::Blocked => Some(said.cause),
        };
        let named = named.filter(|_| self.admits(said));
        // Of an unknown cause, the row is what it is.
        let named = named.filter(|cause| cause.is_none_or(|cause| cause.as_str() != UNKNOWN));
        named.unwrap_or_else(|| self.0.iter().find_map(|one| one.cause))
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(" | "))
    }
}

impl TryFrom<String> for Truth {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let claims: Result<Vec<Claim>, String> = text.split(" | ").map(str::parse).collect();
        Ok(Self(claims?))
    }
}
