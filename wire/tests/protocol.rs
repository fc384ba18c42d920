//! Whether `PROTOCOL.md` says what the code does: its tables of frame types, codes
//! and limits, both ways.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use wire::{
    close::{CloseCode, RefusalCode, ResetCode, Retry},
    frame::FrameType,
    limits,
};

fn document() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../PROTOCOL.md");
    std::fs::read_to_string(path).expect("PROTOCOL.md beside the crates")
}

/// The rows of the first table after a heading, as cells without backticks.
fn table(heading: &str) -> Vec<Vec<String>> {
    let document = document();
    let mut lines = document.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "no heading `{heading}`");
    lines
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let row = line.trim_matches('|').replace('`', "");
            row.split('|').map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

fn retry(retry: Retry) -> String {
    match retry {
        Retry::Backoff => "backoff".into(),
        Retry::After(pause) => format!("after {} s", pause.as_secs()),
        Retry::Slot(slot) => format!("in {} s", slot.as_secs()),
        Retry::Never => "never".into(),
    }
}

#[test]
fn the_frame_types_are_those_of_the_code() {
    let written: Vec<_> = table("## 3. Frames")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();

    let coded: Vec<_> = FrameType::ALL
        .into_iter()
        .map(|kind| (format!("{:#04x}", kind as u8), format!("{kind:?}")))
        .collect();

    assert_eq!(written, coded, "left: PROTOCOL.md, right: frame.rs");
}

#[test]
fn the_close_codes_are_those_of_the_code() {
    let coded: Vec<_> = CloseCode::ALL
        .iter()
        .map(|code| {
            let fault = format!("{:?}", code.fault()).to_ascii_lowercase();
            vec![
                code.as_u16().to_string(),
                code.to_string(),
                fault,
                retry(code.retry()),
            ]
        })
        .collect();

    assert_eq!(
        table("## 9. Close codes"),
        coded,
        "left: PROTOCOL.md, right: close.rs"
    );
}

#[test]
fn the_reset_codes_are_those_of_the_code() {
    let coded: Vec<_> = ResetCode::ALL
        .iter()
        .map(|code| {
            let advice = code.advice().replace('`', "");
            vec![code.as_u16().to_string(), code.to_string(), advice]
        })
        .collect();

    assert_eq!(
        table("### 9.1 Reset codes"),
        coded,
        "left: PROTOCOL.md, right: close.rs"
    );
}

#[test]
fn the_refusal_codes_are_those_of_the_code() {
    let coded: Vec<_> = RefusalCode::ALL
        .iter()
        .map(|code| {
            vec![
                code.as_u16().to_string(),
                code.to_string(),
                retry(code.retry()),
            ]
        })
        .collect();

    assert_eq!(
        table("### 9.2 Refusal codes"),
        coded,
        "left: PROTOCOL.md, right: close.rs"
    );
}

/// Every public constant of `limits.rs`, by name, as the document writes it.
fn coded_limits() -> BTreeMap<String, String> {
    let mut coded = BTreeMap::new();
    macro_rules! limits {
        ($($name:ident)+) => {$(
            coded.insert(stringify!($name).to_owned(), limits::$name.written());
        )+};
    }
    limits!(
        FRAME_BYTES_MAX DATA_BYTES_MAX MESSAGE_BYTES_MAX QUANTUM_BYTES STREAMS_MAX
        ACCEPT_BACKLOG_MAX STREAM_WINDOW_INITIAL_BYTES STREAM_WINDOW_MAX_BYTES
        SESSION_WINDOW_INITIAL_BYTES SESSION_WINDOW_MAX_BYTES SEND_BACKLOG_BYTES_MAX
        SEND_BACKLOG_BYTES_MIN SESSION_BACKLOG_BYTES_MAX OPEN_BYTES_MAX TARGET_BYTES_MAX
        PRINCIPAL_BYTES_MAX REASON_BYTES_MAX CONTROL_BYTES_MAX CONTROL_BACKLOG_MAX
        SEEN_GAPS_MAX RESUME_WINDOW HANDSHAKE_TIMEOUT HEARTBEAT_IDLE_QUIC
        HEARTBEAT_IDLE_WEBSOCKET
        HEARTBEAT_BUSY_QUIC HEARTBEAT_BUSY_WEBSOCKET HEARTBEAT_ANSWER_MIN
        HEARTBEAT_ANSWER_MAX BULK_LANES_MAX BULK_BYTES BULK_SPAN BULK_ASK_AGAIN BULK_IDLE
        ACK_DELAY OPEN_TIMEOUT CLOSE_TIMEOUT
    );
    coded
}

trait Written {
    fn written(&self) -> String;
}

impl Written for usize {
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Written for u64 {
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Written for Duration {
    fn written(&self) -> String {
        format!("{} ms", self.as_millis())
    }
}

#[test]
fn the_limits_are_those_of_the_code() {
    let written: BTreeMap<_, _> = table("## 11. Limits")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();

    assert_eq!(
        written,
        coded_limits(),
        "left: PROTOCOL.md, right: limits.rs"
    );
}

#[test]
fn no_limit_is_left_out() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/limits.rs");
    let code = std::fs::read_to_string(path).expect("limits.rs");
    let declared: Vec<_> = code
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect();

    let compared = coded_limits();

    for name in declared {
        assert!(
            compared.contains_key(name),
            "{name} is not compared with PROTOCOL.md"
        );
    }
}

#[test]
fn bounds_in_the_text_are_those_of_the_limits() {
    let document = document();
    for (text, value) in [
        ("at most 65536 bytes together", limits::MESSAGE_BYTES_MAX),
        ("together have at most 65536 bytes", limits::FRAME_BYTES_MAX),
        ("1 to 65472", limits::DATA_BYTES_MAX),
        ("at most 16384", limits::OPEN_BYTES_MAX),
        ("at most 32768", limits::CONTROL_BYTES_MAX),
        ("text(263) target", limits::TARGET_BYTES_MAX),
        ("text(128) principal", limits::PRINCIPAL_BYTES_MAX),
        ("text(512) reason", limits::REASON_BYTES_MAX),
        ("turns of 16384 bytes", limits::QUANTUM_BYTES),
        ("at most 10000 open streams", limits::STREAMS_MAX),
        ("beyond 1024 that", limits::ACCEPT_BACKLOG_MAX),
        ("leaves 64", limits::CONTROL_BACKLOG_MAX),
    ] {
        assert!(document.contains(text), "`{text}` is not in PROTOCOL.md");
        assert!(
            text.contains(&value.to_string()),
            "`{text}`, and the code has {value}"
        );
    }
}

#[test]
fn the_names_on_the_wire_are_those_of_the_code() {
    let document = document();
    let label = String::from_utf8_lossy(wire::handshake::EXPORTER_LABEL).into_owned();

    for name in [&*label, wire::token::TOKEN_PREFIX] {
        assert!(
            document.contains(&format!("`{name}`")),
            "`{name}` is not in PROTOCOL.md"
        );
    }
    for transport in wire::transport::Transport::ALL {
        assert!(
            document.contains(&format!("`{transport}`")),
            "`{transport}` is missing"
        );
    }
}
