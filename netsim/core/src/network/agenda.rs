//! What is due next of everything that has a time of its own: of thousands of cables, the first
//! is known without looking at the others.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::time::Instant;

/// Times by the numbers of whom they are for. Of several at one moment, the lowest number is
/// first.
///
/// Invariant: the first of `queue` is in `due` as well; behind it may be times that hold no
/// more, which are passed over once they come first.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: Vec<Option<Instant>>,
    queue: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Agenda {
    /// An empty one, for numbers below `count`.
    pub(super) fn new(count: usize) -> Self {
        Self {
            due: vec![None; count],
            queue: BinaryHeap::new(),
        }
    }

    /// A time, or none from now on.
    pub(super) fn set(&mut self, number: usize, at: Option<Instant>) {
        // Mostly the first of those under way is still the first.
        if self.due[number] == at {
            return;
        }
        self.due[number] = at;
        self.queue.extend(at.map(|at| Reverse((at, number))));
        while let Some(Reverse((at, number))) = self.queue.peek().copied()
            && self.due[number] != Some(at)
        {
            self.queue.pop();
        }
    }

    /// What comes first, and when.
    pub(super) fn first(&self) -> Option<(Instant, usize)> {
        self.queue.peek().map(|Reverse(first)| *first)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::at(Duration::from_secs(seconds))
    }

    #[test]
    fn the_earliest_time_that_still_holds_is_first() {
        let mut agenda = Agenda::new(3);
        agenda.set(2, Some(at(5)));
        agenda.set(1, Some(at(3)));
        agenda.set(0, Some(at(4)));

        assert_eq!(agenda.first(), Some((at(3), 1)));
        agenda.set(1, Some(at(9)));
        assert_eq!(agenda.first(), Some((at(4), 0)));
        agenda.set(0, None);
        assert_eq!(agenda.first(), Some((at(5), 2)));
        agenda.set(2, None);
        agenda.set(1, None);
        assert_eq!(agenda.first(), None);
    }

    #[test]
    fn of_several_at_one_moment_the_lowest_number_is_first() {
        let mut agenda = Agenda::new(2);
        agenda.set(1, Some(at(1)));
        agenda.set(0, Some(at(1)));

        assert_eq!(agenda.first(), Some((at(1), 0)));
    }
}
