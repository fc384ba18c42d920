//! What was written, read back by a parser that believes nothing.

use proptest::prelude::*;

use super::*;

/// A reader of little-endian fields that fails where there are too few bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(count).expect("enough bytes");
        self.0 = rest;
        taken
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take(2).try_into().expect("two"))
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four"))
    }

    fn padded(&mut self, count: usize) -> &'a [u8] {
        let padded = self.take(count.next_multiple_of(4));
        let (value, padding) = padded.split_at(count);
        assert!(padding.iter().all(|byte| *byte == 0), "padding is zero");
        value
    }

    /// Options until the one that ends them, after which is nothing.
    fn options(&mut self) -> Vec<(u16, &'a [u8])> {
        let mut options = Vec::new();
        loop {
            let (code, count) = (self.u16(), self.u16());
            if code == 0 {
                assert_eq!(count, 0);
                assert!(self.0.is_empty(), "nothing follows the end of options");
                return options;
            }
            options.push((code, self.padded(count.into())));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Block {
    Section {
        application: Vec<u8>,
    },
    Interface {
        name: Vec<u8>,
    },
    Secrets {
        key_log: Vec<u8>,
    },
    Packet {
        on: u32,
        nanos: u64,
        flags: u32,
        bytes: Vec<u8>,
    },
}

fn read(file: &[u8]) -> Vec<Block> {
    let mut file = Fields(file);
    let mut blocks = Vec::new();
    while !file.0.is_empty() {
        let (kind, length) = (file.u32(), file.u32());
        assert_eq!(length % 4, 0, "blocks begin at multiples of four");
        let body = Fields(file.take(usize::try_from(length).expect("64 bits") - 12));
        assert_eq!(file.u32(), length, "the length is there twice");
        blocks.push(read_block(kind, body));
    }
    blocks
}

fn read_block(kind: u32, mut body: Fields<'_>) -> Block {
    match kind {
        0x0a0d_0d0a => {
            assert_eq!(body.u32(), 0x1a2b_3c4d, "the order of bytes");
            assert_eq!((body.u16(), body.u16()), (1, 0), "the version");
            assert_eq!(body.take(8), [0xff; 8], "a length that is not known");
            let options = body.options();
            assert_eq!(options[0].0, 4);
            Block::Section {
                application: options[0].1.to_vec(),
            }
        }
        1 => {
            assert_eq!((body.u16(), body.u16(), body.u32()), (101, 0, 0));
            let options = body.options();
            assert_eq!(options[1], (9, &[9][..]), "nanoseconds");
            Block::Interface {
                name: options[0].1.to_vec(),
            }
        }
        10 => {
            assert_eq!(&body.u32().to_be_bytes(), b"TLSK");
            let length = usize::try_from(body.u32()).expect("64 bits");
            let key_log = body.padded(length).to_vec();
            assert!(body.0.is_empty());
            Block::Secrets { key_log }
        }
        6 => {
            let on = body.u32();
            let nanos = (u64::from(body.u32()) << 32) | u64::from(body.u32());
            let (captured, original) = (body.u32(), body.u32());
            assert_eq!(captured, original, "no packet is cut");
            let bytes = body.padded(usize::try_from(captured).expect("64 bits"));
            let options = body.options();
            let flags = options[0].1.try_into().expect("four");
            Block::Packet {
                on,
                nanos,
                flags: u32::from_le_bytes(flags),
                bytes: bytes.to_vec(),
            }
        }
        other => panic!("an unknown block: {other}"),
    }
}

const BEGAN: Duration = Duration::from_secs(1_893_456_000);

#[test]
fn a_file_reads_as_it_was_written() {
    let mut writer = Writer::new("netsim", BEGAN);
    let uplink = writer.interface("uplink");
    let lan = writer.interface("lan");
    writer.secrets("CLIENT_RANDOM 01 02\n");
    let at = |nanos| Instant::at(Duration::from_nanos(nanos));
    writer.packet(at(1), (lan, Side::Outside), &[0x45, 0, 0]);
    writer.packet(at(5_000_000_000), (uplink, Side::Inside), &[0x60; 8]);

    let blocks = read(&writer.take());

    assert_eq!(
        blocks,
        [
            Block::Section {
                application: b"netsim".to_vec()
            },
            Block::Interface {
                name: b"uplink".to_vec()
            },
            Block::Interface {
                name: b"lan".to_vec()
            },
            Block::Secrets {
                key_log: b"CLIENT_RANDOM 01 02\n".to_vec()
            },
            Block::Packet {
                on: 1,
                nanos: 1_893_456_000_000_000_001,
                flags: 2,
                bytes: vec![0x45, 0, 0]
            },
            Block::Packet {
                on: 0,
                nanos: 1_893_456_005_000_000_000,
                flags: 1,
                bytes: vec![0x60; 8]
            },
        ]
    );
}

#[test]
fn the_pieces_that_were_taken_are_the_file() {
    let mut whole = Writer::new("netsim", BEGAN);
    let mut pieces = whole.clone();
    let mut file = pieces.take();
    for writer in [&mut whole, &mut pieces] {
        let cable = writer.interface("uplink");
        writer.packet(Instant::START, (cable, Side::Inside), b"packet");
    }
    file.extend(pieces.take());

    assert_eq!(file, whole.take());
    assert!(pieces.is_empty() && whole.is_empty());
}

#[test]
fn a_moment_that_no_file_can_hold_is_the_last_one() {
    let mut writer = Writer::new("", Duration::MAX);
    let cable = writer.interface("");
    writer.packet(
        Instant::at(Duration::from_secs(1)),
        (cable, Side::Inside),
        b"",
    );

    let blocks = read(&writer.take());

    assert!(matches!(
        blocks[2],
        Block::Packet {
            nanos: u64::MAX,
            ..
        }
    ));
}

#[test]
fn a_name_that_is_too_long_is_cut_between_characters() {
    let mut writer = Writer::new(&"ü".repeat(40_000), BEGAN);

    let blocks = read(&writer.take());

    let Block::Section { application } = &blocks[0] else {
        panic!("{blocks:?}");
    };
    assert_eq!(application.len(), 65_534);
}

proptest! {
    #[test]
    fn packets_of_any_length_come_back(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..20),
        key_log in "[A-Z0-9 \n]{0,50}",
    ) {
        let mut writer = Writer::new("netsim", BEGAN);
        let cable = writer.interface("uplink");
        writer.secrets(&key_log);
        for packet in &packets {
            writer.packet(Instant::START, (cable, Side::Inside), packet);
        }

        let read: Vec<Vec<u8>> = read(&writer.take())
            .into_iter()
            .filter_map(|block| match block {
                Block::Packet { bytes, .. } => Some(bytes),
                _ => None,
            })
            .collect();

        prop_assert_eq!(read, packets);
    }
}
