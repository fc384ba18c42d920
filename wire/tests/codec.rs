//! The codec for any bytes and any frame: a value or an error, never a panic, and
//! nothing set aside for a length that was only claimed.

use bytes::{Bytes, BytesMut};
use proptest::{
    prelude::*,
    test_runner::{Config, FileFailurePersistence},
};
use wire::{
    close::{CloseCode, ResetCode},
    frame::{
        DecodeError, Frame, FrameType, Goaway, OFFSET_MAX, Open, Resume, ResumeStream,
        codec::{encoded_len, frame_len},
        decode, encode, varint,
    },
    id::{RequestId, StreamId},
    limits::{
        CONTROL_BYTES_MAX, DATA_BYTES_MAX, FRAME_BYTES_MAX, OPEN_BYTES_MAX, PRINCIPAL_BYTES_MAX,
        REASON_BYTES_MAX, TARGET_BYTES_MAX,
    },
};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..=0x3f_u64,
        0..=0x3fff_u64,
        0..=0x3fff_ffff_u64,
        0..=OFFSET_MAX
    ]
}

fn id() -> impl Strategy<Value = StreamId> {
    number().prop_map(StreamId::from_u64)
}

fn bytes(least: usize, most: usize) -> impl Strategy<Value = Bytes> {
    let short = least..=most.min(300);
    prop_oneof![8 => short, 1 => least..=most, 1 => Just(most)]
        .prop_map(|length| Bytes::from(vec![0xa5; length]))
}

/// Text within a bound, of one to four bytes a character.
fn text(most: usize) -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z:.0-9]{0,20}",
        prop::collection::vec(any::<char>(), 0..=most / 4).prop_map(String::from_iter),
        Just("x".repeat(most)),
    ]
}

fn reset_code() -> impl Strategy<Value = ResetCode> {
    any::<u16>().prop_map(ResetCode::from_u16)
}

fn open() -> impl Strategy<Value = Open> {
    (
        id(),
        text(PRINCIPAL_BYTES_MAX),
        text(TARGET_BYTES_MAX),
        text(PRINCIPAL_BYTES_MAX),
        any::<[u8; 16]>(),
        bytes(0, OPEN_BYTES_MAX),
    )
        .prop_map(
            |(id, environment, target, principal, request_id, first_bytes)| Open {
                id,
                environment,
                target,
                principal,
                request_id: RequestId::from_bytes(request_id),
                first_bytes,
            },
        )
}

fn resume() -> impl Strategy<Value = Resume> {
    let stream = (id(), number(), number()).prop_map(|(id, received, credit)| ResumeStream {
        id,
        received,
        credit,
    });
    (
        any::<bool>(),
        number(),
        prop::collection::vec(number(), 0..100),
        prop::collection::vec(stream, 0..100),
    )
        .prop_map(|(is_last, seen_below, gaps, streams)| Resume {
            is_last,
            seen_below,
            gaps,
            streams,
        })
}

fn session_frame() -> impl Strategy<Value = Frame> {
    let goaway = (number(), number(), number(), text(TARGET_BYTES_MAX)).prop_map(
        |(reconnect_after_ms, window_ms, drain_ms, address)| {
            Frame::Goaway(Goaway {
                reconnect_after_ms,
                window_ms,
                drain_ms,
                address,
            })
        },
    );
    let close = (any::<u16>(), text(REASON_BYTES_MAX)).prop_map(|(code, reason)| Frame::Close {
        code: CloseCode::from_u16(code),
        reason,
    });
    prop_oneof![
        bytes(0, 2_000).prop_map(Frame::Challenge),
        bytes(0, 2_000).prop_map(Frame::Hello),
        bytes(0, 2_000).prop_map(Frame::Welcome),
        bytes(0, 2_000).prop_map(Frame::Refusal),
        resume().prop_map(Frame::Resume),
        number().prop_map(Frame::Ping),
        number().prop_map(Frame::Pong),
        goaway,
        close,
        bytes(0, CONTROL_BYTES_MAX).prop_map(Frame::Control),
        number().prop_map(Frame::SessionCredit),
    ]
}

fn stream_frame() -> impl Strategy<Value = Frame> {
    let reason = || text(REASON_BYTES_MAX);
    prop_oneof![
        open().prop_map(Frame::Open),
        id().prop_map(Frame::Accept),
        (id(), number(), bytes(1, DATA_BYTES_MAX)).prop_map(|(id, offset, bytes)| Frame::Data {
            id,
            offset,
            bytes
        }),
        (id(), number()).prop_map(|(id, size)| Frame::Finish { id, size }),
        (id(), reset_code(), number(), reason()).prop_map(|(id, code, size, reason)| {
            Frame::Reset {
                id,
                code,
                size,
                reason,
            }
        }),
        (id(), reset_code(), reason()).prop_map(|(id, code, reason)| Frame::Stop {
            id,
            code,
            reason
        }),
        (id(), number()).prop_map(|(id, offset)| Frame::Credit { id, offset }),
        (id(), number()).prop_map(|(id, offset)| Frame::Ack { id, offset }),
        (id(), number()).prop_map(|(id, offset)| Frame::Attach { id, offset }),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![session_frame(), stream_frame()]
}

fn encoded(frame: &Frame) -> Bytes {
    let mut out = BytesMut::new();
    encode(frame, &mut out);
    out.freeze()
}

/// A header that claims a length, and what follows it.
fn claiming(kind: FrameType, length: u64, body: &[u8]) -> Bytes {
    let mut out = vec![kind as u8];
    varint::put(&mut out, length);
    out.extend_from_slice(body);
    out.into()
}

fn config() -> Config {
    let file = FileFailurePersistence::Direct("proptest-regressions/codec.txt");
    Config {
        failure_persistence: Some(Box::new(file)),
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut input = Bytes::from(bytes);
        while let Ok(Some(frame)) = decode(&mut input) {
            prop_assert!(encoded_len(&frame) <= FRAME_BYTES_MAX);
        }
    }

    #[test]
    fn any_body_of_any_type_is_a_frame_or_an_error(
        kind in prop::sample::select(&FrameType::ALL[..]),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut input = claiming(kind, body.len() as u64, &body);

        match decode(&mut input) {
            Ok(frame) => {
                let frame = frame.expect("all of it is there");
                prop_assert_eq!(frame.kind(), kind);
                prop_assert!(input.is_empty());
            }
            Err(DecodeError::UnknownType(_) | DecodeError::TooLong { .. }) => {
                prop_assert!(false, "the header is in order");
            }
            Err(_) => {}
        }
    }

    #[test]
    fn a_frame_reads_back_and_leaves_what_follows(frame in frame(), rest in bytes(0, 50)) {
        let bytes = encoded(&frame);
        prop_assert_eq!(bytes.len(), encoded_len(&frame));
        prop_assert_eq!(frame_len(&bytes), Ok(Some(bytes.len())));

        let mut input = Bytes::from([bytes, rest.clone()].concat());

        prop_assert_eq!(decode(&mut input), Ok(Some(frame)));
        prop_assert_eq!(input, rest);
    }

    #[test]
    fn a_frame_cut_anywhere_asks_for_more_and_takes_nothing(
        frame in frame(),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encoded(&frame);
        let cut = bytes.slice(..cut.index(bytes.len()));
        let mut input = cut.clone();

        prop_assert_eq!(decode(&mut input), Ok(None));
        prop_assert_eq!(input, cut);
    }

    #[test]
    fn a_body_cut_short_is_truncated_or_another_value(
        frame in stream_frame(),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encoded(&frame);
        let mut body = bytes.clone();
        let header = bytes.len() - body_len(&mut body);
        let length = cut.index(bytes.len() - header);
        let mut input = claiming(frame.kind(), length as u64, &bytes[header..header + length]);

        // Bytes that end a body may be fewer; nothing else may.
        if let Ok(Some(other)) = decode(&mut input) {
            prop_assert!(matches!(other, Frame::Data { .. } | Frame::Open(_)), "{:?}", other);
        }
    }

    #[test]
    fn bytes_after_the_last_field_are_refused(frame in frame(), extra in 1..9_usize) {
        let has_fields = !matches!(
            frame.kind(),
            FrameType::Challenge | FrameType::Hello | FrameType::Welcome | FrameType::Refusal
                | FrameType::Control | FrameType::Data | FrameType::Open
        );
        if !has_fields {
            return Ok(());
        }
        let mut body = encoded(&frame);
        let length = body_len(&mut body);
        let body = [&body[..], &vec![0; extra]].concat();
        let mut input = claiming(frame.kind(), (length + extra) as u64, &body);

        prop_assert_eq!(decode(&mut input), Err(DecodeError::Trailing(frame.kind())));
    }

    #[test]
    fn an_unknown_type_is_refused_by_its_first_byte(byte in any::<u8>()) {
        prop_assume!(FrameType::from_u8(byte).is_none());

        let refused = decode(&mut Bytes::from(vec![byte]));

        prop_assert_eq!(refused, Err(DecodeError::UnknownType(byte)));
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_the_body_is_there(
        kind in prop::sample::select(&FrameType::ALL[..]),
        length in FRAME_BYTES_MAX as u64..=OFFSET_MAX,
    ) {
        let refused = decode(&mut claiming(kind, length, &[]));

        prop_assert_eq!(refused, Err(DecodeError::TooLong { kind, length }));
    }
}

/// Leaves the body of the frame in `bytes`, and says how long it is.
fn body_len(bytes: &mut Bytes) -> usize {
    let _kind = bytes.split_to(1);
    let length = varint::get(bytes).expect("a length");
    usize::try_from(length).expect("a length in bounds")
}

#[test]
fn a_count_beyond_what_follows_is_refused_before_anything_is_set_aside() {
    for (gaps, streams) in [(10_000, 0), (0, 10_000), (OFFSET_MAX, 0), (0, OFFSET_MAX)] {
        let mut body = vec![1, 0];
        varint::put(&mut body, gaps);
        varint::put(&mut body, streams);

        let refused = decode(&mut claiming(FrameType::Resume, body.len() as u64, &body));

        assert!(
            matches!(refused, Err(DecodeError::OutOfBounds { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn regression_a_frame_with_a_long_winded_length_is_no_longer_than_any_other() {
    let length = (FRAME_BYTES_MAX - 5) as u64;
    let mut input = vec![FrameType::Control as u8];
    input.extend_from_slice(&(length | 0b11 << 62).to_be_bytes());

    let refused = decode(&mut Bytes::from(input));

    let kind = FrameType::Control;
    assert_eq!(refused, Err(DecodeError::TooLong { kind, length }));
}

#[test]
fn fields_beyond_their_bounds_are_refused() {
    let cases: [(Frame, usize, &'static str); 3] = [
        (
            Frame::Close {
                code: CloseCode::Shutdown,
                reason: String::new(),
            },
            REASON_BYTES_MAX,
            "reason",
        ),
        (
            Frame::Goaway(Goaway::default()),
            TARGET_BYTES_MAX,
            "address",
        ),
        (Frame::Control(Bytes::new()), CONTROL_BYTES_MAX, "message"),
    ];
    for (frame, most, field) in cases {
        let mut body = encoded(&frame);
        let length = body_len(&mut body);
        // The text is the last field: its length, then its bytes.
        let mut long = body.slice(..length.saturating_sub(1)).to_vec();
        if field != "message" {
            varint::put(&mut long, most as u64 + 1);
        }
        long.extend_from_slice(&vec![b'x'; most + 1]);

        let refused = decode(&mut claiming(frame.kind(), long.len() as u64, &long));

        let kind = frame.kind();
        assert_eq!(refused, Err(DecodeError::OutOfBounds { kind, field }));
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_at_a_character_and_still_read() {
    let reason = "ä".repeat(REASON_BYTES_MAX);

    let bytes = encoded(&Frame::Close {
        code: CloseCode::Shutdown,
        reason,
    });

    let Ok(Some(Frame::Close { reason, .. })) = decode(&mut bytes.clone()) else {
        panic!("not read: {bytes:?}");
    };
    assert_eq!(reason, "ä".repeat(REASON_BYTES_MAX / 2));
}
