//! Where the entities that users define are read: messages, JSON pointers, conditions.

use std::time::Duration;

use ::config::{Value, ValueKind};

use super::classes;
use super::scalars::{is_name, is_plugin, scalar};
use super::source::Section;
use super::values::{number, strict_text};
use crate::own_entity::{Form, Look, Pointer, ReadingCondition, Reduce, Source, ValueReading};

/// Keys of a reading that mean nothing without `from`.
const NEEDS_FROM: &[&str] = &["value", "when", "default", "expire_after", "on_value"];
/// A plugin whose messages carry tokens with which anyone could grant an application key.
const SECRET_PLUGIN: &str = "appkeys";
/// A member of `connected` that is an API key in older versions of OctoPrint.
const SECRET_MEMBER: &str = "apikey";

const FROM: &str = "event/<Type>, plugin/<id> or message/<type>, or a list of these, such as \"plugin/SpoolManager\"";
const POINTER: &str = "a JSON pointer such as \"/temp/celsius/current\"";

/// Reads where the state of an entity comes from: `Some(None)` for one without that, `None` after a
/// mistake.
pub(super) fn reading(
    section: &Section<'_>,
    kind: &str,
    look: &Look,
) -> Option<Option<ValueReading>> {
    if kind == "button" {
        return Some(None);
    }
    let is_read_only = matches!(kind, "sensor" | "binary_sensor" | "event");
    if section.get("from").is_none() {
        if is_read_only {
            section.missing("from", FROM);
            return None;
        }
        return without_source(section);
    }
    let sources = section.optional("from", FROM, sources);
    let value = value(section, kind);
    let when = match section.get("when") {
        Some(_) => Some(condition(&section.section("when"))?),
        None => None,
    };
    let reduce = reduce(section);
    let reading = ValueReading {
        sources: sources?,
        value: value?,
        when,
        default: section.optional("default", "a text, a number, true or false", scalar),
        form: form(section, kind, look, reduce.is_some()),
        reduce,
        expire_after: age(section),
    };
    is_open(section, kind, &reading).then_some(Some(reading))
}

/// A control whose state is assumed has nothing to read.
fn without_source(section: &Section<'_>) -> Option<Option<ValueReading>> {
    let stray = NEEDS_FROM.iter().filter_map(|key| Some((key, section.get(key)?)));
    for (key, found) in stray {
        let what = format!("{key} without from");
        section.complain(found.source, key, &what, "from, which says where the state comes from");
    }
    Some(None)
}

fn sources(value: &Value) -> Option<Vec<Source>> {
    let texts = match &value.kind {
        ValueKind::Array(items) => items.iter().map(strict_text).collect::<Option<Vec<_>>>()?,
        _ => vec![strict_text(value)?],
    };
    let sources: Vec<Source> = texts.iter().map(|text| source(text)).collect::<Option<_>>()?;
    (!sources.is_empty()).then_some(sources)
}

fn source(text: &str) -> Option<Source> {
    let (kind, name) = text.split_once('/')?;
    let name = Some(name).filter(|name| is_name(name))?.to_owned();
    match kind {
        "event" => Some(Source::Event(name)),
        "plugin" if is_plugin(&name) && name != SECRET_PLUGIN => Some(Source::Plugin(name)),
        "message" if !matches!(name.as_str(), "event" | "plugin") => Some(Source::Message(name)),
        _ => None,
    }
}

/// Where the value is; an event of one type needs none.
fn value(section: &Section<'_>, kind: &str) -> Option<Option<Pointer>> {
    if section.get("value").is_none() {
        let types = section.get("events").map(|found| found.value.kind);
        let several = matches!(types, Some(ValueKind::Array(types)) if types.len() > 1);
        if kind == "event" && !several {
            return Some(None);
        }
        section.missing("value", POINTER);
        return None;
    }
    pointer(section, "value").map(Some)
}

fn pointer(section: &Section<'_>, key: &str) -> Option<Pointer> {
    section.optional(key, POINTER, |value| Pointer::parse(&strict_text(value)?))
}

fn condition(section: &Section<'_>) -> Option<ReadingCondition> {
    section.only(&["pointer", "equals"]);
    if section.get("pointer").is_none() {
        section.missing("pointer", POINTER);
    }
    let expected = "a text, a number, true or false, or a list of these";
    let equals = section.optional("equals", expected, |value| match &value.kind {
        ValueKind::Array(items) => {
            let values: Vec<_> = items.iter().map(scalar).collect::<Option<_>>()?;
            (!values.is_empty()).then_some(values)
        }
        _ => Some(vec![scalar(value)?]),
    });
    Some(ReadingCondition {
        pointer: pointer(section, "pointer")?,
        equals: equals.unwrap_or_default(),
    })
}

fn reduce(section: &Section<'_>) -> Option<Reduce> {
    const WORDS: &[(&str, Reduce)] = &[
        ("count", Reduce::Count),
        ("min", Reduce::Min),
        ("max", Reduce::Max),
        ("range", Reduce::Range),
        ("sum", Reduce::Sum),
    ];
    section.get("reduce").map(|_| section.word("reduce", WORDS, Reduce::Count))
}

/// The form of the state: what Home Assistant takes as a number must be one.
fn form(section: &Section<'_>, kind: &str, look: &Look, is_reduced: bool) -> Form {
    let given = |key: &str| section.get(key).is_some();
    let numeric = |scale| Form::Number { scale };
    let class = look.device_class.as_deref();
    match kind {
        // Its role reports a mistake in the scale.
        "number" => numeric(section.get("scale").and_then(|s| number(&s.value)).unwrap_or(1.0)),
        "binary_sensor" | "switch" => Form::OnOff {
            on: section.optional("on_value", "a text, a number, true or false", scalar),
        },
        "sensor" if class == Some("timestamp") => Form::Time,
        "sensor" if class.is_some_and(|class| classes::NOT_NUMERIC.contains(&class)) => Form::Text,
        "sensor"
            if class.is_some()
                || is_reduced
                || ["scale", "unit", "state_class"].into_iter().any(given) =>
        {
            numeric(scale(section))
        }
        "sensor" => Form::Any,
        _ => Form::Text,
    }
}

/// What a number is multiplied by.
pub(super) fn scale(section: &Section<'_>) -> f64 {
    let scale = section.optional("scale", "a number other than 0", |value| {
        number(value).filter(|scale| *scale != 0.0)
    });
    scale.unwrap_or(1.0)
}

/// Whether the entity shows no key: everything that is published can be read at the broker.
fn is_open(section: &Section<'_>, kind: &str, reading: &ValueReading) -> bool {
    let of_connected = Source::Message("connected".to_owned());
    // An event carries the whole payload, whatever its pointer is.
    if kind == "event" && reading.sources.contains(&of_connected) {
        let source = section.get("from").map_or_else(String::new, |found| found.source);
        let found = "an event of message/connected, with the API key of OctoPrint";
        section.complain(source, "from", found, "another source, or a sensor");
        return false;
    }
    let is_secret = |pointer: &Pointer| pointer.is_member(SECRET_MEMBER);
    let secret = reading.value.as_ref().is_some_and(is_secret);
    if secret && reading.sources.contains(&of_connected) {
        let source = section.get("value").map_or_else(String::new, |found| found.source);
        section.complain(source, "value", "an API key of OctoPrint", "something else");
        return false;
    }
    true
}

/// Reads a duration for `expire_after`.
fn age(section: &Section<'_>) -> Option<Duration> {
    const LEAST: Duration = Duration::from_secs(1);
    const MOST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    let given = section.get("expire_after").is_some();
    given.then(|| section.duration("expire_after", LEAST..=MOST, LEAST))
}
