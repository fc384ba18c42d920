//! Which stream sends next, on a connection that carries them all in one pipe.
//!
//! Streams that have just become active go before those that have been sending
//! (the "new flows" of FQ-CoDel, RFC 8290 §4.1), so that a keystroke does not wait
//! behind an upload; within each list it is round robin, a quantum a turn. After
//! [`NEW_IN_A_ROW_MAX`] turns of new streams an old one has its turn, so that many
//! small streams cannot starve a large one.

use std::collections::VecDeque;

use crate::id::StreamId;

/// Turns of new streams before an old one's.
const NEW_IN_A_ROW_MAX: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Scheduler {
    new: VecDeque<StreamId>,
    old: VecDeque<StreamId>,
    new_in_a_row: u32,
}

impl Scheduler {
    /// Adds a stream that is in neither list.
    pub(super) fn activate(&mut self, id: StreamId) {
        self.new.push_back(id);
    }

    /// Takes the stream whose turn it is. It is in no list any more: give it back
    /// with [`Self::requeue`] while it has more to send.
    pub(super) fn next(&mut self) -> Option<StreamId> {
        let old_first = self.new_in_a_row >= NEW_IN_A_ROW_MAX;
        if (!old_first || self.old.is_empty())
            && let Some(id) = self.new.pop_front()
        {
            self.new_in_a_row += 1;
            return Some(id);
        }
        self.new_in_a_row = 0;
        self.old.pop_front()
    }

    /// Puts a stream that has had its turn behind all others.
    pub(super) fn requeue(&mut self, id: StreamId) {
        self.old.push_back(id);
    }

    /// Puts a stream that could not use its turn before all others.
    pub(super) fn put_back(&mut self, id: StreamId) {
        self.new.push_front(id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    /// Gives back the room of lists that are empty.
    pub(super) fn give_back(&mut self) {
        self.new.shrink_to_fit();
        self.old.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Side;

    fn stream(index: u64) -> StreamId {
        StreamId::new(Side::Dialler, index)
    }

    #[test]
    fn a_stream_that_becomes_active_goes_before_those_that_have_been_sending() {
        let mut scheduler = Scheduler::default();
        scheduler.requeue(stream(1));
        scheduler.requeue(stream(2));

        scheduler.activate(stream(3));

        assert_eq!(scheduler.next(), Some(stream(3)));
        assert_eq!(scheduler.next(), Some(stream(1)));
    }

    #[test]
    fn ever_new_streams_do_not_starve_an_old_one() {
        let mut scheduler = Scheduler::default();
        scheduler.requeue(stream(0));

        let turns = (1..100)
            .map(|index| {
                scheduler.activate(stream(index));
                scheduler.next().unwrap()
            })
            .take_while(|id| *id != stream(0))
            .count();

        assert!(turns <= 8, "waited for {turns} turns");
    }
}
