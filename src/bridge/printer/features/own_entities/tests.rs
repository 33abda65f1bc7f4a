use std::time::SystemTime;

use serde_json::json;
use tokio::time::Instant as TokioInstant;

use super::*;
use crate::bridge::fleet_report::FleetReporter;
use crate::bridge::printer::features::stage::Stage;
use crate::bridge::printer::features::{pass_message, plugin_of};
use crate::bridge::printer::power::PowerState;
use crate::store::{Known, Store};

const ENTITIES: &str = r#"
[printers.p]
url = "http://h"
api_key = "k"
[printers.p.entities.cpu]
type = "sensor"
from = "plugin/resource_monitor"
value = "/cpu/average"
unit = "%"
expire_after = "30s"
[printers.p.entities.spool]
type = "sensor"
from = "event/plugin_spoolmanager_spool_selected"
value = "/spoolName"
default = "none"
[printers.p.entities.nozzle]
type = "sensor"
from = "message/current"
value = "/temps/0/tool0/actual"
[printers.p.entities.runout]
type = "event"
from = "plugin/sensor"
value = "/state"
events = ["out", "back"]
[printers.p.entities.door]
type = "event"
from = "plugin/sensor"
when = { pointer = "/door", equals = true }
[printers.p.entities.light]
type = "switch"
on = { gcode = ["M355 S1"] }
off = { gcode = ["M355 S0"] }
[printers.p.entities.led]
type = "switch"
from = "plugin/octolight"
value = "/isLightOn"
on = { plugin = "octolight" }
off = { plugin = "octolight" }
"#;

struct World {
    stage: Stage,
    feature: OwnEntities,
}

impl World {
    fn start(text: &str, known: &Known, store: &Store) -> Self {
        let config = crate::config::from_toml(text).unwrap();
        let kept = Persisted::restore("entities", "p", known, store.clone());
        let feature = OwnEntities::new(config.printers[0].entities.clone(), kept);
        Self { stage: Stage::new(), feature }
    }

    fn new() -> Self {
        Self::start(ENTITIES, &Known::default(), &Store::default())
    }

    fn started(&mut self) -> Vec<(String, Value)> {
        self.stage.run(|scene| self.feature.start(scene))
    }

    fn message(&mut self, kind: &str, payload: &Value) -> Vec<(String, Value)> {
        let (now, wall) = (TokioInstant::now(), SystemTime::now());
        let payload = payload.to_string().into();
        let message = Message::new(kind, payload, now, wall, 1).unwrap();
        let plugin = plugin_of(&message);
        let feature = &mut self.feature;
        self.stage.run(|scene| pass_message(feature, &message, plugin.as_ref(), scene))
    }

    fn plugin(&mut self, id: &str, data: &Value) -> Vec<(String, Value)> {
        self.message("plugin", &json!({"plugin": id, "data": data}))
    }

    fn event(&mut self, kind: &str, payload: &Value) -> Vec<(String, Value)> {
        self.stage.event(&mut self.feature, kind, payload)
    }

    fn commanded(&mut self, key: &str, value: Value) -> Vec<(String, Value)> {
        let effect = Effect::Entity { key: key.to_owned(), value };
        self.stage.run(|scene| self.feature.effect(&effect, scene))
    }

    /// Goes to when something is due, and does it.
    fn flush(&mut self) -> (Duration, Vec<(String, Value)>) {
        let due = self.feature.due().expect("something is due");
        let later = due.saturating_duration_since(self.stage.now.instant);
        self.stage.now.instant = self.stage.now.instant.max(due);
        (later, self.stage.run(|scene| self.feature.flush(scene)))
    }
}

fn state(key: &str, value: &Value) -> (String, Value) {
    (format!("entity/{key}"), json!({ "value": value }))
}

#[tokio::test]
async fn every_state_is_published_at_the_start() {
    let started = World::new().started();
    let expected = [
        state("cpu", &json!(null)),
        state("led", &json!(null)),
        state("light", &json!(null)),
        state("nozzle", &json!(null)),
        state("spool", &json!("none")),
    ];
    assert_eq!(started, expected);
}

#[tokio::test]
async fn states_follow_messages_and_only_changes_are_published() {
    let mut world = World::new();
    let data = json!({"cpu": {"average": 12.5}, "temp": {}});
    assert_eq!(world.plugin("resource_monitor", &data), [state("cpu", &json!(12.5))]);
    assert_eq!(world.plugin("resource_monitor", &data), []);
    assert_eq!(world.plugin("other", &json!({"cpu": {"average": 99}})), []);
    let selected = json!({"spoolName": "Galaxy Black"});
    let kind = "plugin_spoolmanager_spool_selected";
    assert_eq!(world.event(kind, &selected), [state("spool", &json!("Galaxy Black"))]);
    assert_eq!(world.event("PrintDone", &selected), []);
    let current = json!({"temps": [{"tool0": {"actual": 210.1}}]});
    assert_eq!(world.message("current", &current), [state("nozzle", &json!(210.1))]);
    assert_eq!(world.message("current", &json!({"temps": []})), []);
    assert_eq!(world.message("history", &json!({"temps": [{"tool0": {"actual": 5}}]})), []);
    assert_eq!(world.message("plugin", &json!([])), []);
}

#[tokio::test]
async fn an_old_state_is_unknown() {
    let mut world = World::new();
    let data = json!({"cpu": {"average": 12.5}});
    world.plugin("resource_monitor", &data);
    world.stage.now.instant += Duration::from_secs(20);
    // The same again is no change, and not old either.
    assert_eq!(world.plugin("resource_monitor", &data), []);
    let (later, published) = world.flush();
    assert_eq!((later, published), (Duration::from_secs(30), vec![state("cpu", &json!(null))]));
    assert_eq!(world.feature.due(), None);
    assert_eq!(world.plugin("resource_monitor", &data), [state("cpu", &json!(12.5))]);
}

#[tokio::test]
async fn events_have_their_types_and_no_state() {
    let mut world = World::new();
    let out = world.plugin("sensor", &json!({"state": "out", "tool": 1}));
    let [(topic, payload)] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!((topic.as_str(), &payload["event_type"]), ("entity/runout", &json!("out")));
    assert_eq!(payload["data"], json!({"state": "out", "tool": 1}));
    assert!(payload["timestamp"].is_u64());
    // The same again is another event.
    assert_eq!(world.plugin("sensor", &json!({"state": "out"})).len(), 1);
    assert_eq!(world.plugin("sensor", &json!({"state": "unheard"})), []);
    let opened = world.plugin("sensor", &json!({"door": true}));
    assert_eq!(opened[0].1["event_type"], "door", "its key is its only type");
    assert_eq!(world.plugin("sensor", &json!({"door": false})), []);
    let large = json!({"state": "back", "log": "x".repeat(LARGEST_DATA)});
    assert_eq!(world.plugin("sensor", &large)[0].1["data"], json!(null));
}

#[tokio::test]
async fn only_a_state_that_nothing_reads_is_assumed() {
    let mut world = World::new();
    assert_eq!(world.commanded("light", json!(true)), [state("light", &json!(true))]);
    assert_eq!(world.commanded("light", json!(true)), []);
    assert_eq!(world.commanded("led", json!(true)), []);
    let on = world.plugin("octolight", &json!({"isLightOn": true}));
    assert_eq!(on, [state("led", &json!(true))]);
    assert_eq!(world.commanded("gone", json!(true)), []);
}

#[tokio::test]
async fn a_state_that_changed_just_before_the_end_survives_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, known) = Store::open(Some(dir.path()));
    let mut world = World::start(ENTITIES, &known, &store);
    let select = |name: &str| json!({ "spoolName": name });
    world.event("plugin_spoolmanager_spool_selected", &select("Black"));
    world.event("plugin_spoolmanager_spool_selected", &select("Red"));
    world.stage.run(|scene| world.feature.availability(false, scene));
    store.close(Duration::from_secs(10)).await;
    let (store, known) = Store::open(Some(dir.path()));
    let started = World::start(ENTITIES, &known, &store).started();
    assert!(
        started.contains(&("entity/spool".to_owned(), json!({ "value": "Red" }))),
        "{started:?}"
    );
}

#[tokio::test]
async fn a_state_that_was_read_elsewhere_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (store, known) = Store::open(Some(dir.path()));
    let mut world = World::start(ENTITIES, &known, &store);
    world.event("plugin_spoolmanager_spool_selected", &json!({"spoolName": "Black"}));
    world.stage.run(|scene| world.feature.availability(false, scene));
    store.close(Duration::from_secs(10)).await;
    let (store, known) = Store::open(Some(dir.path()));
    let changed = ENTITIES.replace("/spoolName", "/material");
    let started = World::start(&changed, &known, &store).started();
    assert!(started.contains(&state("spool", &json!("none"))), "{started:?}");
}

#[tokio::test]
async fn states_survive_a_restart_but_those_that_expire() {
    let dir = tempfile::tempdir().unwrap();
    let (store, known) = Store::open(Some(dir.path()));
    let mut world = World::start(ENTITIES, &known, &store);
    world.commanded("light", json!(true));
    // A minute must pass before the next one is written.
    world.event("plugin_spoolmanager_spool_selected", &json!({"spoolName": "Red"}));
    world.plugin("resource_monitor", &json!({"cpu": {"average": 5}}));
    assert_eq!(world.flush().1, [state("cpu", &json!(null))], "after half a minute");
    assert_eq!(world.flush(), (Duration::from_secs(30), Vec::new()));
    assert_eq!(world.feature.due(), None);
    store.close(Duration::from_secs(10)).await;

    // `spool` is a number now, and `led` is gone.
    let text = ENTITIES
        .replace("value = \"/spoolName\"\ndefault = \"none\"", "value = \"/id\"\nscale = 2");
    let text = text.replace("entities.led]", "entities.lamp]");
    assert!(text != ENTITIES && text.contains("scale = 2"));
    let (store, known) = Store::open(Some(dir.path()));
    let mut world = World::start(&text, &known, &store);
    let started = world.started();
    assert!(started.contains(&state("light", &json!(true))), "{started:?}");
    assert!(started.contains(&state("spool", &json!(null))), "{started:?}");
    let (later, cleared) = world.flush();
    assert!(later > Duration::from_secs(8), "{later:?}");
    assert_eq!(cleared, [("entity/led".to_owned(), json!(null))]);
    assert_eq!(world.feature.due(), None);
    store.close(Duration::from_secs(10)).await;
    let (store, known) = Store::open(Some(dir.path()));
    let world = World::start(&text, &known, &store);
    assert_eq!(world.feature.due(), None, "it was cleared");
}

#[tokio::test]
async fn a_printer_without_entities_has_no_such_feature() {
    let config = crate::config::from_toml("[printers.p]\nurl = \"http://h\"\napi_key = \"k\"\n");
    let config = config.unwrap();
    let (store, known) = (Store::default(), Known::default());
    let (watch, _failures) = crate::bridge::watch::Watch::new();
    let (background, _findings) = Background::new(watch);
    let fleet = FleetReporter::new(0, tokio::sync::mpsc::unbounded_channel().0);
    let printer = &config.printers[0];
    let power = PowerState::unknown();
    let parts = FeatureParts { printer, known: &known, store: &store, background, fleet, power };
    assert!(OwnEntities::make(&parts).is_none());
}
