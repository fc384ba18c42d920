//! The relay's first word on every connection: who it is, with a proof over this very TLS.

use bytes::Bytes;
use wire::{
    frame,
    handshake::{Exporter, ShownIdentity},
    key::PublicKey,
};

use crate::observe::{Fault, FaultKind, ProofSeen};

/// Reads it from the bytes of a challenge.
pub(super) fn read(
    mut bytes: Bytes,
    exporter: &Exporter,
    pin: Option<PublicKey>,
) -> Result<ProofSeen, Fault> {
    let no_relay = |says: String| Fault::new(FaultKind::Protocol, says);
    let frame = frame::decode(&mut bytes);
    let frame = frame.map_err(|error| no_relay(format!("what answers is no relay: {error}")))?;
    let frame = frame.ok_or_else(|| no_relay("the relay's first word was cut off".to_owned()))?;
    let shown = ShownIdentity::of(&frame, exporter, &tunnel::crypto::verify);
    let shown = shown.map_err(|error| no_relay(error.to_string()))?;
    Ok(ProofSeen {
        identity: shown.identity.to_string(),
        is_proven: shown.is_proven,
        is_pinned: pin.map(|pin| pin == shown.identity),
    })
}
