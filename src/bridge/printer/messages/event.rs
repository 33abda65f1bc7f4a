//! Payloads and kinds of the publications of OctoPrint's events (pure).

use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::bridge::printer::snapshot::EventFields;
use crate::mqtt::{Audience, Kind, Worth};
use crate::octoprint::{Event, EventKind};
use crate::splice;
use crate::timestamp;

/// The worth in a full outbox; frequent events of little interest are chatty and dropped first.
fn worth(kind: &EventKind) -> Worth {
    use EventKind::*;
    match kind {
        PrintStarted | PrintDone | PrintFailed | PrintCancelled => Worth::Print,
        CaptureDone
        | CaptureStart
        | ChartMarked
        | ClientAuthed
        | ClientClosed
        | ClientDeauthed
        | ClientOpened
        | CommandSuppressed
        | Dwelling
        | MetadataAnalysisFinished
        | MetadataAnalysisStarted
        | MetadataStatisticsUpdated
        | PositionUpdate
        | PrinterControlsChanged
        | RegisteredMessageReceived
        | ToolChange
        | UpdatedFiles
        | UserLoggedIn
        | UserLoggedOut
        | ZChange => Worth::Chatty,
        _ => Worth::Event,
    }
}

/// Returns the kind of a publication to `B/P/event/<Type>`.
pub fn event_kind(kind: &EventKind) -> Kind {
    Kind::Event { worth: worth(kind), audience: Audience::Subscribers, stamped: true }
}

/// The kind of a publication to `B/P/print`, which Home Assistant's automations depend on.
pub const PRINT: Kind =
    Kind::Event { worth: Worth::Print, audience: Audience::HomeAssistant, stamped: true };

/// Returns the payload for `B/P/event/<Type>`: the event's bytes with `_event` and `_timestamp`.
pub fn payload(event: &Event<'_>, received: SystemTime) -> Bytes {
    let kind = serde_json::Value::from(event.kind.as_str()).to_string();
    let seconds = timestamp::unix(received).to_string();
    let added = [("_event", kind.as_str()), ("_timestamp", seconds.as_str())];
    let raw = event.payload.map_or("null", RawValue::get);
    let spliced = match raw {
        "null" => splice::append(b"{}", &added),
        _ => splice::append(raw.as_bytes(), &added),
    };
    spliced
        .or_else(|| splice::append(format!("{{\"payload\":{raw}}}").as_bytes(), &added))
        // The last candidate is an object, so this never defaults.
        .unwrap_or_default()
}

/// Returns the payload for `B/P/last_event`; `None` for chatty kinds, and for
/// `PrinterStateChanged`, which follows each event of a print and repeats `B/P/printer`.
pub fn last_event(kind: &EventKind, received: SystemTime) -> Option<Bytes> {
    #[derive(Serialize)]
    struct LastEventPayload<'a> {
        event: &'a str,
        timestamp: u64,
    }
    if worth(kind) == Worth::Chatty || *kind == EventKind::PrinterStateChanged {
        return None;
    }
    let last = LastEventPayload { event: kind.as_str(), timestamp: timestamp::unix(received) };
    serde_json::to_vec(&last).ok().map(Bytes::from)
}

/// Returns the `event_type` in `B/P/print`; `None` if the event is no print event.
pub fn print_type(kind: &EventKind) -> Option<&'static str> {
    Some(match kind {
        EventKind::PrintStarted => "print_started",
        EventKind::PrintDone => "print_done",
        EventKind::PrintFailed => "print_failed",
        EventKind::PrintCancelled => "print_cancelled",
        EventKind::PrintPaused => "print_paused",
        EventKind::PrintResumed => "print_resumed",
        EventKind::FilamentChange => "filament_change",
        EventKind::Error => "error",
        _ => return None,
    })
}

/// Returns the payload for `B/P/print`; `None` if the event is no print event. A PrintFailed with
/// the reason `cancelled`, which follows PrintCancelled, is published as a cancellation. `cause` is
/// from earlier events, as OctoPrint 2.0 has only `unknown` in PrintFailed.
pub fn print(
    kind: &EventKind,
    fields: &EventFields<'_>,
    received: SystemTime,
    cause: Option<&str>,
) -> Option<Bytes> {
    #[derive(Serialize)]
    struct PrintPayload<'a> {
        event_type: &'static str,
        file: Option<&'a RawValue>,
        path: Option<&'a RawValue>,
        time: Option<&'a RawValue>,
        reason: Option<&'a RawValue>,
        timestamp: u64,
    }
    let event_type = print_type(kind)?;
    let EventFields { name, path, time, reason, error, .. } = *fields;
    let cancelled = reason.is_some_and(|reason| reason.get() == "\"cancelled\"");
    let event_type = match event_type {
        "print_failed" if cancelled => "print_cancelled",
        event_type => event_type,
    };
    let cause = cause
        .filter(|_| error.is_some_and(|text| text.get() == "\"unknown\""))
        .and_then(|cause| serde_json::value::to_raw_value(cause).ok());
    // The error's text is more specific than the reasons `error` and `firmware`.
    let error = error.filter(|text| !matches!(text.get(), "\"\"" | "null"));
    let reason = cause.as_deref().or(error).or(reason);
    let print = PrintPayload {
        event_type,
        file: name,
        path,
        time,
        reason,
        timestamp: timestamp::unix(received),
    };
    serde_json::to_vec(&print).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn of(event: &Event<'_>, cause: Option<&str>) -> Option<Bytes> {
        let fields = EventFields::read(&event.kind, event.payload);
        print(&event.kind, &fields, at(), cause)
    }

    fn text(bytes: Bytes) -> String {
        String::from_utf8(bytes.into()).unwrap()
    }

    #[test]
    fn the_events_own_bytes_are_unchanged() {
        let event: Event<'_> =
            serde_json::from_str(r#"{"type":"ZChange","payload":{"new": 0.20, "old":null}}"#)
                .unwrap();
        assert_eq!(
            text(payload(&event, at())),
            r#"{"new": 0.20, "old":null,"_event":"ZChange","_timestamp":1700000000}"#
        );
        for (raw, expected) in [
            (r#"{"type":"Home","payload":null}"#, r#"{"_event":"Home","_timestamp":1700000000}"#),
            (r#"{"type":"Home"}"#, r#"{"_event":"Home","_timestamp":1700000000}"#),
            (
                r#"{"type":"X\"","payload":[1, 2]}"#,
                r#"{"payload":[1, 2],"_event":"X\"","_timestamp":1700000000}"#,
            ),
            (
                r#"{"type":"X","payload":"}"}"#,
                r#"{"payload":"}","_event":"X","_timestamp":1700000000}"#,
            ),
        ] {
            let event: Event<'_> = serde_json::from_str(raw).unwrap();
            assert_eq!(text(payload(&event, at())), expected);
        }
    }

    #[test]
    fn a_cancellation_is_a_print_event_of_its_own() {
        let cancelled: Event<'_> = serde_json::from_str(
            r#"{"type":"PrintCancelled","payload":{"name":"a.gcode","path":"d/a.gcode","time":3.5}}"#,
        )
        .unwrap();
        assert_eq!(
            text(of(&cancelled, None).unwrap()),
            r#"{"event_type":"print_cancelled","file":"a.gcode","path":"d/a.gcode","time":3.5,"reason":null,"timestamp":1700000000}"#
        );
        let failed: Event<'_> =
            serde_json::from_str(r#"{"type":"PrintFailed","payload":{"reason":"cancelled"}}"#)
                .unwrap();
        assert!(text(of(&failed, None).unwrap()).contains(r#""event_type":"print_cancelled""#));
        let failed: Event<'_> = serde_json::from_str(
            r#"{"type":"PrintFailed","payload":{"reason":"error","error":"Too hot"}}"#,
        )
        .unwrap();
        assert!(text(of(&failed, Some("x")).unwrap()).contains(r#""reason":"Too hot""#));
        let failed: Event<'_> = serde_json::from_str(
            r#"{"type":"PrintFailed","payload":{"reason":"error","error":"unknown"}}"#,
        )
        .unwrap();
        let reason = |cause| text(of(&failed, cause).unwrap());
        assert!(reason(Some("Too \"hot\"")).contains(r#""reason":"Too \"hot\"""#));
        assert!(reason(None).contains(r#""reason":"unknown""#));
    }
}
