//! The handshake: challenge, hello, then welcome or refusal.
//!
//! ```text
//! dialler                                         acceptor
//!    │  ◄───────── challenge (identity, proof) ──────  │   with the last flight of TLS
//!    │  ─────────── hello (credential, proof) ───────► │
//!    │  ◄───────────── welcome | refusal ────────────  │   one round trip after TLS
//! ```
//!
//! Each proof is an Ed25519 signature over the TLS exporter (RFC 8446 §7.5, label
//! [`EXPORTER_LABEL`], no context, 32 bytes) and what was said so far. The exporter
//! differs on the two sides of anybody who stands between, so a proof holds for one
//! TLS connection alone: it cannot be replayed, and the relay's TLS certificate
//! need not be trusted. The acceptor speaks first, so that no secret leaves the
//! dialler before the acceptor has proven who it is.
//!
//! Signing and verifying are the caller's; here is what to sign and in which order.

use bytes::Bytes;
use prost::Message;
use thiserror::Error;

use crate::{
    close::RefusalCode,
    frame::{Frame, FrameType},
    key::{PublicKey, Signature},
    message,
    version::ProtocolVersion,
};

mod hello;

pub use hello::{Credential, Hello, Refusal, Welcome};

/// Label of the TLS exporter that both proofs cover.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-sternline-session-v1";

const CHALLENGE_CONTEXT: &[u8] = b"sternline challenge v1\0";
const HELLO_CONTEXT: &[u8] = b"sternline hello v1\0";

/// What the TLS exporter of one connection gave.
pub type Exporter = [u8; 32];

/// Why a handshake failed before either end could judge the other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// A frame of another phase.
    #[error("expected {expected} of the handshake, got a {got:?} frame")]
    UnexpectedFrame {
        /// What belongs here.
        expected: &'static str,
        /// What came.
        got: FrameType,
    },
    /// The frame's body cannot be read.
    #[error("the {0} is malformed")]
    Malformed(&'static str),
    /// The relay is another one than the token or identity file names.
    #[error("the relay's identity is {got}, but {expected} is expected")]
    WrongIdentity {
        /// From the token or identity file.
        expected: PublicKey,
        /// From the challenge.
        got: PublicKey,
    },
    /// The relay's identity is right, and its proof is of another TLS connection:
    /// somebody ends the TLS in between.
    #[error("the relay's proof does not fit this TLS connection: somebody stands between")]
    Intercepted,
    /// No version is spoken by both.
    #[error("the relay speaks the protocol versions {offered:?}, and this agent none of them")]
    VersionUnsupported {
        /// By the relay.
        offered: Vec<u32>,
    },
}

/// Makes a signature with the signer's own key.
pub type Sign<'a> = &'a dyn Fn(&[u8]) -> Signature;

/// Says whether a signature over a message was made with a key.
pub type Verify<'a> = &'a dyn Fn(&PublicKey, &[u8], &Signature) -> bool;

/// The acceptor's half.
#[derive(Debug)]
pub struct AcceptorHandshake {
    exporter: Exporter,
    challenge: Vec<u8>,
}

/// A hello, read but not yet believed.
#[derive(Debug)]
pub struct ReceivedHello {
    /// Who calls, and with which credential.
    pub hello: Hello,
    proof_input: Vec<u8>,
    signature: Option<Signature>,
}

impl ReceivedHello {
    /// Whether the caller has proven that it holds the private half of `key`.
    pub fn is_proven_by(&self, key: &PublicKey, verify: Verify<'_>) -> bool {
        self.signature
            .is_some_and(|signature| verify(key, &self.proof_input, &signature))
    }
}

impl AcceptorHandshake {
    /// Begins, and gives the frame to send. `nonce` is 32 random bytes.
    pub fn start(
        exporter: Exporter,
        identity: PublicKey,
        node: &str,
        nonce: [u8; 32],
        sign: Sign<'_>,
    ) -> (Self, Frame) {
        let challenge = message::Challenge {
            versions: ProtocolVersion::ALL
                .iter()
                .map(|version| version.as_u32())
                .collect(),
            relay_identity: identity.0.to_vec(),
            nonce: nonce.to_vec(),
            node: node.to_owned(),
        }
        .encode_to_vec();
        let signature = sign(&challenge_proof_input(&exporter, &challenge));
        let signed = message::Signed {
            body: challenge.clone(),
            signature: signature.0.to_vec(),
        };
        let frame = Frame::Challenge(signed.encode_to_vec().into());
        (
            Self {
                exporter,
                challenge,
            },
            frame,
        )
    }

    /// Reads the dialler's hello. Its proof is not yet checked.
    ///
    /// # Errors
    ///
    /// The frame is another one or malformed; answer with the refusal that
    /// [`HandshakeError::refusal`] names.
    pub fn handle_hello(&self, frame: &Frame) -> Result<ReceivedHello, HandshakeError> {
        let Frame::Hello(bytes) = frame else {
            return Err(HandshakeError::UnexpectedFrame {
                expected: "the hello",
                got: frame.kind(),
            });
        };
        let signed =
            message::Signed::decode(&bytes[..]).map_err(|_| HandshakeError::Malformed("hello"))?;
        let hello = Hello::from_bytes(&signed.body)?;
        let signature = match &signed.signature[..] {
            [] => None,
            bytes => Some(Signature::from_slice(bytes).ok_or(HandshakeError::Malformed("hello"))?),
        };
        let proof_input = hello_proof_input(&self.exporter, &self.challenge, &signed.body);
        Ok(ReceivedHello {
            hello,
            proof_input,
            signature,
        })
    }
}

/// What a challenge shows to somebody who only looks, and says no hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownIdentity {
    /// Whom the acceptor says to be.
    pub identity: PublicKey,
    /// Whether it has proven that over this very TLS connection.
    pub is_proven: bool,
}

impl ShownIdentity {
    /// Reads it from the acceptor's first frame.
    ///
    /// # Errors
    ///
    /// The frame is another one or malformed.
    pub fn of(
        frame: &Frame,
        exporter: &Exporter,
        verify: Verify<'_>,
    ) -> Result<Self, HandshakeError> {
        let Frame::Challenge(bytes) = frame else {
            return Err(HandshakeError::UnexpectedFrame {
                expected: "the challenge",
                got: frame.kind(),
            });
        };
        let malformed = || HandshakeError::Malformed("challenge");
        let signed = message::Signed::decode(&bytes[..]).map_err(|_| malformed())?;
        let challenge = message::Challenge::decode(&signed.body[..]).map_err(|_| malformed())?;
        let identity = PublicKey::from_slice(&challenge.relay_identity).ok_or_else(malformed)?;
        let signature = Signature::from_slice(&signed.signature).ok_or_else(malformed)?;
        let proof_input = challenge_proof_input(exporter, &signed.body);
        Ok(Self {
            identity,
            is_proven: verify(&identity, &proof_input, &signature),
        })
    }
}

/// The dialler's half.
#[derive(Debug)]
pub struct DiallerHandshake {
    exporter: Exporter,
    /// `None` where TLS certificates are trusted instead (operators).
    identity: Option<PublicKey>,
    hello: Hello,
}

/// How the acceptor answered.
#[derive(Debug)]
pub enum Answer {
    /// The session begins.
    Welcome(Welcome),
    /// It does not.
    Refusal(Refusal),
}

impl DiallerHandshake {
    /// Prepares the handshake over the connection that `exporter` belongs to.
    pub const fn new(exporter: Exporter, identity: Option<PublicKey>, hello: Hello) -> Self {
        Self {
            exporter,
            identity,
            hello,
        }
    }

    /// Judges the acceptor's challenge and gives the hello to send. `sign` is
    /// `None` where the credential is not a key.
    ///
    /// # Errors
    ///
    /// The acceptor is not who it shall be, or not understood. Nothing was
    /// disclosed to it.
    pub fn handle_challenge(
        &self,
        frame: &Frame,
        verify: Verify<'_>,
        sign: Option<Sign<'_>>,
    ) -> Result<Frame, HandshakeError> {
        let Frame::Challenge(bytes) = frame else {
            return Err(HandshakeError::UnexpectedFrame {
                expected: "the challenge",
                got: frame.kind(),
            });
        };
        let malformed = || HandshakeError::Malformed("challenge");
        let signed = message::Signed::decode(&bytes[..]).map_err(|_| malformed())?;
        let challenge = message::Challenge::decode(&signed.body[..]).map_err(|_| malformed())?;
        let got = PublicKey::from_slice(&challenge.relay_identity).ok_or_else(malformed)?;
        let signature = Signature::from_slice(&signed.signature).ok_or_else(malformed)?;
        if let Some(expected) = self.identity
            && expected != got
        {
            return Err(HandshakeError::WrongIdentity { expected, got });
        }
        if !verify(
            &got,
            &challenge_proof_input(&self.exporter, &signed.body),
            &signature,
        ) {
            return Err(HandshakeError::Intercepted);
        }
        let version = ProtocolVersion::best_of(&challenge.versions).ok_or(
            HandshakeError::VersionUnsupported {
                offered: challenge.versions,
            },
        )?;
        let body = self.hello.to_bytes(version);
        let signature = sign.map_or_else(Vec::new, |sign| {
            sign(&hello_proof_input(&self.exporter, &signed.body, &body))
                .0
                .to_vec()
        });
        let signed = message::Signed { body, signature };
        Ok(Frame::Hello(Bytes::from(signed.encode_to_vec())))
    }

    /// Reads the acceptor's decision.
    ///
    /// # Errors
    ///
    /// The frame is another one or malformed.
    pub fn handle_answer(&self, frame: &Frame) -> Result<Answer, HandshakeError> {
        match frame {
            Frame::Welcome(bytes) => Welcome::from_bytes(bytes).map(Answer::Welcome),
            Frame::Refusal(bytes) => Refusal::from_bytes(bytes).map(Answer::Refusal),
            other => Err(HandshakeError::UnexpectedFrame {
                expected: "a welcome or a refusal",
                got: other.kind(),
            }),
        }
    }
}

impl HandshakeError {
    /// What an acceptor tells the dialler that caused it.
    pub const fn refusal(&self) -> RefusalCode {
        match self {
            Self::UnexpectedFrame { .. } | Self::Malformed(_) => RefusalCode::BadHello,
            Self::WrongIdentity { .. } | Self::Intercepted => RefusalCode::BadProof,
            Self::VersionUnsupported { .. } => RefusalCode::VersionUnsupported,
        }
    }
}

/// `context ‖ exporter ‖ challenge`.
fn challenge_proof_input(exporter: &Exporter, challenge: &[u8]) -> Vec<u8> {
    [CHALLENGE_CONTEXT, exporter, challenge].concat()
}

/// `context ‖ exporter ‖ length of the challenge (u32, big-endian) ‖ challenge ‖ hello`.
fn hello_proof_input(exporter: &Exporter, challenge: &[u8], hello: &[u8]) -> Vec<u8> {
    let length = u32::try_from(challenge.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    [HELLO_CONTEXT, exporter, &length, challenge, hello].concat()
}

#[cfg(test)]
mod tests;
