//! A value, or the range that seeds explore.

use toml::{Spanned, Value, de::DeValue};

use super::{
    Reader, Term,
    scalar::{Ordered, article, text_of},
};
use crate::random::Seed;

/// A value that is fixed, or that each seed draws from a range.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice<T> {
    /// The same for every seed.
    Fixed(T),
    /// Anything between the two, both included.
    Between(T, T),
    /// One of these; never empty.
    OneOf(T, Vec<T>),
}

impl<T: Clone> Choice<T> {
    /// The value. One that has not been drawn yet is the beginning of its range.
    pub fn get(&self) -> T {
        match self {
            Self::Fixed(value) | Self::Between(value, _) | Self::OneOf(value, _) => value.clone(),
        }
    }
}

impl<T> From<T> for Choice<T> {
    fn from(value: T) -> Self {
        Self::Fixed(value)
    }
}

impl<T: Ordered> Choice<T> {
    fn between(text: &str) -> Option<Result<Self, String>> {
        let (low, high) = text.split_once("..")?;
        let ends = T::from_text(low.trim()).and_then(|low| Ok((low, T::from_text(high.trim())?)));
        Some(ends.and_then(|(low, high)| {
            if low > high {
                return Err(format!("the range `{text}` is empty: turn its ends round"));
            }
            Ok(Self::Between(low, high))
        }))
    }

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text =
            text_of(value).ok_or_else(|| format!("{} is not {}", article(value), T::KIND))?;
        Self::between(&text).unwrap_or_else(|| T::from_text(&text).map(Self::Fixed))
    }
}

impl<T: Ordered> Term for Choice<T> {
    fn kind() -> String {
        format!("{}, or a range", T::KIND)
    }

    fn blank() -> Self {
        Self::Fixed(<T as super::Scalar>::blank())
    }

    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Self {
        let DeValue::Array(several) = value.get_ref() else {
            return Self::read(value.get_ref()).unwrap_or_else(|problem| {
                reader.report(&value.span(), problem);
                Self::blank()
            });
        };
        let mut all = several.iter().map(|one| T::decode(one, reader));
        match all.next() {
            Some(first) => Self::OneOf(first, all.collect()),
            None => {
                reader.report(&value.span(), "nothing to choose from: the list is empty");
                Self::blank()
            }
        }
    }

    fn encode(&self) -> Option<Value> {
        let text = |value: &T| match value.to_value() {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Some(match self {
            Self::Fixed(value) => value.to_value(),
            Self::Between(low, high) => Value::String(format!("{}..{}", text(low), text(high))),
            Self::OneOf(first, others) => {
                let all = std::iter::once(first).chain(others);
                Value::Array(all.map(super::Scalar::to_value).collect())
            }
        })
    }

    fn draw(&mut self, path: &str, seed: Seed) {
        let mut stream = seed.stream(path);
        let drawn = match self {
            Self::Fixed(_) => return,
            Self::Between(low, high) => T::between(low, high, &mut stream),
            Self::OneOf(first, others) => {
                let at = stream.below(1 + others.len() as u64);
                let after_first = usize::try_from(at).unwrap_or(0).checked_sub(1);
                let other = after_first.and_then(|at| others.get(at));
                other.unwrap_or(first).clone()
            }
        };
        *self = Self::Fixed(drawn);
    }
}
