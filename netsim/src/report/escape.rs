//! Text of others inside markup, a terminal and a shell.
//!
//! Names, reasons and paths come from scenario files and from systems under test: they
//! are shown as they are, and never obeyed.

pub use probe::render::markup;

/// For a terminal: on one line, and without what would move its cursor.
pub fn terminal(text: &str) -> String {
    let plain = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(plain).collect()
}

/// As one word of a POSIX shell.
pub fn shell(word: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_safe) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a parser may give back: what XML can hold, otherwise U+FFFD.
    fn held(text: &str) -> String {
        let is_held = |c: char| {
            matches!(c, '\t' | '\n' | '\r')
                || !(c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
        };
        let held = |c| if is_held(c) { c } else { '\u{fffd}' };
        text.chars().map(held).collect()
    }

    #[test]
    fn a_word_that_a_shell_would_take_apart_is_quoted() {
        assert_eq!(shell("failures/open-7.toml"), "failures/open-7.toml");
        assert_eq!(shell("it's here"), r"'it'\''s here'");
        assert_eq!(shell(""), "''");
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_markup(text in any::<String>()) {
            let document = format!("<a b=\"{0}\">x{0}</a>", markup(&text));

            let parsed = roxmltree::Document::parse(&document).expect("it is well-formed");

            let root = parsed.root_element();
            let held = format!("x{}", held(&text));
            prop_assert_eq!(root.attribute("b"), Some(&held[1..]));
            prop_assert_eq!(root.text(), Some(held.as_str()));
        }

        #[test]
        fn no_text_moves_the_cursor(text in any::<String>()) {
            prop_assert!(!terminal(&text).chars().any(char::is_control));
        }
    }
}
