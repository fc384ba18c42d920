//! Sealing: what the store keeps of secrets can be read with the relay's key alone.
//!
//! AES-256-GCM. Each sealed text is bound to its place (`blob:sha256:…`): moved to
//! another row of the store it does not open. The key is 32 bytes in a file of mode 0600
//! beside the store; a copy of the store without it gives nothing away.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use data_encoding::HEXLOWER;
use thiserror::Error;
use wire::key::Secret;
use zeroize::Zeroizing;

/// Seals and opens what is secret at rest.
pub struct Sealer {
    key: LessSafeKey,
    marking: hmac::Key,
}

/// A sealed text did not open: another key, another place, or damage.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{place} cannot be unsealed: put `seal.key` back as it was when it was written, or write \
     the value again"
)]
pub struct UnsealError {
    /// Where the text belongs.
    pub place: String,
}

/// Why nothing can be sealed, which only a bug of the library can cause.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the library of ciphers does not take the key")]
pub struct SealError;

impl Sealer {
    /// A sealer with this key.
    ///
    /// # Errors
    ///
    /// Where the library does not take a key of 32 bytes.
    pub fn new(key: &Secret) -> Result<Self, SealError> {
        let unbound = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| SealError)?;
        let marking = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        // A key of its own for the other purpose.
        let derived = hmac::sign(&marking, b"sternline fingerprint v1");
        Ok(Self {
            key: LessSafeKey::new(unbound),
            marking: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
        })
    }

    /// Seals a text for its place. The nonce must be random, and never used before.
    ///
    /// # Errors
    ///
    /// Where the text is longer than the cipher takes (64 GiB).
    pub fn seal(
        &self,
        place: &str,
        nonce: [u8; NONCE_LEN],
        text: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let mut sealed = Vec::with_capacity(NONCE_LEN + text.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        let mut body = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(place.as_bytes());
        let done = self.key.seal_in_place_append_tag(nonce, aad, &mut body);
        done.map_err(|_| SealError)?;
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    ///
    /// Where it was not sealed with this key for this place, or has changed since.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let failed = || UnsealError {
            place: place.to_owned(),
        };
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(failed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed())?;
        let mut body = Zeroizing::new(body.to_vec());
        let aad = Aad::from(place.as_bytes());
        let opened = self.key.open_in_place(nonce, aad, &mut body);
        let length = opened.map_err(|_| failed())?.len();
        body.truncate(length);
        Ok(body)
    }

    /// A name of a text that tells nothing of it to who has no key, however few texts it
    /// might be: equal texts have equal ones.
    pub fn fingerprint(&self, text: &[u8]) -> String {
        HEXLOWER.encode(hmac::sign(&self.marking, text).as_ref())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(****)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&Secret::from_bytes([byte; 32])).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_at_its_place_with_its_key_alone() {
        let sealed = sealer(1).seal("a", [7; NONCE_LEN], b"hunter2").unwrap();

        assert_eq!(sealer(1).open("a", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(sealer(1).open("b", &sealed).is_err());
        assert!(sealer(2).open("a", &sealed).is_err());
    }

    #[test]
    fn a_sealed_text_that_was_changed_or_cut_does_not_open() {
        let sealed = sealer(1).seal("a", [7; NONCE_LEN], b"hunter2").unwrap();

        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer(1).open("a", &changed).is_err(), "byte {at}");
            assert!(sealer(1).open("a", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_sealed_text_and_a_fingerprint_do_not_show_the_text() {
        let sealed = sealer(1).seal("a", [7; NONCE_LEN], b"hunter2").unwrap();

        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(sealer(1).fingerprint(b"x"), sealer(1).fingerprint(b"x"));
        assert_ne!(sealer(1).fingerprint(b"x"), sealer(2).fingerprint(b"x"));
        assert_eq!(format!("{:?}", sealer(1)), "Sealer(****)");
    }
}
