//! Identifiers of what only a relay knows; those that travel are in [`wire::id`].

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use thiserror::Error;

const EXPOSURE_PREFIX: &str = "exp_";

/// An exposure: a port on the relay's host that leads to a target at an agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExposureId([u8; 16]);

/// A text that is no [`ExposureId`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not an exposure id: expected `exp_` and 26 characters of a-z, 2-7")]
pub struct ParseExposureIdError(String);

impl ExposureId {
    /// Makes the id from 16 random bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ExposureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPOSURE_PREFIX)?;
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for ExposureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ExposureId {
    type Err = ParseExposureIdError;

    fn from_str(text: &str) -> Result<Self, ParseExposureIdError> {
        text.strip_prefix(EXPOSURE_PREFIX)
            .and_then(|rest| {
                BASE32_NOPAD
                    .decode(rest.to_ascii_uppercase().as_bytes())
                    .ok()
            })
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| ParseExposureIdError(text.to_owned()))
    }
}

/// Whose environments they are. One customer exists unless the vendor makes more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomerId(String);

impl CustomerId {
    /// The customer that every relay has.
    pub const DEFAULT: &str = "default";

    /// Wraps an id that the store gave out.
    pub fn from_store(id: String) -> Self {
        Self(id)
    }

    /// The id in text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for CustomerId {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposure_id_reads_back_from_its_text() {
        let id = ExposureId::from_bytes([9; 16]);

        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_text_of_another_kind_is_no_exposure_id() {
        for text in ["", "exp_", "env_aaaaaaaaaaaaaaaaaaaaaaaaaa", "exp_1"] {
            assert!(text.parse::<ExposureId>().is_err(), "{text} was taken");
        }
    }
}
