//! Files of variables, as `env_file`, `label_file` and `.env` have them.

use super::{
    interpolate::{Lookup, interpolate},
    variables::{Level, Variables},
};

/// One line: a name, and its value, or none where there is no `=`.
pub(super) type Entry = (String, Option<String>);

/// A mistake, and its line from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

/// Reads `format: raw`: what follows the first `=` is the value, as it stands.
#[must_use]
pub(super) fn parse_raw(text: &str) -> Vec<Entry> {
    let lines = text.strip_prefix('\u{FEFF}').unwrap_or(text).lines();
    let lines = lines.filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    lines
        .map(|line| match line.split_once('=') {
            Some((name, value)) => (name.trim().to_owned(), Some(value.to_owned())),
            None => (line.trim().to_owned(), None),
        })
        .collect()
}

/// Reads Compose's own format: quotes, escapes, comments, several lines, interpolation. A value
/// sees the names above it in the file where `lookup` does not know them.
///
/// # Errors
///
/// The first mistake.
pub(super) fn parse(text: &str, lookup: &dyn Lookup) -> Result<Vec<Entry>, Mistake> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut reader = Reader {
        rest: text,
        line: 1,
        entries: Vec::new(),
        lookup,
    };
    while reader.skip_to_statement() {
        reader.statement()?;
    }
    Ok(reader.entries)
}

/// Sets the variables of a file such as `.env`, whose values may name variables that are set, and
/// those above them.
///
/// # Errors
///
/// The first mistake; nothing is set then.
pub fn set(variables: &mut Variables, level: Level, text: &str) -> Result<(), Mistake> {
    let entries = parse(text, &Known(variables))?;
    for (name, value) in entries {
        if let Some(value) = value {
            variables.plain(level, name, value);
        }
    }
    Ok(())
}

/// Variables alone. What is not set is empty.
struct Known<'a>(&'a Variables);

impl Lookup for Known<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.0.inserted(name)
    }

    fn missing(&self, _: &str) {}
}

struct Reader<'a> {
    rest: &'a str,
    line: u32,
    entries: Vec<Entry>,
    lookup: &'a dyn Lookup,
}

/// The file's own names after those of the project.
struct Own<'a> {
    entries: &'a [Entry],
    lookup: &'a dyn Lookup,
}

impl Lookup for Own<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.lookup.get(name).or_else(|| {
            let mut entries = self.entries.iter().rev();
            entries.find(|(own, _)| own == name)?.1.clone()
        })
    }

    fn missing(&self, name: &str) {
        self.lookup.missing(name);
    }
}

impl Reader<'_> {
    fn mistake(&self, message: impl Into<String>) -> Mistake {
        Mistake {
            line: self.line,
            message: message.into(),
        }
    }

    fn advance(&mut self, bytes: usize) {
        let (gone, rest) = self.rest.split_at(bytes);
        let lines = gone.bytes().filter(|b| *b == b'\n').count();
        self.line = self
            .line
            .saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.rest = rest;
    }

    fn line_end(&self) -> usize {
        self.rest.find('\n').unwrap_or(self.rest.len())
    }

    /// Over blank lines and comments. Is there anything left?
    fn skip_to_statement(&mut self) -> bool {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.advance(blank);
            if !self.rest.starts_with('#') {
                return !self.rest.is_empty();
            }
            self.advance(self.line_end());
        }
    }

    fn statement(&mut self) -> Result<(), Mistake> {
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            let blank = after.len() - after.trim_start_matches([' ', '\t']).len();
            self.advance("export".len() + blank);
        }
        let line = &self.rest[..self.line_end()];
        let (name, value_at) = match line.find(['=', ':']) {
            Some(at) => (line[..at].trim(), Some(at + 1)),
            None => (line.trim(), None),
        };
        let is_name = |c: char| c.is_alphanumeric() || "_.-[]".contains(c);
        if let Some(other) = name.chars().find(|c| !is_name(*c)) {
            return Err(self.mistake(format!("{other:?} cannot stand in a variable's name")));
        }
        if name.is_empty() {
            return Err(self.mistake("a value without a variable's name"));
        }
        let name = name.to_owned();
        let Some(value_at) = value_at else {
            self.advance(self.line_end());
            let value = self.lookup.get(&name);
            self.entries.push((name, value));
            return Ok(());
        };
        self.advance(value_at);
        let blank = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\r']).len();
        self.advance(blank);
        let value = match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            _ => self.unquoted()?,
        };
        self.entries.push((name, Some(value)));
        Ok(())
    }

    fn expand(&self, text: &str) -> Result<String, Mistake> {
        let own = Own {
            entries: &self.entries,
            lookup: self.lookup,
        };
        interpolate(text, &own).map_err(|(message, _)| self.mistake(message))
    }

    fn unquoted(&mut self) -> Result<String, Mistake> {
        let line = &self.rest[..self.line_end()];
        let value = line.split_once(" #").map_or(line, |(value, _)| value);
        let value = self.expand(value.trim_end())?;
        self.advance(self.line_end());
        Ok(value)
    }

    fn quoted(&mut self, quote: char) -> Result<String, Mistake> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let closes = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        });
        let Some((end, _)) = end else {
            return Err(self.mistake(format!("a value has no closing {quote}")));
        };
        let inside = &self.rest[1..end];
        let value = if quote == '"' {
            self.expand(&unescape(inside))?
        } else {
            inside.replace("\\'", "'")
        };
        self.advance(end + 1);
        let after = self.rest[..self.line_end()].trim();
        if !(after.is_empty() || after.starts_with('#')) {
            return Err(self.mistake(format!("{after:?} follows a closing quote")));
        }
        self.advance(self.line_end());
        Ok(value)
    }
}

/// Escapes in double quotes. `\$` becomes `$$`, which interpolation makes a dollar sign.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('v') => out.push('\u{b}'),
            Some('\\') => out.push('\\'),
            Some('"') => out.push('"'),
            Some('$') => out.push_str("$$"),
            Some('0') => octal(&mut chars, &mut out),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

/// `\0` and three digits in base 8; anything else stays as it stands.
fn octal(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let digits: String = std::iter::from_fn(|| chars.next_if(|c| c.is_digit(8)))
        .take(3)
        .collect();
    match u8::from_str_radix(&digits, 8) {
        Ok(byte) if digits.len() == 3 => out.push(char::from(byte)),
        _ => {
            out.push_str("\\0");
            out.push_str(&digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Fixed;

    impl Lookup for Fixed {
        fn get(&self, name: &str) -> Option<String> {
            (name == "OTHER").then(|| "o".to_owned())
        }

        fn missing(&self, _: &str) {}
    }

    fn value(text: &str) -> String {
        let mut entries = parse(text, &Fixed).expect("a file of variables");
        entries.pop().and_then(|(_, value)| value).expect("a value")
    }

    #[test]
    fn every_rule_of_the_specification_holds() {
        let rules = [
            ("VAR=VAL", "VAL"),
            ("VAR=\"VAL\"", "VAL"),
            ("VAR='VAL'", "VAL"),
            ("VAR=VAL # comment", "VAL"),
            ("VAR=VAL# not a comment", "VAL# not a comment"),
            ("VAR=\"VAL # not a comment\"", "VAL # not a comment"),
            ("VAR=\"VAL\" # comment", "VAL"),
            ("VAR='$OTHER'", "$OTHER"),
            ("VAR='${OTHER}'", "${OTHER}"),
            ("VAR=$OTHER", "o"),
            ("VAR=\"${OTHER}\"", "o"),
            ("VAR='Let\\'s go!'", "Let's go!"),
            (
                "VAR=\"{\\\"hello\\\": \\\"json\\\"}\"",
                "{\"hello\": \"json\"}",
            ),
            ("VAR=\"some\\tvalue\"", "some\tvalue"),
            ("VAR='some\\tvalue'", "some\\tvalue"),
            ("VAR=some\\tvalue", "some\\tvalue"),
            ("VAR=", ""),
            ("export VAR=x", "x"),
            ("VAR = x", "x"),
            ("VAR: x", "x"),
            ("A=1\nVAR=$A", "1"),
            ("VAR=\"a\nb\"", "a\nb"),
            ("VAR=\"\\$OTHER\"", "$OTHER"),
            ("VAR=\"\\0123\"", "S"),
            ("VAR=a=b", "a=b"),
            ("VAR=x\r\n", "x"),
        ];
        for (text, expected) in rules {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn a_name_alone_is_unset_unless_the_project_has_it() {
        assert_eq!(
            parse("VAR\nOTHER", &Fixed).unwrap(),
            [
                ("VAR".to_owned(), None),
                ("OTHER".to_owned(), Some("o".to_owned())),
            ]
        );
    }

    #[test]
    fn a_mistake_has_its_line() {
        let mistakes = ["A=1\n\nB C=2", "A=1\n# c\nB=\"x", "A='x' y"];
        let lines = mistakes.map(|text| parse(text, &Fixed).unwrap_err().line);
        assert_eq!(lines, [3, 3, 1]);
    }

    #[test]
    fn raw_values_stay_as_they_stand() {
        let read = parse_raw("# c\nA=\"$OTHER\" # x\nB\n");
        let a = ("A".to_owned(), Some("\"$OTHER\" # x".to_owned()));
        assert_eq!(read, [a, ("B".to_owned(), None)]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            drop(parse(&text, &Fixed));
            drop(parse_raw(&text));
        }

        #[test]
        fn no_text_of_its_own_signs_panics(text in "[A-C=:'\"#$\\\\{} \n]{0,40}") {
            drop(parse(&text, &Fixed));
        }
    }
}
