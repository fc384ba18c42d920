//! Names and tags: what they may be.

use std::collections::BTreeMap;

use super::Error;
use crate::limits::{NAME_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX};

/// Checks a name that people type and that stands in paths of the API.
pub(super) fn check_name(field: &'static str, name: &str) -> Result<(), Error> {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let is_name = bytes.len() <= NAME_CHARS_MAX
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
        });
    if is_name {
        return Ok(());
    }
    let reason = format!(
        "`{}` is no name: 1 to {NAME_CHARS_MAX} of a-z, 0-9, `-`, `_` and `.`, \
         first and last a letter or a digit",
        name.chars()
            .take(NAME_CHARS_MAX + 1)
            .collect::<String>()
            .escape_debug()
    );
    Err(Error::Invalid { field, reason })
}

/// Checks tags: as many as a table shows, keys that are names, values in one line.
pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > TAGS_MAX {
        let reason = format!("{} tags, more than {TAGS_MAX}", tags.len());
        return Err(Error::Invalid {
            field: "tags",
            reason,
        });
    }
    for (key, value) in tags {
        check_name("tags", key)?;
        if value.chars().count() > TAG_VALUE_CHARS_MAX || value.chars().any(char::is_control) {
            let reason = format!(
                "the value of `{key}` must have at most {TAG_VALUE_CHARS_MAX} characters \
                 and no control characters"
            );
            return Err(Error::Invalid {
                field: "tags",
                reason,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_give_are_taken() {
        for name in ["a", "berlin-1", "shop.example", "x_2", "0"] {
            assert!(check_name("name", name).is_ok(), "{name} was refused");
        }
    }

    #[test]
    fn names_that_break_a_path_or_a_table_are_refused() {
        let long = "a".repeat(NAME_CHARS_MAX + 1);
        for name in [
            "",
            "-a",
            "a-",
            ".",
            "Berlin",
            "a/b",
            "a b",
            "ä",
            "a\n",
            long.as_str(),
        ] {
            let refused = check_name("name", name);

            assert!(
                matches!(refused, Err(Error::Invalid { field: "name", .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn tags_beyond_any_bound_are_refused() {
        let tags = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let many: BTreeMap<_, _> = (0..=TAGS_MAX)
            .map(|i| (format!("k{i}"), String::new()))
            .collect();

        assert!(check_tags(&tags(&[("site", "Berlin Mitte"), ("tier", "")])).is_ok());
        assert!(check_tags(&many).is_err());
        assert!(check_tags(&tags(&[("Site", "x")])).is_err());
        assert!(check_tags(&tags(&[("site", "two\nlines")])).is_err());
        assert!(check_tags(&tags(&[("site", &"x".repeat(256))])).is_err());
    }
}
