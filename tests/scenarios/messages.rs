//! Every message of a real OctoPrint arrives at a real Mosquitto, whatever the way between.

use std::collections::BTreeMap;

use crate::real;
use crate::real::bridge::{Bridge, config};
use crate::real::http_proxy::HttpProxy;
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::OctoPrint;
use crate::real::proxy::Proxy;
use crate::real::sockjs::{SockJs, unpack};
use crate::real::verbatim::{assert_verbatim, events_of_bridge, events_of_octoprint, without_race};
use crate::real::watcher::Watcher;
use serde_json::json;
use serde_json::value::RawValue;

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

/// The way from the bridge to OctoPrint.
enum Way {
    Direct(Proxy),
    ReverseProxy(HttpProxy),
}

impl Way {
    fn url(&self) -> String {
        match self {
            Self::Direct(proxy) => proxy.url("http"),
            Self::ReverseProxy(proxy) => proxy.url(),
        }
    }

    /// The messages that came to the bridge on it.
    fn messages(&self) -> Vec<(String, String)> {
        let frames = match self {
            Self::Direct(proxy) => proxy.websocket_texts(),
            Self::ReverseProxy(proxy) => proxy.streamed(),
        };
        frames.iter().flat_map(|frame| unpack(frame)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn every_message_of_a_prints_life_arrives_verbatim() {
    let octoprint = OctoPrint::start().await;
    let way = Way::Direct(Proxy::start(octoprint.port).await);
    whole_life(octoprint, way, "websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn every_message_arrives_where_the_upgrade_is_refused() {
    let octoprint = OctoPrint::start().await;
    let way = Way::ReverseProxy(HttpProxy::start(octoprint.port, "", false).await);
    whole_life(octoprint, way, "xhr-streaming").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn every_message_arrives_where_the_upgrade_is_refused_under_a_sub_path() {
    let octoprint = OctoPrint::start().await;
    let way = Way::ReverseProxy(HttpProxy::start(octoprint.port, "/octo/print", false).await);
    whole_life(octoprint, way, "xhr-streaming").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_websocket_goes_through_a_sub_path() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let proxy = HttpProxy::start(octoprint.port, "/octo/print", true).await;
    let watcher = Watcher::start(broker.port).await;
    let _bridge = Bridge::start(&config(&broker.url(), &proxy.url(), ""));
    watcher
        .wait_json(0, &topic("socket"), |socket| {
            socket["state"] == "connected" && socket["transport"] == "websocket"
        })
        .await;
    let answer = watcher.command("temperature/bed", "40").await;
    assert_eq!(answer["ok"], true, "REST calls find their way too: {answer}");
}

async fn whole_life(octoprint: OctoPrint, way: Way, transport: &str) {
    let broker = Mosquitto::start().await;
    let watcher = Watcher::start(broker.port).await;
    let _bridge = Bridge::start(&config(&broker.url(), &way.url(), ""));
    watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
    watcher.wait_json(0, &topic("socket"), |socket| socket["transport"] == transport).await;
    let beside = SockJs::start(&octoprint.url()).await;

    octoprint.upload("first.gcode", 300).await;
    octoprint.upload("second.gcode", 3).await;
    octoprint.select("first.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    octoprint.until("Printing").await;
    octoprint.job(json!({"command": "pause", "action": "pause"})).await;
    octoprint.until("Paused").await;
    octoprint.job(json!({"command": "pause", "action": "resume"})).await;
    octoprint.until("Printing").await;
    octoprint.job(json!({"command": "cancel"})).await;
    octoprint.until("Operational").await;
    octoprint.post("api/timelapse", json!({"type": "timed", "interval": 5})).await;
    let action = "!!DEBUG:action_custom notification Hello";
    octoprint.post("api/printer/command", json!({"command": action})).await;
    octoprint.select("second.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    watcher.wait("PrintDone", |seen| seen.topic == topic("event/PrintDone")).await;
    octoprint.until("Operational").await;
    octoprint.post("api/connection", json!({"command": "disconnect"})).await;
    watcher.wait("Disconnected", |seen| seen.topic == topic("event/Disconnected")).await;
    let mark = watcher.mark();
    octoprint.post("api/connection", json!({"command": "connect"})).await;
    watcher.wait_from(mark, "Connected", |seen| seen.topic == topic("event/Connected")).await;
    // A last event that both sides know ends the comparison.
    octoprint.upload("end.gcode", 1).await;
    let is_end = |payload: &str| payload.contains("end.gcode");
    let end = topic("event/MetadataAnalysisFinished");
    watcher.wait("the end", |seen| seen.topic == end && is_end(&seen.payload)).await;
    real::eventually("the end on the independent socket", || async {
        let messages = beside.messages();
        let is = |(_, text): &(String, String)| {
            text.contains("MetadataAnalysisFinished") && is_end(text)
        };
        messages.iter().any(is).then_some(())
    })
    .await;

    let (ours, theirs) = (watcher.seen(), beside.messages());
    let begin = |events: Vec<(String, String)>| -> Vec<(String, String)> {
        let first = events.iter().position(|(_, text)| text.contains("first.gcode")).unwrap();
        let last = events
            .iter()
            .rposition(|(kind, text)| kind == "MetadataAnalysisFinished" && is_end(text))
            .unwrap();
        events[first..=last].to_vec()
    };
    let (published, sent) = (begin(events_of_bridge(&ours)), begin(events_of_octoprint(&theirs)));
    assert_eq!(without_race(&published), without_race(&sent));
    let kinds: std::collections::BTreeSet<&str> =
        sent.iter().map(|(kind, _)| kind.as_str()).collect();
    for kind in [
        "Upload",
        "FileSelected",
        "PrintStarted",
        "PrintPaused",
        "PrintResumed",
        "PrintCancelled",
        "PrintFailed",
        "PrintDone",
        "ZChange",
        "Disconnected",
        "Connected",
        "PrinterStateChanged",
    ] {
        assert!(kinds.contains(kind), "no {kind} in {kinds:?}");
    }

    let plugins = |kind: &str| -> Vec<String> {
        theirs
            .iter()
            .filter(|(k, text)| k == "plugin" && text.contains(kind))
            .map(|(_, text)| text.clone())
            .collect()
    };
    let notifications = plugins("action_command_notification");
    assert!(!notifications.is_empty());
    for text in notifications {
        let data: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).unwrap();
        let published = ours.iter().find(|seen| {
            seen.topic == topic("plugin/action_command_notification")
                && seen.payload == data["data"].get()
        });
        assert!(published.is_some(), "{text}");
    }
    let timelapses: Vec<&str> = ours
        .iter()
        .filter(|s| s.topic == topic("message/timelapse"))
        .map(|s| s.payload.as_str())
        .collect();
    for (_, text) in theirs.iter().filter(|(kind, _)| kind == "timelapse") {
        assert!(timelapses.contains(&text.as_str()), "{text} not in {timelapses:?}");
    }

    // `current` and `history` differ from socket to socket: compared with the bridge's own.
    let own = way.messages();
    assert_eq!(published, begin(events_of_octoprint(&own)), "byte for byte from its own socket");
    assert_verbatim(&ours, &own);
    let printers = watcher.print_events(0);
    assert_eq!(
        printers,
        [
            "print_started",
            "print_paused",
            "print_resumed",
            "print_cancelled",
            "print_started",
            "print_done"
        ]
    );
}
