//! JSON as YAML.

use serde_json::Value;

use super::super::node;

/// A document.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    node_at(value, 0, &mut out);
    out
}

fn node_at(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (at, (key, inner)) in entries.iter().enumerate() {
                // The first entry of a list's item stands behind its dash.
                if at > 0 || !out.ends_with("- ") {
                    indent(depth, out);
                }
                out.push_str(&text(key));
                out.push(':');
                below(inner, depth, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(depth, out);
                out.push_str("- ");
                match item {
                    Value::Object(entries) if !entries.is_empty() => {
                        node_at(item, depth + 1, out);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        out.pop();
                        out.push('\n');
                        node_at(item, depth + 1, out);
                    }
                    _ => scalar(item, out),
                }
            }
        }
        _ => scalar(value, out),
    }
}

fn below(value: &Value, depth: usize, out: &mut String) {
    let is_nested = match value {
        Value::Object(entries) => !entries.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if is_nested {
        out.push('\n');
        node_at(value, depth + 1, out);
    } else {
        out.push(' ');
        scalar(value, out);
    }
}

fn indent(depth: usize, out: &mut String) {
    out.push_str(&"  ".repeat(depth));
}

fn scalar(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(&flag.to_string()),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(string) => out.push_str(&text(string)),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
    out.push('\n');
}

/// Plain where it cannot be taken for anything else, by YAML 1.1 either.
fn text(string: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let begins = string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let old = ["y", "yes", "on", "n", "no", "off"];
    let is_word = !old.contains(&string.to_ascii_lowercase().as_str());
    let is_text = node::resolve(string) == Some(node::Kind::Text);
    if begins && is_word && is_text && string.chars().all(is_plain) {
        string.to_owned()
    } else {
        Value::from(string).to_string()
    }
}
