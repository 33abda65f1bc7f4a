//! The bridge between a real OctoPrint with its virtual printer and a real Mosquitto.

use std::time::Instant;

use crate::real;
use crate::real::bridge::{Bridge, config};
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::{OctoPrint, PASSWORD, USER};
use crate::real::proxy::Proxy;
use crate::real::watcher::{Seen, Watcher, retained};
use serde_json::{Value, json};

const P: &str = "octoprint2mqtt/mk3";

fn topic(rest: &str) -> String {
    format!("{P}/{rest}")
}

struct World {
    broker: Mosquitto,
    octoprint: OctoPrint,
    bridge: Bridge,
    watcher: Watcher,
}

/// Everything started, and the printer online.
async fn world(more: &str) -> World {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let watcher = Watcher::start(broker.port).await;
    let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), more));
    watcher
        .wait("online", |seen| seen.topic == topic("availability") && seen.payload == "online")
        .await;
    World { broker, octoprint, bridge, watcher }
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn state_topics_follow_the_printer() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let started = Instant::now();
    let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), ""));
    let watcher = Watcher::start(broker.port).await;
    for rest in ["printer", "temperature/tool0", "temperature/bed", "server", "availability"] {
        watcher.wait(rest, |seen| seen.topic == topic(rest)).await;
    }
    watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
    println!("all there {:?} after the start", started.elapsed());

    let idle = retained(broker.port).await;
    let get = |name: &str| -> Value { serde_json::from_str(&idle[&topic(name)]).unwrap() };
    assert_eq!(keys(&get("printer")), ["error", "flags", "state", "text"]);
    assert_eq!(get("printer")["state"], "operational");
    assert_eq!(
        keys(&get("job")),
        [
            "estimated_print_time",
            "filament",
            "file",
            "last_print_time",
            "origin",
            "path",
            "size",
            "user"
        ]
    );
    assert_eq!(
        keys(&get("progress")),
        [
            "completion",
            "eta",
            "filepos",
            "print_time",
            "print_time_left",
            "print_time_left_origin",
            "started"
        ]
    );
    assert_eq!(keys(&get("temperature/tool0")), ["actual", "offset", "target"]);
    assert_eq!(keys(&get("position")), ["tool", "z"]);
    assert_eq!(get("factors"), json!({"feedrate": null, "flowrate": null}));
    assert_eq!(keys(&get("resends")), ["count", "critical", "ratio", "transmitted"]);
    assert_eq!(get("server")["version"], octoprint.version().await);
    assert_eq!(
        keys(&get("socket")),
        [
            "attempt",
            "error",
            "next_attempt_in",
            "publish_latency_ms",
            "push_interval_ms",
            "rate_factor",
            "rate_mode",
            "state",
            "transport"
        ]
    );
    assert_eq!(get("socket")["state"], "connected");
    assert_eq!(idle["octoprint2mqtt/bridge/state"], "online");
    let info: Value = serde_json::from_str(&idle["octoprint2mqtt/bridge/info"]).unwrap();
    assert_eq!(info["printers"], json!(["mk3"]));
    assert!(idle.contains_key("octoprint2mqtt/bridge/health"));
    assert!(idle.values().all(|payload| !payload.contains(real::octoprint::KEY)));
    assert!(!idle.contains_key(&topic("temperature/chamber")), "there is none");

    octoprint.upload("part.gcode", 40).await;
    octoprint.select("part.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    let state = |wanted: &'static str| move |value: &Value| value["state"] == wanted;
    watcher.wait_json(0, &topic("printer"), state("printing")).await;
    let progress =
        watcher.wait_json(0, &topic("progress"), |p| p["completion"].as_f64() > Some(0.0)).await;
    assert!(progress["started"].is_string(), "{progress}");
    let job = watcher.wait_json(0, &topic("job"), |job| job["file"] == "part.gcode").await;
    assert_eq!(job["origin"], "local");
    watcher.wait_json(0, &topic("position"), |position| position["z"] == 0.2).await;
    let mark = watcher.mark();
    octoprint.job(json!({"command": "pause", "action": "pause"})).await;
    watcher.wait_json(mark, &topic("printer"), state("paused")).await;
    octoprint.job(json!({"command": "pause", "action": "resume"})).await;
    watcher.wait_json(mark, &topic("last_event"), |last| last["event"] == "PrintDone").await;
    let done = watcher
        .wait_json(mark, &topic("progress"), |p| p["completion"] == 100.0 && p["eta"].is_null())
        .await;
    assert_eq!(done["started"], progress["started"], "the start does not waver");
    let print =
        watcher.wait_json(mark, &topic("print"), |print| print["event_type"] == "print_done").await;
    assert_eq!(print["file"], "part.gcode");
    assert!(print["time"].is_number() && print["timestamp"].is_u64(), "{print}");

    let mark = watcher.mark();
    octoprint.job(json!({"command": "start"})).await;
    watcher.wait_json(mark, &topic("printer"), state("printing")).await;
    octoprint.job(json!({"command": "cancel"})).await;
    watcher.wait_json(mark, &topic("progress"), |p| p["completion"].is_null()).await;

    octoprint.post("api/connection", json!({"command": "disconnect"})).await;
    watcher.wait_json(mark, &topic("printer"), state("offline")).await;
    watcher
        .wait_json(mark, &topic("temperature/tool0"), |t| {
            t["actual"].is_null() && t["target"].is_null()
        })
        .await;
    drop(bridge);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn commands_act_on_the_printer_and_are_answered() {
    let world = world("[printers.mk3.commands]\nconnection = false").await;
    let World { octoprint, watcher, .. } = &world;
    let nothing = watcher.command("job", "start").await;
    assert_eq!((&nothing["ok"], &nothing["status"]), (&json!(false), &json!(409)), "{nothing}");
    // Whole degrees: the virtual printer cuts off what is behind the point, and OctoPrint believes it.
    // Before any print: what OctoPrint runs at a print's end switches all heaters off.
    let answer = watcher.command("temperature/tool0", r#"{"value": 55, "id": "a1"}"#).await;
    assert_eq!(
        (&answer["ok"], &answer["id"], &answer["value"]),
        (&json!(true), &json!("a1"), &json!(55))
    );
    let answer = watcher.command("temperature/bed", "40").await;
    assert_eq!(answer["ok"], true, "{answer}");
    let target = |tool: &'static str, celsius: f64| {
        let octoprint = &octoprint;
        move || async move {
            let printer = octoprint.get("api/printer").await;
            (printer["temperature"][tool]["target"].as_f64() == Some(celsius)).then_some(())
        }
    };
    real::eventually("tool0 at 55", target("tool0", 55.0)).await;
    real::eventually("bed at 40", target("bed", 40.0)).await;
    let answer = watcher.command("temperature/tool0", "off").await;
    assert_eq!(answer["ok"], true, "{answer}");
    real::eventually("tool0 off", target("tool0", 0.0)).await;
    octoprint.upload("part.gcode", 600).await;
    octoprint.select("part.gcode").await;
    for (payload, state) in [
        ("start", "Printing"),
        ("pause", "Paused"),
        ("resume", "Printing"),
        ("toggle", "Paused"),
        ("restart", "Printing"),
        ("cancel", "Operational"),
    ] {
        let answer = watcher.command("job", payload).await;
        assert_eq!((&answer["ok"], &answer["value"]), (&json!(true), &json!(payload)), "{answer}");
        octoprint.until(state).await;
    }
    let refused = watcher.command("job", "pause").await;
    assert_eq!((&refused["ok"], &refused["status"]), (&json!(false), &json!(409)), "{refused}");

    for (command, payload) in [
        ("temperature/bed", "121"),
        ("temperature/tool1", "50"),
        ("rate", "99"),
        ("rate", "sometimes"),
        ("job", "explode"),
        ("connection", "disconnect"),
        ("nonsense", "1"),
    ] {
        let answer = watcher.command(command, payload).await;
        assert_eq!(answer["ok"], false, "{command} {payload}: {answer}");
        assert!(answer["error"].as_str().unwrap().len() > 10, "{answer}");
        assert_eq!(answer["status"], Value::Null);
    }

    for (payload, mode, factor) in [
        ("4", "manual", 4),
        ("slower", "manual", 5),
        ("faster", "manual", 4),
        ("auto", "auto", 4),
        ("hold", "manual", 4),
        ("1", "manual", 1),
    ] {
        let mark = watcher.mark();
        watcher.command("rate", payload).await;
        if payload == "auto" {
            // Down again by itself, step by step: the broker is quick.
            watcher.wait_json(mark, &topic("socket"), |s| s["rate_mode"] == "auto").await;
            watcher.command("rate", "4").await;
            continue;
        }
        let retained = watcher
            .wait_json(0, &topic("socket"), |s| {
                s["rate_mode"] == mode && s["rate_factor"] == factor
            })
            .await;
        assert_eq!(retained["push_interval_ms"], factor * 500);
    }

    let mark = watcher.mark();
    watcher.publish(&topic("set/reconnect"), "", false).await;
    watcher
        .wait_json(mark, &topic("result"), |result| {
            result["command"] == "reconnect" && result["ok"] == true
        })
        .await;
    watcher.wait_json(mark, &topic("socket"), |socket| socket["state"] == "connecting").await;
    watcher.wait_json(mark, &topic("socket"), |socket| socket["state"] == "connected").await;

    // An empty payload of any other command is nothing; the answer to the next one comes first.
    let mark = watcher.mark();
    watcher.publish(&topic("set/emergency_stop"), "", false).await;
    watcher.publish(&topic("set/job"), "", false).await;
    watcher.command("rate", "2").await;
    let answers =
        watcher.seen()[mark..].iter().filter(|seen| seen.topic == topic("result")).count();
    assert_eq!(answers, 1);
    octoprint.until("Operational").await;
    let stopped = watcher.command("emergency_stop", "now").await;
    assert_eq!(stopped["ok"], true, "{stopped}");
    octoprint.until("Offline after error").await;
    watcher.wait_json(mark, &topic("printer"), |printer| printer["state"] == "error").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn user_and_password_do_what_a_key_does() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let watcher = Watcher::start(broker.port).await;
    let config = format!(
        "[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"{}\"\n[printers.mk3]\nurl = \"{}\"\nusername = \"{USER}\"\npassword = \"{PASSWORD}\"\n",
        broker.url(),
        octoprint.url()
    );
    let bridge = Bridge::start(&config);
    watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
    let answer = watcher.command("temperature/bed", "42").await;
    assert_eq!(answer["ok"], true, "{answer}\n{}", bridge.log());
    real::eventually("bed at 42", || async {
        let printer = octoprint.get("api/printer").await;
        (printer["temperature"]["bed"]["target"] == 42.0).then_some(())
    })
    .await;
    assert!(!bridge.log().contains(PASSWORD));
    assert!(watcher.seen().iter().all(|seen| !seen.payload.contains(PASSWORD)));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_wrong_key_waits_and_harms_no_other_printer() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let watcher = Watcher::start(broker.port).await;
    let other = Proxy::start(octoprint.port).await;
    let more =
        format!("[printers.wrong]\nurl = \"{}\"\napi_key = \"WRONGKEY\"\n", other.url("http"));
    let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), &more));
    watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
    let socket = watcher
        .wait_json(0, "octoprint2mqtt/wrong/socket", |socket| socket["state"] == "waiting")
        .await;
    assert!(socket["error"].as_str().unwrap().contains("key"), "{socket}");
    assert_eq!(socket["next_attempt_in"], 600, "{socket}");
    // The bridge looks for others below its base topic before it says that it is there.
    let bridge_state = |s: &Seen| s.topic == "octoprint2mqtt/bridge/state" && s.payload == "online";
    watcher.wait("the bridge itself", bridge_state).await;
    let retained = retained(broker.port).await;
    assert_eq!(retained["octoprint2mqtt/wrong/availability"], "offline");
    assert_eq!(retained["octoprint2mqtt/bridge/state"], "online");
    assert!(!bridge.log().contains("WRONGKEY"));
    // `reconnect` jumps the wait.
    let mark = watcher.mark();
    watcher.publish("octoprint2mqtt/wrong/set/reconnect", "", false).await;
    watcher.wait_json(mark, "octoprint2mqtt/wrong/socket", |s| s["state"] == "connecting").await;
    watcher.wait_json(mark, "octoprint2mqtt/wrong/socket", |s| s["state"] == "waiting").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_stop_leaves_offline_behind() {
    let World { broker, octoprint: _octoprint, mut bridge, watcher: _watcher } = world("").await;
    bridge.process.signal("TERM");
    assert_eq!(bridge.process.ended().await, Some(0));
    let retained = retained(broker.port).await;
    assert_eq!(retained["octoprint2mqtt/bridge/state"], "offline");
    assert_eq!(retained[&topic("availability")], "offline");
}
