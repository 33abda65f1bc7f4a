//! Entities of the user's own: every example of the guide with what its plugin sends, and the keys of
//! the reference.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "own_entities/plugins.rs"]
mod plugins;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use octoprint2mqtt::bridge::fleet_report::FleetReporter;
use octoprint2mqtt::bridge::printer::commands::{Command, Rules, check, read_request};
use octoprint2mqtt::bridge::printer::features::list::FEATURES;
use octoprint2mqtt::bridge::printer::features::{
    Feature, Features, Scene, pass_message, plugin_of, present,
};
use octoprint2mqtt::bridge::printer::power::PowerState;
use octoprint2mqtt::bridge::printer::snapshot::Snapshot;
use octoprint2mqtt::bridge::watch::Watch;
use octoprint2mqtt::config::{self, Config};
use octoprint2mqtt::octoprint::{Message, Socket, SocketOptions};
use octoprint2mqtt::own_entity::Action;
use octoprint2mqtt::store::{Known, Store};
use octoprint2mqtt::tls;
use octoprint2mqtt::topics::PrinterTopics;
use plugins::{Step, plays};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

const PRINTER: &str = "[printers.mk3]\nurl = \"http://127.0.0.1:1\"\napi_key = \"KEY\"\n";

fn page(name: &str) -> String {
    let path = format!("{}/docs/src/{name}.md", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// The blocks of TOML in the guide, each with the heading above it.
fn examples() -> Vec<(String, String)> {
    let (mut heading, mut examples, mut block) = (String::new(), Vec::new(), None::<String>);
    for line in page("guides/own-entities").lines() {
        match &mut block {
            None if line == "```toml" => block = Some(String::new()),
            None if line.starts_with('#') => {
                heading = line.trim_start_matches('#').trim().to_owned();
            }
            None => {}
            Some(_) if line == "```" => {
                examples.push((heading.clone(), block.take().unwrap_or_default()));
            }
            Some(text) => *text += &format!("{line}\n"),
        }
    }
    examples
}

fn configured(entities: &str) -> Config {
    let loaded = config::load_text("guide", &format!("{PRINTER}{entities}"), []);
    let loaded = loaded.unwrap_or_else(|errors| panic!("{entities}\n{errors}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.config
}

/// One printer with the entities of an example.
struct World {
    features: Features,
    rules: Rules,
    topics: PrinterTopics,
    snapshot: Snapshot,
    socket: Socket,
}

impl World {
    fn new(entities: &str) -> Self {
        tls::install_provider();
        let printer = &configured(entities).printers[0];
        let trust = tls::client_config(&printer.tls, false).unwrap();
        let options = SocketOptions::new(printer.url.clone(), printer.credentials.clone(), trust);
        let rules = Rules::of(printer);
        let (watch, _) = Watch::new();
        let fleet = FleetReporter::new(0, mpsc::unbounded_channel().0);
        Self {
            features: Features::new(
                printer,
                &Known::default(),
                &Store::default(),
                watch,
                (fleet, PowerState::unknown()),
                FEATURES,
            ),
            rules,
            topics: PrinterTopics::new("B", "mk3"),
            snapshot: Snapshot::new(),
            socket: Socket::new(options).unwrap(),
        }
    }

    /// Visits all features. Returns what the entities say: a state, or the type of an event.
    fn visit(&mut self, visit: impl Fn(&mut dyn Feature, &mut Scene<'_>)) -> Vec<(String, Value)> {
        let rest = self.socket.rest();
        let mut scene = Scene::new(present(), &self.snapshot, (&self.topics, 1), &rest);
        self.features.each(|feature| visit(feature, &mut scene));
        let said = scene.into_publications().into_iter().filter_map(|publication| {
            let key = publication.topic.strip_prefix("B/mk3/entity/")?.to_owned();
            let payload: Value = serde_json::from_slice(&publication.payload).unwrap();
            let said = payload.get("event_type").or_else(|| payload.get("value"));
            Some((key, said.expect("a state or an event").clone()))
        });
        let mut said: Vec<_> = said.collect();
        said.sort_by(|one, other| one.0.cmp(&other.0));
        said
    }

    fn message(&mut self, kind: &str, payload: &Value) -> Vec<(String, Value)> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let message = Message::new(kind, payload.to_string().into(), now, wall, 1).unwrap();
        let plugin = plugin_of(&message);
        self.visit(|feature, scene| pass_message(feature, &message, plugin.as_ref(), scene))
    }

    fn event(&mut self, kind: &str, payload: &Value) -> Vec<(String, Value)> {
        let text = json!({"type": kind, "payload": payload}).to_string();
        let event = serde_json::from_str(&text).unwrap();
        self.visit(|feature, scene| feature.event(&event, scene))
    }

    fn command(&self, key: &str, payload: &str) -> Result<String, String> {
        let payload = json!({ "value": payload }).to_string();
        let request = read_request(&format!("entity/{key}"), payload.as_bytes());
        match check(&request, &self.rules) {
            Ok(Command::Entity(command)) => Ok(sent(&command.action)),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.to_string()),
        }
    }
}

/// What OctoPrint is sent, as a text.
fn sent(action: &Action) -> String {
    match action {
        Action::Gcode(lines) => lines.join("\n"),
        Action::Plugin(call) => {
            let base = "http://octopi.local/".parse().unwrap();
            let method = format!("{:?}", call.method).to_uppercase();
            let body = call.body.as_ref().map(|body| format!(" {body}")).unwrap_or_default();
            format!("{method} {}{body}", call.address(&base).unwrap())
        }
    }
}

fn expected(states: &[(&'static str, Value)]) -> Vec<(String, Value)> {
    let mut states: Vec<(String, Value)> =
        states.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    states.sort_by(|one, other| one.0.cmp(&other.0));
    states
}

fn play(heading: &str, example: &str, steps: &[Step]) -> BTreeSet<String> {
    let mut world = World::new(example);
    let mut used = BTreeSet::new();
    for step in steps {
        let (what, said, states) = match step {
            Step::Plugin(id, data, states) => {
                (id, world.message("plugin", &json!({"plugin": id, "data": data})), states)
            }
            Step::Event(kind, payload, states) => (kind, world.event(kind, payload), states),
            Step::Message(kind, payload, states) => (kind, world.message(kind, payload), states),
            Step::Command(key, payload, wanted) => {
                used.insert((*key).to_owned());
                let sent = world.command(key, payload);
                assert_eq!(sent.as_deref(), Ok(*wanted), "{heading}: {key} {payload}");
                continue;
            }
            Step::Refused(key, payload, reason) => {
                let refused = world.command(key, payload).expect_err(key);
                assert!(refused.contains(reason), "{heading}: {refused}");
                continue;
            }
        };
        used.extend(states.iter().map(|(key, _)| (*key).to_owned()));
        assert_eq!(said, expected(states), "{heading}: {what}");
    }
    used
}

#[tokio::test]
async fn every_example_of_the_guide_does_what_it_says() {
    let (examples, plays) = (examples(), plays());
    let headings = |headings: Vec<&str>| headings.join("\n");
    assert_eq!(
        headings(examples.iter().map(|(heading, _)| heading.as_str()).collect()),
        headings(plays.iter().map(|(heading, _)| *heading).collect()),
        "each section with an example has its messages here"
    );
    for ((heading, example), (_, steps)) in examples.iter().zip(&plays) {
        let used = play(heading, example, steps);
        let entities = configured(example).printers[0].entities.clone();
        let all: BTreeSet<String> = entities.iter().map(|entity| entity.key.clone()).collect();
        assert_eq!(used, all, "{heading}: each entity is tried");
    }
}

#[test]
fn all_examples_together_are_one_configuration() {
    let all: String = examples().into_iter().map(|(_, example)| example).collect();
    assert!(configured(&all).printers[0].entities.len() > 25);
}

/// The keys that a type takes, as the program lists them where it refuses one.
fn keys_of(kind: &str) -> BTreeSet<String> {
    let text = format!("{PRINTER}[printers.mk3.entities.x]\ntype = \"{kind}\"\nnonsense = 1\n");
    let errors = config::from_toml(&text).expect_err("a key that does not exist");
    let key = "printers.mk3.entities.x.nonsense";
    let mistake = errors.mistakes().iter().find(|mistake| mistake.key == key).unwrap();
    let known = mistake.expected.strip_prefix("one of ").unwrap().split(';').next().unwrap();
    known.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_reference_lists_the_keys_of_each_type() {
    const TYPES: [&str; 7] =
        ["sensor", "binary_sensor", "event", "button", "switch", "number", "select"];
    let mut documented: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let chapter = page("reference/configuration");
    let (_, table) = chapter.split_once("| in the table |").expect("the table");
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let key = cells[1].trim_matches('`');
        let of: Vec<&str> = match cells[2] {
            "all" => TYPES.to_vec(),
            types => types.split('`').skip(1).step_by(2).collect(),
        };
        for kind in of {
            documented.entry(kind).or_default().insert(key.to_owned());
        }
    }
    let existing = TYPES.map(|kind| (kind, keys_of(kind)));
    assert_eq!(documented, BTreeMap::from(existing));
}

/// One mistake in an entity, and what must be said about it.
const MISTAKES: &[(&str, &str)] = &[
    ("", "x.type: found nothing; expected one of sensor, binary_sensor"),
    ("type = \"light\"", "x.type: found \"light\"; expected one of sensor"),
    ("type = \"sensor\"\nvalue = \"/a\"", "x.from: found nothing; expected event/<Type>"),
    ("type = \"sensor\"\nfrom = \"plugin/a\"", "x.value: found nothing; expected a JSON pointer"),
    ("type = \"sensor\"\nfrom = \"plugin\"\nvalue = \"/a\"", "x.from: found \"plugin\""),
    ("type = \"sensor\"\nfrom = \"plugin/appkeys\"\nvalue = \"/a\"", "x.from: found"),
    ("type = \"sensor\"\nfrom = \"message/event\"\nvalue = \"/a\"", "x.from: found"),
    ("type = \"sensor\"\nfrom = \"message/connected\"\nvalue = \"/apikey\"", "an API key"),
    ("type = \"event\"\nfrom = \"message/connected\"", "an event of message/connected"),
    (
        "type = \"event\"\nfrom = [\"plugin/a\", \"message/connected\"]\nvalue = \"/a\"",
        "an event of message/connected",
    ),
    ("type = \"sensor\"\nfrom = []\nvalue = \"/a\"", "x.from: found a list"),
    ("type = \"sensor\"\nfrom = 5\nvalue = \"/a\"", "x.from: found the number 5"),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"a\"",
        "x.value: found \"a\"; expected a JSON pointer",
    ),
    ("type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/~2\"", "x.value: found \"/~2\""),
    ("type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nscal = 5", "is scale meant?"),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nscale = 0",
        "x.scale: found the number 0",
    ),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nreduce = \"mean\"",
        "one of count, min",
    ),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\ndevice_class = \"door\"",
        "x.device_class: found \"door\"; expected one of date",
    ),
    (
        "type = \"binary_sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\ndevice_class = \"weight\"",
        "expected one of battery",
    ),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nstate_class = \"sum\"",
        "x.state_class",
    ),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\ndevice_class = \"timestamp\"\nunit = \"s\"",
        "this class has no number",
    ),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nicon = \"fan\"",
        "an icon such as \"mdi:fan\"",
    ),
    ("type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\ncategory = \"config\"", "x.category"),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nexpire_after = 5",
        "a duration as text",
    ),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nexpire_after = \"60d\"",
        "1s to 30days",
    ),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nunit = \"g\"\ndefault = \"none\"",
        "x.default: found \"none\"; expected a number",
    ),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nwhen = \"b\"",
        "x.when: found \"b\"; expected a table",
    ),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nwhen = { equals = 5 }",
        "x.when.pointer: found nothing",
    ),
    (
        "type = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nwhen = { pointer = \"/b\", is = 5 }",
        "one of pointer, equals",
    ),
    (
        "type = \"binary_sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\ndefault = 1",
        "expected true or false",
    ),
    ("type = \"event\"\nfrom = \"plugin/a\"\nevents = [\"a\", \"b\"]", "x.value: found nothing"),
    ("type = \"event\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\nevents = [\"a\", \"a\"]", "x.events"),
    (
        "type = \"event\"\nfrom = \"plugin/a\"\nexpire_after = \"5s\"",
        "x.expire_after: found a key that does not exist",
    ),
    ("type = \"button\"", "x.press: found nothing; expected what to send"),
    ("type = \"button\"\npress = \"G28\"", "x.press: found \"G28\"; expected a table"),
    ("type = \"button\"\npress = {}", "x.press.gcode: found nothing"),
    ("type = \"button\"\npress = { gcode = [] }", "x.press.gcode: found a list"),
    ("type = \"button\"\npress = { gcode = [5] }", "x.press.gcode"),
    ("type = \"button\"\npress = { gcode = \"G28\", plugin = \"a\" }", "one of the two"),
    ("type = \"button\"\npress = { gcode = \"M117 {value}\" }", "x.press: found {value}"),
    ("type = \"button\"\npress = { plugin = \"a/b\" }", "x.press.plugin"),
    ("type = \"button\"\npress = { plugin = \"a\", path = \"../api/settings\" }", "x.press.path"),
    ("type = \"button\"\npress = { plugin = \"a\", method = \"post\" }", "one of GET, POST"),
    (
        "type = \"button\"\npress = { plugin = \"a\", method = \"GET\", body = { a = 1 } }",
        "a body, with GET",
    ),
    ("type = \"button\"\npress = { plugin = \"a\", body = 5 }", "x.press.body"),
    ("type = \"button\"\npress = { plugin = \"a\", query = { a = [1] } }", "x.press.query"),
    ("type = \"button\"\npress = { gcode = \"G28\" }\ngroup = \"all\"", "one of bridge, job"),
    (
        "type = \"button\"\npress = { gcode = \"G28\" }\nfrom = \"plugin/a\"",
        "x.from: found a key that does not exist",
    ),
    ("type = \"switch\"\non = { gcode = \"M355 S1\" }", "x.off: found nothing"),
    (
        "type = \"switch\"\non = { gcode = \"A\" }\noff = { gcode = \"B\" }\nvalue = \"/a\"",
        "value without from",
    ),
    ("type = \"number\"\nset = { gcode = \"M106\" }", "x.set: found no {value}"),
    (
        "type = \"number\"\nset = { gcode = \"M106 S{value}\" }\nmin = 5\nmax = 5",
        "a number above min",
    ),
    ("type = \"number\"\nset = { gcode = \"M106 S{value}\" }\nstep = 0", "x.step"),
    (
        "type = \"number\"\nset = { gcode = \"M106 S{value}\" }\ndevice_class = \"timestamp\"",
        "x.device_class",
    ),
    ("type = \"select\"\nset = { gcode = \"T{value}\" }", "x.options: found nothing"),
    ("type = \"select\"\noptions = []\nset = { gcode = \"T{value}\" }", "x.options: found a list"),
    ("type = \"select\"\noptions = {}", "x.options: found a table"),
    ("type = \"select\"\noptions = [\"0\"]", "x.set: found nothing"),
    ("type = \"select\"\noptions = { a = 5 }", "x.options.a: found the number 5; expected a table"),
    (
        "type = \"select\"\noptions = { a = { gcode = \"T0\" } }\nset = { gcode = \"T{value}\" }",
        "set beside a table of options",
    ),
    (
        "type = \"select\"\noptions = { a = { gcode = \"T0\" } }\ndevice_class = \"light\"",
        "x.device_class: found a key",
    ),
];

#[test]
fn each_mistake_is_found_and_named() {
    for (entity, telling) in MISTAKES {
        let text = format!("{PRINTER}[printers.mk3.entities.x]\n{entity}\n");
        let error = config::from_toml(&text).expect_err(entity).to_string();
        assert!(error.contains("printers.mk3.entities.x"), "{error}");
        assert!(error.contains(telling), "{telling:?} not in\n{error}\nof\n{entity}");
    }
    for key in ["a__b", "A", "x_", "bridge"] {
        let text = format!(
            "{PRINTER}[printers.mk3.entities.{key}]\ntype = \"button\"\npress = {{ gcode = \"G28\" }}\n"
        );
        let error = config::from_toml(&text).expect_err(key).to_string();
        assert!(error.contains(&format!("the key {key:?}")), "{error}");
    }
    let error = config::from_toml(&format!("{PRINTER}entities = 5\n")).unwrap_err().to_string();
    assert!(
        error.contains("printers.mk3.entities: found the number 5; expected a table"),
        "{error}"
    );
}

#[test]
fn units_that_do_not_fit_are_warned_of() {
    let warned = |more: &str| {
        let text = format!(
            "{PRINTER}[printers.mk3.entities.x]\ntype = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\n{more}\n"
        );
        config::load_text("file", &text, []).unwrap().warnings
    };
    assert!(warned("unit = \"g\"\ndevice_class = \"weight\"").is_empty());
    let [warning] = &warned("unit = \"percent\"\ndevice_class = \"humidity\"")[..] else {
        panic!()
    };
    assert!(warning.contains("entities.x.unit = \"percent\"") && warning.ends_with("it knows %"));
    assert_eq!(warned("device_class = \"humidity\"").len(), 1, "a unit is missing");
    assert_eq!(
        warned("unit = \"kWh\"\ndevice_class = \"energy\"\nstate_class = \"measurement\"").len(),
        1
    );
}

#[test]
fn what_is_sent_is_never_shown() {
    let text = format!(
        "{PRINTER}[printers.mk3.entities.x]\ntype = \"button\"\npress = {{ plugin = \"a\", query = {{ q = \"MARKER\" }}, body = {{ password = \"MARKER\" }} }}\n"
    );
    let config = config::from_toml(&text).unwrap();
    let shown = format!("{config:?}{}", config.without_secrets());
    assert!(!shown.contains("MARKER"), "{shown}");
    assert_eq!(config.without_secrets()["printers"]["mk3"]["entities"], json!(["x"]));
}

#[test]
fn a_variable_changes_an_entity_of_the_file() {
    let text = format!(
        "{PRINTER}[printers.mk3.entities.x]\ntype = \"sensor\"\nfrom = \"plugin/a\"\nvalue = \"/a\"\n"
    );
    let variable = |name: &str| {
        [(format!("OCTOPRINT2MQTT__PRINTERS__MK3__ENTITIES__X__{name}"), "Yes".to_owned())]
    };
    let loaded = config::load_text("file", &text, variable("NAME")).unwrap();
    assert_eq!(loaded.config.printers[0].entities[0].name, "Yes");
    let error = config::load_text("file", &text, variable("NAMES")).unwrap_err().to_string();
    assert!(error.contains("a key that does not exist"), "{error}");
    let plain = config::from_toml(&text).unwrap();
    assert_eq!(plain.printers[0].entities[0].name, "X");
}
