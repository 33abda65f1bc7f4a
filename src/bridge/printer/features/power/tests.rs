use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::auto_off::COUNTDOWN;
use super::*;
use crate::bridge::printer::features::stage::{Stage, parts_with, printer};
use crate::bridge::printer::features::{pass_message, plugin_of};
use crate::bridge::printer::prints::{Outcome, Print, PrintResult};
use crate::store::{Known, Store};

const SWITCH: &str = r#"power = { state_topic = "plug/state", command_topic = "plug/set", value = "/on", on = "1", off = "0", state_on = true, state_off = false }"#;

struct Play {
    stage: Stage,
    power: Box<dyn Feature>,
    state: PowerState,
}

impl Play {
    fn new(toml: &str) -> Self {
        Self::with(toml, &Known::default(), &Store::default())
    }

    fn with(toml: &str, known: &Known, store: &Store) -> Self {
        let printer = printer(toml);
        let (parts, _found) = parts_with(&printer, known, store);
        let mut play = Self {
            stage: Stage::new(),
            power: Power::make(&parts).unwrap(),
            state: parts.power.clone(),
        };
        play.stage.run(|scene| play.power.start(scene));
        play
    }

    fn tell(&mut self, kind: &str, payload: &Value) -> Vec<(String, Value)> {
        let text = payload.to_string();
        if kind == "current" {
            self.stage.snapshot.apply(&text, self.stage.now).unwrap();
        }
        let now = tokio::time::Instant::now();
        let message = Message::new(kind, text.into(), now, self.stage.now.wall, 1).unwrap();
        let (power, plugin) = (&mut self.power, plugin_of(&message));
        self.stage.run(|scene| pass_message(power.as_mut(), &message, plugin.as_ref(), scene))
    }

    fn psu(&mut self, on: bool) -> Vec<(String, Value)> {
        self.tell("plugin", &json!({"plugin": "psucontrol", "data": {"isPSUOn": on}}))
    }

    fn hotend(&mut self, actual: f64) -> Vec<(String, Value)> {
        let reading = json!({"actual": actual, "target": 0.0});
        let flags = json!({"operational": true});
        self.tell(
            "current",
            &json!({"state": {"text": "Operational", "flags": flags}, "temps": [{"time": 1, "tool0": reading}]}),
        )
    }

    fn at_broker(&mut self, topic: &str, payload: &str) -> Vec<(String, Value)> {
        let payload = payload.as_bytes().to_vec().into();
        let incoming = Incoming { topic: topic.to_owned(), payload, retained: true };
        let power = &mut self.power;
        self.stage.run(|scene| power.incoming(&incoming, scene))
    }

    fn end(&mut self, age: Duration) -> Vec<(String, Value)> {
        let result = PrintResult {
            outcome: Outcome::Done,
            took: None,
            reason: None,
            number: 1,
            recovered: !age.is_zero(),
        };
        let print = Print::default();
        let at = (!age.is_zero()).then(|| self.stage.now.wall - age);
        let step = PrintStep { print, at, result: Some(result) };
        let power = &mut self.power;
        self.stage.run(|scene| power.print(&step, scene))
    }

    fn after(&mut self, time: Duration) -> Vec<(String, Value)> {
        self.stage.now.instant += time;
        self.stage.now.wall += time;
        let power = &mut self.power;
        self.stage.run(|scene| power.flush(scene))
    }
}

fn state(state: Option<&str>, source: Option<&str>, auto_off: Option<&str>) -> Value {
    json!({"state": state, "source": source, "auto_off": auto_off, "off_at": null})
}

#[tokio::test]
async fn psu_control_tells_whether_the_power_is_on() {
    let mut play = Play::new("");
    let [(topic, payload)] = &play.psu(true)[..] else { panic!("one state") };
    assert_eq!((topic.as_str(), payload), ("power", &state(Some("on"), Some("psucontrol"), None)));
    assert!(play.psu(true).is_empty(), "nothing is new");
    assert_eq!(play.state.get(), Some(true));
    let power = &mut play.power;
    let said = play.stage.run(|scene| power.learn(&Fact::Power(Some(false)), scene));
    assert_eq!(said[0].1, state(Some("off"), Some("psucontrol"), None));
    let power = &mut play.power;
    let said = play.stage.run(|scene| power.learn(&Fact::Power(None), scene));
    assert_eq!(said[0].1, state(None, None, None), "the plugin is gone");
    let other = json!({"plugin": "other", "data": {"isPSUOn": true}});
    assert!(play.tell("plugin", &other).is_empty());
}

#[tokio::test]
async fn a_switch_at_the_broker_tells_whether_the_power_is_on() {
    let mut play = Play::new(SWITCH);
    let said = play.at_broker("plug/state", r#"{"on":true,"watts":5}"#);
    assert_eq!(said[0].1, state(Some("on"), Some("mqtt"), None));
    assert!(play.psu(false).is_empty(), "the switch that is named counts");
    for (topic, payload) in [
        ("plug/state", "{}"),
        ("plug/state", "{\"on\":null}"),
        ("plug/state", "x"),
        ("other", "{\"on\":false}"),
    ] {
        assert!(play.at_broker(topic, payload).is_empty(), "{topic} {payload}");
    }
    assert_eq!(play.at_broker("plug/state", r#"{"on":false}"#)[0].1["state"], "off");
    assert_eq!(play.state.get(), Some(false));
}

#[tokio::test]
async fn the_power_goes_off_after_a_print_and_the_countdown_can_be_stopped() {
    let mut play = Play::new(&format!("{SWITCH}\nauto_off = true"));
    play.at_broker("plug/state", r#"{"on":true}"#);
    play.hotend(200.0);
    assert_eq!(play.end(Duration::ZERO)[0].1, state(Some("on"), Some("mqtt"), Some("cooling")));
    let said = play.hotend(49.0);
    assert_eq!(said[0].1["auto_off"], "countdown");
    let off_at: SystemTime =
        humantime::parse_rfc3339(said[0].1["off_at"].as_str().unwrap()).unwrap();
    let left = off_at.duration_since(play.stage.now.wall).unwrap();
    assert!(COUNTDOWN - left < Duration::from_secs(1), "{left:?}");
    // Somebody wants it on.
    let power = &mut play.power;
    let said = play.stage.run(|scene| power.effect(&Effect::KeepPower, scene));
    assert_eq!(said[0].1, state(Some("on"), Some("mqtt"), None));
    assert!(play.after(COUNTDOWN).is_empty());
    // The next print.
    play.end(Duration::ZERO);
    play.hotend(48.0);
    assert_eq!(play.power.due(), Some(play.stage.now.instant + COUNTDOWN));
    let said = play.after(COUNTDOWN);
    assert_eq!(said[0], ("plug/set".to_owned(), json!(0)));
    assert_eq!(said[1].1, state(Some("on"), Some("mqtt"), None), "the switch has not said so yet");
    play.end(Duration::ZERO);
    let said = play.at_broker("plug/state", r#"{"on":false}"#);
    assert_eq!(said[0].1, state(Some("off"), Some("mqtt"), None), "by hand");
    assert!(play.end(Duration::ZERO).is_empty(), "it is off already");
}

#[tokio::test]
async fn an_old_end_and_a_bridge_without_auto_off_switch_nothing_off() {
    let mut play = Play::new("auto_off = true");
    play.psu(true);
    play.hotend(20.0);
    assert!(play.end(FRESH).is_empty());
    assert_eq!(play.end(FRESH / 2)[0].1["auto_off"], "cooling");
    let power = &mut play.power;
    let lost = play.stage.run(|scene| power.availability(false, scene));
    assert!(lost.is_empty(), "it was cooling");
    let mut play = Play::new("");
    play.end(Duration::ZERO);
    play.hotend(20.0);
    assert_eq!(play.power.due(), None);
}

#[tokio::test]
async fn a_restarted_bridge_still_switches_off() {
    let dir = tempfile::tempdir().unwrap();
    let (store, known) = Store::open(Some(dir.path()));
    let mut play = Play::with("auto_off = true", &known, &store);
    play.end(Duration::ZERO);
    store.close(Duration::from_secs(10)).await;
    let (store, known) = Store::open(Some(dir.path()));
    let mut play = Play::with("auto_off = true", &known, &store);
    assert_eq!(play.hotend(20.0)[0].1["auto_off"], "countdown");
    assert!(play.stage.now.wall > UNIX_EPOCH);
}
