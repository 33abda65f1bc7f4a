//! Values of the user's own entities as JSON, and the names in them (pure).

use ::config::ValueKind;
use serde_json::{Map, Value};

/// Longest name of a plugin, an event or a message, in bytes.
const LONGEST_NAME: usize = 200;

/// Whether a text can be the name of a plugin, an event or a message.
pub(super) fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether a text can be the id of a plugin.
pub(super) fn is_plugin(id: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    is_name(id) && id.chars().all(good) && id.chars().any(|c| c != '.')
}

/// Returns a value as JSON; `None` for a number that JSON does not have.
pub(super) fn json(value: &::config::Value) -> Option<Value> {
    Some(match &value.kind {
        ValueKind::Table(table) => {
            let member = |(name, value): (&String, &::config::Value)| {
                json(value).map(|value| (name.clone(), value))
            };
            Value::Object(table.iter().map(member).collect::<Option<Map<_, _>>>()?)
        }
        ValueKind::Array(items) => items.iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        ValueKind::Nil => Value::Null,
        _ => scalar(value)?,
    })
}

/// Returns a text, a number, true or false as JSON.
pub(super) fn scalar(value: &::config::Value) -> Option<Value> {
    Some(match &value.kind {
        ValueKind::Boolean(flag) => Value::Bool(*flag),
        ValueKind::String(text) => Value::from(text.as_str()),
        ValueKind::I64(number) => Value::from(*number),
        ValueKind::U64(number) => Value::from(*number),
        ValueKind::Float(number) => serde_json::Number::from_f64(*number)?.into(),
        _ => return None,
    })
}
