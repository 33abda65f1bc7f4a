//! The entities chapter, held against the discovery messages.

use std::collections::{BTreeMap, BTreeSet};

use octoprint2mqtt::heater::{Heater, Limits};
use octoprint2mqtt::homeassistant::{
    CameraSource, Components, ControlButton, Extras, Groups, PrinterDevice, Profile, Settings,
    bridge, printer,
};
use octoprint2mqtt::topics::{BridgeTopics, PrinterTopics};
use serde_json::Value;

use super::book::{code, only_code, rows, same};

const CHAPTER: &str = "reference/entities";
/// A heater and a sensor with names that nothing else has.
const HEATER: &str = "tool77";
const SENSOR: &str = "ZZZ";
/// A webcam.
const WEBCAM: &str = "www";
/// A name that only the user's own things in OctoPrint have.
const NAME: &str = "QQQ";

const ALL: Groups = Groups {
    bridge: true,
    job: true,
    temperature: true,
    motion: true,
    connection: true,
    power: true,
    gcode: true,
    system: true,
};

/// Each group with all but it.
fn without_one() -> [(&'static str, Groups); 8] {
    [
        ("bridge", Groups { bridge: false, ..ALL }),
        ("job", Groups { job: false, ..ALL }),
        ("temperature", Groups { temperature: false, ..ALL }),
        ("motion", Groups { motion: false, ..ALL }),
        ("connection", Groups { connection: false, ..ALL }),
        ("power", Groups { power: false, ..ALL }),
        ("gcode", Groups { gcode: false, ..ALL }),
        ("system", Groups { system: false, ..ALL }),
    ]
}

fn settings() -> Settings {
    Settings {
        prefix: "homeassistant".to_owned(),
        climate: true,
        topics: BridgeTopics::new("octoprint2mqtt"),
        identity: "octoprint2mqtt".to_owned(),
    }
}

fn components(payload: &[u8]) -> BTreeMap<String, Value> {
    let message: Value = serde_json::from_slice(payload).unwrap();
    serde_json::from_value(message["components"].clone()).unwrap()
}

/// The components of a printer with these groups, by their keys.
fn of_printer(groups: Groups, files: Option<Vec<String>>) -> BTreeMap<String, Value> {
    let device = PrinterDevice {
        id: "mk3".to_owned(),
        name: "MK3".to_owned(),
        url: "http://octopi.local/".to_owned(),
        profile: Profile {
            octoprint_version: Some("2.0.0".to_owned()),
            heaters: [HEATER, SENSOR].into_iter().filter_map(Heater::read).collect(),
            files,
            system_commands: ["restart", "reboot", "shutdown"].map(str::to_owned).to_vec(),
            webcams: ["front", WEBCAM].map(str::to_owned).to_vec(),
            presets: vec![NAME.to_owned()],
            sd_card: true,
            updates: true,
            psu_control: true,
            prompt_choices: vec!["Purge {{ %} more".to_owned(), "5".to_owned()],
            controls: vec![ControlButton { name: NAME.to_owned(), asks: false }],
            ..Profile::default()
        },
        limits: Limits { tool: 300.0, bed: 120.0, chamber: 80.0 },
        max_rate_factor: 20,
        camera: CameraSource::Webcams,
        layers: true,
        thumbnails: true,
        groups,
        entities: Default::default(),
        extras: Extras {
            maintenance: vec![SENSOR.to_owned()],
            power_switch: false,
            auto_off: true,
        },
    };
    let topics = PrinterTopics::new("octoprint2mqtt", "mk3");
    components(&printer(&settings(), &topics, &device, &Components::new()).payload)
}

/// With a list of files and without.
fn of_both(groups: Groups) -> BTreeMap<String, Value> {
    let mut all = of_printer(groups, None);
    all.extend(of_printer(groups, Some(vec!["local/a.gcode".to_owned()])));
    all
}

/// A key, name or topic as the chapter has it.
fn general(text: &str) -> String {
    text.replace(HEATER, "<heater>")
        .replace(SENSOR, "<name>")
        .replace(WEBCAM, "<webcam>")
        .replace(NAME, "<name>")
        .replace("octoprint2mqtt/mk3/", "")
        .replace("octoprint2mqtt/bridge/", "")
}

/// One row: name, platform, key, topics read, topics written, group.
type Row = [String; 6];

fn row(key: &str, component: &Value, group: &str) -> Row {
    let name = component["name"].as_str().unwrap_or_default();
    let name = name
        .replace("Nozzle", "*Heater*")
        .replace(SENSOR, "*name*")
        .replace(WEBCAM, "*webcam*")
        .replace(NAME, "*name*");
    let members = component.as_object().unwrap().iter();
    let topics: BTreeSet<String> = members
        .filter(|(member, _)| member.ends_with("topic"))
        .map(|(_, topic)| general(topic.as_str().unwrap()))
        .collect();
    let (written, read): (Vec<String>, Vec<String>) =
        topics.into_iter().partition(|topic| topic.starts_with("set/"));
    let platform = component["platform"].as_str().unwrap().to_owned();
    [name, platform, general(key), read.join(", "), written.join(", "), group.to_owned()]
}

fn existing() -> BTreeSet<Row> {
    let all = of_both(ALL);
    let mut group_of: BTreeMap<String, &str> = BTreeMap::new();
    for (group, others) in without_one() {
        let left = of_both(others);
        let gone = all.keys().filter(|key| !left.contains_key(*key));
        group_of.extend(gone.map(|key| (key.clone(), group)));
    }
    let is_entity = |component: &Value| component["platform"] != "device_automation";
    let own = components(&bridge(&settings(), &Components::new()).payload);
    let own = own.iter().map(|(key, component)| row(key, component, ""));
    let entities = all.iter().filter(|(_, component)| is_entity(component));
    let group = |key: &str| group_of.get(key).copied().unwrap_or_default();
    entities.map(|(key, component)| row(key, component, group(key))).chain(own).collect()
}

#[test]
fn every_entity_is_listed_and_every_listed_entity_exists() {
    let columns = ["entity", "platform", "key", "reads", "writes", "group"];
    let documented: BTreeSet<Row> = rows(CHAPTER, columns)
        .into_iter()
        .map(|[name, platform, key, read, written, group]| {
            let topics = |cell: String| code(&cell).join(", ");
            let platform = only_code(&platform);
            [name, platform, only_code(&key), topics(read), topics(written), topics(group)]
        })
        .collect();
    let text = |rows: BTreeSet<Row>| rows.iter().map(|row| row.join(" | ")).collect();
    same(CHAPTER, &text(documented), &text(existing()));
}

#[test]
fn every_device_trigger_is_listed() {
    let documented =
        rows(CHAPTER, ["trigger", "key"]).into_iter().map(|[name, key]| format!("{name} {key}"));
    let existing = of_both(ALL).into_iter().filter(|(_, c)| c["platform"] == "device_automation");
    let existing = existing.map(|(key, trigger)| {
        let [noun, verb] = ["subtype", "type"].map(|member| trigger[member].as_str().unwrap());
        format!("\"{noun}\" {verb} `{key}`")
    });
    same(CHAPTER, &documented.collect(), &existing.collect());
}
