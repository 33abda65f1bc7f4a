//! The switch of a printer's power.

use ::config::{Value, ValueKind};

use super::power_switch::PowerSwitch;
use super::source::Section;
use super::values::{is_topic, strict_text, text};
use crate::own_entity::Pointer;

/// Longest topic of a switch, in bytes.
const LONGEST_TOPIC: usize = 1_000;

/// Reads the table `power`; `None` if there is none, or after a mistake. Topics below `base` are the
/// bridge's own.
pub(super) fn power(section: &Section<'_>, base: &str) -> Option<PowerSwitch> {
    section.only(&["state_topic", "command_topic", "on", "off", "value", "state_on", "state_off"]);
    let state_topic = topic(section, "state_topic", base);
    let command_topic = topic(section, "command_topic", base);
    let payload = |key: &str| {
        section.optional(key, "a payload such as \"ON\", of at most 1,000 bytes", |value| {
            payload_text(value).filter(|text| !text.is_empty() && text.len() <= 1_000)
        })
    };
    let on = payload("on").unwrap_or_else(|| "ON".to_owned());
    let off = payload("off").unwrap_or_else(|| "OFF".to_owned());
    let state_on = payload("state_on").unwrap_or_else(|| on.clone());
    let state_off = payload("state_off").unwrap_or_else(|| off.clone());
    let value = section.optional("value", "a JSON pointer such as \"/state\"", |value| {
        Pointer::parse(&strict_text(value)?)
    });
    if !section.in_file() && !section.in_environment() {
        return None;
    }
    for (key, topic) in [("state_topic", &state_topic), ("command_topic", &command_topic)] {
        if topic.is_none() && section.get(key).is_none() {
            section.missing(key, "the topic of the switch");
        }
    }
    for (key, one, other) in [("off", &off, &on), ("state_off", &state_off, &state_on)] {
        if one == other {
            let source = section.get(key).map_or_else(String::new, |found| found.source);
            section.complain(source, key, "the same for on and off", "payloads that differ");
        }
    }
    Some(PowerSwitch {
        state_topic: state_topic?,
        command_topic: command_topic?,
        on,
        off,
        value,
        state_on,
        state_off,
    })
}

/// Switches may take `true` and `1`, which TOML does not have as texts.
fn payload_text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Boolean(flag) => Some(flag.to_string()),
        _ => text(value),
    }
}

fn topic(section: &Section<'_>, key: &str, base: &str) -> Option<String> {
    let expected = "a topic of the switch, of at most 1,000 bytes, without + and #, outside of mqtt.base_topic";
    section.optional(key, expected, |value| {
        let is_foreign = |topic: &String| *topic != base && !topic.starts_with(&format!("{base}/"));
        strict_text(value).filter(|topic| is_topic(topic, LONGEST_TOPIC)).filter(is_foreign)
    })
}
