//! The fleet, and the dashboard that the program makes for it.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use serde_json::{Value, json};

use super::for_people::{add_dashboard, entities_of, take_pictures};
use super::real::bridge::{Bridge, config, run};
use super::real::homeassistant::HomeAssistant;
use super::real::mosquitto::Mosquitto;
use super::real::octoprint::{self, OctoPrint};
use super::real::{eventually, free_port};

/// A further printer of the configuration.
fn printer(id: &str, name: &str, url: &str, key: &str) -> String {
    let name = json!(name);
    format!("[printers.{id}]\nname = {name}\nurl = \"{url}\"\napi_key = \"{key}\"\n")
}

/// The dashboard that the program makes.
async fn dashboard(home: &HomeAssistant, config: &str) -> (String, Value) {
    let (code, text) = run(config, &["dashboard"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("# A dashboard"), "{text}");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let dashboard = home.yaml(file.path().to_str().unwrap());
    (text, dashboard)
}

fn named(dashboard: &Value) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    entities_of(dashboard, &mut named);
    named
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn the_fleet_is_counted_and_its_dashboard_names_entities_that_there_are() {
    let (broker, mut first, second) =
        tokio::join!(Mosquitto::start(), OctoPrint::start(), OctoPrint::start());
    first.upload("part.gcode", 300).await;
    let gone = format!("http://127.0.0.1:{}/", free_port());
    // Two whose names become the same, one of letters that are none of these, and one that is away.
    let more = "name = \"Käthes Drucker №2 🖨\"\n".to_owned()
        + &printer("b", "käthes-drucker, no2!", &second.url(), octoprint::KEY)
        + &printer("c", "Принтер Bob’s \"1,000\" on", &gone, octoprint::KEY);
    let text = config(&broker.url(), &first.url(), &more);
    let home = HomeAssistant::start(broker.port).await;
    let (_, before) = dashboard(&home, &text).await;
    let before = named(&before);
    let _bridge = Bridge::start(&text);
    for (count, value) in [("idle", "2"), ("printing", "0"), ("offline", "1"), ("paused", "0")] {
        home.is(&format!("sensor.octoprint_bridge_printers_{count}"), value).await;
    }
    home.is("sensor.octoprint_bridge_next_to_finish", "unknown").await;
    for there in ["sensor.kathes_drucker_no2_state", "sensor.kathes_drucker_no2_state_2"] {
        home.is(there, "operational").await;
    }
    home.is("sensor.printer_bobs_1000_on_state", "unavailable").await;
    // Its files are announced a little later.
    let is_select = |s: &Value| s["entity_id"].as_str().is_some_and(|id| id.starts_with("select."));
    let select = || async { home.states().await.iter().any(is_select).then_some(()) };
    eventually("the file to print", select).await;

    let (yaml, dashboard) = dashboard(&home, &text).await;
    assert!(yaml.contains("# Check the entity ids of printers.mk3: another"), "{yaml}");
    let named = named(&dashboard);
    assert_eq!(before, named, "from OctoPrint, and from what is published");
    for part in ["sensor.printer_bobs_1000_on_", "button.kathes_drucker_no2_", "sensor.octoprint_"]
    {
        assert!(named.iter().any(|id| id.starts_with(part)), "{part} in {named:?}");
    }
    eventually("all of them", || async {
        let states = home.states().await;
        let ids: BTreeSet<&str> = states.iter().filter_map(|s| s["entity_id"].as_str()).collect();
        named.iter().all(|id| ids.contains(id.as_str())).then_some(())
    })
    .await;
    add_dashboard(&home, &dashboard).await;

    first.select("part.gcode").await;
    first.job(json!({"command": "start"})).await;
    home.is("sensor.octoprint_bridge_printers_printing", "1").await;
    let is_known = |s: &Value| s["state"].as_str().is_some_and(|state| state.contains('T'));
    let next = home.wait("sensor.octoprint_bridge_next_to_finish", is_known).await;
    assert_eq!(next["attributes"]["printer_name"], "Käthes Drucker №2 🖨", "{next}");
    assert_eq!(next["attributes"]["printer"], "mk3", "{next}");
    second.command("M112").await;
    let error =
        home.wait("sensor.octoprint_bridge_printers_with_errors", |s| s["state"] == "1").await;
    assert_eq!(error["attributes"]["printers"], json!(["käthes-drucker, no2!"]), "{error}");
    first.kill();
    home.is("sensor.octoprint_bridge_printers_offline", "2").await;
    home.is("sensor.octoprint_bridge_next_to_finish", "unknown").await;
    assert_eq!(home.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs Home Assistant: ./tests/run homeassistant"]
fn slugs_are_those_of_home_assistant() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/homeassistant/slugs.py");
    let python = super::real::homeassistant::bin("python");
    let ask = |arguments: &[&str], input: &str| {
        let mut command = Command::new(&python);
        command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let table = include_str!("../../src/homeassistant/dashboard/slug_table.rs");
    assert_eq!(ask(&["table"], ""), table, "made by tests/homeassistant/slugs.py");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium too, and writes docs/src/pictures: ./tests/run pictures"]
async fn pictures_of_the_dashboard_for_all_printers() {
    let (broker, first, second, third) = tokio::join!(
        Mosquitto::start(),
        OctoPrint::start(),
        OctoPrint::start(),
        OctoPrint::start()
    );
    let mut more = "name = \"Prusa MK3S\"\n".to_owned()
        + &printer("xl", "Prusa XL", &second.url(), octoprint::KEY)
        + &printer("ender", "Ender 3", &third.url(), octoprint::KEY)
        + &printer("attic", "Attic", &format!("http://127.0.0.1:{}/", free_port()), octoprint::KEY);
    let mut simulators = Vec::new();
    for (id, name) in [("voron", "Voron 2.4"), ("mini", "Prusa Mini"), ("kobra", "Kobra")] {
        let options = SimulatorOptions { print_loop: id != "kobra", ..SimulatorOptions::default() };
        let simulator = Simulator::start(options).await.unwrap();
        more += &printer(id, name, &simulator.url(), "SIMULATOR-KEY");
        simulators.push(simulator);
    }
    let text = config(&broker.url(), &first.url(), &more);
    let _bridge = Bridge::start(&text);
    let home = HomeAssistant::start(broker.port).await;
    home.is("sensor.octoprint_bridge_printers_offline", "1").await;
    let (_, dashboard) = dashboard(&home, &text).await;
    add_dashboard(&home, &dashboard).await;
    for (octoprint, tenths) in [(&first, 900), (&second, 3_000)] {
        octoprint.upload("part.gcode", tenths).await;
        octoprint.select("part.gcode").await;
        octoprint.job(json!({"command": "start"})).await;
    }
    second.until("Printing").await;
    second.job(json!({"command": "pause"})).await;
    third.command("M112").await;
    home.is("sensor.octoprint_bridge_printers_with_errors", "1").await;
    home.is("sensor.octoprint_bridge_printers_paused", "1").await;
    let far = |s: &Value| s["state"].as_str().and_then(|s| s.parse().ok()) > Some(20.0);
    home.wait("sensor.prusa_mk3s_progress", far).await;
    let clicks = json!([["/printers-3d/all", "Prusa MK3S", "/printers-3d/printer-mk3"]]);
    take_pictures(&home, json!({"fleet": "/printers-3d/all"}), clicks).await;
}
