//! OctoPrint 2.0, with its serial connector and with a stand-in for another one.

use std::time::Duration;

use crate::real;
use crate::real::bridge::{Bridge, config};
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::OctoPrint;
use crate::real::watcher::Watcher;
use crate::real::{another_second, eventually};
use serde_json::{Value, json};

/// A key of the stand-in for a connector, which must be seen nowhere.
const SECRET: &str = "MARKER-APIKEY-7199";

const STAND_IN: &str = "
printerConnection:
  autoconnect: true
  preferred:
    connector: standin
    parameters: {host: 192.0.2.7, apikey: MARKER-APIKEY-7199}
";

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

struct World {
    octoprint: OctoPrint,
    watcher: Watcher,
    _broker: Mosquitto,
    bridge: Bridge,
}

impl World {
    /// With the virtual printer at the serial connector.
    async fn serial() -> Self {
        Self::start(OctoPrint::start_2_with(|config| config)).await
    }

    /// With the stand-in connector preferred and connected.
    async fn stand_in() -> Self {
        let source = include_str!("../real/standin_connector.py");
        Self::start(OctoPrint::start_2_with_plugin("standin.py", source, |config| {
            config.replace("serial: {port: VIRTUAL, autoconnect: true}", STAND_IN)
        }))
        .await
    }

    async fn start(octoprint: impl Future<Output = OctoPrint>) -> Self {
        let (broker, octoprint) = tokio::join!(Mosquitto::start(), octoprint);
        let watcher = Watcher::start(broker.port).await;
        let more = "[printers.mk3.socket]\nterminal = true\n[printers.mk3.commands]\ngcode = true";
        let config = config(&broker.url(), &octoprint.url(), more);
        let bridge = Bridge::start(&config.replace("\"debug\"", "\"trace\""));
        watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
        Self { octoprint, watcher, _broker: broker, bridge }
    }

    /// As [`Watcher::sends`], with what this version's lines of the terminal begin with.
    async fn sends(&self, command: &str, payload: &str, sent: &[&str]) {
        self.watcher.sends(">>>", command, payload, sent).await;
    }

    async fn connector(&self) -> Value {
        self.octoprint.get_2("api/connection").await["current"]["connector"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn octoprint_connects_with_its_preferred_connection_and_logs_no_key() {
    let world = World::stand_in().await;
    let octoprint = &world.octoprint;
    assert_eq!(world.connector().await, "standin");
    world.watcher.done("connection", "disconnect").await;
    octoprint.until("Offline").await;
    world.watcher.done("connection", "connect").await;
    octoprint.until("Operational").await;
    assert_eq!(world.connector().await, "standin");
    let given: Value = serde_json::from_str(&octoprint.read("standin.json")).unwrap();
    assert_eq!(given, json!({"host": "192.0.2.7", "apikey": SECRET}));

    world.watcher.done("connection", "disconnect").await;
    octoprint.until("Offline").await;
    // A port without a connector is of the serial one.
    world.watcher.done("connection", r#"{"port":"VIRTUAL"}"#).await;
    octoprint.until("Operational").await;
    assert_eq!(world.connector().await, "serial");
    world.watcher.done("connection", "disconnect").await;
    octoprint.until("Offline").await;
    let serial = r#"{"connector":"serial","port":"VIRTUAL"}"#;
    world.watcher.done("connection", serial).await;
    octoprint.until("Operational").await;
    assert_eq!(world.connector().await, "serial");
    let other = r#"{"connector":"standin"}"#;
    world.watcher.refused("connection", other, json!(409), "disconnect it first").await;
    world.watcher.done("connection", "disconnect").await;
    octoprint.until("Offline").await;
    world
        .watcher
        .refused("connection", r#"{"connector":"nope"}"#, json!(400), "unknown connector")
        .await;
    let secret = format!(r#"{{"connector":"standin","apikey":"{SECRET}"}}"#);
    world.watcher.refused("connection", &secret, Value::Null, "saved in OctoPrint").await;
    // What is preferred now cannot be reached; and of the other one nothing is known any more.
    let unreachable = json!({"command": "connect", "connector": "standin", "save": true,
        "parameters": {"host": "unreachable", "apikey": SECRET}});
    assert_eq!(octoprint.post_2("api/connection", unreachable).await, 204);
    octoprint.until("Offline after error").await;
    world.watcher.refused("connection", "connect", Value::Null, "could not connect").await;
    let serial = json!({"command": "connect", "connector": "serial", "save": true,
        "parameters": {"port": "VIRTUAL"}});
    assert_eq!(octoprint.post_2("api/connection", serial).await, 204);
    octoprint.until("Operational").await;
    world.watcher.done("connection", "disconnect").await;
    octoprint.until("Offline").await;
    world.watcher.refused("connection", other, json!(412), "lacks settings of the connector").await;

    let told = |seen: &real::watcher::Seen| {
        seen.payload.contains(SECRET) && !seen.topic.ends_with("/set/connection")
    };
    let told: Vec<_> = world.watcher.seen().into_iter().filter(told).collect();
    assert!(told.is_empty(), "{told:?}");
    assert!(!world.bridge.log().contains(SECRET), "{}", world.bridge.log());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn a_paused_print_obeys_commands() {
    let world = World::serial().await;
    let octoprint = &world.octoprint;
    octoprint.upload("long.gcode", 600).await;
    world.watcher.done("print", "local/long.gcode").await;
    octoprint.until("Printing").await;
    world.watcher.done("job", "pause").await;
    octoprint.until("Paused").await;
    // Each is refused by its own call, though only the filament is changed by hand.
    world.sends("home", "x z", &["G28 X0 Z0"]).await;
    world.sends("jog", r#"{"x":10,"y":-5.5}"#, &["G91", "G0 X10 Y-5.5 F6000", "G90"]).await;
    world.sends("extrude", "-3", &["M83", "G1 E-3 F300", "M82"]).await;

    world.watcher.done("job", "toggle").await;
    octoprint.until("Printing").await;
    world.watcher.refused("home", "all", json!(409), "").await;
    world.watcher.done("job", "toggle").await;
    octoprint.until("Paused").await;
    let mark = world.watcher.mark();
    world.watcher.done("job", "restart").await;
    octoprint.until("Printing").await;
    for kind in ["print_cancelled", "print_started"] {
        let is = |print: &Value| print["event_type"] == kind && print["path"] == "long.gcode";
        world.watcher.wait_json(mark, &topic("print"), is).await;
    }
    world.watcher.refused("job", "restart", json!(409), "").await;
    world.watcher.done("job", "cancel").await;
    octoprint.until("Operational").await;
    for payload in ["pause", "resume", "toggle", "cancel"] {
        world.watcher.refused("job", payload, json!(409), "").await;
    }
    world.sends("feedrate", "110", &["M220 S110"]).await;
    world.sends("flowrate", "95", &["M221 S95"]).await;
    world.watcher.done("offset/bed", "5").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn files_on_the_printer_have_both_names() {
    let world = World::serial().await;
    let octoprint = &world.octoprint;
    octoprint.write("virtualSd/part.gco", &"G1 X1 E0.1\nG4 P100\n".repeat(600));
    octoprint.write("virtualSd/other.gco", "G28\n");
    assert_eq!(octoprint.post("api/printer/sd", json!({"command": "refresh"})).await, 204);
    eventually("the files on the card", || async {
        let files = octoprint.get("api/files/printer").await;
        (files["files"].as_array().map(Vec::len) == Some(2)).then_some(())
    })
    .await;
    let selected = async || octoprint.get("api/job").await["job"]["file"].clone();
    world.watcher.done("select", "sdcard/part.gco").await;
    let file = selected().await;
    assert_eq!((&file["origin"], &file["path"]), (&json!("printer"), &json!("part.gco")));
    world.watcher.done("select", "printer/other.gco").await;
    assert_eq!(selected().await["path"], "other.gco");
    for missing in ["sdcard/missing.gco", "printer/missing.gco", "local/missing.gcode"] {
        world.watcher.refused("select", missing, json!(404), "no such file").await;
    }
    world.watcher.done("print", "printer/part.gco").await;
    octoprint.until("Printing from SD").await;
    let printing = |printer: &Value| printer["state"] == "printing";
    world.watcher.wait_json(0, &topic("printer"), printing).await;
    let job = |job: &Value| job["path"] == "part.gco" && job["origin"] == "printer";
    world.watcher.wait_json(0, &topic("job"), job).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn what_a_connector_ignores_is_refused() {
    let world = World::stand_in().await;
    let octoprint = &world.octoprint;
    octoprint.command("@temps {\"tool0\":[20,0],\"bed\":[20,0]}").await;
    world.watcher.refused("offset/bed", "5", json!(409), "standin takes no offsets").await;
    world.watcher.refused("feedrate", "110", json!(409), "M220 S110").await;
    world.watcher.refused("flowrate", "95", json!(409), "M221 S95").await;
    let factors = world.watcher.wait_json(0, &topic("factors"), |_| true).await;
    assert_eq!(factors, json!({"feedrate": null, "flowrate": null}));
    octoprint.upload("part.gcode", 10).await;
    world.watcher.refused("select", "local/part.gcode", json!(409), "did not select").await;
    world.watcher.done("print", "printer/cube.gcode").await;
    octoprint.until("Printing").await;
    octoprint.command("@quiet on").await;
    world.watcher.refused("job", "pause", json!(409), "still Printing").await;
    octoprint.command("@quiet off").await;
    world.watcher.done("job", "toggle").await;
    octoprint.until("Paused").await;
    world.watcher.done("job", "cancel").await;
    octoprint.until("Operational").await;
    octoprint.command("@quiet on").await;
    let none = "no print has begun, and the printer is Operational";
    world.watcher.refused("job", "start", json!(409), none).await;
    world.watcher.refused("print", "printer/cube.gcode", json!(409), none).await;
    octoprint.command("@quiet off").await;
    world.watcher.done("job", "start").await;
    octoprint.until("Printing").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn files_of_any_storage_are_offered_and_printed() {
    let world = World::stand_in().await;
    let octoprint = &world.octoprint;
    octoprint.write("usb/folder/part.gcode", "G28\n");
    // OctoPrint tells that its files have changed.
    octoprint.upload("other.gcode", 1).await;
    let offered = |seen: &real::watcher::Seen| {
        seen.topic == "homeassistant/device/octoprint2mqtt_mk3/config"
            && seen.payload.contains("\"usb/folder/part.gcode\"")
    };
    world.watcher.wait("the file to be offered", offered).await;
    world.watcher.done("select", "usb/folder/part.gcode").await;
    let file = octoprint.get("api/job").await["job"]["file"].clone();
    assert_eq!((&file["origin"], &file["path"]), (&json!("usb"), &json!("folder/part.gcode")));
    world.watcher.done("print", "usb/folder/part.gcode").await;
    octoprint.until("Printing").await;
    world.watcher.done("job", "cancel").await;
    octoprint.until("Operational").await;
    for missing in ["usb/missing.gcode", "nowhere/part.gcode"] {
        world.watcher.refused("select", missing, json!(404), "no such file").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn prints_have_their_user_duration_and_reason() {
    let world = World::serial().await;
    let octoprint = &world.octoprint;
    octoprint.upload("short.gcode", 10).await;
    octoprint.upload("long.gcode", 600).await;
    world.watcher.done("print", "local/short.gcode").await;
    let printed = |job: &Value| {
        job["path"] == "short.gcode" && job["user"] == "admin" && job["last_print_time"].is_number()
    };
    world.watcher.wait_json(0, &topic("job"), printed).await;
    octoprint.until("Operational").await;
    let resends = world.watcher.wait_json(0, &topic("resends"), |r| r["critical"] == false).await;
    assert!(resends["transmitted"].is_number(), "{resends}");
    world.watcher.wait_json(0, &topic("position"), |p| p["tool"] == 0 && p["z"] == 0.2).await;
    assert_eq!(world.watcher.print_events(0), ["print_started", "print_done"]);

    let mark = world.watcher.mark();
    world.watcher.done("print", "local/long.gcode").await;
    octoprint.until("Printing").await;
    octoprint.command("!!DEBUG:trigger_fatal_error_marlin").await;
    let failed = |print: &Value| print["event_type"] == "print_failed";
    let print = world.watcher.wait_json(mark, &topic("print"), failed).await;
    assert!(print["reason"].as_str().unwrap().contains("Thermal Runaway"), "{print}");
    let in_error = |printer: &Value| {
        let error = printer["error"].as_str().unwrap_or_default();
        printer["state"] == "error" && error.contains("Thermal Runaway")
    };
    world.watcher.wait_json(mark, &topic("printer"), in_error).await;
    world.watcher.wait_json(mark, &topic("position"), |p| p["z"].is_null()).await;
    assert_eq!(world.watcher.print_events(mark), ["print_started", "error", "print_failed"]);

    world.watcher.done("connection", "connect").await;
    octoprint.until("Operational").await;
    let mark = world.watcher.mark();
    world.watcher.done("print", "local/long.gcode").await;
    octoprint.until("Printing").await;
    // Of a state, the newest alone is sent where the broker is slow: the homing of the print follows.
    let begun = |last: &Value| last["event"] == "PrintStarted" || last["event"] == "Home";
    world.watcher.wait_json(mark, &topic("last_event"), begun).await;
    let seen = world.watcher.seen();
    let last = seen.iter().rfind(|seen| seen.topic == topic("last_event")).unwrap();
    assert_ne!(last.json()["event"], "FileSelected");
    world.watcher.done("job", "pause").await;
    octoprint.until("Paused").await;
    world.watcher.done("connection", "disconnect").await;
    let print = world.watcher.wait_json(mark, &topic("print"), failed).await;
    assert_eq!(print["reason"], "the printer was disconnected");
    // Whatever else were told of that print would be so before the next one.
    world.watcher.done("connection", "connect").await;
    octoprint.until("Operational").await;
    world.watcher.done("print", "local/short.gcode").await;
    let done = |print: &Value| print["event_type"] == "print_done";
    world.watcher.wait_json(mark, &topic("print"), done).await;
    let expected = ["print_started", "print_paused", "print_failed", "print_started", "print_done"];
    assert_eq!(world.watcher.print_events(mark), expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn a_print_started_at_the_printer_is_published() {
    let world = World::stand_in().await;
    let octoprint = &world.octoprint;
    world.watcher.done("print", "printer/cube.gcode").await;
    octoprint.until("Printing").await;
    octoprint.command("@progress 1 5").await;
    octoprint.command("@done").await;
    octoprint.command("@state OPERATIONAL").await;
    let done = |print: &Value| print["event_type"] == "print_done";
    world.watcher.wait_json(0, &topic("print"), done).await;
    let has_started = |progress: &Value| progress["started"].is_string();
    let progress = world.watcher.wait_json(0, &topic("progress"), has_started).await;
    let before = progress["started"].clone();
    another_second(before.as_str().unwrap()).await;

    // As Klipper's connector does: no event for the start.
    let mark = world.watcher.mark();
    octoprint.command("@job other.gcode").await;
    octoprint.command("@progress 0.1 3").await;
    octoprint.command("@state PRINTING").await;
    let begun =
        |print: &Value| print["event_type"] == "print_started" && print["path"] == "other.gcode";
    let print = world.watcher.wait_json(mark, &topic("print"), begun).await;
    assert_eq!((&print["_recovered"], &print["file"]), (&json!(true), &json!("other.gcode")));
    let event = world.watcher.wait_json(mark, &topic("event/PrintStarted"), |_| true).await;
    assert_eq!((&event["path"], &event["_recovered"]), (&json!("other.gcode"), &json!(true)));
    let anew = |progress: &Value| progress["completion"] == 10.0 && progress["started"] != before;
    world.watcher.wait_json(mark, &topic("progress"), anew).await;
    octoprint.command("@state CANCELLING").await;
    octoprint.command("@cancelled").await;
    octoprint.command("@state OPERATIONAL").await;
    let cancelled = |print: &Value| print["event_type"] == "print_cancelled";
    world.watcher.wait_json(mark, &topic("print"), cancelled).await;
    let progress = |progress: &Value| progress["completion"].is_null();
    world.watcher.wait_json(mark, &topic("progress"), progress).await;
    let kinds = world.watcher.print_events(mark);
    assert_eq!(kinds, ["print_started", "print_cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn a_repeated_start_is_published_once_and_pauses_are_published() {
    let world = World::stand_in().await;
    let octoprint = &world.octoprint;
    let mark = world.watcher.mark();
    // As the connector for Bambu's printers does it: each change of the state is a start, and the
    // file is not known at once.
    octoprint.command("@job ???").await;
    for state in ["STARTING Auto bed leveling", "PRINTING"] {
        octoprint.command("@started").await;
        octoprint.command(&format!("@state {state}")).await;
    }
    let kind = |kind: &'static str| move |print: &Value| print["event_type"] == kind;
    world.watcher.wait_json(mark, &topic("print"), kind("print_started")).await;
    octoprint.command("@job cube.3mf").await;
    for (state, told) in [("PAUSED", "print_paused"), ("PRINTING", "print_resumed")] {
        octoprint.command("@started").await;
        octoprint.command(&format!("@state {state}")).await;
        // Printers report all the time.
        for celsius in 0..5 {
            octoprint.command(&format!("@temps {{\"tool0\":[{celsius},0]}}")).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let print = world.watcher.wait_json(mark, &topic("print"), kind(told)).await;
        assert_eq!(print["path"], "cube.3mf", "{print}");
        assert_eq!(print["_recovered"], true, "{print}");
    }
    octoprint.command("@done").await;
    octoprint.command("@state OPERATIONAL").await;
    world.watcher.wait_json(mark, &topic("print"), kind("print_done")).await;
    let expected = ["print_started", "print_paused", "print_resumed", "print_done"];
    assert_eq!(world.watcher.print_events(mark), expected);
}
