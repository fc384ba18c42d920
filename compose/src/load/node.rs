//! A YAML document as a tree that knows where everything stood.

use super::problem::Place;

/// What a plain scalar is in YAML as Compose reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Quoted, or nothing else.
    Text,
    /// `true`, `false`. `yes` and `on` are text.
    Bool,
    /// A whole number.
    Int,
    /// Any other number.
    Float,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// `~`, `null`, or nothing.
    Null,
    /// As written, after interpolation.
    Scalar(String, Kind),
    /// In order.
    List(Vec<Node>),
    /// In order; keys are unique.
    Map(Vec<(Key, Node)>),
}

/// Tags of Compose, which say how a node is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// None.
    None,
    /// `!reset`: take away what earlier files say.
    Reset,
    /// `!override`: put this in place of what earlier files say.
    Override,
}

/// A key of a map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    /// As written; keys are not interpolated.
    pub(super) text: String,
    /// Where.
    pub(super) place: Place,
}

/// A node of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) place: Place,
    /// How it is merged.
    pub(super) tag: Tag,
    /// What it is.
    pub(super) value: Value,
}

impl Node {
    /// A node without a tag.
    #[must_use]
    pub(super) fn new(place: &Place, value: Value) -> Self {
        Self {
            place: place.clone(),
            tag: Tag::None,
            value,
        }
    }

    /// Text at a place.
    pub(super) fn text(place: &Place, text: impl Into<String>) -> Self {
        Self::new(place, Value::Scalar(text.into(), Kind::Text))
    }

    /// The value under a key of a map.
    #[must_use]
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let entries = self.entries()?;
        entries.iter().find(|(k, _)| k.text == key).map(|(_, v)| v)
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Map(entries) => {
                let mut entries = entries.iter_mut();
                entries.find(|(k, _)| k.text == key).map(|(_, v)| v)
            }
            _ => None,
        }
    }

    /// Takes a key out of a map.
    pub(super) fn take(&mut self, key: &str) -> Option<Self> {
        match &mut self.value {
            Value::Map(entries) => {
                let at = entries.iter().position(|(k, _)| k.text == key)?;
                Some(entries.remove(at).1)
            }
            _ => None,
        }
    }

    /// A map's entries.
    #[must_use]
    pub(super) fn entries(&self) -> Option<&[(Key, Self)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// A list's items.
    #[must_use]
    pub(super) fn items(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// A scalar as Compose puts it into text: numbers in their canonical form.
    #[must_use]
    pub(super) fn scalar(&self) -> Option<String> {
        match &self.value {
            Value::Scalar(text, kind) => Some(canonical(text, *kind)),
            _ => None,
        }
    }

    /// Is nothing there?
    #[must_use]
    pub(super) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// What it is, for a person.
    #[must_use]
    pub(super) fn what(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(_, Kind::Text) => "text",
            Value::Scalar(_, Kind::Bool) => "true or false",
            Value::Scalar(_, Kind::Int | Kind::Float) => "a number",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// What a plain scalar is, by the rules of the YAML reader that Docker's Compose uses: those of
/// YAML 1.2, and of 1.1 for numbers in base 2, 8 and 16 and with `_`.
#[must_use]
pub(super) fn resolve(text: &str) -> Option<Kind> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return None,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Some(Kind::Bool),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "-.inf" | "-.Inf" | "-.INF" | ".nan" | ".NaN"
        | ".NAN" => return Some(Kind::Float),
        _ => {}
    }
    let first = text.chars().next()?;
    if !(first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return Some(Kind::Text);
    }
    if integer(text).is_some() {
        return Some(Kind::Int);
    }
    if is_float(text) {
        return Some(Kind::Float);
    }
    Some(Kind::Text)
}

/// A whole number in base 10, `0b`, `0o` or `0`, `0x`, with `_` between digits.
#[must_use]
pub(super) fn integer(text: &str) -> Option<i128> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = if let Some(rest) = lower.strip_prefix("0x") {
        (rest, 16)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (rest, 2)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (rest, 8)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (&lower[1..], 8)
    } else {
        (lower.as_str(), 10)
    };
    // `+` in front of digits is Rust's, not YAML's.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?) * sign;
    (value >= i128::from(i64::MIN)).then_some(value)
}

fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let exponent_is_one = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty()) && exponent_is_one
}

fn canonical(text: &str, kind: Kind) -> String {
    match kind {
        Kind::Text => text.to_owned(),
        Kind::Bool => text.to_ascii_lowercase(),
        Kind::Int => integer(text).map_or_else(|| text.to_owned(), |number| number.to_string()),
        Kind::Float => match text.parse::<f64>() {
            Ok(number) => float_text(number),
            Err(_) => text.to_owned(),
        },
    }
}

/// As Go prints a float with `%v`: the shortest digits, an exponent below 1e-4 and from 1e21 on.
fn float_text(number: f64) -> String {
    let size = number.abs();
    if number != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{number:e}");
        if let Some((mantissa, exponent)) = text.split_once('e') {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            return format!("{mantissa}e{sign}{digits:0>2}");
        }
    }
    number.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_what_docker_takes_them_for() {
        let kinds = [
            ("no", Kind::Text),
            ("on", Kind::Text),
            ("True", Kind::Bool),
            ("0777", Kind::Int),
            ("0x1F", Kind::Int),
            ("1_000", Kind::Int),
            ("1.10", Kind::Float),
            ("1e3", Kind::Float),
            ("22:22", Kind::Text),
            ("2024-01-01", Kind::Text),
            ("1.2.3", Kind::Text),
            ("-", Kind::Text),
            ("0x", Kind::Text),
            ("09", Kind::Float),
        ];
        for (text, kind) in kinds {
            assert_eq!(resolve(text), Some(kind), "{text}");
        }
        assert_eq!(resolve("~"), None);
    }

    #[test]
    fn numbers_are_printed_as_go_prints_them() {
        let texts = [
            ("1.10", Kind::Float, "1.1"),
            ("1e3", Kind::Float, "1000"),
            ("1.0", Kind::Float, "1"),
            ("0.00001", Kind::Float, "1e-05"),
            ("0777", Kind::Int, "511"),
            ("0x1F", Kind::Int, "31"),
            ("1_000", Kind::Int, "1000"),
            ("-3", Kind::Int, "-3"),
            ("TRUE", Kind::Bool, "true"),
            ("1.10", Kind::Text, "1.10"),
        ];
        for (text, kind, printed) in texts {
            assert_eq!(canonical(text, kind), printed, "{text}");
        }
    }
}
