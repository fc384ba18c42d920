//! Bulk lanes between two ends.

use wire::{
    frame::Frame,
    id::ConnectionId,
    session::{BulkOptions, ConnectionOptions, ProtocolError},
    transport::Transport,
};

use super::{Link, Pair, Pipe};

impl Pair {
    /// Lets both ends have bulk lanes, for streams that send `heavy_bytes`.
    pub(crate) fn allow_bulk(&mut self, lanes_max: usize, heavy_bytes: u64) {
        for end in &mut self.ends {
            end.session.allow_bulk(BulkOptions {
                lanes_max,
                heavy_bytes,
            });
        }
    }

    /// Adds a bulk lane at both ends; false where one of them takes none.
    pub(crate) fn connect_bulk(&mut self) -> bool {
        let options = ConnectionOptions::of(Transport::Ws);
        let now = self.now;
        let mut on = [None; 2];
        for (on, end) in on.iter_mut().zip(&mut self.ends) {
            *on = end.session.attach_bulk(now, options);
        }
        let is_whole = on.iter().all(Option::is_some);
        self.links.push(Link {
            on,
            pipes: [Pipe::new(), Pipe::new()],
            lanes: Vec::new(),
            is_cut: !is_whole,
            is_bulk: true,
            bytes: [0; 2],
        });
        if !is_whole {
            self.cut_bulk([true, true]);
        }
        self.pump();
        is_whole
    }

    /// Loses every bulk lane with everything under way.
    pub(crate) fn cut_bulk(&mut self, noticed: [bool; 2]) {
        for link in self.links.iter_mut().filter(|link| link.is_bulk) {
            link.is_cut = true;
            link.pipes = [Pipe::new(), Pipe::new()];
            for (end, noticed) in noticed.into_iter().enumerate() {
                if noticed && let Some(on) = link.on[end].take() {
                    self.ends[end].session.detach(on);
                }
            }
        }
        self.pump();
    }

    /// An end gives a bulk lane up, and the other notices when the news is there: here,
    /// at once, which loses what is under way.
    pub(super) fn drop_bulk(&mut self, end: usize, on: ConnectionId) -> bool {
        let is_it = |link: &&mut Link| link.is_bulk && link.on[end] == Some(on);
        let Some(link) = self.links.iter_mut().find(is_it) else {
            return false;
        };
        link.is_cut = true;
        link.pipes = [Pipe::new(), Pipe::new()];
        for (end, on) in link.on.iter_mut().enumerate() {
            if let Some(on) = on.take() {
                self.ends[end].session.detach(on);
            }
        }
        true
    }

    /// Bytes that an end has written to each lane, the first one first.
    pub(crate) fn bulk_bytes_by_lane(&self, end: usize) -> Vec<usize> {
        let lanes = self.links.iter().filter(|link| link.is_bulk);
        lanes.map(|link| link.bytes[end]).collect()
    }

    /// The same of all lanes together.
    pub(crate) fn bulk_bytes(&self, end: usize) -> usize {
        self.bulk_bytes_by_lane(end).iter().sum()
    }

    /// Hands an end a frame as if it had come on the first lane.
    pub(crate) fn inject_bulk(&mut self, end: usize, frame: Frame) -> Result<(), ProtocolError> {
        let lane = self.links.iter().find(|link| link.is_bulk);
        let on = lane.and_then(|link| link.on[end]).expect("a lane");
        self.ends[end].session.handle_frame(self.now, on, frame)
    }
}
