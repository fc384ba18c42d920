//! API tokens and one-time secrets: their text, and the hashes that are kept.
//!
//! Only hashes reach the store. A look-up by SHA-256 of a secret of 256 random bits
//! leaks nothing by its timing that helps to guess the secret, so no slow hash is
//! needed; where two hashes are compared in memory it is in constant time.

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use data_encoding::BASE64URL_NOPAD;
use wire::key::Secret;
use zeroize::Zeroizing;

use crate::limits::API_TOKEN_CHARS_MAX;

/// Begins every API token.
pub const API_TOKEN_PREFIX: &str = "sta_";

/// SHA-256 of a secret: all that the store ever sees of it.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Wraps a hash from the store.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Hashes a one-time secret.
    pub fn of_secret(secret: &Secret) -> Self {
        Self::of(secret.expose())
    }

    /// Hashes an API token; `None` for a text that none of ours can be.
    pub fn of_api_token(text: &str) -> Option<Self> {
        let may_be_ours = text.len() <= API_TOKEN_CHARS_MAX && text.starts_with(API_TOKEN_PREFIX);
        may_be_ours.then(|| Self::of(text.as_bytes()))
    }

    /// Hashes what is no secret, for a short name of it.
    pub fn of_public(bytes: &[u8]) -> Self {
        Self::of(bytes)
    }

    fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(hash)
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// An API token in text: wiped when dropped, never printed.
pub struct ApiToken(Zeroizing<String>);

impl ApiToken {
    /// Makes a token from 32 random bytes.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        let encoded = Zeroizing::new(BASE64URL_NOPAD.encode(bytes));
        Self(Zeroizing::new(format!("{API_TOKEN_PREFIX}{}", *encoded)))
    }

    /// Reads a token from a file or a variable; `None` if it cannot be one of ours.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        SecretHash::of_api_token(text).map(|_| Self(Zeroizing::new(text.to_owned())))
    }

    /// The token itself, for a file of mode 0600 or its one showing.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the store keeps.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.0.as_bytes())
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(****)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_read_back_from_a_file_has_the_same_hash() {
        let token = ApiToken::from_random(&[1; 32]);

        let read = ApiToken::from_text(&format!("{}\n", token.expose())).unwrap();

        assert_eq!(read.hash(), token.hash());
    }

    #[test]
    fn a_text_that_cannot_be_a_token_is_not_hashed() {
        assert!(SecretHash::of_api_token("Bearer").is_none());
        assert!(SecretHash::of_api_token(&format!("sta_{}", "a".repeat(300))).is_none());
    }

    #[test]
    fn no_token_prints_itself() {
        let token = ApiToken::from_random(&[1; 32]);

        assert_eq!(
            format!("{token:?} {:?}", token.hash()),
            "ApiToken(****) SecretHash(…)"
        );
    }
}
