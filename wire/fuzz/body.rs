//! What the fuzz targets run, and what the corpus is replayed by in `tests/corpus.rs`.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use wire::{
    close::{CloseCode, ResetCode},
    frame::{self, Frame, Goaway, OFFSET_MAX, Open, Resume, ResumeStream},
    id::{ConnectionId, RequestId, Side, StreamId},
    limits::MESSAGE_BYTES_MAX,
    session::{ConnectionOptions, Lane, LaneOutput, OpenOptions, Session, StreamReset},
    transport::Transport,
};

/// Decodes whatever the bytes are; what is a frame is encoded and read again.
pub(crate) fn frame(data: &[u8]) {
    let mut input = Bytes::copy_from_slice(data);
    while let Ok(Some(frame)) = frame::decode(&mut input) {
        let mut out = BytesMut::new();
        frame::encode(&frame, &mut out);
        let again = frame::decode(&mut out.freeze());
        assert_eq!(again, Ok(Some(frame)));
    }
}

/// Lets a peer and an application do whatever the bytes say to one session.
pub(crate) fn session(data: &[u8]) {
    let mut input = Input(data);
    let side = if input.byte() & 1 == 0 {
        Side::Dialler
    } else {
        Side::Acceptor
    };
    let mut driver = Driver {
        session: Session::new(side),
        now: Instant::now(),
        connections: Vec::new(),
        lanes: Vec::new(),
    };
    while !input.0.is_empty() {
        let operation = Operation::read(&mut input);
        driver.apply(operation);
        driver.poll();
    }
}

/// Bytes that never end: nought follows the last.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    /// Small numbers mostly, and now and then the largest.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => OFFSET_MAX,
            254 => u64::from(self.byte()) << 54,
            byte @ 200..=253 => u64::from(byte - 200) << 14 | u64::from(self.byte()),
            byte => u64::from(byte),
        }
    }

    fn id(&mut self) -> StreamId {
        StreamId::from_u64(u64::from(self.byte() % 8))
    }

    fn bytes(&mut self) -> Bytes {
        let length = usize::try_from(self.number() % 60_000).unwrap_or(0);
        Bytes::from(vec![self.byte(); length])
    }

    /// Bytes of the input itself.
    fn raw(&mut self) -> Bytes {
        let length = usize::from(self.byte()).min(self.0.len());
        let (raw, rest) = self.0.split_at(length);
        self.0 = rest;
        Bytes::copy_from_slice(raw)
    }

    fn reset(&mut self) -> StreamReset {
        StreamReset::new(ResetCode::from_u16(self.byte().into()), "fuzz")
    }

    fn frame(&mut self) -> Option<Frame> {
        let id = self.id();
        Some(match self.byte() % 20 {
            0 => Frame::Resume(Resume {
                is_last: self.byte() > 63,
                seen_below: self.number(),
                gaps: (0..self.byte() % 4).map(|_| self.number()).collect(),
                streams: (0..self.byte() % 4)
                    .map(|_| ResumeStream {
                        id: self.id(),
                        received: self.number(),
                        credit: self.number(),
                    })
                    .collect(),
            }),
            1 => Frame::Ping(self.number()),
            2 => Frame::Pong(self.number()),
            3 => Frame::Goaway(Goaway::default()),
            4 => Frame::Control(self.raw()),
            5 => Frame::SessionCredit(self.number()),
            6..=8 => Frame::Open(self.open()),
            9 => Frame::Accept(id),
            10..=12 => Frame::Data {
                id,
                offset: self.number(),
                bytes: self.bytes(),
            },
            13 => Frame::Finish {
                id,
                size: self.number(),
            },
            14 => {
                let StreamReset { code, reason } = self.reset();
                Frame::Reset {
                    id,
                    code,
                    size: self.number(),
                    reason,
                }
            }
            15 => {
                let StreamReset { code, reason } = self.reset();
                Frame::Stop { id, code, reason }
            }
            16 => Frame::Credit {
                id,
                offset: self.number(),
            },
            17 => Frame::Ack {
                id,
                offset: self.number(),
            },
            18 => Frame::Attach {
                id,
                offset: self.number(),
            },
            _ => return frame::decode(&mut self.raw()).ok().flatten(),
        })
    }

    fn open(&mut self) -> Open {
        Open {
            id: self.id(),
            environment: String::new(),
            target: "docker".into(),
            principal: String::new(),
            request_id: RequestId::from_bytes([0; 16]),
            first_bytes: self.raw(),
        }
    }
}

/// One step of the peer, the network or the application.
enum Operation {
    Attach(Transport),
    Detach,
    Frame(Option<Frame>),
    Lane(Option<Frame>),
    LaneBytes(usize, Bytes),
    LaneFinish(usize),
    Wait(Duration),
    Open(Bytes),
    Accept(StreamId),
    Write(StreamId, Bytes),
    Read(StreamId, usize),
    Finish(StreamId),
    BreakOff(StreamId, StreamReset),
    ResetSending(StreamId, StreamReset),
    StopReceiving(StreamId, StreamReset),
    Reset(StreamId, StreamReset),
    Forget(StreamId),
    Control(Bytes),
    Close,
}

impl Operation {
    fn read(input: &mut Input<'_>) -> Self {
        match input.byte() % 32 {
            0 => Self::Attach(Transport::Ws),
            1 => Self::Attach(Transport::Quic),
            2 => Self::Detach,
            3..=11 => Self::Frame(input.frame()),
            12..=13 => Self::Lane(input.frame()),
            14 => Self::LaneBytes(input.byte().into(), input.bytes()),
            15 => Self::LaneFinish(input.byte().into()),
            16 => Self::Wait(Duration::from_millis(input.number() % 40_000)),
            17..=18 => Self::Open(input.bytes()),
            19 => Self::Accept(input.id()),
            20..=21 => Self::Write(input.id(), input.bytes()),
            22..=23 => Self::Read(input.id(), usize::from(input.byte()) * 512),
            24 => Self::Finish(input.id()),
            25 => Self::BreakOff(input.id(), input.reset()),
            26 => Self::ResetSending(input.id(), input.reset()),
            27 => Self::StopReceiving(input.id(), input.reset()),
            28 => Self::Reset(input.id(), input.reset()),
            29 => Self::Forget(input.id()),
            30 => Self::Control(input.raw()),
            _ if input.byte() == 7 => Self::Close,
            _ => Self::Wait(Duration::from_millis(25)),
        }
    }
}

struct Driver {
    session: Session,
    now: Instant,
    connections: Vec<ConnectionId>,
    lanes: Vec<(ConnectionId, Lane)>,
}

impl Driver {
    fn apply(&mut self, operation: Operation) {
        let now = self.now;
        let session = &mut self.session;
        let on = self.connections.last().copied();
        let result = match operation {
            Operation::Frame(Some(frame)) => {
                on.map_or(Ok(()), |on| session.handle_frame(now, on, frame))
            }
            Operation::Lane(Some(frame)) => on.map_or(Ok(()), |on| {
                let lane = session.handle_lane(now, on, frame)?;
                self.lanes.extend(lane.map(|lane| (on, lane)));
                Ok(())
            }),
            Operation::LaneBytes(index, bytes) => {
                let count = self.lanes.len().max(1);
                match self.lanes.get_mut(index % count) {
                    Some((on, lane)) => session.handle_lane_bytes(now, *on, lane, bytes),
                    None => Ok(()),
                }
            }
            Operation::LaneFinish(index) => {
                let count = self.lanes.len().max(1);
                let lane = self.lanes.get(index % count);
                lane.map_or(Ok(()), |(_, lane)| session.handle_lane_finish(lane))
            }
            operation => {
                self.command(operation);
                Ok(())
            }
        };
        if let Err(error) = result {
            self.session
                .close(CloseCode::ProtocolViolation, &error.to_string());
        }
    }

    fn command(&mut self, operation: Operation) {
        let now = self.now;
        let session = &mut self.session;
        match operation {
            Operation::Attach(transport) => {
                let options = ConnectionOptions::of(transport);
                self.connections.push(session.attach(now, options));
            }
            Operation::Detach => {
                if let Some(on) = self.connections.pop() {
                    session.detach(on);
                }
            }
            Operation::Wait(duration) => {
                self.now += duration;
                session.handle_timeout(self.now);
            }
            Operation::Open(first_bytes) => {
                let _refused = session.open(OpenOptions {
                    environment: String::new(),
                    target: "docker".into(),
                    principal: String::new(),
                    request_id: RequestId::from_bytes([0; 16]),
                    first_bytes,
                });
            }
            Operation::Accept(id) => session.accept(id),
            Operation::Write(id, mut bytes) => {
                let _refused = session.write(id, &mut bytes);
            }
            Operation::Read(id, most) => {
                let _read = session.read(now, id, most);
            }
            Operation::Finish(id) => session.finish(id),
            Operation::BreakOff(id, reset) => session.break_off(id, reset),
            Operation::ResetSending(id, reset) => session.reset_sending(id, reset),
            Operation::StopReceiving(id, reset) => session.stop_receiving(now, id, reset),
            Operation::Reset(id, reset) => session.reset(now, id, &reset),
            Operation::Forget(id) => session.forget(now, id),
            Operation::Control(bytes) => session.send_control(bytes),
            Operation::Close => session.close(CloseCode::Shutdown, ""),
            Operation::Frame(_)
            | Operation::Lane(_)
            | Operation::LaneBytes(..)
            | Operation::LaneFinish(_) => {}
        }
    }

    /// Takes all that the machine has to say; what it sends must be frames.
    fn poll(&mut self) {
        while self.session.poll_event().is_some() {}
        for on in &self.connections {
            let mut out = BytesMut::new();
            while self.session.poll_transmit(self.now, *on, &mut out) {
                assert!(
                    out.len() <= MESSAGE_BYTES_MAX,
                    "a message of {} bytes",
                    out.len()
                );
                let mut message = out.split().freeze();
                while frame::decode(&mut message).expect("frames").is_some() {}
                assert!(message.is_empty(), "a message ended within a frame");
            }
            for id in (0..8).map(StreamId::from_u64) {
                while let LaneOutput::Bytes(_) = self.session.poll_lane(*on, id, 16 * 1024) {}
            }
        }
        assert!(self.session.streams_open() <= self.session.streams_held());
        let _deadline = self.session.poll_timeout();
    }
}
