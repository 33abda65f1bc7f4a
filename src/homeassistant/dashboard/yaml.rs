//! Writes YAML that people read, in block style (pure).

use std::fmt::Write;

use serde_json::{Map, Value};

/// Keys that come first and last in an object, in this order; the others come between, sorted.
const FIRST: &[&str] = &[
    "title",
    "type",
    "path",
    "subview",
    "condition",
    "action",
    "heading",
    "heading_style",
    "entity",
    "name",
    "icon",
    "color",
];
const LAST: &[&str] =
    &["tap_action", "features", "visibility", "entities", "badges", "sections", "cards", "views"];

/// Words that YAML reads as something else than text.
const WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Returns `value` as a YAML document; ends with a line break.
pub(super) fn document(value: &Value) -> String {
    let mut text = String::new();
    block(&mut text, value, 0);
    text
}

/// Writes a value whose first line is already indented.
fn block(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (index, key) in ordered(members).into_iter().enumerate() {
                if index > 0 {
                    pad(out, indent);
                }
                out.push_str(&scalar(&Value::from(key.as_str())));
                out.push(':');
                nested(out, &members[key], indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    pad(out, indent);
                }
                out.push_str("- ");
                block(out, item, indent + 2);
            }
        }
        value => {
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
}

/// Writes the value of a key.
fn nested(out: &mut String, value: &Value, indent: usize) {
    let is_block = match value {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if is_block {
        out.push('\n');
        pad(out, indent + 2);
        block(out, value, indent + 2);
    } else {
        out.push(' ');
        block(out, value, indent + 2);
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn ordered(members: &Map<String, Value>) -> Vec<&String> {
    let place = |key: &str, keys: &[&str]| keys.iter().position(|known| *known == key);
    let rank = |key: &str| match (place(key, FIRST), place(key, LAST)) {
        (Some(first), _) => (0, first),
        (_, Some(last)) => (2, last),
        _ => (1, 0),
    };
    let mut keys: Vec<&String> = members.keys().collect();
    keys.sort_by_key(|key| (rank(key), *key));
    keys
}

/// Returns a value in one line.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::String(text) => quoted(text),
        // Numbers, booleans, null and what is empty look as in JSON.
        value => value.to_string(),
    }
}

/// Whether YAML reads this text as itself, without quotes.
fn is_plain(text: &str) -> bool {
    let is_harmless =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | ' ');
    let colon = |(at, _): (usize, &str)| {
        // Within a word, as in `mdi:printer-3d`.
        text[at + 1..].starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && text.chars().all(|c| is_harmless(c) || c == ':')
        && text.match_indices(':').all(colon)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // What YAML does not take, or takes as the end of a line.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                // Writing to a text cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_and_lists_are_blocks() {
        let value = json!({
            "views": [{"path": "a", "cards": [], "type": "sections", "max_columns": 3}],
            "title": "3D printers",
            "nested": {"deep": [["x", "z"], {}], "none": null, "is": true},
        });
        let expected = "\
title: \"3D printers\"
nested:
  deep:
    - - x
      - z
    - {}
  is: true
  none: null
views:
  - type: sections
    path: a
    max_columns: 3
    cards: []
";
        assert_eq!(document(&value), expected);
    }

    #[test]
    fn a_text_that_means_something_else_is_quoted() {
        for plain in ["mdi:printer-3d", "sensor.mk3_state", "Time left", "printer-mk3"] {
            assert_eq!(scalar(&json!(plain)), plain);
        }
        for (text, expected) in [
            ("on", "\"on\""),
            ("No", "\"No\""),
            ("1e3", "\"1e3\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("a:", "\"a:\""),
            ("a #b", "\"a #b\""),
            ("a ", "\"a \""),
            ("-", "\"-\""),
            ("{{ x }}", "\"{{ x }}\""),
            ("Käthe \"2\" \\", "\"Käthe \\\"2\\\" \\\\\""),
            ("a\nb\u{85}\u{2028}", "\"a\\u000ab\\u0085\\u2028\""),
            ("🖨", "\"🖨\""),
        ] {
            assert_eq!(scalar(&json!(text)), expected);
        }
    }
}
