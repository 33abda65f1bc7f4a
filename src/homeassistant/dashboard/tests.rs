use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::heater::{Heater, Limits};
use crate::homeassistant::{
    self as discovery, CameraSource, Components, Extras, Groups, PrinterDevice, Profile, Settings,
};
use crate::topics::{BridgeTopics, PrinterTopics};

fn settings(bridge: &str) -> Settings {
    Settings {
        prefix: "homeassistant".to_owned(),
        climate: true,
        topics: BridgeTopics::named("octoprint2mqtt", bridge),
        identity: "octoprint2mqtt".to_owned(),
    }
}

fn groups(allowed: bool) -> Groups {
    Groups {
        bridge: allowed,
        job: allowed,
        temperature: allowed,
        motion: allowed,
        connection: allowed,
        power: allowed,
        gcode: allowed,
        system: allowed,
    }
}

fn printer(id: &str, name: &str, heaters: &[&str], allowed: bool) -> (String, Vec<u8>) {
    let device = PrinterDevice {
        id: id.to_owned(),
        name: name.to_owned(),
        url: "http://octopi.local/".to_owned(),
        profile: Profile {
            heaters: heaters.iter().filter_map(|name| Heater::read(name)).collect(),
            files: Some(vec!["local/a.gcode".to_owned()]),
            ..Profile::default()
        },
        limits: Limits { tool: 300.0, bed: 120.0, chamber: 80.0 },
        max_rate_factor: 20,
        camera: CameraSource::Webcams,
        layers: true,
        thumbnails: true,
        entities: Default::default(),
        groups: groups(allowed),
        extras: Extras::default(),
    };
    let topics = PrinterTopics::new("octoprint2mqtt", id);
    let message = discovery::printer(&settings("bridge"), &topics, &device, &Components::new());
    (id.to_owned(), message.payload.to_vec())
}

fn bridge(name: &str) -> Vec<u8> {
    discovery::bridge(&settings(name), &Components::new()).payload.to_vec()
}

fn parts(printers: Vec<(String, Vec<u8>)>) -> DashboardParts {
    let bridges = vec![bridge("bridge")];
    DashboardParts { bridges, printers, has_mini_graph_card: false }
}

/// What the dashboard names in one domain.
fn named<'t>(text: &'t str, domain: &str) -> BTreeSet<&'t str> {
    let words = text.split([' ', '\n', '"']);
    words.filter(|word| word.starts_with(domain) && *word != "button.press").collect()
}

#[test]
fn temperatures_are_in_a_better_graph_where_there_is_one() {
    let mut parts = parts(vec![printer("mk3", "MK3", &["tool0", "bed"], true)]);
    let plain = dashboard(&parts);
    assert!(plain.contains("history-graph") && !plain.contains("custom:"), "{plain}");
    parts.has_mini_graph_card = true;
    let better = dashboard(&parts);
    assert!(!better.contains("history-graph"), "{better}");
    assert_eq!(better.matches("custom:mini-graph-card").count(), 1);
    let temperatures = named(&better, "sensor.mk3_nozzle_temperature");
    assert_eq!(temperatures.len(), 1, "the same entities");
}

#[test]
fn each_printer_has_a_place_in_the_overview_and_a_view() {
    let text = dashboard(&parts(vec![
        printer("mk3", "Prusa MK3S", &["tool0", "bed"], true),
        printer("xl", "Käthe", &["tool0", "tool1", "bed"], true),
    ]));
    for part in [
        "path: all\n",
        "path: printer-mk3\n",
        "path: printer-xl\n",
        "navigation_path: printer-mk3\n",
        "entity: sensor.octoprint_bridge_printers_idle\n",
        "entity: sensor.octoprint_bridge_next_to_finish\n",
        "entity: sensor.prusa_mk3s_nozzle_temperature\n",
        "entity: sensor.kathe_tool_1_temperature\n",
        "entity: number.kathe_tool_1_target\n",
        "entity_id: button.kathe_cancel_print\n",
        "entity: button.prusa_mk3s_emergency_stop\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("subview") && !text.contains("Check the entity ids"));
}

#[test]
fn what_is_not_allowed_has_no_card() {
    let text = dashboard(&parts(vec![printer("mk3", "MK3", &["tool0"], false)]));
    for domain in ["button.", "number.", "select.", "switch."] {
        assert_eq!(named(&text, domain), BTreeSet::new());
    }
    assert!(named(&text, "sensor.").contains("sensor.mk3_nozzle_temperature"));
    assert!(!text.contains("bed"), "a printer without a bed: {text}");
    let bare = dashboard(&parts(vec![printer("mk3", "MK3", &[], false)]));
    assert!(!bare.contains("Temperatures"), "{bare}");
}

#[test]
fn cameras_and_images_are_shown_if_the_printer_has_them() {
    let (id, message) = printer("mk3", "MK3", &["tool0"], true);
    let mut message: Value = serde_json::from_slice(&message).unwrap();
    message["components"]["webcam"] =
        json!({"platform": "camera", "name": "Webcam", "unique_id": "x"});
    message["components"]["picture"] =
        json!({"platform": "image", "name": "Thumbnail", "unique_id": "y"});
    let text = dashboard(&parts(vec![(id, message.to_string().into_bytes())]));
    assert!(text.contains("type: picture-entity\n"), "{text}");
    assert!(text.contains("entity: camera.mk3_webcam\n"), "{text}");
    assert!(text.contains("entity: image.mk3_thumbnail\n"), "{text}");
}

#[test]
fn many_printers_have_no_tabs() {
    let printers = |count: usize| {
        let of = |n| printer(&format!("p{n}"), &format!("P{n}"), &["tool0"], true);
        dashboard(&parts((0..count).map(of).collect()))
    };
    assert!(!printers(MAX_TABS).contains("subview"));
    assert_eq!(printers(MAX_TABS + 1).matches("subview: true\n").count(), MAX_TABS + 1);
}

#[test]
fn bridges_that_share_the_printers_have_a_fleet_each() {
    let bridges = vec![bridge("bridge"), bridge("bridge-1")];
    let text = dashboard(&DashboardParts { bridges, ..parts(Vec::new()) });
    for part in [
        "heading: OctoPrint bridge\n",
        "heading: OctoPrint bridge 1\n",
        "entity: sensor.octoprint_bridge_printers_idle\n",
        "entity: sensor.octoprint_bridge_1_printers_idle\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn ids_that_may_be_others_are_marked() {
    let text = dashboard(&parts(vec![
        printer("a", "MK3", &["tool0"], true),
        printer("b", "mk3", &["tool0"], true),
        printer("c", "拓竹", &["tool0"], true),
    ]));
    assert!(!text.contains("printers.a:"), "{text}");
    assert!(text.contains("# Check the entity ids of printers.b: another device"), "{text}");
    assert!(text.contains("# Check the entity ids of printers.c: what Home Assistant"), "{text}");
    assert!(text.contains("entity: sensor.mk3_state_2\n"), "{text}");
}

#[test]
fn what_is_shown_while_printing_follows_states_that_there_are() {
    let (_, message) = printer("mk3", "MK3", &["tool0"], true);
    let message: Value = serde_json::from_slice(&message).unwrap();
    let options = message["components"]["state"]["options"].as_array().unwrap();
    for state in cards::WITH_PRINT {
        assert!(options.iter().any(|option| option == state), "{state}");
    }
}
