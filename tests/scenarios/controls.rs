//! What an OctoPrint offers of its own, with 1.11 and with 2.0: custom controls, parameters,
//! presets, the last print again, updates and prompts.

use std::collections::BTreeSet;

use crate::real::bridge::{Bridge, config};
use crate::real::eventually;
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::OctoPrint;
use crate::real::watcher::Watcher;
use serde_json::{Value, json};

const CONFIG: &str = "homeassistant/device/octoprint2mqtt_mk3/config";

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

fn bridge(broker: &Mosquitto, octoprint: &OctoPrint) -> Bridge {
    let more = "[printers.mk3.socket]\nterminal = true\n[printers.mk3.commands]\ngcode = true\nsystem = true";
    Bridge::start(&config(&broker.url(), &octoprint.url(), more))
}

struct World {
    octoprint: OctoPrint,
    watcher: Watcher,
    broker: Mosquitto,
    bridge: Bridge,
    /// What this version's lines of the terminal begin with.
    sends: &'static str,
}

impl World {
    /// With 1.11, its `config.yaml` changed.
    async fn of_1(change: impl FnOnce(String) -> String) -> Self {
        Self::start(OctoPrint::start_with(change), "Send:").await
    }

    /// The same with 2.0.
    async fn of_2(change: impl FnOnce(String) -> String) -> Self {
        Self::start(OctoPrint::start_2_with(change), ">>>").await
    }

    /// With 2.0 and the stand-in connector.
    async fn stand_in() -> Self {
        let source = include_str!("../real/standin_connector.py");
        let connection = "printerConnection:\n  autoconnect: true\n  preferred:\n    connector: standin\n    parameters: {host: 192.0.2.7, apikey: KEY}\n";
        let octoprint = OctoPrint::start_2_with_plugin("standin.py", source, |config| {
            config.replace("serial: {port: VIRTUAL, autoconnect: true}", connection)
        });
        Self::start(octoprint, ">>>").await
    }

    async fn start(octoprint: impl Future<Output = OctoPrint>, sends: &'static str) -> Self {
        let (broker, octoprint) = tokio::join!(Mosquitto::start(), octoprint);
        let watcher = Watcher::start(broker.port).await;
        let bridge = bridge(&broker, &octoprint);
        watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
        Self { octoprint, watcher, broker, bridge, sends }
    }

    async fn sends(&self, command: &str, payload: &str, sent: &[&str]) {
        self.watcher.sends(self.sends, command, payload, sent).await;
    }

    /// Waits until the entities whose key begins with `prefix` have these names, from `mark` on.
    async fn entities(&self, mark: usize, prefix: &str, names: &[&str]) {
        let expected: BTreeSet<&str> = names.iter().copied().collect();
        let is = |message: &Value| {
            let components = message["components"].as_object().into_iter().flatten();
            let found = components.filter(|(key, _)| key.starts_with(prefix));
            let found: BTreeSet<&str> =
                found.filter_map(|(_, component)| component["name"].as_str()).collect();
            found == expected
        };
        self.watcher.wait_json(mark, CONFIG, is).await;
    }
}

fn controls(speed: &str) -> Value {
    json!([
        {"name": "Fans", "layout": "vertical", "collapsed": false, "children": [
            {"name": "Set", "command": format!("M106 S{speed}"), "input": [
                {"name": "Speed", "parameter": "speed", "default": 100,
                    "slider": {"min": 0, "max": 255, "step": 1}}]},
            {"name": "Off", "command": "M107", "confirm": "Sure?"},
        ]},
        {"name": "Park", "commands": ["G28 X0", "G28 Y0"]},
    ])
}

async fn run_controls(world: World, speed: &str) {
    let (watcher, octoprint) = (&world.watcher, &world.octoprint);
    let none = "it has none that sends G-code";
    watcher.refused("control", "Park", Value::Null, none).await;
    let mark = watcher.mark();
    let answer = octoprint.post("api/settings", json!({"controls": controls(speed)})).await;
    assert_eq!(answer, 200);
    world.entities(mark, "control_", &["Set", "Off", "Park"]).await;
    world.sends("control", "Park", &["G28 X0", "G28 Y0"]).await;
    world.sends("control", r#"{"value":"Fans/Off","id":1}"#, &["M107"]).await;
    world.sends("control", "Set", &["M106 S100"]).await;
    world.sends("control", r#"{"control":"Set","params":{"speed":"50"}}"#, &["M106 S50"]).await;
    for (payload, telling) in [
        (r#"{"control":"Set","params":{"speed":256}}"#, "0…255"),
        (r#"{"control":"Set","params":{"sped":5}}"#, "no parameter \"sped\""),
        (r#"{"value":"Set","params":{"speed":5}}"#, "expected the name"),
        ("Nope", "no such control; it has Set, Off, Park"),
    ] {
        watcher.refused("control", payload, Value::Null, telling).await;
    }
    let mark = watcher.mark();
    let controls = json!({"controls": [{"name": "Park", "command": "G28"}]});
    assert_eq!(octoprint.post("api/settings", controls).await, 200);
    world.entities(mark, "control_", &["Park"]).await;
    watcher.done("connection", "disconnect").await;
    octoprint.until("Offline").await;
    watcher.refused("control", "Park", json!(409), "").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn custom_controls_of_1_11_are_buttons_and_commands() {
    let world = World::of_1(|config| config).await;
    run_controls(world, "%(speed)d").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn custom_controls_of_2_0_are_buttons_and_commands() {
    let world = World::of_2(|config| config).await;
    run_controls(world, "{speed}").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn a_printers_macros_are_run_and_a_print_takes_parameters() {
    let world = World::stand_in().await;
    let (watcher, octoprint) = (&world.watcher, &world.octoprint);
    world.entities(0, "control_", &["CLEAN_NOZZLE", "PARK"]).await;
    watcher.done("control", "PARK").await;
    watcher.done("control", r#"{"control":"CLEAN_NOZZLE","params":{"TEMP":210}}"#).await;
    eventually("the printer's macros", || async {
        let sent = octoprint.read("standin.gcode");
        sent.ends_with("PARK\nCLEAN_NOZZLE TEMP=210 WIPES=3\n").then_some(())
    })
    .await;

    let params = || serde_json::from_str::<Value>(&octoprint.read("standin.params")).unwrap();
    watcher.done("print", r#"{"file":"printer/cube.gcode","params":{"plate":2}}"#).await;
    octoprint.until("Printing").await;
    assert_eq!(params(), json!({"plate": 2}));
    watcher.done("job", "cancel").await;
    octoprint.until("Operational").await;
    watcher.done("job", r#"{"action":"start","params":{"plate":3}}"#).await;
    octoprint.until("Printing").await;
    assert_eq!(params(), json!({"plate": 3}));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn parameters_of_a_print_are_refused_before_2_0() {
    let world = World::of_1(|config| config).await;
    world.octoprint.upload("part.gcode", 600).await;
    let watcher = &world.watcher;
    let print = r#"{"file":"local/part.gcode","params":{"plate":2}}"#;
    watcher.refused("print", print, Value::Null, "takes no parameters").await;
    let start = r#"{"action":"start","params":{"plate":2}}"#;
    watcher.refused("job", start, Value::Null, "takes no parameters").await;
    watcher.done("print", r#"{"file":"local/part.gcode"}"#).await;
    world.octoprint.until("Printing").await;
}

fn presets(presets: &[(&str, u32, u32)]) -> Value {
    let preset = |(name, extruder, bed): &(&str, u32, u32)| json!({"name": name, "extruder": extruder, "bed": bed, "chamber": null});
    json!({"temperature": {"profiles": presets.iter().map(preset).collect::<Vec<_>>()}})
}

async fn heat_with_presets(world: World) {
    let (watcher, octoprint) = (&world.watcher, &world.octoprint);
    world.entities(0, "preheat_", &["Preheat ABS", "Preheat PLA"]).await;
    let mark = watcher.mark();
    let saved = presets(&[("PLA {+}", 215, 65), ("Furnace", 200, 121)]);
    assert_eq!(octoprint.post("api/settings", saved).await, 200);
    world.entities(mark, "preheat_", &["Preheat PLA {+}", "Preheat Furnace"]).await;
    watcher.done("preset", r#"{"value":"PLA {+}"}"#).await;
    let targets = |tool: f64, bed: f64| async move {
        eventually("the targets", || async {
            let heaters = &octoprint.get("api/printer").await["temperature"];
            (heaters["tool0"]["target"] == tool && heaters["bed"]["target"] == bed).then_some(())
        })
        .await;
    };
    targets(215.0, 65.0).await;
    watcher.refused("preset", "Furnace", Value::Null, "its limit is 120 °C").await;
    watcher.refused("preset", "PLA", Value::Null, "it has PLA {+}, Furnace").await;
    targets(215.0, 65.0).await;
    watcher.done("preset", "off").await;
    targets(0.0, 0.0).await;
    let mark = watcher.mark();
    let sd = json!({"feature": {"sdSupport": false}, "temperature": {"profiles": []}});
    world.sends("refresh_sd", "1", &["M20"]).await;
    assert_eq!(octoprint.post("api/settings", sd).await, 200);
    world.entities(mark, "preheat_", &[]).await;
    world.entities(mark, "refresh_sd", &[]).await;
    watcher.refused("refresh_sd", "1", json!(404), "SD support is disabled").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn presets_of_1_11_are_buttons_and_commands() {
    heat_with_presets(World::of_1(|config| config).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn presets_of_2_0_are_buttons_and_commands() {
    heat_with_presets(World::of_2(|config| config).await).await;
}

async fn print_again(world: World) {
    let (watcher, octoprint) = (&world.watcher, &world.octoprint);
    octoprint.upload("short.gcode", 3).await;
    octoprint.upload("other.gcode", 3).await;
    watcher.refused("job", "again", json!(409), "no print is known").await;
    let print = async |command: &str, payload: &str| {
        let mark = watcher.mark();
        watcher.done(command, payload).await;
        let done = |print: &Value| print["event_type"] == "print_done";
        watcher.wait_json(mark, &topic("print"), done).await["path"].clone()
    };
    assert_eq!(print("print", "local/short.gcode").await, "short.gcode");
    octoprint.until("Operational").await;
    assert_eq!(print("job", "again").await, "short.gcode");
    octoprint.until("Operational").await;
    watcher.done("select", "local/other.gcode").await;
    assert_eq!(print("job", "again").await, "short.gcode");
    octoprint.until("Operational").await;
    octoprint.upload("long.gcode", 600).await;
    watcher.done("print", "local/long.gcode").await;
    octoprint.until("Printing").await;
    watcher.refused("job", "again", json!(409), "once it is operational").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn the_last_print_of_1_11_is_printed_again() {
    print_again(World::of_1(|config| config).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn the_last_print_of_2_0_is_printed_again() {
    print_again(World::of_2(|config| config).await).await;
}

/// Tells the latest version of OctoPrint, as its home in the internet does, to every request.
async fn latest_version(version: &'static str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/version.json", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let body = format!("{{\"version\":\"{version}\"}}");
            let _ = stream.read(&mut [0; 4096]).await;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

/// Software Update enabled, which looks at `url`, and installs by sleeping.
fn with_updates(config: &str, url: &str) -> String {
    let plugin = format!(
        "  softwareupdate:\n    check_overlay_url: {url}\n    pip_enable_check: false\n    checks:\n      octoprint: {{type: jsondata, jsondata: \"{url}\", method: sleep_a_bit, duration: 1}}\n  virtual_printer:"
    );
    config.replace("[softwareupdate, ", "[").replace("  virtual_printer:", &plugin)
}

async fn update(world: World) {
    let (watcher, octoprint) = (&world.watcher, &world.octoprint);
    let installed = octoprint.version().await;
    let known = |update: &Value| update["latest_version"] == "99.0.0";
    let told = watcher.wait_json(0, &topic("update"), known).await;
    assert_eq!(
        (&told["installed_version"], &told["title"]),
        (&json!(installed), &json!("OctoPrint"))
    );
    assert_eq!(told["in_progress"], false);
    let has = |message: &Value| message["components"]["update"]["payload_install"] == "octoprint";
    watcher.wait_json(0, CONFIG, has).await;

    octoprint.upload("long.gcode", 600).await;
    watcher.done("print", "local/long.gcode").await;
    octoprint.until("Printing").await;
    watcher.refused("update", "octoprint", json!(409), "only while nothing is printed").await;
    watcher.done("job", "cancel").await;
    octoprint.until("Operational").await;
    let mark = watcher.mark();
    watcher.done("update", "octoprint").await;
    let running = |is: bool| move |update: &Value| update["in_progress"] == is;
    watcher.wait_json(mark, &topic("update"), running(true)).await;
    let mark = watcher.mark();
    watcher.wait_json(mark, &topic("update"), running(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn an_update_of_1_11_is_told_and_installed() {
    let url = latest_version("99.0.0").await;
    update(World::of_1(|config| with_updates(&config, &url)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn an_update_of_2_0_is_told_and_installed() {
    let url = latest_version("99.0.0").await;
    update(World::of_2(|config| with_updates(&config, &url)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn without_software_update_there_is_no_update() {
    let world = World::of_1(|config| config).await;
    world.entities(0, "preheat_", &["Preheat ABS", "Preheat PLA"]).await;
    let watcher = &world.watcher;
    watcher.refused("update", "octoprint", json!(404), "Software Update is disabled").await;
    let messages = watcher.seen().into_iter().filter(|seen| seen.topic == CONFIG);
    let mut components = messages.map(|seen| seen.json()["components"].clone());
    assert!(components.all(|components| components["update"].is_null()));
    let updates = watcher.seen().into_iter().filter(|seen| seen.topic == topic("update"));
    assert!(updates.into_iter().all(|seen| seen.json()["latest_version"].is_null()));
}

/// OctoPrint passes prompts on, whether or not the firmware says that it has some.
fn with_prompts(config: &str) -> String {
    let plugin = "  action_command_prompt: {enable: always}\n  virtual_printer:";
    config.replace("  virtual_printer:", plugin)
}

async fn answer_prompts(mut world: World) {
    let octoprint = &world.octoprint;
    let watcher = &world.watcher;
    let asked = async |mark: usize, text: Value, choices: Value| {
        let is = |prompt: &Value| prompt["text"] == text && prompt["choices"] == choices;
        watcher.wait_json(mark, &topic("prompt"), is).await
    };
    let event = async |mark: usize, kind: &str, text: &str| {
        let is = |event: &Value| event["event_type"] == kind && event["text"] == text;
        watcher.wait_json(mark, &topic("prompt_event"), is).await;
    };
    let act = async |actions: &[&str]| {
        for action in actions {
            octoprint.command(&format!("!!DEBUG:action_custom {action}")).await;
        }
    };
    let nozzle =
        ["prompt_begin Which nozzle?", "prompt_choice Left", "prompt_choice Right", "prompt_show"];
    let ask = async || act(&nozzle).await;
    watcher.refused("prompt", "0", json!(409), "asks nothing").await;
    let mark = watcher.mark();
    ask().await;
    let told = asked(mark, json!("Which nozzle?"), json!(["Left", "Right"])).await;
    assert!(told["since"].is_string(), "{told}");
    event(mark, "prompt_shown", "Which nozzle?").await;
    let has = |message: &Value| {
        message["components"]["prompt_answer"]["options"] == json!(["Left", "Right"])
    };
    watcher.wait_json(mark, CONFIG, has).await;
    watcher.refused("prompt", "Middle", Value::Null, "there is Left, Right").await;
    let other = r#"{"choice":"Right","text":"Which spool?"}"#;
    watcher.refused("prompt", other, json!(409), "asks something else now").await;
    world.sends("prompt", "Right", &["M876 S1"]).await;
    asked(mark, Value::Null, Value::Null).await;
    event(mark, "prompt_closed", "Which nozzle?").await;

    // A change of filament, and a pause in the file.
    octoprint.upload("long.gcode", 600).await;
    watcher.done("print", "local/long.gcode").await;
    octoprint.until("Printing").await;
    let mark = watcher.mark();
    // What firmware sends at M600, and waits. The virtual printer's own M600 may never get out of it.
    act(&["paused", "prompt_begin Heater Timeout", "prompt_choice Reheat", "prompt_show"]).await;
    asked(mark, json!("Heater Timeout"), json!(["Reheat"])).await;
    let mark = watcher.mark();
    world.sends("prompt", "0", &["M876 S0"]).await;
    asked(mark, Value::Null, Value::Null).await;
    octoprint.until("Paused").await;
    watcher.done("job", "resume").await;
    octoprint.until("Printing").await;
    let mark = watcher.mark();
    octoprint.command("M0 Insert the nut").await;
    asked(mark, json!("Insert the nut"), json!([])).await;
    octoprint.until("Paused").await;
    watcher.refused("prompt", "0", json!(409), "asks nothing").await;
    watcher.done("job", "resume").await;
    asked(mark, Value::Null, Value::Null).await;
    watcher.done("job", "cancel").await;
    octoprint.until("Operational").await;

    // What was asked while the bridge was away is shown when it is back.
    drop(world.bridge);
    let mark = watcher.mark();
    ask().await;
    world.bridge = bridge(&world.broker, octoprint);
    asked(mark, json!("Which nozzle?"), json!(["Left", "Right"])).await;
    watcher.done("prompt", "Left").await;
    event(mark, "prompt_closed", "Which nozzle?").await;
    let events = watcher.seen().into_iter().skip(mark);
    let mut events = events.filter(|seen| seen.topic == topic("prompt_event"));
    assert!(events.all(|seen| seen.json()["event_type"] != "prompt_shown"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn prompts_of_1_11_are_told_and_answered() {
    answer_prompts(World::of_1(|config| with_prompts(&config)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run real"]
async fn prompts_of_2_0_are_told_and_answered() {
    answer_prompts(World::of_2(|config| with_prompts(&config)).await).await;
}
