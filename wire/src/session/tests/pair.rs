//! Two ends of a session and the network between them, in virtual time.
//!
//! Nothing here waits: a test says how long to run, and the pair steps from one
//! arrival or deadline to the next. Connections can be framed or laned, can be cut
//! with everything under way lost, and a further one can be attached while the
//! former still delivers.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use wire::{
    frame::{self, Frame, FrameType},
    id::{ConnectionId, RequestId, Side, StreamId},
    limits::MESSAGE_BYTES_MAX,
    session::{
        ConnectionOptions, Event, Lane, LaneOutput, OpenOptions, ProtocolError, Read, Session,
        StreamReset,
    },
    transport::Transport,
};

#[path = "pair/bulk.rs"]
mod bulk;

/// The end that dials.
pub(crate) const A: usize = 0;
/// The end that accepts.
pub(crate) const B: usize = 1;

/// What one poll of a lane may give.
const LANE_CHUNK_BYTES: usize = 16 * 1024;

/// Times that something may happen in one run.
const STEPS_MAX: usize = 100_000;

/// What travels in a pipe.
#[derive(Debug)]
enum Item {
    Bytes(Bytes),
    Finish,
    Abort,
}

/// One direction of a pipe: what is under way, and when it arrives.
type Pipe = VecDeque<(Instant, Item)>;

/// Where the reading of one direction of a lane stands.
#[derive(Debug)]
enum Reader {
    /// Before the first frame is complete.
    Head(BytesMut),
    Bytes(Lane),
    Over,
}

#[derive(Debug)]
struct LaneLink {
    id: StreamId,
    /// By who writes.
    pipes: [Pipe; 2],
    is_written: [bool; 2],
    /// By who reads.
    readers: [Reader; 2],
}

/// A connection: a pipe each way, and lanes where it is laned.
#[derive(Debug)]
struct Link {
    /// By end; `None` before it is attached there and once it is detached.
    on: [Option<ConnectionId>; 2],
    pipes: [Pipe; 2],
    lanes: Vec<LaneLink>,
    is_cut: bool,
    is_bulk: bool,
    /// Bytes of all messages, by who wrote them.
    bytes: [usize; 2],
}

/// Where an arrival comes from: link, lane, and who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    link: usize,
    lane: Option<usize>,
    writer: usize,
}

/// One end with what it has told its application.
#[derive(Debug)]
pub(crate) struct End {
    /// The machine.
    pub(crate) session: Session,
    /// Events that the pair did not handle itself, oldest first.
    pub(crate) events: Vec<Event>,
    /// What the peer did wrong, first of all.
    pub(crate) error: Option<ProtocolError>,
    /// Link and lane of each stream.
    lanes: BTreeMap<StreamId, (usize, usize)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pair {
    /// Virtual time.
    pub(crate) now: Instant,
    /// By [`A`] and [`B`].
    pub(crate) ends: [End; 2],
    /// One way.
    pub(crate) latency: Duration,
    /// Seed of what delays single lanes; 0 for none.
    pub(crate) jitter: u64,
    links: Vec<Link>,
    /// What may arrive when, the earliest first; some of it may be lost by then.
    arrivals: BinaryHeap<Reverse<(Instant, u64, Source)>>,
    sequence: u64,
    /// The dialler is attached to the newest link at this time.
    attach_later: Option<(Instant, ConnectionOptions)>,
}

impl Pair {
    /// Two ends without a connection.
    pub(crate) fn unconnected() -> Self {
        let end = |side| End {
            session: Session::new(side),
            events: Vec::new(),
            error: None,
            lanes: BTreeMap::new(),
        };
        Self {
            now: Instant::now(),
            ends: [end(Side::Dialler), end(Side::Acceptor)],
            latency: Duration::from_millis(5),
            jitter: 0,
            links: Vec::new(),
            arrivals: BinaryHeap::new(),
            sequence: 0,
            attach_later: None,
        }
    }

    /// Two ends and a connection of a transport.
    pub(crate) fn over(transport: Transport) -> Self {
        let mut pair = Self::unconnected();
        pair.connect(transport);
        pair
    }

    /// Adds a connection: at the acceptor now, at the dialler when the news is there.
    /// A former one goes on delivering what is under way.
    pub(crate) fn connect(&mut self, transport: Transport) {
        let options = ConnectionOptions::of(transport);
        let on = self.ends[B].session.attach(self.now, options);
        self.ends[B].lanes.clear();
        self.links.push(Link {
            on: [None, Some(on)],
            pipes: [Pipe::new(), Pipe::new()],
            lanes: Vec::new(),
            is_cut: false,
            is_bulk: false,
            bytes: [0; 2],
        });
        self.attach_later = Some((self.now + self.latency, options));
        self.pump();
    }

    /// Loses every connection with everything under way. Each end notices only where
    /// `noticed` says so.
    pub(crate) fn cut(&mut self, noticed: [bool; 2]) {
        self.attach_later = None;
        for link in &mut self.links {
            link.is_cut = true;
            link.pipes = [Pipe::new(), Pipe::new()];
            link.lanes.clear();
        }
        for end in [A, B] {
            self.ends[end].lanes.clear();
            if noticed[end] {
                self.detach(end);
            }
        }
        self.pump();
    }

    fn detach(&mut self, end: usize) {
        for link in &mut self.links {
            if let Some(on) = link.on[end].take() {
                self.ends[end].session.detach(on);
            }
        }
    }

    /// The connection that an end was attached to last.
    pub(crate) fn connection(&self, end: usize) -> Option<ConnectionId> {
        let mut links = self.links.iter().rev().filter(|link| !link.is_bulk);
        links.find_map(|link| link.on[end])
    }

    /// Moves everything that can be sent into the network.
    pub(crate) fn pump(&mut self) {
        for end in [A, B] {
            for link in 0..self.links.len() {
                self.transmit(end, link);
            }
            self.take_events(end);
        }
    }

    fn transmit(&mut self, end: usize, link: usize) {
        let Some(on) = self.links[link].on[end] else {
            return;
        };
        let mut out = BytesMut::new();
        while self.ends[end].session.poll_transmit(self.now, on, &mut out) {
            assert!(
                out.len() <= MESSAGE_BYTES_MAX,
                "a message of {} bytes",
                out.len()
            );
            assert!(
                self.links[link].pipes[end].len() < STEPS_MAX,
                "sends for ever"
            );
            self.links[link].bytes[end] += out.len();
            if !self.links[link].is_cut {
                let last = self.links[link].pipes[end].back().map(|(last, _)| *last);
                let at = last.map_or(self.now + self.latency, |last| {
                    last.max(self.now + self.latency)
                });
                let message = Item::Bytes(out.split().freeze());
                self.links[link].pipes[end].push_back((at, message));
                let (lane, writer) = (None, end);
                self.announce(at, Source { link, lane, writer });
            }
            out.clear();
        }
    }

    fn take_events(&mut self, end: usize) {
        let mut steps = 0;
        while let Some(event) = self.ends[end].session.poll_event() {
            steps += 1;
            assert!(steps < STEPS_MAX, "tells {event:?} for ever");
            match event {
                Event::LaneWanted(id) => self.open_lane(end, id),
                Event::LaneReady(id) => {
                    if let Some(&(link, lane)) = self.ends[end].lanes.get(&id) {
                        self.write_lane(end, link, lane);
                    }
                }
                Event::ConnectionDead(on) if self.drop_bulk(end, on) => {}
                Event::BulkIdle(on) => {
                    self.ends[end].events.push(event);
                    self.drop_bulk(end, on);
                }
                Event::ConnectionDead(_) => {
                    self.ends[end].events.push(event);
                    self.detach(end);
                }
                event => self.ends[end].events.push(event),
            }
        }
    }

    fn open_lane(&mut self, end: usize, id: StreamId) {
        let Some(link) = (0..self.links.len())
            .rev()
            .find(|link| self.links[*link].on[end].is_some() && !self.links[*link].is_bulk)
        else {
            return;
        };
        let head = || Reader::Head(BytesMut::new());
        self.links[link].lanes.push(LaneLink {
            id,
            pipes: [Pipe::new(), Pipe::new()],
            is_written: [false; 2],
            readers: [head(), head()],
        });
        let lane = self.links[link].lanes.len() - 1;
        self.ends[end].lanes.insert(id, (link, lane));
        let opens = self.write_lane(end, link, lane);
        // Raw bytes answer an open, and an attach answers an attach.
        if opens == Some(FrameType::Open as u8)
            && let Some(lane) = self.links[link].lanes.get_mut(lane)
        {
            lane.readers[end] = Reader::Bytes(Lane { id, offset: 0 });
        }
    }

    /// Writes what there is to a lane; gives the first byte of it.
    fn write_lane(&mut self, end: usize, link: usize, lane: usize) -> Option<u8> {
        let mut first = None;
        let on = self.links[link].on[end]?;
        loop {
            let at = self.arrival(link, lane, end);
            let state = self.links[link].lanes.get_mut(lane)?;
            if state.is_written[end] {
                return first;
            }
            let session = &mut self.ends[end].session;
            let item = match session.poll_lane(on, state.id, LANE_CHUNK_BYTES) {
                LaneOutput::Bytes(bytes) => {
                    first = first.or_else(|| bytes.first().copied());
                    Item::Bytes(bytes)
                }
                LaneOutput::Finish => Item::Finish,
                LaneOutput::Abort => {
                    // As QUIC does: what is under way is lost.
                    state.pipes[end].clear();
                    Item::Abort
                }
                LaneOutput::Pending => return first,
            };
            state.is_written[end] = !matches!(item, Item::Bytes(_));
            state.pipes[end].push_back((at, item));
            let (lane, writer) = (Some(lane), end);
            self.announce(at, Source { link, lane, writer });
        }
    }

    fn announce(&mut self, at: Instant, source: Source) {
        self.sequence += 1;
        self.arrivals.push(Reverse((at, self.sequence, source)));
    }

    /// When something written to a lane arrives: in order on it, and in any order
    /// among lanes where there is jitter.
    fn arrival(&mut self, link: usize, lane: usize, writer: usize) -> Instant {
        let mut at = self.now + self.latency;
        if self.jitter > 0 {
            self.jitter = self
                .jitter
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            at += Duration::from_micros(self.jitter >> 48) / 4;
        }
        let last = self.links[link]
            .lanes
            .get(lane)
            .and_then(|lane| lane.pipes[writer].back());
        last.map_or(at, |(last, _)| at.max(*last))
    }

    /// Runs for a while.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut steps = 0;
        self.pump();
        while let Some(next) = self.next_time().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.step();
            self.pump();
            steps += 1;
            assert!(steps < STEPS_MAX, "the machine asks to be called for ever");
        }
        self.now = end;
    }

    /// Runs until whatever was under way has had the time to arrive and be answered.
    pub(crate) fn settle(&mut self) {
        self.run_for(10 * self.latency + Duration::from_millis(200));
    }

    fn next_time(&mut self) -> Option<Instant> {
        let arrival = self.next_arrival().map(|(at, _)| at);
        let attach = self.attach_later.map(|(at, _)| at);
        let ends = self.ends.iter();
        let timeouts = ends.filter_map(|end| end.session.poll_timeout());
        timeouts.chain(arrival).chain(attach).min()
    }

    /// What the acceptor has written since it was attached.
    fn announce_waiting(&mut self, link: usize) {
        let lanes = 0..self.links[link].lanes.len();
        for lane in lanes.map(Some).chain([None]) {
            let source = Source {
                link,
                lane,
                writer: B,
            };
            let pipe = self.pipe(source).map(std::mem::take).unwrap_or_default();
            for (at, _) in &pipe {
                self.announce(*at, source);
            }
            if let Some(empty) = self.pipe(source) {
                *empty = pipe;
            }
        }
    }

    fn next_arrival(&mut self) -> Option<(Instant, Source)> {
        while let Some(Reverse((at, _, source))) = self.arrivals.peek().copied() {
            let is_heard = self.links[source.link].on[1 - source.writer].is_some();
            let front = self.pipe(source).and_then(|pipe| pipe.front());
            if is_heard && front.is_some_and(|(front, _)| *front <= at) {
                return Some((at, source));
            }
            self.arrivals.pop();
        }
        None
    }

    fn pipe(&mut self, source: Source) -> Option<&mut Pipe> {
        let link = &mut self.links[source.link];
        match source.lane {
            None => Some(&mut link.pipes[source.writer]),
            Some(lane) => Some(&mut link.lanes.get_mut(lane)?.pipes[source.writer]),
        }
    }

    /// Does what is due now.
    fn step(&mut self) {
        if let Some((at, options)) = self.attach_later
            && at <= self.now
        {
            self.attach_later = None;
            let on = self.ends[A].session.attach(self.now, options);
            self.ends[A].lanes.clear();
            let link = self.links.iter().rposition(|link| !link.is_bulk);
            let link = link.expect("the link that is attached");
            self.links[link].on[A] = Some(on);
            self.announce_waiting(link);
        }
        while let Some((_, source)) = self.next_arrival().filter(|(at, _)| *at <= self.now) {
            self.deliver(source);
        }
        for end in &mut self.ends {
            if end
                .session
                .poll_timeout()
                .is_some_and(|deadline| deadline <= self.now)
            {
                end.session.handle_timeout(self.now);
            }
        }
    }

    fn deliver(&mut self, source: Source) {
        let Some((_, item)) = self.pipe(source).and_then(Pipe::pop_front) else {
            return;
        };
        let reader = 1 - source.writer;
        let Some(on) = self.links[source.link].on[reader] else {
            return;
        };
        let result = match source.lane {
            None => self.deliver_frames(reader, on, item),
            Some(lane) => self.deliver_lane(reader, on, (source.link, lane), item),
        };
        if let Err(error) = result {
            let end = &mut self.ends[reader];
            end.session.close(
                wire::close::CloseCode::ProtocolViolation,
                &error.to_string(),
            );
            end.error.get_or_insert(error);
        }
    }

    fn deliver_frames(
        &mut self,
        reader: usize,
        on: ConnectionId,
        item: Item,
    ) -> Result<(), ProtocolError> {
        let Item::Bytes(mut message) = item else {
            return Ok(());
        };
        while let Some(frame) = frame::decode(&mut message)? {
            self.ends[reader]
                .session
                .handle_frame(self.now, on, frame)?;
        }
        assert!(message.is_empty(), "a message ended within a frame");
        Ok(())
    }

    fn deliver_lane(
        &mut self,
        reader: usize,
        on: ConnectionId,
        (link, lane): (usize, usize),
        item: Item,
    ) -> Result<(), ProtocolError> {
        let now = self.now;
        let entry = &mut self.links[link].lanes[lane];
        let session = &mut self.ends[reader].session;
        let state = std::mem::replace(&mut entry.readers[reader], Reader::Over);
        match (state, item) {
            (Reader::Over, _) | (Reader::Head(_), Item::Finish) | (_, Item::Abort) => Ok(()),
            (Reader::Bytes(mut state), Item::Bytes(bytes)) => {
                let result = session.handle_lane_bytes(now, on, &mut state, bytes);
                entry.readers[reader] = Reader::Bytes(state);
                result
            }
            (Reader::Bytes(state), Item::Finish) => session.handle_lane_finish(&state),
            (Reader::Head(mut head), Item::Bytes(bytes)) => {
                head.extend_from_slice(&bytes);
                let mut rest = head.clone().freeze();
                let Some(frame) = frame::decode(&mut rest)? else {
                    entry.readers[reader] = Reader::Head(head);
                    return Ok(());
                };
                let id = entry.id;
                let Some(mut state) = session.handle_lane(now, on, frame)? else {
                    entry.is_written[reader] = true;
                    return Ok(());
                };
                if !rest.is_empty() {
                    session.handle_lane_bytes(now, on, &mut state, rest)?;
                }
                entry.readers[reader] = Reader::Bytes(state);
                self.ends[reader].lanes.insert(id, (link, lane));
                self.write_lane(reader, link, lane);
                Ok(())
            }
        }
    }

    /// Hands an end a frame as if the peer had sent it.
    pub(crate) fn inject(&mut self, end: usize, frame: Frame) -> Result<(), ProtocolError> {
        let on = self.connection(end).expect("a connection");
        self.ends[end].session.handle_frame(self.now, on, frame)
    }

    /// Opens a stream to a target that nobody checks.
    pub(crate) fn open(&mut self, end: usize, first_bytes: impl Into<Bytes>) -> StreamId {
        self.try_open(end, first_bytes).expect("room for a stream")
    }

    /// As [`Self::open`], where it may fail.
    pub(crate) fn try_open(
        &mut self,
        end: usize,
        first_bytes: impl Into<Bytes>,
    ) -> Result<StreamId, wire::session::OpenError> {
        self.ends[end].session.open(OpenOptions {
            environment: String::new(),
            target: "docker".into(),
            principal: "token:test".into(),
            request_id: RequestId::from_bytes([7; 16]),
            first_bytes: first_bytes.into(),
        })
    }

    /// Writes as much as there is room for, and says how much.
    pub(crate) fn write(&mut self, end: usize, id: StreamId, bytes: impl Into<Bytes>) -> usize {
        let mut bytes = bytes.into();
        self.ends[end]
            .session
            .write(id, &mut bytes)
            .expect("an open direction")
    }

    /// Ends the sending direction.
    pub(crate) fn finish(&mut self, end: usize, id: StreamId) {
        self.ends[end].session.finish(id);
    }

    /// Reads at most `max` bytes.
    pub(crate) fn read(
        &mut self,
        end: usize,
        id: StreamId,
        max: usize,
    ) -> Result<Read, StreamReset> {
        self.ends[end].session.read(self.now, id, max)
    }

    /// Reads everything that is there.
    pub(crate) fn read_all(&mut self, end: usize, id: StreamId) -> Vec<u8> {
        let mut all = Vec::new();
        while let Ok(Read::Bytes(bytes)) = self.read(end, id, usize::MAX) {
            all.extend_from_slice(&bytes);
        }
        all
    }

    /// Both ends let go of a stream.
    pub(crate) fn forget(&mut self, id: StreamId) {
        for end in [A, B] {
            self.ends[end].session.forget(self.now, id);
        }
    }

    /// Whether an end was told of an event, which is then forgotten.
    pub(crate) fn took(&mut self, end: usize, wanted: impl Fn(&Event) -> bool) -> bool {
        let events = &mut self.ends[end].events;
        let index = events.iter().position(wanted);
        index.map(|index| events.remove(index)).is_some()
    }
}
