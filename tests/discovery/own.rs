//! Entities of the user's own: those of the guide, and one for each device class.

use std::sync::Arc;

use octoprint2mqtt::config;
use octoprint2mqtt::own_entity::{OwnEntity, Role};
use serde_json::{Value, json};

const PRINTER: &str = "[printers.p]\nurl = \"http://h\"\napi_key = \"k\"\n";

/// What each type needs, besides a class.
const TYPES: [(&str, &str); 6] = [
    ("sensor", "from = \"plugin/a\"\nvalue = \"/a\"\n"),
    ("binary_sensor", "from = \"plugin/a\"\nvalue = \"/a\"\n"),
    ("event", "from = \"plugin/a\"\n"),
    ("button", "press = { plugin = \"a\" }\n"),
    ("switch", "on = { plugin = \"a\" }\noff = { gcode = \"M355 S0\" }\n"),
    ("number", "set = { gcode = \"M106 S{value}\" }\nmin = 0.5\nmax = 1.5\nstep = 0.25\n"),
];

/// The blocks of TOML in the guide.
fn examples() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/guides/own-entities.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let blocks = guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect::<String>().replace("printers.mk3.", "printers.p.")
}

fn entity(kind: &str, needs: &str, class: &str) -> String {
    let key = format!("{kind}-{class}");
    format!("[printers.p.entities.{key}]\ntype = \"{kind}\"\n{needs}device_class = \"{class}\"\n")
}

/// The device classes of a type, as the program lists them where it refuses one.
fn classes(kind: &str, needs: &str) -> Vec<String> {
    let error = config::from_toml(&(PRINTER.to_owned() + &entity(kind, needs, "nonsense")));
    let error = error.unwrap_err();
    let expected = &error.mistakes()[0].expected;
    expected.strip_prefix("one of ").unwrap().split(", ").map(str::to_owned).collect()
}

/// Device classes that are newer than Home Assistant 2024.11.
const NEWER: [&str; 4] =
    ["area", "blood_glucose_concentration", "energy_distance", "wind_direction"];

/// Whether the tests run with the oldest version.
fn is_oldest() -> bool {
    let programs = std::env::var("OCTOPRINT2MQTT_TEST_HASS").unwrap_or_default();
    programs.contains("homeassistant-2024.")
}

/// An entity of this class with a unit that goes with it: the shortest of those that the warning names,
/// which is the oldest too.
fn with_unit(kind: &str, needs: &str, class: &str) -> String {
    let mut text = entity(kind, needs, class);
    let loaded = config::load_text("classes", &(PRINTER.to_owned() + &text), []).unwrap();
    if let Some(warning) = loaded.warnings.first() {
        let (_, units) = warning.split_once("it knows ").unwrap();
        text += &format!(
            "unit = \"{}\"\n",
            units.split(", ").min_by_key(|unit| unit.chars().count()).unwrap()
        );
    }
    text
}

fn all() -> String {
    let mut text = PRINTER.to_owned() + &examples();
    for (kind, needs) in TYPES {
        let is_known = |class: &String| !(is_oldest() && NEWER.contains(&class.as_str()));
        for class in classes(kind, needs).into_iter().filter(is_known) {
            text += &with_unit(kind, needs, &class);
        }
    }
    text
}

/// All of them, of one printer.
pub fn entities() -> Arc<[OwnEntity]> {
    let loaded = config::load_text("all", &all(), []).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let entities = loaded.config.printers[0].entities.clone();
    assert!(entities.len() > 150, "{}", entities.len());
    entities
}

/// What the topic of each entity may say, several times.
pub fn states() -> Vec<(String, Value)> {
    let mut states = Vec::new();
    for entity in entities().iter() {
        let class = entity.look.device_class.as_deref();
        let values = match &entity.role {
            Role::Button(_) => continue,
            Role::Event(types) => {
                for kind in types {
                    let event = json!({"event_type": kind, "data": {"a": 1}, "timestamp": 5});
                    states.push((entity.key.clone(), event));
                }
                continue;
            }
            Role::Sensor => match class {
                Some("timestamp") => vec![json!("2026-11-28T12:00:00Z")],
                Some("date") => vec![json!("2026-11-28")],
                Some(_) => vec![json!(12.5), json!(0)],
                None if entity.takes(&json!("a text")) => {
                    vec![json!("a text"), json!("{{ 1 }}"), json!(5), json!(true), json!(false)]
                }
                None => vec![json!(5)],
            },
            Role::BinarySensor | Role::Switch { .. } => vec![json!(true), json!(false)],
            Role::Number { min, max, .. } => vec![json!(min), json!(max), json!(max + 1.0)],
            Role::Select(options) => {
                let names = options.iter().map(|(name, _)| json!(name));
                names.chain([json!("gone")]).collect()
            }
        };
        let values = values.into_iter().chain([json!(null)]);
        states.extend(values.map(|value| (entity.key.clone(), json!({ "value": value }))));
    }
    states
}
