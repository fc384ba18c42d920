//! One try of QUIC, as production dials it, up to the relay's proof.

use std::{io, time::Duration};

use bytes::BytesMut;
use tunnel::tls::{ALPN_QUIC, KeyShares};
use wire::{frame, handshake::EXPORTER_LABEL};

use super::{
    Run,
    attempt::{HURRIED_WITHIN, Trying, What},
    proof, tcp, tls,
};
use crate::observe::{Attempt, Fault, FaultKind, ProofSeen, Stage, Variation};

/// How long the handshake may take: first packets are sent after 0, 1 and 3 s.
const HANDSHAKE_WITHIN: Duration = Duration::from_millis(4_000);

/// Most of the relay's first word.
const FIRST_WORD_BYTES_MAX: usize = 4 * 1024;

const NEUTRAL_NAME: &str = "example.com";
const NEUTRAL_ALPN: &[u8] = b"h3";

/// Tries.
pub(super) async fn attempt(run: &Run, what: &What) -> Attempt {
    let mut trying = Trying::new(run, what);
    let Some(to) = what.to else {
        return trying.seen;
    };
    let shown = tls::Shown::default();
    let alpn = match what.variation {
        Variation::NeutralAlpn => NEUTRAL_ALPN,
        _ => ALPN_QUIC,
    };
    let host = match what.variation {
        Variation::NeutralName => NEUTRAL_NAME,
        _ => run.target.host.as_str(),
    };
    let dialling = async {
        let socket = run.world.net.connect_udp(to);
        let socket = socket.map_err(|error| local(&error))?;
        let config = tls::client((alpn, KeyShares::Hybrid), &run.judges, &shown)?;
        let dialled = tunnel::quic::connect(socket, to, host, config, &run.world).await;
        dialled.map_err(|error| of_quic(&error))
    };
    let within = match what.is_hurried {
        true => HURRIED_WITHIN,
        false => HANDSHAKE_WITHIN,
    };
    let dialled = trying.stage((Stage::Quic, within), dialling).await;
    trying.seen.chain = shown.chain();
    if let Some(connection) = dialled {
        let proving = prove(run, &connection);
        let proof = trying
            .stage((Stage::Proof, HANDSHAKE_WITHIN), proving)
            .await;
        trying.seen.proof = proof;
        connection.close(0_u32.into(), b"");
    }
    trying.seen
}

async fn prove(run: &Run, connection: &quinn::Connection) -> Result<ProofSeen, Fault> {
    let mut exporter = [0; 32];
    let exported = connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"");
    exported.map_err(|_| Fault::new(FaultKind::Other, "the connection has no TLS exporter"))?;
    let accepted = connection.accept_bi().await;
    let (_send, mut recv) = accepted.map_err(|error| of_quic(&error.into()))?;
    let mut unread = BytesMut::new();
    loop {
        let broken = |error: frame::DecodeError| {
            Fault::new(
                FaultKind::Protocol,
                format!("what answers is no relay: {error}"),
            )
        };
        if let Some(length) = frame::codec::frame_len(&unread).map_err(broken)?
            && unread.len() >= length
        {
            return proof::read(unread.freeze(), &exporter, run.pin);
        }
        if unread.len() > FIRST_WORD_BYTES_MAX {
            return Err(Fault::new(
                FaultKind::Protocol,
                "the relay's first word has no end",
            ));
        }
        match recv.read_chunk(FIRST_WORD_BYTES_MAX, true).await {
            Ok(Some(chunk)) => unread.extend_from_slice(&chunk.bytes),
            Ok(None) => return Err(Fault::new(FaultKind::Ended, "the relay said nothing")),
            Err(error) => return Err(tcp::of_io(&error.into())),
        }
    }
}

fn local(error: &io::Error) -> Fault {
    let mut fault = tcp::of_io(error);
    fault.is_local = true;
    fault
}

/// What quinn says.
pub(super) fn of_quic(error: &io::Error) -> Fault {
    let says = error.to_string();
    if says.contains("cryptographic handshake failed") {
        return Fault::new(FaultKind::Alert, tcp::bounded(&says));
    }
    // CONNECTION_REFUSED (RFC 9000 §20.1), in quinn's words.
    if says.contains("refused to accept a new connection") {
        return Fault::new(
            FaultKind::Busy,
            "the relay takes no connection over QUIC now",
        );
    }
    let mut fault = tcp::of_io(error);
    if fault.kind == FaultKind::Other && says.contains("closed") {
        fault.kind = FaultKind::Ended;
    }
    fault
}
