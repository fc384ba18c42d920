//! `$NAME`, `${NAME}` and what may follow the name in braces.
//!
//! A `$` that begins neither is kept, as the specification says.

use std::{cell::RefCell, collections::BTreeMap};

use super::{
    node::{Kind, Node, Value},
    problem::{Place, Problem},
    sources::TEXT_BYTES_MAX,
    variables::Variables,
};

/// Braces in one another that are followed. Docker has no bound; nobody nests five.
const NESTED_MAX: usize = 32;

/// Where names get their values.
pub(super) trait Lookup {
    /// A variable's value, or a secret's mark; absent where it is not set.
    fn get(&self, name: &str) -> Option<String>;
    /// It is used although it has no value.
    fn missing(&self, name: &str);
}

/// Puts values in.
///
/// # Errors
///
/// What is wrong, and what to do.
pub(super) fn interpolate(text: &str, lookup: &dyn Lookup) -> Result<String, (String, String)> {
    expand(text, lookup, 0)
}

fn expand(text: &str, lookup: &dyn Lookup, depth: usize) -> Result<String, (String, String)> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let Some(end) = closing(after) else {
                return Err(invalid(text));
            };
            out.push_str(&braced(&after[..end], lookup, depth + 1)?);
            rest = &after[end + 1..];
        } else {
            let name = name_at(after);
            if name.is_empty() {
                out.push('$');
            } else {
                out.push_str(&value(name, lookup));
            }
            rest = &after[name.len()..];
        }
    }
    out.push_str(rest);
    if out.len() > TEXT_BYTES_MAX {
        let message = format!("has more than {TEXT_BYTES_MAX} bytes once variables are in it");
        return Err((message, "Put it into a file that ships".to_owned()));
    }
    Ok(out)
}

fn invalid(text: &str) -> (String, String) {
    (
        format!("{text:?} has a ${{ that is no variable"),
        "Write ${NAME}, or $$ for a dollar sign".to_owned(),
    )
}

/// Where the brace closes that was opened before the text; every `{` opens one.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    for (at, c) in text.bytes().enumerate() {
        match c {
            b'{' => open += 1,
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// The longest name that a text begins with.
fn name_at(text: &str) -> &str {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins {
        return "";
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

fn value(name: &str, lookup: &dyn Lookup) -> String {
    lookup.get(name).unwrap_or_else(|| {
        lookup.missing(name);
        String::new()
    })
}

/// What is between the braces.
fn braced(text: &str, lookup: &dyn Lookup, depth: usize) -> Result<String, (String, String)> {
    if depth > NESTED_MAX {
        let message = format!("has more than {NESTED_MAX} braces in one another");
        return Err((message, "Write it flatter".to_owned()));
    }
    let name = name_at(text);
    let rest = &text[name.len()..];
    if name.is_empty() {
        return Err(invalid(&format!("${{{text}}}")));
    }
    if rest.is_empty() {
        return Ok(value(name, lookup));
    }
    let (empty_counts, rest_of) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let mut letters = rest_of.chars();
    let operator = letters.next();
    let operand = letters.as_str();
    let found = lookup.get(name);
    let is_there = found
        .as_ref()
        .is_some_and(|value| !(empty_counts && value.is_empty()));
    match operator {
        Some('-') if is_there => Ok(found.unwrap_or_default()),
        Some('-') => expand(operand, lookup, depth),
        Some('+') if is_there => expand(operand, lookup, depth),
        Some('+') => Ok(String::new()),
        Some('?') if is_there => Ok(found.unwrap_or_default()),
        Some('?') => {
            let reason = expand(operand, lookup, depth)?;
            let reason = if reason.is_empty() {
                String::new()
            } else {
                format!(": {reason}")
            };
            let message = format!("the required variable {name} has no value{reason}");
            Err((message, format!("Set it with --set {name}=VALUE")))
        }
        _ => Err(invalid(&format!("${{{text}}}"))),
    }
}

/// Variables as the files of one project see them.
pub(super) struct Scope<'a> {
    pub(super) variables: &'a Variables,
    /// Of the `env_file` of an `include`, and `COMPOSE_PROJECT_NAME`.
    pub(super) defaults: BTreeMap<String, String>,
    pub(super) used: &'a RefCell<BTreeMap<String, Vec<Place>>>,
    /// Names without a value in the text at hand.
    pub(super) missing: RefCell<Vec<String>>,
    pub(super) place: RefCell<Option<Place>>,
}

impl Lookup for Scope<'_> {
    fn get(&self, name: &str) -> Option<String> {
        if let Some(place) = &*self.place.borrow() {
            let mut used = self.used.borrow_mut();
            let places = used.entry(name.to_owned()).or_default();
            if places.len() < Self::PLACES_MAX && !places.contains(place) {
                places.push(place.clone());
            }
        }
        let own = self.variables.inserted(name);
        own.or_else(|| self.defaults.get(name).cloned())
    }

    fn missing(&self, name: &str) {
        self.missing.borrow_mut().push(name.to_owned());
    }
}

impl Scope<'_> {
    /// Most places that are remembered of one variable.
    const PLACES_MAX: usize = 100;

    /// Puts values into a text at a place.
    pub(super) fn text(&self, text: &str, place: &Place, out: &mut Findings) -> Option<String> {
        if !text.contains('$') {
            return Some(text.to_owned());
        }
        *self.place.borrow_mut() = Some(place.clone());
        let read = interpolate(text, self);
        for name in self.missing.borrow_mut().drain(..) {
            let message = format!("the variable {name} is not set; nothing stands in its place");
            let help = format!("Set it with --set {name}=VALUE, or write ${{{name}:-}}");
            out.warn(Problem::new(place, "", message).help(help));
        }
        match read {
            Ok(text) => Some(text),
            Err((message, help)) => {
                out.refuse(Problem::new(place, "", message).help(help));
                None
            }
        }
    }

    /// Puts values into every value of a tree; keys are left alone.
    pub(super) fn tree(&self, node: &mut Node, out: &mut Findings) {
        match &mut node.value {
            Value::Scalar(text, Kind::Text) => {
                if text.contains('$')
                    && let Some(read) = self.text(text, &node.place, out)
                {
                    *text = read;
                }
            }
            Value::List(items) => items.iter_mut().for_each(|item| self.tree(item, out)),
            Value::Map(entries) => entries
                .iter_mut()
                .for_each(|(_, item)| self.tree(item, out)),
            Value::Null | Value::Scalar(..) => {}
        }
    }
}

/// What was found on the way: mistakes and warnings, each once.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Findings {
    /// Most of either: who has more than these has a file that is something else.
    const MAX: usize = 200;

    pub(super) fn refuse(&mut self, problem: Problem) {
        if self.problems.len() < Self::MAX && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= Self::MAX
    }

    pub(super) fn warn(&mut self, warning: Problem) {
        if self.warnings.len() < Self::MAX && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Fixed(RefCell<Vec<String>>);

    impl Lookup for Fixed {
        fn get(&self, name: &str) -> Option<String> {
            match name {
                "FOO" => Some("first".to_owned()),
                "BAR" => Some(String::new()),
                _ => None,
            }
        }

        fn missing(&self, name: &str) {
            self.0.borrow_mut().push(name.to_owned());
        }
    }

    fn read(text: &str) -> Result<String, (String, String)> {
        interpolate(text, &Fixed(RefCell::default()))
    }

    #[test]
    fn every_form_gives_what_the_specification_says() {
        let forms = [
            ("$FOO", "first"),
            ("${FOO}", "first"),
            ("a${FOO}b$FOO", "afirstbfirst"),
            ("${UNSET}", ""),
            ("${UNSET:-d}", "d"),
            ("${BAR:-d}", "d"),
            ("${BAR-d}", ""),
            ("${UNSET-d}", "d"),
            ("${FOO:+r}", "r"),
            ("${BAR:+r}", ""),
            ("${BAR+r}", "r"),
            ("${UNSET+r}", ""),
            ("${FOO:?e}", "first"),
            ("${BAR?e}", ""),
            ("${UNSET:-${FOO}}", "first"),
            ("${UNSET:-${BAR:-${FOO}}}", "first"),
            ("${UNSET:-a:-b}", "a:-b"),
            ("${UNSET:-{\"a\": {}}}", "{\"a\": {}}"),
            ("${UNSET-$$x}", "$x"),
            ("$$FOO", "$FOO"),
            ("$$$FOO", "$first"),
            ("100$", "100$"),
            ("$1.00", "$1.00"),
            ("$ {FOO}", "$ {FOO}"),
        ];
        for (text, expected) in forms {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for text in [
            "${",
            "${}",
            "${FOO",
            "${1}",
            "${FOO/a/b}",
            "${FOO:}",
            "${ FOO }",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_required_variable_says_its_name_and_the_authors_reason() {
        for text in ["${UNSET:?set $FOO}", "${UNSET?set ${FOO}}"] {
            let (message, _) = read(text).unwrap_err();
            assert!(
                message.contains("UNSET") && message.ends_with("set first"),
                "{message}"
            );
        }
        assert!(read("${BAR:?}").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[${}:?+\\-A-Z a-z\u{e4}]{0,60}") {
            drop(read(&text));
        }

        #[test]
        fn a_text_with_its_dollars_doubled_is_itself(text in any::<String>()) {
            prop_assert_eq!(read(&text.replace('$', "$$")).unwrap(), text);
        }
    }
}
