//! The reference model: what was written to each direction, how it ended, and what
//! the other end has read of it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use wire::{
    close::ResetCode,
    id::StreamId,
    limits::{SEND_BACKLOG_BYTES_MAX, SESSION_WINDOW_MAX_BYTES},
    session::{Event, Read, StreamReset},
    transport::Transport,
};

use crate::pair::{A, B, Pair};

/// Streams that a case opens at most.
const STREAMS_MAX: usize = 12;

/// Rounds after which a healed network must have delivered everything: each reads
/// all there is, and some take a mebibyte.
const ROUNDS_MAX: usize = 400;

/// What makes a stream heavy: few enough that many are.
const HEAVY_BYTES: u64 = 30_000;

/// What an application or the network does next. Streams are counted from those
/// that the end knows, round and round.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Open {
        end: usize,
        bytes: usize,
    },
    Write {
        end: usize,
        stream: usize,
        bytes: usize,
    },
    Read {
        end: usize,
        stream: usize,
        bytes: usize,
    },
    Act {
        end: usize,
        stream: usize,
        act: Act,
    },
    Run {
        ms: u64,
    },
    Latency {
        ms: u64,
    },
    Cut {
        noticed: [bool; 2],
    },
    Connect {
        transport: Transport,
    },
    ConnectBulk,
    CutBulk {
        noticed: [bool; 2],
    },
}

/// What an application does to a stream besides reading and writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Accept,
    Finish,
    BreakOff,
    ResetSending,
    Stop,
    Reset,
    Forget,
}

pub(crate) fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Ws), Just(Transport::Quic)]
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    let end = 0..2_usize;
    let stream = 0..STREAMS_MAX;
    let size = prop_oneof![0..100_usize, 0..20_000_usize, 0..400_000_usize];
    let act = prop_oneof![
        2 => Just(Act::Accept),
        4 => Just(Act::Finish),
        1 => Just(Act::BreakOff),
        1 => Just(Act::ResetSending),
        1 => Just(Act::Stop),
        1 => Just(Act::Reset),
        2 => Just(Act::Forget),
    ];
    prop_oneof![
        3 => (end.clone(), size.clone()).prop_map(|(end, bytes)| Operation::Open { end, bytes }),
        6 => (end.clone(), stream.clone(), size.clone())
            .prop_map(|(end, stream, bytes)| Operation::Write { end, stream, bytes }),
        5 => (end.clone(), stream.clone(), size)
            .prop_map(|(end, stream, bytes)| Operation::Read { end, stream, bytes }),
        5 => (end, stream, act)
            .prop_map(|(end, stream, act)| Operation::Act { end, stream, act }),
        6 => prop_oneof![0..8_u64, 0..300_u64].prop_map(|ms| Operation::Run { ms }),
        1 => prop_oneof![Just(0_u64), 1..100_u64].prop_map(|ms| Operation::Latency { ms }),
        2 => any::<[bool; 2]>().prop_map(|noticed| Operation::Cut { noticed }),
        3 => transport().prop_map(|transport| Operation::Connect { transport }),
        3 => Just(Operation::ConnectBulk),
        2 => any::<[bool; 2]>().prop_map(|noticed| Operation::CutBulk { noticed }),
    ]
}

/// How the writer ended a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Finished,
    /// After all that was written.
    Broken,
    /// At once.
    Reset,
}

/// What the reader was told at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Finished,
    Reset,
}

#[derive(Debug, Default)]
struct Direction {
    written: u64,
    ended: Option<Ended>,
    /// The reader wants no more.
    is_stopped: bool,
    /// The writer ended it and then reset it: either is heard.
    is_overtaken: bool,
    read: u64,
    told: Option<Told>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    opener: usize,
    /// By who writes.
    directions: [Direction; 2],
    /// Whether each application knows it, and holds it.
    is_held: [bool; 2],
    /// The first answer counts.
    is_answered: bool,
    is_accepted: bool,
    accepted_heard: usize,
}

/// Both applications and what they did.
#[derive(Debug)]
pub(crate) struct Model {
    pair: Pair,
    streams: Vec<Stream>,
    by_id: BTreeMap<StreamId, usize>,
}

/// Every byte of every direction differs from its neighbours in other places.
fn byte(id: StreamId, writer: usize, offset: u64) -> u8 {
    let mixed = (offset + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    (mixed ^ (id.as_u64() * 29 + writer as u64 * 101)) as u8
}

fn reset() -> StreamReset {
    StreamReset::new(ResetCode::TargetReset, "a reason")
}

impl Model {
    pub(crate) fn new(transport: Transport, jitter: u64) -> Self {
        let mut pair = Pair::over(transport);
        pair.jitter = jitter;
        pair.allow_bulk(2, HEAVY_BYTES);
        // A session begins with its first connection attached at both ends.
        pair.run_for(pair.latency);
        Self {
            pair,
            streams: Vec::new(),
            by_id: BTreeMap::new(),
        }
    }

    pub(crate) fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Open { end, bytes } => self.open(end, bytes),
            Operation::Write { end, stream, bytes } => {
                if let Some(index) = self.known(end, stream) {
                    self.write(end, index, bytes);
                }
            }
            Operation::Read { end, stream, bytes } => {
                if let Some(index) = self.known(end, stream) {
                    self.read(end, index, bytes.max(1));
                }
            }
            Operation::Act { end, stream, act } => {
                if let Some(index) = self.known(end, stream) {
                    self.act(end, index, act);
                }
            }
            Operation::Run { ms } => self.pair.run_for(Duration::from_millis(ms)),
            Operation::Latency { ms } => self.pair.latency = Duration::from_millis(ms),
            Operation::Cut { noticed } => self.pair.cut(noticed),
            Operation::Connect { transport } => self.pair.connect(transport),
            Operation::ConnectBulk => {
                self.pair.connect_bulk();
            }
            Operation::CutBulk { noticed } => self.pair.cut_bulk(noticed),
        }
        self.take_events();
        self.check_memory();
    }

    fn known(&self, end: usize, stream: usize) -> Option<usize> {
        let held: Vec<_> = (0..self.streams.len())
            .filter(|index| self.streams[*index].is_held[end])
            .collect();
        (!held.is_empty()).then(|| held[stream % held.len()])
    }

    fn open(&mut self, end: usize, bytes: usize) {
        if self.streams.len() >= STREAMS_MAX {
            return;
        }
        let index = self
            .streams
            .iter()
            .filter(|stream| stream.opener == end)
            .count() as u64;
        let side = self.pair.ends[end].session.side();
        let first: Vec<u8> = (0..bytes as u64)
            .map(|at| byte(StreamId::new(side, index), end, at))
            .collect();
        let id = self.pair.open(end, first);
        assert_eq!(id, StreamId::new(side, index));
        let mut stream = Stream {
            id,
            opener: end,
            directions: [Direction::default(), Direction::default()],
            is_held: [false; 2],
            is_answered: false,
            is_accepted: false,
            accepted_heard: 0,
        };
        stream.directions[end].written = bytes as u64;
        stream.is_held[end] = true;
        self.by_id.insert(id, self.streams.len());
        self.streams.push(stream);
    }

    fn write(&mut self, end: usize, index: usize, bytes: usize) {
        let stream = &mut self.streams[index];
        let direction = &mut stream.directions[end];
        let chunk: Vec<u8> = (0..bytes as u64)
            .map(|at| byte(stream.id, end, direction.written + at))
            .collect();
        let mut chunk = Bytes::from(chunk);
        match self.pair.ends[end].session.write(stream.id, &mut chunk) {
            Ok(taken) => {
                assert_eq!(
                    direction.ended, None,
                    "{}: written after its end",
                    stream.id
                );
                direction.written += taken as u64;
            }
            Err(refused) => assert!(
                direction.ended.is_some() || direction.is_stopped,
                "{}: writing refused without a reason: {refused:?}",
                stream.id
            ),
        }
    }

    /// Reads once; false where there was nothing.
    fn read(&mut self, end: usize, index: usize, max: usize) -> bool {
        let stream = &mut self.streams[index];
        let (id, writer) = (stream.id, 1 - end);
        let direction = &mut stream.directions[writer];
        match self.pair.read(end, id, max) {
            Ok(Read::Bytes(bytes)) => {
                assert!(!direction.is_stopped, "{id}: read after the stop");
                assert_eq!(direction.told, None, "{id}: read after the end");
                for (at, got) in bytes.iter().enumerate() {
                    let offset = direction.read + at as u64;
                    assert_eq!(
                        *got,
                        byte(id, writer, offset),
                        "{id}: at {offset} from {writer}"
                    );
                }
                direction.read += bytes.len() as u64;
                assert!(
                    direction.read <= direction.written,
                    "{id}: read what nobody wrote"
                );
                true
            }
            Ok(Read::Pending) => {
                assert_eq!(direction.told, None, "{id}: the end was taken back");
                false
            }
            Ok(Read::Finished) => {
                if !direction.is_stopped {
                    assert_eq!(
                        direction.ended,
                        Some(Ended::Finished),
                        "{id}: never finished"
                    );
                    assert_eq!(
                        direction.read, direction.written,
                        "{id}: finished too early"
                    );
                    direction.told = Some(Told::Finished);
                }
                false
            }
            Err(_) => {
                let is_meant = matches!(direction.ended, Some(Ended::Reset | Ended::Broken));
                let is_excused = direction.is_stopped || direction.is_overtaken;
                assert!(is_meant || is_excused, "{id}: nobody has reset it");
                if direction.ended == Some(Ended::Broken) && !is_excused {
                    assert_eq!(
                        direction.read, direction.written,
                        "{id}: broken off too early"
                    );
                }
                direction.told = Some(Told::Reset);
                false
            }
        }
    }

    fn act(&mut self, end: usize, index: usize, act: Act) {
        let now = self.pair.now;
        let stream = &mut self.streams[index];
        let (id, session) = (stream.id, &mut self.pair.ends[end].session);
        match act {
            Act::Accept => {
                session.accept(id);
                // After its own end an application has nothing to accept with.
                let has_ended = stream.directions[end].ended.is_some();
                if end != stream.opener && !stream.is_answered && !has_ended {
                    stream.is_accepted = true;
                }
            }
            Act::Finish => {
                session.finish(id);
                stream.directions[end].ended.get_or_insert(Ended::Finished);
            }
            Act::BreakOff => {
                session.break_off(id, reset());
                stream.directions[end].ended.get_or_insert(Ended::Broken);
            }
            Act::ResetSending => {
                session.reset_sending(id, reset());
                stream.note_reset(end);
            }
            Act::Stop => {
                session.stop_receiving(now, id, reset());
                stream.directions[1 - end].is_stopped = true;
            }
            Act::Reset => {
                session.reset(now, id, &reset());
                stream.note_reset(end);
                stream.directions[1 - end].is_stopped = true;
            }
            Act::Forget => {
                session.forget(now, id);
                stream.directions[end].ended.get_or_insert(Ended::Reset);
                stream.directions[1 - end].is_stopped = true;
                stream.is_held[end] = false;
            }
        }
        if end != stream.opener && matches!(act, Act::Accept | Act::Reset | Act::Forget) {
            stream.is_answered = true;
        }
        self.pair.pump();
    }

    fn take_events(&mut self) {
        for end in [A, B] {
            for event in std::mem::take(&mut self.pair.ends[end].events) {
                match event {
                    Event::Opened(open) => {
                        let index = self.by_id[&open.id];
                        let stream = &mut self.streams[index];
                        assert_ne!(stream.opener, end, "opened at its opener");
                        stream.is_held[end] = true;
                    }
                    Event::Accepted(id) => {
                        let stream = &mut self.streams[self.by_id[&id]];
                        let answer = &stream.directions[1 - end];
                        let is_implied = answer.written > 0 || answer.ended.is_some();
                        let is_meant = stream.is_accepted || is_implied;
                        assert!(is_meant, "{id}: nobody has accepted it");
                        stream.accepted_heard += 1;
                        assert_eq!(stream.accepted_heard, 1, "{id}: accepted twice");
                    }
                    Event::Closed(closed) => panic!("the session ended: {closed:?}"),
                    _ => {}
                }
            }
            assert_eq!(self.pair.ends[end].error, None, "an honest end was accused");
        }
    }

    fn check_memory(&self) {
        let streams = self.streams.len() as u64;
        for end in &self.pair.ends {
            // What is written but unsent, sent but not acknowledged, received but unread.
            // First bytes of an open are taken whole.
            let written = streams * (SEND_BACKLOG_BYTES_MAX + 400_000);
            let bound = written + 2 * SESSION_WINDOW_MAX_BYTES;
            let retained = end.session.bytes_retained();
            assert!(retained <= bound, "{retained} bytes held, {bound} allowed");
            let sums = end.session.occupancy();
            assert_eq!(
                sums.unsent + sums.unacknowledged + sums.unread,
                retained,
                "the sums are out of step with the streams: {sums:?}"
            );
        }
    }

    /// The network works again, and both applications read all they get.
    pub(crate) fn heal(&mut self, transport: Transport) {
        self.pair.latency = Duration::from_millis(1);
        self.pair.cut([true, true]);
        self.pair.connect(transport);
        self.drain();
        for stream in &self.streams {
            stream.check_complete(&self.pair);
        }
    }

    fn drain(&mut self) {
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            self.pair.run_for(Duration::from_millis(50));
            self.take_events();
            let mut has_read = false;
            for index in 0..self.streams.len() {
                for end in [A, B] {
                    while self.streams[index].is_held[end] && self.read(end, index, usize::MAX) {
                        has_read = true;
                    }
                }
            }
            quiet = if has_read { 0 } else { quiet + 1 };
            if quiet == 4 {
                return;
            }
        }
        panic!("still delivering after {ROUNDS_MAX} rounds");
    }

    /// Both applications let go of everything: nothing is kept, and the credit of the
    /// session is whole again.
    pub(crate) fn let_go(&mut self) {
        for index in 0..self.streams.len() {
            for end in [A, B] {
                if self.streams[index].is_held[end] {
                    self.act(end, index, Act::Forget);
                }
            }
        }
        self.pair.run_for(Duration::from_millis(500));
        self.take_events();
        for end in &self.pair.ends {
            assert_eq!(end.session.streams_open(), 0, "open streams");
            assert_eq!(end.session.streams_held(), 0, "held streams");
            assert_eq!(end.session.bytes_retained(), 0, "bytes retained");
        }
        for end in [A, B] {
            self.check_credit(end);
        }
    }

    /// A stream that is read as it comes carries more than any window.
    fn check_credit(&mut self, end: usize) {
        let id = self.pair.open(end, "");
        let mut left = Bytes::from(vec![7; 2 * 1024 * 1024]);
        let mut read = 0;
        for _ in 0..ROUNDS_MAX {
            self.pair.ends[end]
                .session
                .write(id, &mut left)
                .expect("an open direction");
            self.pair.run_for(Duration::from_millis(5));
            read += self.pair.read_all(1 - end, id).len();
            if read == 2 * 1024 * 1024 {
                break;
            }
        }
        assert_eq!(read, 2 * 1024 * 1024, "credit was lost");
    }
}

impl Stream {
    /// A reset counts where the direction had not ended, or its end may be overtaken.
    fn note_reset(&mut self, end: usize) {
        let direction = &mut self.directions[end];
        match direction.ended {
            None => direction.ended = Some(Ended::Reset),
            // Whether the finish or the reset is heard depends on who was faster.
            Some(Ended::Finished | Ended::Broken) => direction.is_overtaken = true,
            Some(Ended::Reset) => {}
        }
    }

    fn check_complete(&self, pair: &Pair) {
        let id = self.id;
        for writer in [A, B] {
            let reader = 1 - writer;
            let direction = &self.directions[writer];
            if !direction.is_stopped && self.is_held[reader] {
                let told = match direction.ended {
                    Some(_) if direction.is_overtaken => {
                        assert!(direction.told.is_some(), "{id}: what {reader} was told");
                        continue;
                    }
                    None => None,
                    Some(Ended::Finished) => Some(Told::Finished),
                    Some(Ended::Broken | Ended::Reset) => Some(Told::Reset),
                };
                assert_eq!(direction.told, told, "{id}: what {reader} was told");
                if direction.ended != Some(Ended::Reset) {
                    assert_eq!(
                        direction.read, direction.written,
                        "{id}: what {reader} has read"
                    );
                }
            }
        }
        let is_wanted = !self.directions[1 - self.opener].is_stopped;
        if self.is_accepted && is_wanted && self.is_held[self.opener] {
            assert_eq!(self.accepted_heard, 1, "{id}: the opener was not told");
        }
        let stops = &self.directions[self.opener];
        let writer = &pair.ends[self.opener].session;
        if stops.is_stopped && stops.ended.is_none() && self.is_held[self.opener] {
            assert!(
                writer.stopped(id).is_some(),
                "{id}: the writer was not told to stop"
            );
        }
    }
}
