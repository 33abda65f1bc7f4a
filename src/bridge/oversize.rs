//! Replacements for messages that exceed the broker's maximum packet size (pure).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::mqtt::{Kind, PacketLimit, PersistedEvent, Publication, packet_bytes};
use crate::topics::PrinterTopics;

/// Room for `_delayed`, which may be added to an event when it is sent, in bytes.
const DELAYED: usize = 32;
/// Maximum length of a string in a truncated message, in bytes.
const MAX_TEXT: usize = 1024;

type ObjectMembers<'a> = BTreeMap<String, &'a RawValue>;

/// Returns `publication`, or a replacement that fits: an event loses its fields, a print event or a
/// state has its strings truncated, a picture is cleared, anything else becomes its size. `topics`
/// are the printer's.
pub(crate) fn fit(
    publication: Publication,
    topics: &PrinterTopics,
    limit: PacketLimit,
) -> Publication {
    let is_truncated = publication.topic == topics.print
        || publication.kind == Kind::State && publication.topic != topics.connected;
    let stamped = is_stamped(publication.kind);
    if publication.topic == topics.thumbnail {
        return replace(publication, limit, |_, _, _| Bytes::new());
    }
    replace(publication, limit, |payload, bytes, room| match (is_truncated, stamped) {
        (true, _) => truncate(payload),
        (false, true) => bare_event(payload, bytes, room),
        (false, false) => marker(bytes),
    })
}

/// Returns the answer to a command, with its strings truncated if it is too large.
pub(crate) fn fit_answer(publication: Publication, limit: PacketLimit) -> Publication {
    replace(publication, limit, |payload, _, _| truncate(payload))
}

/// As [`fit`], for an event persisted before the restart, when the limit may have been higher.
pub(crate) fn fit_persisted(event: PersistedEvent, limit: PacketLimit) -> PersistedEvent {
    let Some(bytes) = exceeds(&event.topic, &event.payload, event.stamped, limit) else {
        return event;
    };
    let payload = match members(&event.payload) {
        Some(members) if event.stamped && members.contains_key("_event") => {
            bare_event(&event.payload, bytes, limit.bytes().saturating_sub(event.topic.len()))
        }
        Some(_) if event.stamped => truncate(&event.payload),
        _ => marker(bytes),
    };
    PersistedEvent { payload, ..event }
}

fn is_stamped(kind: Kind) -> bool {
    matches!(kind, Kind::Event { stamped: true, .. })
}

fn exceeds(topic: &str, payload: &Bytes, stamped: bool, limit: PacketLimit) -> Option<usize> {
    let reserve = if stamped { DELAYED } else { 0 };
    limit.exceeded_by(topic, payload.len() + reserve)?;
    Some(packet_bytes(topic, payload.len()))
}

fn replace(
    publication: Publication,
    limit: PacketLimit,
    instead: impl FnOnce(&Bytes, usize, usize) -> Bytes,
) -> Publication {
    let (topic, payload) = (&publication.topic, &publication.payload);
    let Some(bytes) = exceeds(topic, payload, is_stamped(publication.kind), limit) else {
        return publication;
    };
    let room = limit.bytes().saturating_sub(topic.len());
    let payload = instead(payload, bytes, room);
    Publication { payload, oversize: Some(bytes), ..publication }
}

fn members(payload: &[u8]) -> Option<ObjectMembers<'_>> {
    serde_json::from_slice(payload).ok()
}

fn marker(bytes: usize) -> Bytes {
    format!("{{\"_oversize\":{bytes}}}").into()
}

/// The event's name and its size. The name is truncated only if it does not fit otherwise.
fn bare_event(payload: &Bytes, bytes: usize, room: usize) -> Bytes {
    let members = members(payload).unwrap_or_default();
    let naming = ["_event", "_timestamp", "_recovered"]
        .into_iter()
        .filter_map(|name| Some((name, members.get(name)?.get())));
    let bare = |truncated: bool| {
        let naming = naming.clone().map(|(name, value)| {
            let value = if truncated { truncate_value(value) } else { value.to_owned() };
            format!("\"{name}\":{value},")
        });
        Bytes::from(format!("{{{}\"_oversize\":{bytes}}}", naming.collect::<String>()))
    };
    let whole = bare(false);
    if whole.len() + 2 * DELAYED > room { bare(true) } else { whole }
}

/// Truncates the strings of an object.
fn truncate(payload: &Bytes) -> Bytes {
    std::str::from_utf8(payload)
        .map_or_else(|_| Bytes::from_static(b"null"), |text| truncate_value(text).into())
}

/// Truncates a string at a character boundary, and an object member by member. Any other value
/// longer than [`MAX_TEXT`] becomes null: states have none, events of plugins may.
fn truncate_value(value: &str) -> String {
    if value.len() <= MAX_TEXT {
        return value.to_owned();
    }
    if let Ok(text) = serde_json::from_str::<String>(value) {
        let fits = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        return serde_json::Value::from(&text[..fits.unwrap_or_default()]).to_string();
    }
    let Some(members) = members(value.as_bytes()) else { return "null".to_owned() };
    let members: Vec<String> = members
        .into_iter()
        .filter(|(name, _)| name.len() <= MAX_TEXT)
        .map(|(name, value)| {
            format!("{}:{}", serde_json::Value::from(name), truncate_value(value.get()))
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::mqtt::{Audience, Worth};

    const LIMIT: usize = 10_000;
    const STAMPED: Kind =
        Kind::Event { worth: Worth::Event, audience: Audience::Subscribers, stamped: true };
    const PLAIN: Kind = Kind::MESSAGE;

    fn topics() -> PrinterTopics {
        PrinterTopics::new("o", "mk3")
    }

    fn fitted(publication: Publication) -> (Value, Option<usize>) {
        let limit = PacketLimit::new(LIMIT);
        let fitted = fit(publication, &topics(), limit);
        assert_eq!(limit.exceeded_by(&fitted.topic, fitted.payload.len()), None);
        (serde_json::from_slice(&fitted.payload).unwrap(), fitted.oversize)
    }

    fn large() -> String {
        "\u{20ac}\n".repeat(LIMIT)
    }

    #[test]
    fn a_message_that_fits_is_unchanged_and_leaves_room_for_the_delay() {
        let topic = topics().event("X");
        let fits = |payload: usize| {
            let payload = format!("{{\"a\":\"{}\"}}", "x".repeat(payload - 8));
            let event = Publication::new(1, topic.clone(), payload.clone(), STAMPED);
            let fitted = fit(event, &topics(), PacketLimit::new(LIMIT));
            fitted.payload == payload && fitted.oversize.is_none()
        };
        let most = LIMIT - packet_bytes(&topic, 8_000) + 8_000 - DELAYED;
        assert!(fits(most) && !fits(most + 1));
        assert!(packet_bytes(&topic, most + ",\"_delayed\":".len() + 20) <= LIMIT);
    }

    #[test]
    fn an_event_is_reduced_to_its_name_and_time() {
        let payload = json!({"_event": "ours", "a": large(), "_timestamp": 5}).to_string();
        // As `splice` writes it: the later of two members with the same name wins.
        let payload = payload.replace("\"_event\":\"ours\"", "\"_event\":\"theirs\"");
        let payload = format!("{},\"_event\":\"X\"}}", payload.trim_end_matches('}'));
        let bytes = packet_bytes(&topics().event("X"), payload.len());
        let (value, oversize) = fitted(Publication::new(1, topics().event("X"), payload, STAMPED));
        assert_eq!(value, json!({"_event": "X", "_timestamp": 5, "_oversize": bytes}));
        assert_eq!(oversize, Some(bytes));
    }

    #[test]
    fn an_oversize_name_is_truncated() {
        let payload = json!({"_event": large(), "_timestamp": 5}).to_string();
        let (value, _) = fitted(Publication::new(1, topics().event(&large()), payload, STAMPED));
        let name = value["_event"].as_str().unwrap();
        assert!(large().starts_with(name) && (MAX_TEXT - 4..=MAX_TEXT).contains(&name.len()));
        let long = "x".repeat(LIMIT / 2);
        let payload = json!({"_event": long, "a": large(), "_timestamp": 5}).to_string();
        let (value, _) = fitted(Publication::new(1, topics().event(&long), payload, STAMPED));
        assert_eq!(value["_event"], long, "one that fits is not truncated");
    }

    #[test]
    fn other_messages_become_their_size() {
        let connected = (topics().connected, Kind::State);
        let others = [(topics().plugin("p"), PLAIN), (topics().current, Kind::Newest)];
        for (topic, kind) in others.into_iter().chain([connected]) {
            let bytes = packet_bytes(&topic, LIMIT);
            let (value, oversize) =
                fitted(Publication::new(1, topic.clone(), "1".repeat(LIMIT), kind));
            assert_eq!((value, oversize), (json!({ "_oversize": bytes }), Some(bytes)), "{topic}");
        }
    }

    #[test]
    fn print_events_and_states_have_their_strings_truncated() {
        let payload = json!({
            "event_type": "print_done", "file": large(), "path": null, "time": 12.5,
            "reason": [large()], "filament": {"tool0": {"length": 5, "spool": large()}},
        });
        let print = (topics().print, STAMPED);
        for (topic, kind) in [print, (topics().job, Kind::State)] {
            let (value, oversize) = fitted(Publication::new(1, topic, payload.to_string(), kind));
            assert!(oversize.is_some());
            let file = value["file"].as_str().unwrap();
            assert!(large().starts_with(file) && (MAX_TEXT - 4..=MAX_TEXT).contains(&file.len()));
            assert_eq!(value["filament"]["tool0"]["length"], 5);
            assert_eq!(value["filament"]["tool0"]["spool"], file);
            let rest = ["event_type", "path", "time", "reason"].map(|key| value[key].clone());
            assert_eq!(rest, [json!("print_done"), Value::Null, json!(12.5), Value::Null]);
        }
    }

    #[test]
    fn a_picture_is_cleared() {
        let fit = |size: usize| {
            let picture = Publication::new(1, topics().thumbnail, vec![0xff; size], Kind::State);
            fit(picture, &topics(), PacketLimit::new(LIMIT))
        };
        assert_eq!((fit(9_000).payload.len(), fit(9_000).oversize), (9_000, None));
        assert!(fit(LIMIT).payload.is_empty() && fit(LIMIT).oversize.is_some());
    }

    #[test]
    fn an_answer_has_its_value_truncated() {
        let payload = json!({"command": "gcode", "value": large(), "id": null, "ok": true});
        let answer = Publication::new(1, topics().result, payload.to_string(), PLAIN);
        let answer = fit_answer(answer, PacketLimit::new(LIMIT));
        let value: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!((&value["command"], &value["ok"]), (&json!("gcode"), &json!(true)));
        assert!(value["value"].as_str().unwrap().len() <= MAX_TEXT);
    }

    #[test]
    fn persisted_events_are_truncated_too() {
        let persisted = |payload: String, stamped| PersistedEvent {
            topic: topics().event("X"),
            payload: payload.into(),
            age: Duration::ZERO,
            stamped,
            worth: Worth::Event,
            audience: Audience::Subscribers,
        };
        let fitted = |event| -> Value {
            serde_json::from_slice(&fit_persisted(event, PacketLimit::new(LIMIT)).payload).unwrap()
        };
        let event = json!({"_event": "X", "a": large()}).to_string();
        assert_eq!(fitted(persisted(event.clone(), true))["_event"], "X");
        assert!(fitted(persisted(event.clone(), true))["a"].is_null());
        assert!(fitted(persisted(event, false))["_event"].is_null());
        let print = json!({"event_type": "print_done", "file": large()}).to_string();
        assert_eq!(fitted(persisted(print, true))["event_type"], "print_done");
        assert_eq!(fitted(persisted("{}".to_owned(), true)), json!({}));
    }
}
