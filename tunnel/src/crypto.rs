//! The few cryptographic operations outside TLS: Ed25519, SHA-256, random bytes.

use std::{fmt, sync::Once};

use aws_lc_rs::{
    digest,
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use wire::key::{PublicKey, Secret, Signature};

/// An Ed25519 key pair: an agent's, or a relay's identity. Never printed.
#[derive(Clone)]
pub struct KeyPair {
    pair: std::sync::Arc<Ed25519KeyPair>,
    public: PublicKey,
}

impl KeyPair {
    /// The pair that belongs to a seed of 32 random bytes.
    ///
    /// # Panics
    ///
    /// Never: every 32 bytes are a seed.
    pub fn from_seed(seed: &Secret) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose())
            .expect("every 32 bytes are an Ed25519 seed");
        let public = PublicKey::from_slice(pair.public_key().as_ref())
            .expect("an Ed25519 public key has 32 bytes");
        Self {
            pair: std::sync::Arc::new(pair),
            public,
        }
    }

    /// The public half.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs a message.
    ///
    /// # Panics
    ///
    /// Never: an Ed25519 signature has 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature::from_slice(self.pair.sign(message).as_ref())
            .expect("an Ed25519 signature has 64 bytes")
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({}, ****)", self.public)
    }
}

/// Whether `signature` over `message` was made with the private half of `key`.
pub fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ED25519, key.0)
        .verify(message, &signature.0)
        .is_ok()
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Random bytes of the operating system, for keys and secrets.
///
/// # Panics
///
/// If the operating system has no randomness to give: nothing is safe then.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the operating system's randomness comes from"
)]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system gives random bytes");
    bytes
}

/// Makes aws-lc-rs the process's provider of TLS cryptography. May be called often.
pub fn install_crypto_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Somebody else's provider, installed before, is as good: it is the process's.
        let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_key_and_message_alone() {
        let pair = KeyPair::from_seed(&Secret::from_bytes([1; 32]));
        let other = KeyPair::from_seed(&Secret::from_bytes([2; 32]));
        let signature = pair.sign(b"message");

        assert!(verify(&pair.public(), b"message", &signature));
        assert!(!verify(&pair.public(), b"other", &signature));
        assert!(!verify(&other.public(), b"message", &signature));
    }
}
