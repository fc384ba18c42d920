//! What a scenario file is made of: terms, which are read, written, drawn and documented
//! by one declaration each.
//!
//! Not serde's derive: it stops at the first mistake, and the rule here is that a file's
//! author hears all of them at once, each with its line and column. Reading therefore
//! always yields a value, a blank one where a mistake was; whoever reads asks the
//! [`Reader`] afterwards whether the values may be used.

mod choice;
mod composite;
mod reader;
mod scalar;

use std::ops::{Deref, Range};

use toml::{Spanned, Value, de::DeValue};

pub(crate) use self::composite::{encode_field, record, unknown, words};
pub use self::{
    choice::Choice,
    composite::{Field, Fields, Record, nearest},
    reader::{Mistake, Reader},
    scalar::{Name, Offset, PortRange, Probability, Rate, Scalar, Size, Text},
};
use crate::random::Seed;

/// The part of a file that a value came from.
pub type Place = Range<usize>;

/// Something that can stand in a scenario file.
pub trait Term: Sized {
    /// What it is, for a message and the documentation: "a duration such as `30s`".
    fn kind() -> String;

    /// Stands in where a mistake was; [`Reader`] keeps it from being used.
    fn blank() -> Self;

    /// Reads it, and reports what is wrong.
    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Self;

    /// As it is written; nothing where it is left out.
    fn encode(&self) -> Option<Value>;

    /// Draws from every range in it. `path` is its purpose: each range has a stream
    /// of its own.
    fn draw(&mut self, path: &str, seed: Seed);
}

/// A value that remembers where in the file it stood. Two are equal where their values
/// are.
#[derive(Debug, Clone)]
pub struct At<T> {
    value: T,
    place: Place,
}

impl<T> At<T> {
    /// A value that stood nowhere.
    pub const fn nowhere(value: T) -> Self {
        Self { value, place: 0..0 }
    }

    /// Where it stood.
    pub fn place(&self) -> Place {
        self.place.clone()
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Term> Term for At<T> {
    fn kind() -> String {
        T::kind()
    }

    fn blank() -> Self {
        Self::nowhere(T::blank())
    }

    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Self {
        Self {
            value: T::decode(value, reader),
            place: value.span(),
        }
    }

    fn encode(&self) -> Option<Value> {
        self.value.encode()
    }

    fn draw(&mut self, path: &str, seed: Seed) {
        self.value.draw(path, seed);
    }
}

#[cfg(test)]
mod tests;
