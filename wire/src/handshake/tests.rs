//! The handshake with a toy signature in place of Ed25519: what matters here is
//! what is signed, and in which order things are believed.

use std::time::Duration;

use super::*;
use crate::{
    id::{AgentId, InstanceId, SessionId},
    key::Secret,
};

const RELAY: PublicKey = PublicKey([1; 32]);
const AGENT: PublicKey = PublicKey([2; 32]);

/// Depends on every byte of the key and the message, which is all these tests need.
fn toy_sign(key: &PublicKey, message: &[u8]) -> Signature {
    let mut state = [0_u8; 64];
    for (index, byte) in key.0.iter().chain(message).enumerate() {
        let at = index % 64;
        state[at] = state[at]
            .wrapping_mul(31)
            .wrapping_add(*byte)
            .rotate_left(3);
    }
    Signature(state)
}

fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    toy_sign(key, message) == *signature
}

fn hello() -> Hello {
    Hello {
        instance: InstanceId::from_bytes([9; 16]),
        software: "sternline-agent/0.1.0".into(),
        credential: Credential::Enrol {
            secret: Secret::from_bytes([5; 32]),
            public_key: AGENT,
            start_counter: 1,
        },
        heartbeat_idle: Duration::from_secs(15),
        bulk_lane_of: None,
        resume_of: None,
        resume_window: Duration::from_secs(60),
    }
}

fn start(exporter: Exporter) -> (AcceptorHandshake, Frame) {
    AcceptorHandshake::start(exporter, RELAY, "node-1", [7; 32], &|message| {
        toy_sign(&RELAY, message)
    })
}

fn answer_challenge(
    dialler: &DiallerHandshake,
    challenge: &Frame,
) -> Result<Frame, HandshakeError> {
    dialler.handle_challenge(
        challenge,
        &verify,
        Some(&|message| toy_sign(&AGENT, message)),
    )
}

#[test]
fn both_ends_believe_each_other_over_one_tls_connection() {
    let (acceptor, challenge) = start([3; 32]);
    let dialler = DiallerHandshake::new([3; 32], Some(RELAY), hello());

    let frame = answer_challenge(&dialler, &challenge).unwrap();
    let received = acceptor.handle_hello(&frame).unwrap();

    assert!(received.is_proven_by(&AGENT, &verify));
    assert_eq!(received.hello.software, "sternline-agent/0.1.0");
}

#[test]
fn a_relay_with_another_identity_learns_nothing() {
    let (_, challenge) = start([3; 32]);
    let dialler = DiallerHandshake::new([3; 32], Some(PublicKey([8; 32])), hello());

    let refused = answer_challenge(&dialler, &challenge);

    assert!(matches!(refused, Err(HandshakeError::WrongIdentity { .. })));
}

#[test]
fn somebody_who_ends_the_tls_in_between_is_noticed_before_the_hello() {
    let (_, challenge) = start([3; 32]);
    let dialler = DiallerHandshake::new([4; 32], Some(RELAY), hello());

    assert_eq!(
        answer_challenge(&dialler, &challenge),
        Err(HandshakeError::Intercepted)
    );
}

#[test]
fn a_hello_carried_over_to_another_connection_proves_nothing() {
    let (_, challenge) = start([3; 32]);
    let dialler = DiallerHandshake::new([3; 32], Some(RELAY), hello());
    let frame = answer_challenge(&dialler, &challenge).unwrap();

    let (elsewhere, _) = start([4; 32]);
    let received = elsewhere.handle_hello(&frame).unwrap();

    assert!(!received.is_proven_by(&AGENT, &verify));
}

#[test]
fn a_hello_without_a_signature_proves_nothing() {
    let (acceptor, challenge) = start([3; 32]);
    let dialler = DiallerHandshake::new([3; 32], None, hello());

    let frame = dialler.handle_challenge(&challenge, &verify, None).unwrap();

    assert!(
        !acceptor
            .handle_hello(&frame)
            .unwrap()
            .is_proven_by(&AGENT, &verify)
    );
}

#[test]
fn a_hello_cut_anywhere_is_malformed_and_never_a_panic() {
    let (acceptor, challenge) = start([3; 32]);
    let dialler = DiallerHandshake::new([3; 32], None, hello());
    let Ok(Frame::Hello(bytes)) = answer_challenge(&dialler, &challenge) else {
        panic!("no hello");
    };

    for length in 0..bytes.len() {
        // A cut between two fields leaves a readable message without a proof.
        if let Ok(received) = acceptor.handle_hello(&Frame::Hello(bytes.slice(..length))) {
            assert!(!received.is_proven_by(&AGENT, &verify), "cut to {length}");
        }
    }
}

#[test]
fn a_welcome_and_a_refusal_read_back() {
    let dialler = DiallerHandshake::new([3; 32], None, hello());
    let welcome = Welcome {
        session_id: SessionId::from_bytes([1; 16]),
        epoch: crate::id::Epoch {
            generation: 2,
            counter: 3,
        },
        agent_id: Some(AgentId::from_bytes([4; 16])),
        environment_id: None,
        environment: "berlin".into(),
        reconnect_window: Duration::from_secs(20),
        heartbeat_idle: Duration::from_secs(25),
        bulk_lanes_max: 0,
        resume_window: Duration::from_secs(30),
    };
    let refusal = Refusal {
        code: RefusalCode::TokenUsed,
        reason: "used".into(),
        retry_after: Some(Duration::from_secs(5)),
    };

    let Ok(Answer::Welcome(read)) = dialler.handle_answer(&welcome.to_frame()) else {
        panic!("no welcome");
    };
    assert_eq!(read, welcome);
    let Ok(Answer::Refusal(read)) = dialler.handle_answer(&refusal.to_frame()) else {
        panic!("no refusal");
    };
    assert_eq!(read, refusal);
}

#[test]
fn a_frame_of_another_phase_is_refused() {
    let (acceptor, _) = start([3; 32]);

    let refused = acceptor.handle_hello(&Frame::Ping(1)).unwrap_err();

    assert_eq!(refused.refusal(), RefusalCode::BadHello);
}
