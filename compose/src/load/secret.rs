//! Secret variables in a model that everybody may read.
//!
//! Where a secret variable is put into a Compose file, the model gets a mark with its name in
//! place of its value: between two characters of a private plane, which the loader refuses in
//! files. Only the agent puts the values in, on the way to the Engine. So a rendered preview, a
//! plan, a hash and a log line cannot show what they do not have.

use std::collections::BTreeMap;

const BEGIN: char = '\u{F5EC0}';
const END: char = '\u{F5EC1}';

/// What stands in the model for the value of this variable.
#[must_use]
pub fn mark(variable: &str) -> String {
    format!("{BEGIN}{variable}{END}")
}

/// Is one of the two characters in it that only [`mark`] may put there?
#[must_use]
pub fn has_mark(text: &str) -> bool {
    text.contains([BEGIN, END])
}

/// The text for people: `****NAME****` in place of each mark.
#[must_use]
pub fn mask(text: &str) -> String {
    text.replace([BEGIN, END], "****")
}

/// The names of the variables in it, in order.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    let after_begin = text.split(BEGIN).skip(1);
    after_begin.filter_map(|rest| rest.split_once(END).map(|(name, _)| name))
}

/// The text with the values in it.
///
/// # Errors
///
/// The name of a variable without a value.
pub fn reveal<V: AsRef<str>>(text: &str, values: &BTreeMap<String, V>) -> Result<String, String> {
    let mut parts = text.split(BEGIN);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(END).unwrap_or((part, ""));
        let value = values.get(name).ok_or_else(|| name.to_owned())?;
        out.push_str(value.as_ref());
        out.push_str(rest);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_masked_named_and_revealed() {
        let text = format!("postgres://app:{}@db/{}", mark("PASSWORD"), mark("NAME"));
        assert_eq!(
            mask(&text),
            "postgres://app:****PASSWORD****@db/****NAME****"
        );
        assert_eq!(names(&text).collect::<Vec<_>>(), ["PASSWORD", "NAME"]);
        let values = BTreeMap::from([("PASSWORD".to_owned(), "a"), ("NAME".to_owned(), "b")]);
        assert_eq!(reveal(&text, &values).unwrap(), "postgres://app:a@db/b");
    }

    #[test]
    fn a_value_that_is_missing_is_named() {
        let none = BTreeMap::<String, String>::new();
        assert_eq!(reveal(&mark("PASSWORD"), &none), Err("PASSWORD".to_owned()));
    }
}
