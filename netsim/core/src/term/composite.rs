//! Terms that consist of others: lists, what may be absent, words and records. Words
//! and records are declared with [`words!`] and [`record!`].

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{Place, Reader, Term, scalar::article};
use crate::random::Seed;

impl<T: Term> Term for Vec<T> {
    fn kind() -> String {
        format!("a list: {}", T::kind())
    }

    fn blank() -> Self {
        Self::new()
    }

    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Self {
        match value.get_ref() {
            DeValue::Array(several) => several.iter().map(|one| T::decode(one, reader)).collect(),
            // One is a list of one: `observed = "…"`.
            _ => vec![T::decode(value, reader)],
        }
    }

    fn encode(&self) -> Option<Value> {
        Some(Value::Array(self.iter().filter_map(T::encode).collect()))
    }

    fn draw(&mut self, path: &str, seed: Seed) {
        let mut taken: Vec<String> = Vec::new();
        for (at, one) in self.iter_mut().enumerate() {
            // By its name where it has one, so that taking away a neighbour changes
            // nothing here; repetitions of an event share theirs, and are counted.
            let encoded = one.encode();
            let name = encoded.as_ref().and_then(|value| value.get("name"));
            let step = name.and_then(Value::as_str).map(str::to_owned);
            let step = step.unwrap_or_else(|| at.to_string());
            let turn = taken.iter().filter(|earlier| **earlier == step).count();
            one.draw(&format!("{path}.{step}.{turn}"), seed);
            taken.push(step);
        }
    }
}

impl<T: Term> Term for Option<T> {
    fn kind() -> String {
        T::kind()
    }

    fn blank() -> Self {
        None
    }

    fn decode(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Self {
        Some(T::decode(value, reader))
    }

    fn encode(&self) -> Option<Value> {
        self.as_ref().and_then(T::encode)
    }

    fn draw(&mut self, path: &str, seed: Seed) {
        if let Some(term) = self {
            term.draw(path, seed);
        }
    }
}

/// One key of a record, for the documentation.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The key.
    pub key: &'static str,
    /// What its value is.
    pub kind: fn() -> String,
    /// What it is where it is left out: nothing where it must be given.
    pub default: Option<fn() -> Option<Value>>,
    /// What it means.
    pub meaning: &'static [&'static str],
}

/// A term that is a table with known keys.
pub trait Record: Term {
    /// Its keys.
    const FIELDS: &'static [Field];
}

/// The keys of one table, while it is being read.
#[derive(Debug)]
pub struct Fields<'t, 'd> {
    table: Option<&'t DeTable<'d>>,
    place: Place,
}

impl<'t, 'd> Fields<'t, 'd> {
    /// Opens a table, and reports keys that nobody knows.
    pub fn open(value: &'t Spanned<DeValue<'d>>, known: &[Field], reader: &mut Reader<'_>) -> Self {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let problem = format!(
                "{} stands where a table is expected",
                article(value.get_ref())
            );
            reader.report(&value.span(), problem);
        }
        Self::of(table, value.span(), known, reader)
    }

    /// As [`Self::open`], for the file itself.
    pub fn of(
        table: Option<&'t DeTable<'d>>,
        place: Place,
        known: &[Field],
        reader: &mut Reader<'_>,
    ) -> Self {
        let keys: Vec<&str> = known.iter().map(|field| field.key).collect();
        for (key, _) in table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if !keys.contains(&name) {
                reader.report(&key.span(), unknown("key", name, &keys));
            }
        }
        Self { table, place }
    }

    /// The value of a key, where it is given.
    pub fn optional<T: Term>(&self, key: &str, reader: &mut Reader<'_>) -> Option<T> {
        let value = self.table?.get(key)?;
        Some(T::decode(value, reader))
    }

    /// The value of a key that must be given.
    pub fn required<T: Term>(&self, key: &str, reader: &mut Reader<'_>) -> T {
        self.optional(key, reader).unwrap_or_else(|| {
            // What is no table has been reported as such.
            if self.table.is_some() {
                let problem = format!("the key `{key}` is missing: {}", T::kind());
                reader.report(&self.place, problem);
            }
            T::blank()
        })
    }
}

/// A sentence about a word that is none of those known.
pub(crate) fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let advice = nearest(word, known).map_or_else(
        || format!("it is one of {}", known.join(", ")),
        |near| format!("did you mean `{near}`?"),
    );
    format!("unknown {what} `{word}`; {advice}")
}

/// The known word that a mistyped one was meant to be.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|known| (distance(word, known), *known));
    // Half of its letters may be wrong, and three at most; beyond that it is another word.
    near.min()
        .filter(|(distance, _)| *distance <= (word.len() / 2).clamp(1, 3))
        .map(|(_, known)| known)
}

/// How many letters must be put in, taken out or exchanged (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let exchanged = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Writes a key, unless it is what it would be anyway.
pub(crate) fn encode_field<T: Term>(table: &mut Table, key: &str, value: &T, default: Option<&T>) {
    let written = value.encode();
    if default.is_some_and(|default| default.encode() == written) {
        return;
    }
    if let Some(written) = written {
        table.insert(key.to_owned(), written);
    }
}

/// Declares an enum whose variants are words of a scenario file.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident as $what:literal {
            $( $(#[$variant_meta:meta])* $word:literal $variant:ident ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        $vis enum $name { $( $(#[$variant_meta])* $variant ),* }

        impl $name {
            /// Every word there is.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// As it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word ),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::term::Scalar for $name {
            const KIND: &'static str = concat!($what, ": " $(, "`", $word, "` ")*);

            fn blank() -> Self {
                Self::ALL[0]
            }

            fn from_text(text: &str) -> Result<Self, String> {
                let known = [$( $word ),*];
                Self::ALL
                    .iter()
                    .find(|one| one.as_str() == text)
                    .copied()
                    .ok_or_else(|| $crate::term::unknown($what, text, &known))
            }

            fn to_value(&self) -> toml::Value {
                toml::Value::String(self.as_str().to_owned())
            }
        }
    };
}

/// Declares a struct that is a table of a scenario file: its keys, what each is where it
/// is left out, and what it means. The comments are the documentation of the format.
macro_rules! record {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:literal $field:ident : $kind:ty $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $doc])+ pub $field: $kind ),*
        }

        impl $name {
            /// Reads the keys of a table that has been opened.
            pub(crate) fn decode_fields(
                fields: &$crate::term::Fields<'_, '_>,
                reader: &mut $crate::term::Reader<'_>,
            ) -> Self {
                // Fields are read in the order in which they are declared.
                Self {
                    $( $field: record!(@read fields, reader, $key $(, $default)?) ),*
                }
            }
        }

        impl $crate::term::Record for $name {
            const FIELDS: &'static [$crate::term::Field] = &[
                $( $crate::term::Field {
                    key: $key,
                    kind: <$kind as $crate::term::Term>::kind,
                    default: record!(@default $kind $(, $default)?),
                    meaning: &[$( $doc ),+],
                } ),*
            ];
        }

        impl $crate::term::Term for $name {
            fn kind() -> String {
                concat!("a table `", stringify!($name), "`").to_owned()
            }

            fn blank() -> Self {
                Self { $( $field: record!(@blank $(, $default)?) ),* }
            }

            fn decode(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::term::Reader<'_>,
            ) -> Self {
                let known = <Self as $crate::term::Record>::FIELDS;
                let fields = $crate::term::Fields::open(value, known, reader);
                Self::decode_fields(&fields, reader)
            }

            fn encode(&self) -> Option<toml::Value> {
                let mut table = toml::Table::new();
                $( record!(@write table, $key, self.$field, $kind $(, $default)?); )*
                Some(toml::Value::Table(table))
            }

            fn draw(&mut self, path: &str, seed: $crate::random::Seed) {
                $( self.$field.draw(&format!("{path}.{}", $key), seed); )*
            }
        }
    };
    (@read $fields:ident, $reader:ident, $key:literal) => {
        $fields.required($key, $reader)
    };
    (@read $fields:ident, $reader:ident, $key:literal, $default:expr) => {
        $fields.optional($key, $reader).unwrap_or_else(|| $default)
    };
    (@default $kind:ty) => { None };
    (@default $kind:ty, $default:expr) => {
        Some(|| {
            let default: $kind = $default;
            $crate::term::Term::encode(&default)
        })
    };
    (@blank) => { $crate::term::Term::blank() };
    (@blank, $default:expr) => { $default };
    (@write $table:ident, $key:literal, $value:expr, $kind:ty) => {
        $crate::term::encode_field(&mut $table, $key, &$value, None);
    };
    (@write $table:ident, $key:literal, $value:expr, $kind:ty, $default:expr) => {
        let default: $kind = $default;
        $crate::term::encode_field(&mut $table, $key, &$value, Some(&default));
    };
}

pub(crate) use {record, words};
