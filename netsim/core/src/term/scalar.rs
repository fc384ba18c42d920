//! The smallest terms: spans of time, sizes, rates, probabilities, names, addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use ipnet::{IpNet, Ipv6Net};
use toml::{Spanned, Value, de::DeValue};

use super::{Reader, Term};
use crate::random::{Seed, Stream};

/// A term that is one word or one number.
pub trait Scalar: Sized + Clone + PartialEq {
    /// What it is, with an example.
    const KIND: &'static str;

    /// Stands in where a mistake was.
    fn blank() -> Self;

    /// Reads it, or says what is wrong.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    fn from_text(text: &str) -> Result<Self, String>;

    /// As it is written.
    fn to_value(&self) -> Value;
}

/// A scalar that has an order and something between two of it.
pub trait Ordered: Scalar + PartialOrd {
    /// One between the two, both included, drawn from the stream.
    fn between(low: &Self, high: &Self, stream: &mut Stream) -> Self;
}

impl<T: Scalar> Term for T {
    fn kind() -> String {
        T::KIND.to_owned()
    }

    fn blank() -> Self {
        <T as Scalar>::blank()
    }

    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Self {
        let read = text_of(value.get_ref())
            .ok_or_else(|| format!("{} is not {}", article(value.get_ref()), T::KIND))
            .and_then(|text| T::from_text(&text));
        read.unwrap_or_else(|problem| {
            reader.report(&value.span(), problem);
            <T as Scalar>::blank()
        })
    }

    fn encode(&self) -> Option<Value> {
        Some(self.to_value())
    }

    fn draw(&mut self, _path: &str, _seed: Seed) {}
}

/// The text of a string, a number or a boolean.
pub(super) fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Integer(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// What a value is, for a message.
pub(super) fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A number followed by a unit, and what the unit stands for.
fn with_unit<'a, T: Copy>(
    text: &'a str,
    units: &[(&str, T)],
    kind: &str,
) -> Result<(&'a str, T), String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    units
        .iter()
        .find(|(name, _)| *name == unit.trim())
        .filter(|_| !number.is_empty())
        .map(|(_, scale)| (number, *scale))
        .ok_or_else(|| format!("`{text}` is not {kind}"))
}

const SPANS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Scalar for Duration {
    const KIND: &'static str = "a duration such as `250ms`, `30s` or `1h`";

    fn blank() -> Self {
        Self::ZERO
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.starts_with('-') {
            return Err(format!("`{text}` is negative; write {}", Self::KIND));
        }
        let (number, scale) = with_unit(text, &SPANS, Self::KIND)?;
        let whole = number.parse::<u64>().ok();
        // Whole numbers are exact; 1.5h is read as a fraction, and as near as it gets.
        if let Some(nanos) = whole.and_then(|whole| whole.checked_mul(scale)) {
            return Ok(Self::from_nanos(nanos));
        }
        let fraction = number.parse::<f64>().ok();
        fraction
            .map(|fraction| fraction * Self::from_nanos(scale).as_secs_f64())
            .and_then(|seconds| Self::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| format!("`{text}` is not {}", Self::KIND))
    }

    fn to_value(&self) -> Value {
        let nanos = u64::try_from(self.as_nanos()).unwrap_or(u64::MAX);
        let fitting = SPANS
            .iter()
            .find(|(_, scale)| nanos >= *scale && nanos.is_multiple_of(*scale));
        Value::String(fitting.map_or_else(
            || "0s".to_owned(),
            |(unit, scale)| format!("{}{unit}", nanos / scale),
        ))
    }
}

impl Ordered for Duration {
    fn between(low: &Self, high: &Self, stream: &mut Stream) -> Self {
        // In whole microseconds, so that a repro file stays readable.
        let width = high.saturating_sub(*low).as_micros();
        let width = u64::try_from(width).unwrap_or(u64::MAX);
        *low + Self::from_micros(stream.below(width.saturating_add(1)))
    }
}

/// A span that may point back: how wrong a clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Offset {
    /// In nanoseconds; negative is in the past.
    pub nanos: i64,
}

impl Scalar for Offset {
    const KIND: &'static str = "a span such as `2d` or `-90s`";

    fn blank() -> Self {
        Self::default()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let (sign, length) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let length =
            Duration::from_text(length).map_err(|_| format!("`{text}` is not {}", Self::KIND))?;
        let nanos = i64::try_from(length.as_nanos())
            .map_err(|_| format!("`{text}` is longer than 292 years"))?;
        Ok(Self {
            nanos: sign * nanos,
        })
    }

    fn to_value(&self) -> Value {
        let length = Duration::from_nanos(self.nanos.unsigned_abs()).to_value();
        let sign = if self.nanos < 0 { "-" } else { "" };
        Value::String(format!("{sign}{}", length.as_str().unwrap_or_default()))
    }
}

impl Ordered for Offset {
    fn between(low: &Self, high: &Self, stream: &mut Stream) -> Self {
        let width = high.nanos.abs_diff(low.nanos) / 1_000_000;
        let drawn = stream
            .below(width.saturating_add(1))
            .saturating_mul(1_000_000);
        Self {
            nanos: low.nanos.saturating_add_unsigned(drawn),
        }
    }
}

/// How often something happens, of one packet.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Probability(f64);

impl Probability {
    /// What never happens.
    pub const NONE: Self = Self(0.0);

    /// As a number between 0 and 1.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Scalar for Probability {
    const KIND: &'static str = "a probability between 0 and 1, such as `0.02`";

    fn blank() -> Self {
        Self::default()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let number = text.parse().ok();
        number
            .filter(|number| (0.0..=1.0).contains(number))
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not {}", Self::KIND))
    }

    fn to_value(&self) -> Value {
        Value::Float(self.0)
    }
}

impl Ordered for Probability {
    fn between(low: &Self, high: &Self, stream: &mut Stream) -> Self {
        Self(((high.0 - low.0).mul_add(stream.unit(), low.0)).clamp(low.0, high.0))
    }
}

/// A number with units of thousands, as a type of its own.
macro_rules! quantity {
    ($(#[$meta:meta])* $name:ident, $field:ident, $kind:literal, $units:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
        pub struct $name {
            #[doc = concat!("In ", stringify!($field), ".")]
            pub $field: u64,
        }

        impl Scalar for $name {
            const KIND: &'static str = $kind;

            fn blank() -> Self {
                Self::default()
            }

            fn from_text(text: &str) -> Result<Self, String> {
                let (number, scale) = with_unit(text, &$units, Self::KIND)?;
                number
                    .parse::<u64>()
                    .ok()
                    .and_then(|number| number.checked_mul(scale))
                    .map(|$field| Self { $field })
                    .ok_or_else(|| format!("`{text}` is not {}", Self::KIND))
            }

            fn to_value(&self) -> Value {
                let fitting = $units
                    .iter()
                    .rev()
                    .find(|(_, scale)| self.$field.is_multiple_of(*scale) && self.$field >= *scale);
                let (unit, scale) = fitting.unwrap_or(&$units[0]);
                Value::String(format!("{}{unit}", self.$field / scale))
            }
        }

        impl Ordered for $name {
            fn between(low: &Self, high: &Self, stream: &mut Stream) -> Self {
                let width = high.$field.saturating_sub(low.$field).saturating_add(1);
                Self { $field: low.$field + stream.below(width) }
            }
        }
    };
}

quantity!(
    /// How fast a cable is.
    Rate,
    bits_per_second,
    "a rate such as `512kbit` or `10Mbit`",
    [
        ("bit", 1_u64),
        ("kbit", 1_000),
        ("Mbit", 1_000_000),
        ("Gbit", 1_000_000_000)
    ]
);

quantity!(
    /// How many bytes.
    Size,
    bytes,
    "a size such as `1500B`, `64KiB` or `2MiB`",
    [("B", 1_u64), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]
);

/// What something is called: it is told apart by it, in events, expectations and traces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Name(String);

impl Name {
    /// Names something by words of the code's own.
    pub fn of(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands in for a mistake.
    pub const fn is_blank(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for Name {
    const KIND: &'static str = "a name of small letters, digits and hyphens";

    fn blank() -> Self {
        Self::default()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        // The longest that still fits the columns of a report.
        if text.is_empty() || text.len() > 40 || !text.chars().all(fits) {
            return Err(format!(
                "`{text}` is not {}, at most 40 of them",
                Self::KIND
            ));
        }
        Ok(Self(text.to_owned()))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// A sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text(String);

impl Text {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scalar for Text {
    const KIND: &'static str = "a text";

    fn blank() -> Self {
        Self::default()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("this text is empty; say something, or leave the key out".into());
        }
        Ok(Self(text.to_owned()))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// One port, or some in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last; not below the first.
    pub last: u16,
}

impl PortRange {
    /// Every port there is.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    /// One port.
    pub const fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether `port` is one of these.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether a port is in both.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many; at least one.
    pub const fn count(self) -> u32 {
        (self.last - self.first) as u32 + 1
    }
}

impl Scalar for PortRange {
    const KIND: &'static str = "a port, or ports such as `40000-40010`";

    fn blank() -> Self {
        Self::ALL
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            (Ok(_), Ok(_)) => Err(format!(
                "`{text}` is empty: the first port is above the last"
            )),
            _ => Err(format!("`{text}` is not {}", Self::KIND)),
        }
    }

    fn to_value(&self) -> Value {
        if self.first == self.last {
            return Value::Integer(self.first.into());
        }
        Value::String(format!("{}-{}", self.first, self.last))
    }
}

/// Makes scalars of types that know how to read and show themselves.
macro_rules! shown_as_text {
    ($($kind:ty: $what:literal, $blank:expr, $value:expr;)*) => {$(
        impl Scalar for $kind {
            const KIND: &'static str = $what;

            fn blank() -> Self {
                $blank
            }

            fn from_text(text: &str) -> Result<Self, String> {
                text.parse()
                    .map_err(|_| format!("`{text}` is not {}", Self::KIND))
            }

            fn to_value(&self) -> Value {
                let value: fn(&Self) -> Value = $value;
                value(self)
            }
        }
    )*};
}

shown_as_text! {
    u32: "a whole number", 0, |number| Value::Integer((*number).into());
    u16: "a port, 0 to 65535", 0, |number| Value::Integer((*number).into());
    bool: "true or false", false, |truth| Value::Boolean(*truth);
    IpAddr: "an IP address", Ipv4Addr::UNSPECIFIED.into(), |ip| Value::String(ip.to_string());
    Ipv4Addr: "an IPv4 address", Self::UNSPECIFIED, |ip| Value::String(ip.to_string());
    IpNet: "an address with its prefix, such as `10.1.0.2/24`", Self::default(),
        |net| Value::String(net.to_string());
    Ipv6Net: "an IPv6 prefix", Self::default(), |net| Value::String(net.to_string());
}

impl Ordered for u32 {
    fn between(low: &Self, high: &Self, stream: &mut Stream) -> Self {
        let width = u64::from(high.saturating_sub(*low)) + 1;
        // Below a width that is a difference of two u32.
        low.saturating_add(Self::try_from(stream.below(width)).unwrap_or(0))
    }
}
