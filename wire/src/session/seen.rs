//! Which of the peer's stream ids were ever seen, in memory bounded by what may be
//! open: on QUIC, opens arrive out of order.

use std::collections::BTreeSet;

use crate::limits::SEEN_GAPS_MAX;

/// A set of indices: all below `below`, but for the gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    below: u64,
    gaps: BTreeSet<u64>,
}

/// The peer skipped more ids than it may have open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyGaps;

impl Seen {
    pub(super) fn contains(&self, index: u64) -> bool {
        index < self.below && !self.gaps.contains(&index)
    }

    /// Notes `index`; says whether it was new.
    pub(super) fn insert(&mut self, index: u64) -> Result<bool, TooManyGaps> {
        if index < self.below {
            return Ok(self.gaps.remove(&index));
        }
        let skipped = index - self.below;
        if skipped > (SEEN_GAPS_MAX - self.gaps.len()) as u64 {
            return Err(TooManyGaps);
        }
        self.gaps.extend(self.below..index);
        self.below = index + 1;
        Ok(true)
    }

    pub(super) const fn below(&self) -> u64 {
        self.below
    }

    pub(super) fn gaps(&self) -> impl Iterator<Item = u64> {
        self.gaps.iter().copied()
    }

    /// Rebuilds the peer's set from what it told.
    pub(super) fn from_parts(below: u64, gaps: impl IntoIterator<Item = u64>) -> Self {
        Self {
            below,
            gaps: gaps.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_new_once_in_whatever_order() {
        let mut seen = Seen::default();

        assert_eq!(seen.insert(2), Ok(true));
        assert_eq!(seen.insert(0), Ok(true));
        assert_eq!(seen.insert(2), Ok(false));
        assert!(seen.contains(0) && !seen.contains(1) && seen.contains(2));
    }

    #[test]
    fn a_leap_beyond_what_may_be_open_is_refused_before_memory_is_spent() {
        let mut seen = Seen::default();

        assert_eq!(seen.insert(1 << 60), Err(TooManyGaps));
        assert_eq!(seen, Seen::default());
    }
}
