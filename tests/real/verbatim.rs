//! What the bridge published, against what OctoPrint sent: byte for byte.

use serde_json::Value;
use serde_json::value::RawValue;

use super::watcher::Seen;

/// Topics of the printer in [`config`](super::bridge::config) begin with this.
const TOPICS: &str = "octoprint2mqtt/mk3/";

/// The event's payload as OctoPrint sent it, from what the bridge published.
fn without_added(published: &Seen, kind: &str) -> String {
    let payload = &published.payload;
    let at = payload.rfind("\"_event\"").unwrap_or_else(|| panic!("no _event in {payload}"));
    let added: Value = serde_json::from_str(&format!("{{{}", &payload[at..])).unwrap();
    assert_eq!(added["_event"], *kind);
    assert!(added["_timestamp"].is_u64(), "{added}");
    assert_eq!(added.as_object().unwrap().len(), 2, "{added}");
    match payload[..at].trim_end_matches(',') {
        "{" => "null".to_owned(),
        own => format!("{own}}}"),
    }
}

/// OctoPrint adds the reason to a payload that it may have sent to some sockets already.
pub fn without_race(events: &[(String, String)]) -> Vec<(String, String)> {
    let reason = ",\"reason\":\"cancelled\"";
    let of = |(kind, payload): &(String, String)| match kind.as_str() {
        "PrintCancelled" => (kind.clone(), payload.replace(reason, "")),
        _ => (kind.clone(), payload.clone()),
    };
    events.iter().map(of).collect()
}

/// Events that differ from client to client, or that the bridge's own doing causes.
const OF_CLIENTS: &[&str] =
    &["ClientOpened", "ClientClosed", "ClientAuthed", "ClientDeauthed", "UserLoggedIn"];

pub fn events_of_bridge(seen: &[Seen]) -> Vec<(String, String)> {
    seen.iter()
        .filter_map(|seen| {
            let kind = seen.topic.strip_prefix(TOPICS)?.strip_prefix("event/")?.to_owned();
            let payload = without_added(seen, &kind);
            Some((kind, payload))
        })
        .filter(|(kind, _)| !OF_CLIENTS.contains(&kind.as_str()))
        .collect()
}

pub fn events_of_octoprint(messages: &[(String, String)]) -> Vec<(String, String)> {
    #[derive(serde::Deserialize)]
    struct Event<'a> {
        r#type: String,
        #[serde(borrow)]
        payload: &'a RawValue,
    }
    messages
        .iter()
        .filter(|(kind, _)| kind == "event")
        .map(|(_, text)| {
            let event: Event<'_> = serde_json::from_str(text).unwrap();
            let payload = match event.payload.get() {
                // An empty object and null look the same once the fields are added.
                "{}" => "null",
                payload => payload,
            };
            (event.r#type, payload.to_owned())
        })
        .filter(|(kind, _)| !OF_CLIENTS.contains(&kind.as_str()))
        .collect()
}

/// Asserts that all messages of `own`, the bridge's socket, were published as they came.
pub fn assert_verbatim(seen: &[Seen], own: &[(String, String)]) {
    let (published, sent) = (events_of_bridge(seen), events_of_octoprint(own));
    assert!(!published.is_empty());
    assert_eq!(published, sent[..published.len()], "events");
    assert!(sent.len() - published.len() <= 5, "events: too far behind");
    for kind in ["current", "history", "connected"] {
        let received: Vec<&String> =
            own.iter().filter(|(k, _)| k == kind).map(|(_, payload)| payload).collect();
        let topic = format!("{TOPICS}message/{kind}");
        let published: Vec<&String> =
            seen.iter().filter(|s| s.topic == topic).map(|s| &s.payload).collect();
        assert!(!published.is_empty(), "{kind}");
        assert_eq!(published, received[..published.len()], "{kind}");
        assert!(received.len() - published.len() <= 2, "{kind}: too far behind");
    }
}
