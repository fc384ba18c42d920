//! Control messages across versions: what an end does not know, it skips, and what it
//! is not told is 0.

use prost::Message;
use wire::{
    limits::CONTROL_BYTES_MAX,
    message::{AgentFigures, Control, DialFigures, FiguresRequest, StreamFigures, control},
};

fn encoded(message: control::Message) -> Vec<u8> {
    let control = Control {
        message: Some(message),
    };
    control.encode_to_vec()
}

#[test]
fn a_request_for_figures_has_these_bytes() {
    let request = FiguresRequest {
        interval_ms: 30_000,
    };

    let bytes = encoded(control::Message::FiguresRequest(request));

    assert_eq!(bytes, [0x1a, 4, 0x08, 0xb0, 0xea, 1]);
}

#[test]
fn figures_have_these_bytes() {
    let figures = AgentFigures {
        uptime_ms: 1,
        tcp_streams: Some(StreamFigures {
            denied: 2,
            ..StreamFigures::default()
        }),
        ws_dials: Some(DialFigures {
            welcomed: 3,
            ..DialFigures::default()
        }),
        docker: 1,
        ..AgentFigures::default()
    };

    let bytes = encoded(control::Message::AgentFigures(figures));

    assert_eq!(
        bytes,
        [
            0x22, 12, 0x08, 1, 0x4a, 2, 0x18, 2, 0x5a, 2, 0x08, 3, 0x68, 1
        ]
    );
}

#[test]
fn a_message_of_a_newer_peer_is_no_message_and_no_error() {
    // Field 15, two bytes long.
    let control = Control::decode(&[0x7a, 2, 0x08, 1][..]).unwrap();

    assert_eq!(control.message, None);
}

#[test]
fn figures_of_a_newer_agent_are_read_as_far_as_they_are_known() {
    let mut newer = AgentFigures {
        sessions: 7,
        ..AgentFigures::default()
    }
    .encode_to_vec();
    // Field 99 with the number 5, and a state of the Engine that nobody knows here.
    newer.extend([0x98, 0x06, 5, 0x68, 99]);

    let figures = AgentFigures::decode(&newer[..]).unwrap();

    assert_eq!(figures.sessions, 7);
    assert_eq!(figures.docker(), wire::message::docker::State::Unspecified);
}

#[test]
fn the_largest_figures_fit_a_control_message_many_times() {
    let streams = Some(StreamFigures {
        finished: u64::MAX,
        broken: u64::MAX,
        denied: u64::MAX,
        unreachable: u64::MAX,
        revoked: u64::MAX,
    });
    let dials = Some(DialFigures {
        welcomed: u64::MAX,
        refused: u64::MAX,
        failed: u64::MAX,
        timed_out: u64::MAX,
        proxied: u64::MAX,
        intercepted: u64::MAX,
    });
    let figures = AgentFigures {
        uptime_ms: u64::MAX,
        cpu_ms: u64::MAX,
        resident_bytes: u64::MAX,
        open_files: u64::MAX,
        sessions: u64::MAX,
        bytes_sent: u64::MAX,
        bytes_received: u64::MAX,
        docker_streams: streams,
        tcp_streams: streams,
        quic_dials: dials,
        ws_dials: dials,
        ws_443_dials: dials,
        docker: i32::MAX,
    };

    let length = encoded(control::Message::AgentFigures(figures)).len();

    assert!(length < 450, "{length}");
    assert!(length * 50 < CONTROL_BYTES_MAX);
}
