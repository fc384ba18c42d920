//! What an operator names on the command line, read before anything is sent.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::limits::{NAME_CHARS_MAX, STACK_NAME_CHARS_MAX};

/// The name of an environment, as the relay takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentName(String);

/// A name that no environment can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no name of an environment: use 1 to {NAME_CHARS_MAX} of a-z, 0-9, `-`, `_` \
     and `.`, with a letter or digit at both ends"
)]
pub struct ParseNameError(String);

impl EnvironmentName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EnvironmentName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let is_outer = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let fits = bytes.len() <= NAME_CHARS_MAX
            && bytes.first().is_some_and(is_outer)
            && bytes.last().is_some_and(is_outer)
            && bytes
                .iter()
                .all(|byte| is_outer(byte) || b"-_.".contains(byte));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseNameError(text.to_owned()))
        }
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a stack, as the relay takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackName(String);

/// A name that no stack can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no name of a stack: use 1 to {STACK_NAME_CHARS_MAX} of a-z, 0-9, `-` and `_`, \
     first a letter or digit"
)]
pub struct ParseStackNameError(String);

impl StackName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StackName {
    type Err = ParseStackNameError;

    fn from_str(text: &str) -> Result<Self, ParseStackNameError> {
        let is_outer = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let fits = bytes.len() <= STACK_NAME_CHARS_MAX
            && bytes.first().is_some_and(is_outer)
            && bytes
                .iter()
                .all(|byte| is_outer(byte) || b"-_".contains(byte));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseStackNameError(text.to_owned()))
        }
    }
}

impl fmt::Display for StackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag of an environment: `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// What it says something about, such as `region`.
    pub key: String,
    /// What it says; may be empty.
    pub value: String,
}

/// A tag in text that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no tag: expected KEY=VALUE, such as region=eu")]
pub struct ParseTagError(String);

impl FromStr for Tag {
    type Err = ParseTagError;

    fn from_str(text: &str) -> Result<Self, ParseTagError> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            Some(_) | None => Err(ParseTagError(text.to_owned())),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_give_are_taken() {
        for text in [
            "a",
            "0",
            "berlin",
            "site-7",
            "a--b",
            "shop.example",
            "x_2",
            &"x".repeat(63),
        ] {
            assert!(
                text.parse::<EnvironmentName>().is_ok(),
                "{text} was refused"
            );
        }
    }

    #[test]
    fn names_that_break_a_path_or_a_table_are_refused() {
        for text in [
            "",
            "-a",
            "a-",
            "Berlin",
            ".",
            "..",
            "a/b",
            "a b",
            "ä",
            &"x".repeat(64),
        ] {
            assert!(text.parse::<EnvironmentName>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_tag_is_split_at_its_first_equals_sign() {
        let tag: Tag = "note=a=b".parse().unwrap();

        assert_eq!((tag.key.as_str(), tag.value.as_str()), ("note", "a=b"));
    }

    #[test]
    fn a_tag_without_a_key_or_an_equals_sign_is_refused() {
        for text in ["", "region", "=eu"] {
            assert!(text.parse::<Tag>().is_err(), "{text} was taken");
        }
    }
}
