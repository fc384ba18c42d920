//! Bulk lanes: further connections of a framed session, for the bytes of heavy streams.
//!
//! A stream that sends much for long fills the one pipe that all others share, and is held
//! to the one core that encrypts it. On a connection of its own it does neither. Only data
//! and finishes travel there, and heartbeats; what is told about a stream stays with the
//! session's own connection, so that a lane that is lost costs nothing but a repetition.
//!
//! A direction is moved by its sender alone: it pauses until the peer has acknowledged all
//! that was sent, and goes on over the other connection. So bytes never overtake each other,
//! and the receiver has nothing to put in order.
//!
//! *Invariant:* a lane never carries a stream's first byte, and never its open, accept,
//! credit, acknowledgement, reset or stop.

use std::time::Instant;

use super::{
    ConnectionKind, ConnectionOptions, Event, ProtocolError, Session, connection::Connection,
};
use crate::{
    frame::Frame,
    id::{ConnectionId, Side, StreamId},
    limits::{BULK_ASK_AGAIN, BULK_BYTES, BULK_IDLE, BULK_SPAN},
};

/// Which streams get a connection of their own, and how many of these there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkOptions {
    /// Bulk lanes at most; both ends are given the same number.
    pub lanes_max: usize,
    /// A stream that sends so much within [`BULK_SPAN`] is heavy.
    pub heavy_bytes: u64,
}

impl BulkOptions {
    /// At most so many lanes, for streams that are heavy by [`BULK_BYTES`].
    pub const fn lanes(lanes_max: usize) -> Self {
        Self {
            lanes_max,
            heavy_bytes: BULK_BYTES,
        }
    }
}

/// How fast a stream has been sending of late.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Option<Instant>,
    bytes: u64,
}

impl Pace {
    /// Counts bytes that were sent; true where they complete `heavy_bytes` within
    /// [`BULK_SPAN`].
    pub(super) fn note(&mut self, now: Instant, bytes: u64, heavy_bytes: u64) -> bool {
        let since = *self.since.get_or_insert(now);
        self.bytes += bytes;
        if self.bytes < heavy_bytes {
            return false;
        }
        *self = Self::default();
        now.saturating_duration_since(since) <= BULK_SPAN
    }
}

impl Session {
    /// Lets heavy streams have connections of their own. By default there is none.
    pub const fn allow_bulk(&mut self, options: BulkOptions) {
        self.bulk = options;
    }

    /// Adds a bulk lane, a framed connection whose handshake is done. `None`: the session
    /// is over, is not framed, or has as many as it may.
    pub fn attach_bulk(
        &mut self,
        now: Instant,
        options: ConnectionOptions,
    ) -> Option<ConnectionId> {
        let is_framed = self
            .main()
            .is_some_and(|main| main.kind == ConnectionKind::Framed);
        let mut connection = Connection::new(now, self.side, options);
        if !is_framed
            || connection.kind != ConnectionKind::Framed
            || self.closed.is_some()
            || self.bulk_lanes() >= self.bulk.lanes_max
        {
            return None;
        }
        connection.bulk_used = Some(now);
        self.bulk_asked_at = None;
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.connections.insert(id, Box::new(connection));
        Some(id)
    }

    /// How many bulk lanes there are.
    pub fn bulk_lanes(&self) -> usize {
        self.connections
            .values()
            .filter(|connection| connection.is_bulk())
            .count()
    }

    /// Finds a heavy stream the lane with the fewest streams, and asks for a further lane
    /// where all have one.
    pub(super) fn note_heavy(&mut self, now: Instant, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if self.bulk.lanes_max == 0 || stream.moving_to.is_some() {
            return;
        }
        let (here, best) = (self.load_of(stream.connection), self.lightest_lane());
        let is_crowded = here.is_none_or(|streams| streams > 1);
        if is_crowded && best.is_none_or(|(_, streams)| streams > 0) {
            self.ask_for_bulk(now);
        }
        // One that has a lane changes only where it leaves the two of them more even.
        if let Some((lane, streams)) = best
            && here.is_none_or(|here| streams + 1 < here)
        {
            self.move_to(id, lane);
        }
    }

    /// Streams that send over a bulk lane; `None` for the session's own connection.
    fn load_of(&self, on: Option<ConnectionId>) -> Option<usize> {
        let connection = on.and_then(|on| self.connections.get(&on))?;
        connection.is_bulk().then(|| {
            let streams = self.streams.values();
            streams
                .filter(|stream| stream.moving_to.or(stream.connection) == on)
                .count()
        })
    }

    fn lightest_lane(&self) -> Option<(ConnectionId, usize)> {
        let lanes = self.connections.keys();
        lanes
            .filter_map(|lane| Some((*lane, self.load_of(Some(*lane))?)))
            .min_by_key(|(_, streams)| *streams)
    }

    fn ask_for_bulk(&mut self, now: Instant) {
        let is_asked = self
            .bulk_asked_at
            .is_some_and(|at| now.saturating_duration_since(at) < BULK_ASK_AGAIN);
        if self.bulk_lanes() < self.bulk.lanes_max && !is_asked {
            self.bulk_asked_at = Some(now);
            self.events.push_back(Event::BulkWanted);
        }
    }

    /// Pauses a stream until nothing of it is under way.
    fn move_to(&mut self, id: StreamId, lane: ConnectionId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.moving_to = Some(lane);
        }
        self.finish_move(id);
    }

    /// Lets a stream that was paused go on, once nothing of it is under way.
    pub(super) fn finish_move(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.send.is_all_acknowledged()
            && let Some(lane) = stream.moving_to.take()
        {
            stream.connection = Some(lane);
            self.schedule(id);
        }
    }

    /// Takes streams off a lane that is gone: they go on over the session's own
    /// connection, from what the peer has acknowledged.
    pub(super) fn leave_bulk(&mut self, lane: ConnectionId) {
        let main = self.primary();
        let ids: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| [stream.connection, stream.moving_to].contains(&Some(lane)))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.session_blocked.retain(|blocked| *blocked != id);
            self.update(id, |stream| {
                stream.moving_to = None;
                stream.is_scheduled = false;
                if stream.connection == Some(lane) {
                    stream.connection = main;
                    stream.send.send_again();
                }
            });
            self.schedule(id);
        }
    }

    /// Whether a frame may travel on a bulk lane.
    ///
    /// # Errors
    ///
    /// It may not.
    pub(super) const fn check_bulk(frame: &Frame) -> Result<(), ProtocolError> {
        match frame {
            Frame::Data { .. } | Frame::Finish { .. } | Frame::Ping(_) | Frame::Pong(_) => Ok(()),
            _ => Err(ProtocolError::Unexpected("frame on a bulk lane")),
        }
    }

    /// Names lanes that nobody has used for long. The dialler alone gives them up.
    pub(super) fn note_idle_lanes(&mut self, now: Instant) {
        if self.side != Side::Dialler {
            return;
        }
        for (id, connection) in &self.connections {
            let idle = connection
                .bulk_used
                .map(|used| now.saturating_duration_since(used));
            if idle.is_some_and(|idle| idle >= BULK_IDLE) {
                self.events.push_back(Event::BulkIdle(*id));
            }
        }
    }
}
