//! The discovery messages of every kind of device: ids, groups, removals, and what is read back.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::heater::{Heater, Limits};
use crate::topics::BridgeTopics;

fn settings(climate: bool) -> Settings {
    Settings {
        prefix: "homeassistant".to_owned(),
        climate,
        topics: BridgeTopics::new("octoprint2mqtt"),
        identity: "octoprint2mqtt".to_owned(),
    }
}

fn topics() -> PrinterTopics {
    PrinterTopics::new("octoprint2mqtt", "mk3")
}

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

const NONE: Groups = Groups {
    bridge: false,
    job: false,
    temperature: false,
    motion: false,
    connection: false,
    power: false,
    gcode: false,
    system: false,
};

fn device(heaters: &[&str], groups: Groups) -> PrinterDevice {
    PrinterDevice {
        id: "mk3".to_owned(),
        name: "Prusa MK3S".to_owned(),
        url: "http://octopi.local/".to_owned(),
        profile: Profile {
            manufacturer: Some("Prusa".to_owned()),
            model: Some("i3 MK3S".to_owned()),
            octoprint_version: Some("1.11.8".to_owned()),
            heaters: heaters.iter().filter_map(|name| Heater::read(name)).collect(),
            files: Some(vec!["local/a \"quoted\" %}.gcode".to_owned()]),
            system_commands: vec!["restart".to_owned(), "shutdown".to_owned()],
            webcams: vec!["front".to_owned(), "top".to_owned()],
            controls: ["Fans/Off", "Clean {{ nozzle }}", "5"]
                .map(|name| ControlButton { name: name.to_owned(), asks: name == "5" })
                .to_vec(),
            presets: vec!["PLA".to_owned(), "PLA {{+}}".to_owned()],
            sd_card: true,
            updates: true,
            psu_control: true,
            prompt_choices: vec!["Purge {{ more }}".to_owned(), "5".to_owned()],
        },
        limits: Limits { tool: 300.0, bed: 120.5, chamber: 80.0 },
        max_rate_factor: 20,
        camera: CameraSource::Webcams,
        layers: true,
        thumbnails: true,
        groups,
        entities: Default::default(),
        extras: Extras { maintenance: vec!["nozzle".to_owned()], ..Extras::default() },
    }
}

fn json_of(discovery: &DiscoveryMessage) -> Value {
    serde_json::from_slice(&discovery.payload).unwrap()
}

fn discovered(device: &PrinterDevice, climate: bool) -> Value {
    json_of(&printer(&settings(climate), &topics(), device, &Components::new()))
}

fn keys(payload: &Value) -> BTreeSet<&str> {
    payload["components"].as_object().unwrap().keys().map(String::as_str).collect()
}

/// All variants of messages.
fn variants() -> Vec<Value> {
    let mut variants = vec![json_of(&bridge(&settings(false), &Components::new()))];
    for heaters in [&["tool0", "bed"][..], &["tool0", "tool1", "bed", "chamber", "A", "x y/z"], &[]]
    {
        for groups in [ALL, NONE, Groups { system: false, gcode: false, ..ALL }] {
            for climate in [false, true] {
                variants.push(discovered(&device(heaters, groups), climate));
            }
        }
    }
    let mut bare = device(&["tool0"], ALL);
    bare.profile = Profile { heaters: vec![Heater::tool(0)], ..Profile::default() };
    bare.max_rate_factor = 1;
    variants.push(discovered(&bare, true));
    let gone = [("tool1".to_owned(), "sensor".to_owned())].into();
    variants.push(json_of(&printer(&settings(false), &topics(), &bare, &gone)));
    variants
}

#[test]
fn qos_is_in_each_component_and_nothing_unknown_at_the_root() {
    for payload in variants() {
        for key in payload.as_object().unwrap().keys() {
            let known = ["device", "origin", "components", "availability", "availability_mode"];
            assert!(known.contains(&key.as_str()), "{key}");
        }
        for (key, component) in payload["components"].as_object().unwrap() {
            let removed = component.as_object().unwrap().len() == 1;
            assert!(removed || component["qos"] == 1, "{key}: {component}");
        }
    }
}

#[test]
fn every_entity_has_a_unique_id_and_no_entity_id() {
    for payload in variants() {
        let device = payload["device"]["identifiers"][0].as_str().unwrap();
        for (key, component) in payload["components"].as_object().unwrap() {
            let component = component.as_object().unwrap();
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            assert!(key.chars().all(good), "{key}");
            if component["platform"] == "device_automation" || component.len() == 1 {
                continue;
            }
            assert_eq!(component["unique_id"], format!("{device}__{key}"));
            assert!(!component.contains_key("object_id"));
            assert!(!component.contains_key("default_entity_id"));
            let name = component["name"].as_str().unwrap();
            assert!(!name.starts_with("Prusa") && !name.is_empty(), "{name}");
        }
        let text = payload.to_string();
        assert!(!text.contains("\"~\"") && !text.contains("\"retain\""), "{text}");
    }
}

#[test]
fn read_only_entities_are_not_in_the_config_category() {
    for payload in variants() {
        for (key, component) in payload["components"].as_object().unwrap() {
            let platform = component["platform"].as_str().unwrap();
            if matches!(platform, "sensor" | "binary_sensor" | "event") {
                assert_ne!(component["entity_category"], "config", "{key}");
            }
        }
    }
}

#[test]
fn an_own_availability_has_a_mode_and_includes_the_bridge() {
    for payload in variants() {
        for (key, component) in payload["components"].as_object().unwrap() {
            let component = component.as_object().unwrap();
            assert!(!component.contains_key("availability_topic"), "{key}");
            let own = component.get("availability");
            assert_eq!(own.is_some(), component.get("availability_mode") == Some(&json!("all")));
            let topics: Vec<&str> = own
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|entry| entry["topic"].as_str().unwrap())
                .collect();
            assert!(own.is_none() || topics.contains(&"octoprint2mqtt/bridge/state"), "{key}");
            let distinct: BTreeSet<&str> = topics.iter().copied().collect();
            assert_eq!(distinct.len(), topics.len(), "a topic counts once: {key}");
        }
    }
    let root = discovered(&device(&["bed"], NONE), false);
    let wanted = json!([
        {"topic": "octoprint2mqtt/bridge/state"},
        {"topic": "octoprint2mqtt/mk3/availability"},
    ]);
    assert_eq!((&root["availability"], &root["availability_mode"]), (&wanted, &json!("all")));
}

#[test]
fn missing_components_are_marked_as_removed_and_stay_marked() {
    let two = printer(
        &settings(false),
        &topics(),
        &device(&["tool0", "tool1", "bed"], ALL),
        &Components::new(),
    );
    let one = device(&["tool0", "bed"], ALL);
    let removed = printer(&settings(false), &topics(), &one, &two.components);
    let payload = json_of(&removed);
    assert_eq!(payload["components"]["tool1"], json!({"platform": "sensor"}));
    assert_eq!(payload["components"]["tool1_set_target"], json!({"platform": "number"}));
    assert!(payload["components"]["tool0"]["unique_id"].is_string());
    let again = printer(&settings(false), &topics(), &one, &removed.components);
    assert_eq!(again, removed, "the markers stay");
    // A key never changes its platform: more files than a select takes mean another key.
    let mut many = one.clone();
    many.profile.files = Some((0..=MOST_FILES).map(|n| format!("local/{n}.gcode")).collect());
    let payload = json_of(&printer(&settings(false), &topics(), &many, &removed.components));
    assert_eq!(payload["components"]["file_select"], json!({"platform": "select"}));
    assert_eq!(payload["components"]["file_path"]["platform"], "text");
}

#[test]
fn groups_that_are_off_have_no_entities() {
    let commands = |groups: Groups| -> BTreeSet<String> {
        let payload = discovered(&device(&["tool0", "bed"], groups), true);
        let components = payload["components"].as_object().unwrap().clone();
        components
            .into_iter()
            .filter(|(_, c)| c.to_string().contains("mk3/set/"))
            .map(|(key, _)| key)
            .collect()
    };
    assert!(commands(NONE).is_empty());
    let all = commands(ALL);
    let one = |on: fn(&mut Groups)| {
        let mut groups = NONE;
        on(&mut groups);
        commands(groups)
    };
    let job = one(|groups| groups.job = true);
    assert!(
        ["start", "cancel", "emergency_stop", "file_select", "message"]
            .iter()
            .all(|k| job.contains(*k))
    );
    let temperature = one(|groups| groups.temperature = true);
    assert!(temperature.contains("heaters_off"), "{temperature:?}");
    let system = one(|groups| groups.system = true);
    let expected = ["system_restart", "system_shutdown", "update"].map(str::to_owned);
    assert_eq!(system, expected.into());
    let mut together = job;
    together.extend(system);
    together.extend(one(|groups| groups.bridge = true));
    together.extend(one(|groups| groups.temperature = true));
    together.extend(one(|groups| groups.motion = true));
    together.extend(one(|groups| groups.connection = true));
    together.extend(one(|groups| groups.power = true));
    together.extend(one(|groups| groups.gcode = true));
    assert_eq!(together, all);
}

#[test]
fn a_custom_control_is_a_button_that_sends_its_name() {
    let payload = discovered(&device(&["tool0"], ALL), false);
    let components = payload["components"].as_object().unwrap();
    let mut buttons = components.iter().filter(|(key, _)| key.starts_with("control_"));
    let button = buttons.find(|(_, button)| button["name"] == "Fans/Off").unwrap().1;
    assert_eq!(button["command_topic"], "octoprint2mqtt/mk3/set/control");
    assert_eq!(button["payload_press"], r#"{"value":"Fans/Off"}"#);
    assert!(button["enabled_by_default"].is_null());
    // It asks in OctoPrint, and nobody would ask in Home Assistant.
    assert_eq!(components["control_5"]["enabled_by_default"], false);
    let mut twice = device(&["tool0"], ALL);
    let first = twice.profile.controls[0].clone();
    twice.profile.controls.push(first);
    assert_eq!(discovered(&twice, false), payload, "one entity a name");
    let gone = Groups { gcode: false, ..ALL };
    let payload = discovered(&device(&["tool0"], gone), false);
    assert!(!keys(&payload).iter().any(|key| key.starts_with("control_")));
}

#[test]
fn a_preset_is_a_button_while_octoprint_has_it() {
    let of = |presets: &[&str], sd_card, gone: &Components| {
        let mut device = device(&["tool0"], ALL);
        device.profile.presets = presets.iter().map(|name| (*name).to_owned()).collect();
        device.profile.sd_card = sd_card;
        printer(&settings(false), &topics(), &device, gone)
    };
    let both = of(&["PLA", "ABS"], true, &Components::new());
    let payload = json_of(&both);
    let button = &payload["components"]["preheat_PLA"];
    assert_eq!(button["name"], "Preheat PLA");
    assert_eq!(button["payload_press"], r#"{"value":"PLA"}"#);
    assert_eq!(payload["components"]["refresh_sd"]["entity_category"], "config");
    let payload = json_of(&of(&["PLA"], false, &both.components));
    let removed = json!({"platform": "button"});
    assert_eq!(payload["components"]["preheat_ABS"], removed);
    assert_eq!(payload["components"]["refresh_sd"], removed);
    assert!(payload["components"]["preheat_PLA"]["unique_id"].is_string());
}

#[test]
fn an_update_can_be_installed_only_with_the_group_system() {
    let update = |updates, groups| {
        let mut device = device(&["tool0"], groups);
        device.profile.updates = updates;
        discovered(&device, false)["components"]["update"].clone()
    };
    let whole = update(true, ALL);
    assert_eq!(whole["platform"], "update");
    assert_eq!(whole["command_topic"], "octoprint2mqtt/mk3/set/update");
    assert_eq!(whole["payload_install"], "octoprint");
    let shown = update(true, Groups { system: false, ..ALL });
    assert!(shown["command_topic"].is_null() && shown["payload_install"].is_null());
    assert_eq!(shown["state_topic"], "octoprint2mqtt/mk3/update");
    assert!(update(false, ALL).is_null());
}

#[test]
fn the_choices_of_the_last_prompt_are_options() {
    let answer = |choices: &[&str], groups| {
        let mut device = device(&["tool0"], groups);
        device.profile.prompt_choices = choices.iter().map(|text| (*text).to_owned()).collect();
        discovered(&device, false)["components"]["prompt_answer"].clone()
    };
    let select = answer(&["Purge", "Go on"], ALL);
    assert_eq!(select["options"], json!(["Purge", "Go on"]));
    assert_eq!(select["command_topic"], "octoprint2mqtt/mk3/set/prompt");
    assert!(select["availability"].to_string().contains("mk3/prompt"));
    assert!(answer(&["Purge"], Groups { job: false, ..ALL }).is_null());
    assert!(answer(&[], ALL).is_null());
}

#[test]
fn entities_of_2_0_exist_only_there() {
    for (version, is_there) in
        [(Some("2.0.0rc7"), true), (Some("10.1"), true), (Some("1.11.8"), false), (None, false)]
    {
        let mut device = device(&["tool0"], ALL);
        device.profile.octoprint_version = version.map(str::to_owned);
        let payload = discovered(&device, false);
        assert_eq!(keys(&payload).contains("bad_line"), is_there, "{version:?}");
    }
}

#[test]
fn heaters_and_climate_follow_the_profile() {
    let payload = discovered(&device(&["tool0", "tool1", "bed", "A"], ALL), true);
    let keys = keys(&payload);
    for key in ["tool0", "tool1_target", "bed_set_target", "tool1_climate", "sensor_A"] {
        assert!(keys.contains(key), "{key} in {keys:?}");
    }
    assert!(!keys.contains("A_set_target") && !keys.contains("sensor_A_target"));
    let components = &payload["components"];
    assert_eq!(components["tool1"]["name"], "Tool 1 temperature");
    assert_eq!(components["bed_set_target"]["max"], 120.5);
    assert_eq!(components["tool0_set_target"]["max"], 300);
    let single = discovered(&device(&["tool0", "bed"], ALL), false);
    assert_eq!(single["components"]["tool0"]["name"], "Nozzle temperature");
    assert!(single["components"]["bed_climate"].is_null());
}

#[test]
fn the_device_names_its_bridge_as_parent() {
    let payload = discovered(&device(&["bed"], ALL), false);
    assert_eq!(
        payload["device"],
        json!({
            "identifiers": ["octoprint2mqtt_mk3"], "name": "Prusa MK3S", "manufacturer": "Prusa",
            "model": "i3 MK3S", "sw_version": "OctoPrint 1.11.8",
            "configuration_url": "http://octopi.local/", "via_device": "octoprint2mqtt_bridge",
        })
    );
    let settings = settings(false);
    assert_eq!(&*printer_topic(&settings, "mk3"), "homeassistant/device/octoprint2mqtt_mk3/config");
    assert_eq!(&*bridge_topic(&settings), "homeassistant/device/octoprint2mqtt_bridge/config");
    let other = Settings { topics: BridgeTopics::new("home/prints"), ..settings };
    let topic = bridge_topic(&other);
    assert_eq!(&*topic, "homeassistant/device/octoprint2mqtt_bridge_home_prints_bridge/config");
}

#[test]
fn own_messages_are_read_back_and_others_ignored() {
    let (settings, device) = (settings(false), device(&["tool0", "bed"], ALL));
    let ours = printer(&settings, &topics(), &device, &Components::new());
    let read = published(&settings, &ours.payload).unwrap();
    assert_eq!((read.printer.as_deref(), &read.components), (Some("mk3"), &ours.components));
    assert_eq!(read.heaters, ["bed", "tool0"]);
    let one = printer(&settings, &topics(), &self::device(&["bed"], ALL), &ours.components);
    assert_eq!(published(&settings, &one.payload).unwrap().heaters, ["bed"], "not removed ones");
    let own = bridge(&settings, &Components::new());
    let read = published(&settings, &own.payload).unwrap();
    assert_eq!((read.printer, read.components), (None, own.components));
    let other = Settings { topics: BridgeTopics::new("other"), ..settings.clone() };
    assert_eq!(published(&other, &ours.payload), None);
    let there = published_anywhere(&ours.payload).unwrap();
    assert_eq!(there.bridge_state, "octoprint2mqtt/bridge/state");
    for foreign in [&b""[..], b"{}", b"[]", b"{\"origin\":{\"name\":\"zigbee2mqtt\"}}"] {
        assert_eq!(published(&settings, foreign), None);
    }
}

#[test]
fn a_message_has_the_identity_in_a_component_and_nowhere_else() {
    let settings = Settings { identity: "workshop".to_owned(), ..settings(false) };
    let gone = Components::from([("aaa".to_owned(), "sensor".to_owned())]);
    let none: &[&str] = &[];
    for message in
        [printer(&settings, &topics(), &device(none, NONE), &gone), bridge(&settings, &gone)]
    {
        let payload = json_of(&message);
        let components = payload["components"].as_object().unwrap();
        let named = |c: &&Value| c["octoprint2mqtt"] == "workshop" && c["unique_id"].is_string();
        assert_eq!(components.values().filter(named).count(), 1);
        // An unknown key in these places costs the whole message.
        let elsewhere = [&payload, &payload["device"], &payload["origin"]];
        assert!(elsewhere.iter().all(|place| place.get("octoprint2mqtt").is_none()));
        assert_eq!(components["aaa"], json!({"platform": "sensor"}), "a marker is nothing else");
        let read = published(&settings, &message.payload).unwrap();
        assert_eq!(read.identity.as_deref(), Some("workshop"));
    }
    let earlier = json!({
        "origin": {"name": "octoprint2mqtt"},
        "device": {"identifiers": ["octoprint2mqtt_mk3"]},
        "availability": [{"topic": "octoprint2mqtt/bridge/state"}],
        "components": {"state": {"platform": "sensor"}},
    });
    let read = published(&settings, earlier.to_string().as_bytes()).unwrap();
    assert_eq!((read.printer.as_deref(), read.identity), (Some("mk3"), None));
}

#[test]
fn webcams_have_entities_only_while_they_are_used() {
    let keys = |camera: CameraSource, groups: Groups| -> Vec<String> {
        let device = PrinterDevice { camera, ..device(&["tool0"], groups) };
        let topics = PrinterTopics::new("octoprint2mqtt", "mk3");
        let message = json_of(&printer(&settings(false), &topics, &device, &Components::new()));
        let components = message["components"].as_object().unwrap();
        let of_camera = |key: &&String| key.starts_with("camera") || *key == "snapshot";
        components.keys().filter(of_camera).cloned().collect()
    };
    assert_eq!(keys(CameraSource::Webcams, ALL), ["camera", "camera_top", "snapshot"]);
    assert_eq!(keys(CameraSource::Own, ALL), ["camera", "snapshot"]);
    assert!(keys(CameraSource::Off, ALL).is_empty());
}
