//! Connections that come and go under the streams.
//!
//! A session's first connection starts empty. At the start of every further one
//! each end tells what it has received ([`Resume`]); when the peer's account is
//! complete, all streams move to the new connection and continue from there. So
//! resuming after a loss and moving to a better connection are the same act.

use std::time::Instant;

use super::{
    ConnectionKind, ConnectionOptions, Event, ProtocolError, Session,
    connection::{Connection, PeerResume},
    seen::Seen,
    stream::{Answer, Opening},
};
use crate::{
    frame::{Frame, Resume, ResumeStream},
    id::{ConnectionId, StreamId},
    limits::{SEEN_GAPS_MAX, STREAMS_MAX},
};

/// Streams and gaps told in one frame: at most 24 and 8 bytes each, so at most
/// 32,000 bytes of the 64 KiB that a frame may have.
const ITEMS_PER_FRAME: usize = 1_000;

impl Session {
    /// Adds a connection whose handshake is done. It takes the place of a former one,
    /// on which nothing more is heard or said: what each end tells of itself at the
    /// start of the new one must stay true.
    pub fn attach(&mut self, now: Instant, options: ConnectionOptions) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        if self.closed.is_some() {
            return id;
        }
        for former in self.connections.keys().copied().collect::<Vec<_>>() {
            self.remove(former);
        }
        let mut connection = Connection::new(now, self.side, options);
        if id.0 > 0 {
            connection.resume_out = self.resume_frames().into();
            connection.resume_in = Some(PeerResume::default());
        }
        self.connections.insert(id, Box::new(connection));
        if id.0 == 0 {
            let waiting: Vec<_> = self.streams.keys().copied().collect();
            for stream in waiting {
                self.move_stream(stream, id);
            }
        }
        id
    }

    /// Removes a connection that is lost. Its streams wait for another; a session
    /// that was closing is over.
    ///
    /// The streams of a bulk lane go on over the session's own connection, without which
    /// no lane remains.
    pub fn detach(&mut self, id: ConnectionId) {
        let is_bulk = self
            .connections
            .get(&id)
            .is_some_and(|connection| connection.is_bulk());
        if is_bulk {
            self.connections.remove(&id);
            return self.leave_bulk(id);
        }
        self.remove(id);
        if self.connections.is_empty()
            && let Some((code, reason)) = self.closing.clone()
        {
            self.abort(code, &reason);
        }
    }

    fn remove(&mut self, id: ConnectionId) {
        self.heard = self.last_heard();
        if self.connections.remove(&id).is_none() {
            return;
        }
        self.connections
            .retain(|_, connection| !connection.is_bulk());
        for stream in self.streams.values_mut() {
            stream.connection = None;
            stream.moving_to = None;
            stream.is_scheduled = false;
        }
        self.session_blocked.clear();
        // Lanes that nobody has heard of yet are lost with the connection.
        self.events
            .retain(|event| !matches!(event, Event::LaneWanted(_) | Event::LaneReady(_)));
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    fn resume_frames(&self) -> Vec<Frame> {
        let gaps: Vec<_> = self.seen.gaps().collect();
        let streams: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| !stream.is_settled() && !stream.wants_open())
            .map(|(id, stream)| ResumeStream {
                id: *id,
                received: stream.recv.received(),
                credit: stream.recv.credit(),
            })
            .collect();
        let parts = gaps
            .len()
            .max(streams.len())
            .div_ceil(ITEMS_PER_FRAME)
            .max(1);
        (0..parts)
            .map(|part| {
                Frame::Resume(Resume {
                    is_last: part + 1 == parts,
                    seen_below: self.seen.below(),
                    gaps: part_of(&gaps, part),
                    streams: part_of(&streams, part),
                })
            })
            .collect()
    }

    pub(super) fn handle_resume(
        &mut self,
        on: ConnectionId,
        resume: Resume,
    ) -> Result<(), ProtocolError> {
        let connection = self.connections.get_mut(&on);
        let Some(peer) = connection.and_then(|connection| connection.resume_in.as_mut()) else {
            return Err(ProtocolError::Unexpected("resume frame"));
        };
        peer.gaps.extend(resume.gaps);
        peer.streams
            .extend(resume.streams.into_iter().map(|stream| (stream.id, stream)));
        if peer.gaps.len() > SEEN_GAPS_MAX || peer.streams.len() > 4 * STREAMS_MAX {
            return Err(ProtocolError::LimitExceeded("size of a resume"));
        }
        if !resume.is_last {
            return Ok(());
        }
        let Some(peer) = self
            .connections
            .get_mut(&on)
            .and_then(|connection| connection.resume_in.take())
        else {
            return Ok(());
        };
        self.continue_streams(on, &peer, resume.seen_below)
    }

    /// Moves every stream to the connection, from where the peer has it.
    fn continue_streams(
        &mut self,
        on: ConnectionId,
        peer: &PeerResume,
        seen_below: u64,
    ) -> Result<(), ProtocolError> {
        let peer_seen = Seen::from_parts(seen_below, peer.gaps.iter().copied());
        self.session_credit_due = true;
        // A stream that the peer opened on a lane of this very connection, which was
        // faster than its account, is in place already.
        let ids: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.connection != Some(on))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let is_seen = id.opener() != self.side || peer_seen.contains(id.index());
            match peer.streams.get(&id) {
                Some(theirs) => self.rewind(id, theirs)?,
                None if is_seen => self.complete(id),
                None => self.open_again(id)?,
            }
            self.move_stream(id, on);
        }
        self.settle_forgotten(peer)
    }

    fn rewind(&mut self, id: StreamId, theirs: &ResumeStream) -> Result<(), ProtocolError> {
        let rewound = self.update(id, |stream| {
            stream.send.add_credit(theirs.credit);
            // Seen by the peer, whatever became of the frame that we sent.
            if let Opening::Ours { is_sent, .. } = &mut stream.opening {
                *is_sent = true;
            }
            stream.send.rewind(theirs.received)
        });
        rewound
            .unwrap_or(Ok(()))
            .map_err(|_| ProtocolError::Stream {
                id,
                what: "resumed beyond what was sent",
            })
    }

    /// The peer has forgotten the stream, so it has had all it needs of it.
    fn complete(&mut self, id: StreamId) {
        self.update(id, |stream| stream.send.complete());
        self.events.push_back(Event::Writable(id));
    }

    /// The open was lost with its connection.
    fn open_again(&mut self, id: StreamId) -> Result<(), ProtocolError> {
        let result = self.update(id, |stream| {
            if let Opening::Ours { is_sent, .. } = &mut stream.opening {
                *is_sent = false;
            }
            stream.send.rewind(0)
        });
        result.unwrap_or(Ok(())).map_err(|_| ProtocolError::Stream {
            id,
            what: "acknowledged before it was seen",
        })
    }

    fn move_stream(&mut self, id: StreamId, on: ConnectionId) {
        let is_laned = self
            .connections
            .get(&on)
            .is_some_and(|connection| connection.kind == ConnectionKind::Laned);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.connection = Some(on);
        stream.is_scheduled = false;
        if stream.is_settled() {
            return;
        }
        let is_known = !stream.wants_open();
        stream.attach_from = (is_laned && is_known).then(|| stream.send.cursor());
        stream.is_attached = stream.attach_from.is_some();
        // What was told on a lost connection is told again: each notice may be
        // heard twice without harm. Of a stream that the peer does not know yet,
        // only what holds from its beginning.
        let accepted = matches!(stream.opening, Opening::Theirs(Answer::Accepted));
        let (reset, stop) = (
            stream.send.reset_to_tell().is_some(),
            stream.recv.is_stopped(),
        );
        self.notify(id, |notice| {
            notice.accept |= accepted;
            notice.reset |= reset;
            notice.stop |= stop;
            notice.ack |= is_known;
            notice.credit |= is_known;
        });
        self.announce_lane(id);
        self.schedule(id);
    }

    /// Tells the peer of streams that it still holds and this end does not: their
    /// end was received here.
    fn settle_forgotten(&mut self, peer: &PeerResume) -> Result<(), ProtocolError> {
        for id in peer
            .streams
            .keys()
            .filter(|id| !self.streams.contains_key(id))
        {
            if id.opener() == self.side && id.index() >= self.next_index {
                return Err(ProtocolError::Stream {
                    id: *id,
                    what: "resumed but never opened",
                });
            }
            // One whose open was lost is not seen here, and the peer opens it again.
            if id.opener() == self.side || self.seen.contains(id.index()) {
                self.settled_acks.push(*id);
            }
        }
        Ok(())
    }
}

fn part_of<T: Clone>(items: &[T], part: usize) -> Vec<T> {
    items
        .iter()
        .skip(part * ITEMS_PER_FRAME)
        .take(ITEMS_PER_FRAME)
        .cloned()
        .collect()
}
