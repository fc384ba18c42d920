//! What a judgement of one flow comes to, before it is written down.

use crate::verdict::{Cause, Code, Confidence, FlowVerdict};

/// Of one flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: FlowVerdict,
    pub(super) confidence: Confidence,
    pub(super) causes: Vec<Cause>,
}

impl Finding {
    /// Nothing is wrong.
    pub(super) const fn open(confidence: Confidence) -> Self {
        Self {
            verdict: FlowVerdict::Open,
            confidence,
            causes: Vec::new(),
        }
    }

    /// It does not work, and it is known why.
    pub(super) fn blocked(confidence: Confidence, cause: Cause) -> Self {
        Self {
            verdict: FlowVerdict::Blocked,
            confidence,
            causes: vec![cause],
        }
    }

    /// It does not work, and the evidence does not say why.
    pub(super) fn cannot_tell(says: impl Into<String>) -> Self {
        Self {
            verdict: FlowVerdict::CannotTell,
            confidence: Confidence::Low,
            causes: vec![Cause::new(Code::Unknown, says)],
        }
    }

    /// Adds what will bite to a flow that works.
    pub(super) fn add_caveat(&mut self, cause: Cause) {
        if self.verdict.is_usable() {
            self.verdict = FlowVerdict::Caveat;
            self.causes.push(cause);
        }
    }
}
