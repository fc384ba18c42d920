//! The hot path in memory: codec, session machine and its scheduling, without sockets
//! and without a clock. Timed by criterion (`cargo bench -p benches`), and counted in
//! instructions by `sternline-bench callgrind`, which no other process disturbs.

use bytes::{Bytes, BytesMut};
use wire::{
    frame::{self, Frame, Open},
    id::{RequestId, Side, StreamId},
    limits::{DATA_BYTES_MAX, MESSAGE_BYTES_MAX},
};

mod pair;

use pair::Pair;

/// One thing the hot path does again and again.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// On the command line and in tables.
    pub name: &'static str,
    /// What one repetition handles.
    pub unit: &'static str,
    /// How many of them.
    pub units: u64,
    /// Payload bytes in one repetition.
    pub bytes: u64,
    make: fn() -> Repetition,
}

/// A repetition, with everything it needs already made.
pub type Repetition = Box<dyn FnMut()>;

/// Streams that are open at a time where there are many.
const STREAMS: usize = 1_000;

/// What a small stream sends at once: a keystroke, or a short request.
const SMALL_BYTES: usize = 64;

/// What bulk is written in.
const BULK_BYTES: usize = 64 * 1024;

/// All of them.
pub const CASES: [Case; 13] = [
    case("encode data 64 B", "frame", 1, SMALL_BYTES, || {
        encode(data(SMALL_BYTES))
    }),
    case("encode data 16 KiB", "frame", 1, 16 * 1024, || {
        encode(data(16 * 1024))
    }),
    case("encode data 64 KiB", "frame", 1, DATA_BYTES_MAX, || {
        encode(data(DATA_BYTES_MAX))
    }),
    case("encode credit", "frame", 1, 0, || encode(credit())),
    case("encode open", "frame", 1, SMALL_BYTES, || encode(open())),
    case("decode data 64 B", "frame", 1, SMALL_BYTES, || {
        decode(&data(SMALL_BYTES))
    }),
    case("decode data 64 KiB", "frame", 1, DATA_BYTES_MAX, || {
        decode(&data(DATA_BYTES_MAX))
    }),
    case("decode credit", "frame", 1, 0, || decode(&credit())),
    case("decode open", "frame", 1, SMALL_BYTES, || decode(&open())),
    case("session bulk", "64 KiB", 1, BULK_BYTES, bulk),
    case(
        "session ping-pong",
        "round trip",
        1,
        2 * SMALL_BYTES,
        ping_pong,
    ),
    case(
        "session open and close",
        "stream",
        STREAMS as u64,
        2 * SMALL_BYTES * STREAMS,
        open_close,
    ),
    case(
        "scheduler turn",
        "stream",
        STREAMS as u64,
        SMALL_BYTES * STREAMS,
        turns,
    ),
];

const fn case(
    name: &'static str,
    unit: &'static str,
    units: u64,
    bytes: usize,
    make: fn() -> Repetition,
) -> Case {
    Case {
        name,
        unit,
        units,
        bytes: bytes as u64,
        make,
    }
}

impl Case {
    /// A case by its name.
    pub fn find(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }

    /// Makes what a repetition needs.
    pub fn prepare(&self) -> Repetition {
        (self.make)()
    }
}

fn data(length: usize) -> Frame {
    Frame::Data {
        id: StreamId::new(Side::Dialler, 70),
        offset: 5_000_000,
        bytes: Bytes::from(vec![0x5a; length]),
    }
}

fn credit() -> Frame {
    Frame::Credit {
        id: StreamId::new(Side::Dialler, 70),
        offset: 5_000_000,
    }
}

fn open() -> Frame {
    Frame::Open(Open {
        id: StreamId::new(Side::Dialler, 70),
        environment: String::new(),
        target: "tcp:db.internal:5432".to_owned(),
        principal: "token:ci-deploy".to_owned(),
        request_id: RequestId::from_bytes([7; 16]),
        first_bytes: Bytes::from_static(&[0x5a; SMALL_BYTES]),
    })
}

fn encode(frame: Frame) -> Repetition {
    let mut out = BytesMut::with_capacity(MESSAGE_BYTES_MAX);
    Box::new(move || {
        out.clear();
        frame::encode(std::hint::black_box(&frame), &mut out);
        std::hint::black_box(&out);
    })
}

fn decode(frame: &Frame) -> Repetition {
    let mut out = BytesMut::new();
    frame::encode(frame, &mut out);
    let encoded = out.freeze();
    Box::new(move || {
        let mut input = std::hint::black_box(encoded.clone());
        let decoded = frame::decode(&mut input).expect("it was just encoded");
        std::hint::black_box(decoded);
    })
}

/// 64 KiB written at one end and read at the other, with the credit and the
/// acknowledgements that this takes.
fn bulk() -> Repetition {
    let mut pair = Pair::new();
    let id = pair.open();
    let written = Bytes::from(vec![0x5a; BULK_BYTES]);
    Box::new(move || {
        let mut rest = written.clone();
        let mut read = 0;
        while read < BULK_BYTES {
            pair.dialler.write(id, &mut rest);
            pair.exchange();
            read += pair.acceptor.read(id);
            pair.exchange();
        }
    })
}

fn ping_pong() -> Repetition {
    let mut pair = Pair::new();
    let id = pair.open();
    let payload = Bytes::from_static(&[0x5a; SMALL_BYTES]);
    Box::new(move || {
        pair.dialler.write(id, &mut payload.clone());
        pair.exchange();
        assert_eq!(pair.acceptor.read(id), SMALL_BYTES);
        pair.acceptor.write(id, &mut payload.clone());
        pair.exchange();
        assert_eq!(pair.dialler.read(id), SMALL_BYTES);
    })
}

/// A thousand streams at a time, each a small request and a small answer.
fn open_close() -> Repetition {
    let mut pair = Pair::new();
    let payload = Bytes::from_static(&[0x5a; SMALL_BYTES]);
    Box::new(move || {
        let ids: Vec<StreamId> = (0..STREAMS).map(|_| pair.dialler.open(&payload)).collect();
        pair.exchange();
        for id in &ids {
            pair.acceptor.accept(*id);
            assert_eq!(pair.acceptor.read(*id), SMALL_BYTES);
            pair.acceptor.write(*id, &mut payload.clone());
            pair.acceptor.finish(*id);
        }
        pair.exchange();
        for id in &ids {
            assert_eq!(pair.dialler.read(*id), SMALL_BYTES);
            pair.dialler.finish(*id);
            pair.dialler.forget(*id);
        }
        pair.exchange();
        for id in &ids {
            pair.acceptor.forget(*id);
        }
        pair.settle();
        assert_eq!(pair.streams_held(), 0, "streams are left");
    })
}

/// A thousand open streams have something small to say at once.
fn turns() -> Repetition {
    let mut pair = Pair::new();
    let ids: Vec<StreamId> = (0..STREAMS).map(|_| pair.open()).collect();
    let payload = Bytes::from_static(&[0x5a; SMALL_BYTES]);
    Box::new(move || {
        for id in &ids {
            pair.dialler.write(*id, &mut payload.clone());
        }
        pair.exchange();
        for id in &ids {
            assert_eq!(pair.acceptor.read(*id), SMALL_BYTES);
        }
        pair.settle();
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_can_be_repeated() {
        for case in CASES {
            let mut repeat = case.prepare();
            for _ in 0..3 {
                repeat();
            }
        }
    }

    #[test]
    fn a_case_is_found_by_its_name_alone() {
        for case in CASES {
            let found = Case::find(case.name).map(|found| (found.unit, found.units, found.bytes));

            assert_eq!(found, Some((case.unit, case.units, case.bytes)));
        }
    }
}
