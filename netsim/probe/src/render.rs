//! A report in the forms that people and programs read. JSON is the report itself.

pub mod diff;
pub mod html;
pub mod junit;
pub mod redact;
pub mod text;

/// For XML and HTML, in text and in quoted attributes. What XML 1.0 cannot hold at all becomes
/// U+FFFD; line ends and tabs are written by number, because a parser would make spaces of them
/// in attributes.
pub fn markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' => escaped.push_str("&#9;"),
            '\n' => escaped.push_str("&#10;"),
            '\r' => escaped.push_str("&#13;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
