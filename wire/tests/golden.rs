//! The bytes of every frame as they were when they were first given out: encoding
//! gives them, decoding reads them, in this version and in every later one.
//!
//! A frame type without a file fails. Files are written, once, by running this test
//! with `STERNLINE_GOLDEN=write`; a file that is there is never overwritten.

use std::{cell::RefCell, collections::BTreeSet, fmt::Write as _, fs, path::PathBuf};

use bytes::{Bytes, BytesMut};
use wire::{
    close::{CloseCode, RefusalCode, ResetCode},
    frame::{self, Frame, FrameType, Goaway, OFFSET_MAX, Open, Resume, ResumeStream},
    handshake::{AcceptorHandshake, Answer, Credential, DiallerHandshake, Hello, Refusal, Welcome},
    id::{AgentId, EnvironmentId, Epoch, InstanceId, RequestId, SessionId, Side, StreamId},
    key::{PublicKey, Secret, Signature},
    prelude::Prelude,
    token::{EnrolToken, RelayAddress},
};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// `SessionCredit` is `session_credit`.
fn file_name(kind: FrameType) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            write!(text, "{byte:02x}").expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .map(|letter| letter.to_digit(16).expect("a hex digit") as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// The golden bytes of a name, which must be those of `bytes`.
#[track_caller]
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = directory().join(format!("{name}.hex"));
    let is_writing = std::env::var("STERNLINE_GOLDEN").is_ok_and(|value| value == "write");
    if is_writing && !path.exists() {
        fs::create_dir_all(directory()).expect("a sound sample");
        fs::write(&path, to_hex(bytes)).expect("a sound sample");
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: run with STERNLINE_GOLDEN=write",
            path.display()
        )
    });
    assert_eq!(to_hex(bytes), text, "{name}: left: encoded, right: golden");
    from_hex(&text)
}

const OURS: StreamId = StreamId::new(Side::Dialler, 3);
const THEIRS: StreamId = StreamId::new(Side::Acceptor, 10_000);

/// One frame of every type, with numbers of every length.
#[expect(clippy::too_many_lines, reason = "a table")]
fn sample(kind: FrameType) -> Frame {
    match kind {
        FrameType::Challenge => challenge(),
        FrameType::Hello => hello(),
        FrameType::Welcome => welcome().to_frame(),
        FrameType::Refusal => refusal().to_frame(),
        FrameType::Resume => Frame::Resume(Resume {
            is_last: true,
            seen_below: 70_000,
            gaps: vec![5, 300],
            streams: vec![
                ResumeStream {
                    id: OURS,
                    received: 1 << 33,
                    credit: (1 << 33) + 262_144,
                },
                ResumeStream {
                    id: THEIRS,
                    received: 0,
                    credit: 262_144,
                },
            ],
        }),
        FrameType::Ping => Frame::Ping(1),
        FrameType::Pong => Frame::Pong(300),
        FrameType::Goaway => Frame::Goaway(Goaway {
            reconnect_after_ms: 0,
            window_ms: 20_000,
            drain_ms: 30_000,
            address: "relay-2.example:8000".into(),
        }),
        FrameType::Close => Frame::Close {
            code: CloseCode::Superseded,
            reason: "a newer session took over".into(),
        },
        FrameType::Control => Frame::Control(Bytes::from_static(b"\x12\x02\x08\x05")),
        FrameType::SessionCredit => Frame::SessionCredit(1 << 20),
        FrameType::Open => Frame::Open(Open {
            id: THEIRS,
            environment: String::new(),
            target: "tcp:db.internal:5432".into(),
            principal: "token:ci-deploy".into(),
            request_id: RequestId::from_bytes([0x33; 16]),
            first_bytes: Bytes::from_static(b"GET /version HTTP/1.1\r\n\r\n"),
        }),
        FrameType::Accept => Frame::Accept(THEIRS),
        FrameType::Data => Frame::Data {
            id: OURS,
            offset: 1_000_000,
            bytes: Bytes::from_static(b"sixteen bytes, eh"),
        },
        FrameType::Finish => Frame::Finish {
            id: OURS,
            size: 1_000_017,
        },
        FrameType::Reset => Frame::Reset {
            id: THEIRS,
            code: ResetCode::PolicyDenied,
            size: 64,
            reason: "tcp:db.internal:5432 is not in the policy".into(),
        },
        FrameType::Stop => Frame::Stop {
            id: OURS,
            code: ResetCode::Cancelled,
            reason: String::new(),
        },
        FrameType::Credit => Frame::Credit {
            id: OURS,
            offset: 1 << 31,
        },
        FrameType::Ack => Frame::Ack {
            id: OURS,
            offset: OFFSET_MAX,
        },
        FrameType::Attach => Frame::Attach {
            id: THEIRS,
            offset: 16_384,
        },
    }
}

const EXPORTER: [u8; 32] = [0x11; 32];
const RELAY: PublicKey = PublicKey([0x22; 32]);

/// Stands for Ed25519, whose bytes are not this crate's.
const SIGNATURE: Signature = Signature([0x55; 64]);

fn acceptor(sign: wire::handshake::Sign<'_>) -> (AcceptorHandshake, Frame) {
    AcceptorHandshake::start(EXPORTER, RELAY, "node-1", [0x44; 32], sign)
}

fn challenge() -> Frame {
    acceptor(&|_| SIGNATURE).1
}

fn dialler() -> DiallerHandshake {
    let hello = Hello {
        instance: InstanceId::from_bytes([0x66; 16]),
        software: "sternline-agent/0.1.0".into(),
        credential: Credential::Known {
            agent_id: AgentId::from_bytes([0x77; 16]),
            start_counter: 7,
        },
        heartbeat_idle: std::time::Duration::from_secs(25),
        bulk_lane_of: None,
        resume_of: None,
        resume_window: std::time::Duration::ZERO,
    };
    DiallerHandshake::new(EXPORTER, Some(RELAY), hello)
}

fn hello() -> Frame {
    dialler()
        .handle_challenge(&challenge(), &|_, _, _| true, Some(&|_| SIGNATURE))
        .expect("a sound sample")
}

fn welcome() -> Welcome {
    Welcome {
        session_id: SessionId::from_bytes([0x88; 16]),
        epoch: Epoch {
            generation: 3,
            counter: 17,
        },
        agent_id: Some(AgentId::from_bytes([0x77; 16])),
        environment_id: Some(EnvironmentId::from_bytes([0x99; 16])),
        environment: "berlin".into(),
        reconnect_window: std::time::Duration::from_secs(20),
        heartbeat_idle: std::time::Duration::from_secs(25),
        bulk_lanes_max: 0,
        resume_window: std::time::Duration::ZERO,
    }
}

fn refusal() -> Refusal {
    Refusal {
        code: RefusalCode::TokenUsed,
        reason: "this token has enrolled an agent".into(),
        retry_after: Some(std::time::Duration::from_secs(5)),
    }
}

#[test]
fn every_frame_has_the_bytes_it_always_had() {
    for kind in FrameType::ALL {
        let frame = sample(kind);
        assert_eq!(frame.kind(), kind);
        let mut encoded = BytesMut::new();
        frame::encode(&frame, &mut encoded);

        let bytes = golden(&file_name(kind), &encoded);

        let decoded = frame::decode(&mut Bytes::from(bytes));
        assert_eq!(decoded, Ok(Some(frame)), "{kind:?}");
    }
}

#[test]
fn the_bodies_of_the_handshake_say_what_they_always_said() {
    let (acceptor, _) = acceptor(&|_| SIGNATURE);

    let received = acceptor.handle_hello(&hello()).unwrap();
    let (welcome_frame, refusal_frame) = (welcome().to_frame(), refusal().to_frame());
    let welcomed = dialler().handle_answer(&welcome_frame);
    let refused = dialler().handle_answer(&refusal_frame);

    assert!(
        received.is_proven_by(&PublicKey([0; 32]), &|_, _, signature| *signature
            == SIGNATURE)
    );
    assert!(matches!(
        received.hello.credential,
        Credential::Known { start_counter: 7, agent_id }
            if agent_id == AgentId::from_bytes([0x77; 16])
    ));
    assert!(matches!(welcomed, Ok(Answer::Welcome(read)) if read == welcome()));
    assert!(matches!(refused, Ok(Answer::Refusal(read)) if read == refusal()));
}

#[test]
fn the_proofs_cover_the_bytes_they_always_covered() {
    let signed = RefCell::new(Vec::new());
    let (_, challenge) = acceptor(&|message| {
        signed.replace(message.to_vec());
        SIGNATURE
    });
    golden("challenge_proof_input", &signed.borrow());

    let sign = |message: &[u8]| {
        signed.replace(message.to_vec());
        SIGNATURE
    };
    dialler()
        .handle_challenge(&challenge, &|_, _, _| true, Some(&sign))
        .unwrap();
    golden("hello_proof_input", &signed.borrow());
}

#[test]
fn a_token_has_the_text_it_always_had() {
    let token = EnrolToken {
        addresses: vec![
            RelayAddress {
                host: "relay.example".into(),
                tunnel_port: 8000,
                https_port: 443,
            },
            RelayAddress {
                host: "2001:db8::1".into(),
                tunnel_port: 18_000,
                https_port: 8443,
            },
        ],
        relay_identity: RELAY,
        secret: Secret::from_bytes([0xaa; 32]),
        expires_unix_seconds: 1_800_000_000,
        environment: "berlin".into(),
    };

    let text = String::from_utf8(golden("token", token.to_text().as_bytes())).unwrap();

    assert_eq!(text.parse(), Ok(token));
}

#[test]
fn the_prelude_keeps_its_bytes() {
    let prelude = Prelude {
        come_back_in: std::time::Duration::from_millis(0x0102_0304),
    };

    let bytes = golden("prelude", &prelude.encode());

    assert_eq!(Prelude::decode(&bytes), Some(prelude));
}

#[test]
fn every_golden_file_is_used() {
    let mut known: BTreeSet<_> = FrameType::ALL.into_iter().map(file_name).collect();
    let others = [
        "challenge_proof_input",
        "hello_proof_input",
        "prelude",
        "token",
    ];
    known.extend(others.map(str::to_owned));

    let files: BTreeSet<_> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.trim_end_matches(".hex").to_owned())
        .collect();

    assert_eq!(files, known, "left: files, right: what this test reads");
}
