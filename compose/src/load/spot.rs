//! A node with the way to it, and how values of every kind are read from one.
//!
//! Nothing here stops at a mistake: it is noted, and the value is left out.

use std::collections::BTreeMap;

use super::{
    amount,
    interpolate::Findings,
    node::{Kind, Node, Value, integer},
    problem::Problem,
    secret,
};

/// One step on the way.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Top,
    Key(&'a str),
    Index(usize),
}

/// A node, and how one gets there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) node: &'a Node,
    up: Option<&'a Self>,
    step: Step<'a>,
}

impl<'a> Spot<'a> {
    pub(super) fn top(node: &'a Node) -> Self {
        Self {
            node,
            up: None,
            step: Step::Top,
        }
    }

    /// Such as `services.web.ports[0]`.
    pub(super) fn path(&self) -> String {
        let mut path = self.up.map_or_else(String::new, Spot::path);
        match self.step {
            Step::Top => {}
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Step::Index(at) => path.push_str(&format!("[{at}]")),
        }
        path
    }

    pub(super) fn problem(&self, message: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem::new(&self.node.place, self.path(), message).help(help)
    }

    /// What is under a key, unless it is null.
    pub(super) fn get(&'a self, key: &'a str) -> Option<Self> {
        let node = self.node.get(key).filter(|node| !node.is_null())?;
        Some(Self {
            node,
            up: Some(self),
            step: Step::Key(key),
        })
    }

    /// Every item of a list.
    pub(super) fn items(&'a self) -> impl Iterator<Item = Self> {
        let items = self.node.items().unwrap_or_default();
        items.iter().enumerate().map(|(at, node)| Self {
            node,
            up: Some(self),
            step: Step::Index(at),
        })
    }

    /// Every entry of a map, those without a value among them; notes of the author are not.
    pub(super) fn entries(&'a self) -> impl Iterator<Item = (&'a str, Self)> {
        let entries = self.node.entries().unwrap_or_default();
        entries.iter().map(|(key, node)| {
            let spot = Self {
                node,
                up: Some(self),
                step: Step::Key(&key.text),
            };
            (key.text.as_str(), spot)
        })
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// It has to be a map.
    pub(super) fn need_map(&self, out: &mut Findings) -> bool {
        if !self.is_map() && !self.node.is_null() {
            let message = format!("has to be a map, and is {}", self.node.what());
            out.refuse(self.problem(message, "Write KEY: VALUE below it"));
        }
        self.is_map()
    }

    /// It has to be a list.
    pub(super) fn need_list(&self, out: &mut Findings) -> bool {
        if !self.is_list() && !self.node.is_null() {
            let message = format!("has to be a list, and is {}", self.node.what());
            out.refuse(self.problem(message, "Write - in front of each item"));
        }
        self.is_list()
    }

    /// Text, and no number: the specification is strict, as `1.10` without quotes is `1.1`.
    pub(super) fn text(&self, out: &mut Findings) -> Option<String> {
        match &self.node.value {
            Value::Scalar(text, Kind::Text) => Some(text.clone()),
            Value::Scalar(..) => {
                let message = format!("has to be text, and is {}", self.node.what());
                out.refuse(self.problem(message, "Put it in quotes"));
                None
            }
            _ => {
                let message = format!("has to be text, and is {}", self.node.what());
                out.refuse(self.problem(message, ""));
                None
            }
        }
    }

    /// Text in which nothing is secret: it decides what is done.
    pub(super) fn open_text(&self, out: &mut Findings) -> Option<String> {
        let text = self.text(out)?;
        self.is_open(&text, out).then_some(text)
    }

    /// Refuses secrets where they cannot stand.
    pub(super) fn is_open(&self, text: &str, out: &mut Findings) -> bool {
        let is_secret = secret::has_mark(text);
        if is_secret {
            let message = "a secret variable cannot stand here";
            out.refuse(self.problem(message, "Use one that everybody may read"));
        }
        !is_secret
    }

    /// Any scalar, as Compose puts it into text. `1.10` becomes `1.1`, with a warning.
    pub(super) fn any(&self, out: &mut Findings) -> Option<String> {
        let text = self.node.scalar();
        match (&self.node.value, &text) {
            (_, None) => {
                let message = format!("has to be text or a number, and is {}", self.node.what());
                out.refuse(self.problem(message, ""));
            }
            (Value::Scalar(written, _), Some(text)) if written != text => {
                let message = format!("is the number {text}, and not the text {written}");
                out.warn(self.problem(message, "Put it in quotes, if the text is meant"));
            }
            _ => {}
        }
        text
    }

    pub(super) fn bool(&self, out: &mut Findings) -> Option<bool> {
        let text = self.node.scalar().unwrap_or_default();
        match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            old @ ("y" | "yes" | "on" | "n" | "no" | "off") => {
                let is_yes = matches!(old, "y" | "yes" | "on");
                let message = format!("{text} is no truth value of YAML 1.2");
                out.warn(self.problem(message, format!("Write {is_yes}")));
                Some(is_yes)
            }
            _ => {
                out.refuse(self.problem("has to be true or false", ""));
                None
            }
        }
    }

    /// A whole number within bounds, also in quotes.
    pub(super) fn int(&self, least: i64, most: i64, out: &mut Findings) -> Option<i64> {
        let text = self.node.scalar().unwrap_or_default();
        let number = match &self.node.value {
            // A number of YAML may have a base; a text has none, as after interpolation.
            Value::Scalar(text, Kind::Int) => integer(text),
            Value::Scalar(text, Kind::Text) => text.trim().parse::<i128>().ok(),
            // 3.0 is a whole number.
            Value::Scalar(_, Kind::Float) => text.parse::<i128>().ok(),
            _ => None,
        };
        let number = number.and_then(|number| i64::try_from(number).ok());
        let fits = number.filter(|number| (least..=most).contains(number));
        if fits.is_none() {
            let message = match (least, most) {
                (i64::MIN, i64::MAX) => "has to be a whole number".to_owned(),
                (least, i64::MAX) => format!("has to be a whole number, at least {least}"),
                (least, most) => format!("has to be a whole number from {least} to {most}"),
            };
            out.refuse(self.problem(message, ""));
        }
        fits
    }

    /// A number, also in quotes.
    pub(super) fn float(&self, out: &mut Findings) -> Option<f64> {
        let number = self
            .node
            .scalar()
            .and_then(|text| text.trim().parse::<f64>().ok());
        let number = number.filter(|number| number.is_finite());
        if number.is_none() {
            out.refuse(self.problem("has to be a number", ""));
        }
        number
    }

    /// Bytes: a number, or with `b`, `k`, `m`, `g`.
    pub(super) fn bytes(&self, out: &mut Findings) -> Option<i64> {
        let read = self.node.scalar().and_then(|text| amount::bytes(&text));
        if read.is_none() {
            let message = "has to be a size in bytes";
            out.refuse(self.problem(message, "Write a number, and b, k, m or g after it"));
        }
        read
    }

    /// Nanoseconds: such as `1m30s`.
    pub(super) fn nanos(&self, out: &mut Findings) -> Option<i64> {
        let read = self.node.scalar().and_then(|text| amount::nanos(&text));
        if read.is_none() {
            let message = "has to be a duration";
            out.refuse(self.problem(
                message,
                "Write numbers with us, ms, s, m, h or d, such as 1m30s",
            ));
        }
        read
    }

    /// Text, one of these.
    pub(super) fn choice(&self, choices: &[&str], out: &mut Findings) -> Option<String> {
        let text = self.open_text(out)?;
        if choices.contains(&text.as_str()) {
            return Some(text);
        }
        let message = format!("{text:?} is not known here");
        out.refuse(self.problem(
            message,
            format!("It has to be one of {}", choices.join(", ")),
        ));
        None
    }

    /// A list of text, each once; the last of equal keys stays, in the place of the first.
    pub(super) fn texts(&self, out: &mut Findings) -> Vec<String> {
        if !self.need_list(out) {
            return Vec::new();
        }
        let mut texts: Vec<String> = Vec::new();
        for item in self.items() {
            if let Some(text) = item.text(out)
                && !texts.contains(&text)
            {
                texts.push(text);
            }
        }
        texts
    }

    /// One text, or a list of them.
    pub(super) fn one_or_texts(&self, out: &mut Findings) -> Vec<String> {
        if matches!(self.node.value, Value::Scalar(..)) {
            return self.text(out).into_iter().collect();
        }
        self.texts(out)
    }

    /// `KEY: VALUE`, or a list of `KEY=VALUE`. A key without a value has none.
    pub(super) fn pairs(&self, out: &mut Findings) -> BTreeMap<String, Option<String>> {
        let mut pairs = BTreeMap::new();
        if self.is_list() {
            for item in self.items() {
                let Some(text) = item.text(out) else {
                    continue;
                };
                match text.split_once('=') {
                    Some((key, value)) => pairs.insert(key.to_owned(), Some(value.to_owned())),
                    None => pairs.insert(text, None),
                };
            }
        } else if self.is_map() {
            for (key, value) in self.entries() {
                let read = if value.node.is_null() {
                    None
                } else {
                    match value.any(out) {
                        Some(text) => Some(text),
                        None => continue,
                    }
                };
                pairs.insert(key.to_owned(), read);
            }
        } else if !self.node.is_null() {
            let message = format!("has to be a map or a list, and is {}", self.node.what());
            out.refuse(self.problem(message, "Write KEY: VALUE below it"));
        }
        let empty = pairs
            .keys()
            .find(|key| key.is_empty() || secret::has_mark(key));
        if empty.is_some() {
            out.refuse(self.problem("has a value without a key", "Write KEY=VALUE"));
            pairs.retain(|key, _| !key.is_empty() && !secret::has_mark(key));
        }
        pairs
    }

    /// The same, where a key without a value has an empty one.
    pub(super) fn filled_pairs(&self, out: &mut Findings) -> BTreeMap<String, String> {
        let pairs = self.pairs(out).into_iter();
        pairs
            .map(|(key, value)| (key, value.unwrap_or_default()))
            .collect()
    }
}
