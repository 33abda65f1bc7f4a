use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::*;
use crate::bridge::printer::features::stage::{Stage, parts, printer};
use crate::store::{Known, Store};

const TOML: &str = "filament_price = 25.0\nmaintenance = { nozzle = \"2h\", belts = \"2 prints\", \"dry-box\" = \"10m\" }";

struct Played {
    stage: Stage,
    statistics: PrintStatistics,
}

impl Played {
    fn new(toml: &str, known: &Known, store: &Store) -> Self {
        let printer = printer(toml);
        let statistics = PrintStatistics::new(&parts(&printer, known, store));
        Self { stage: Stage::new(), statistics }
    }

    fn without_store() -> Self {
        let mut played = Self::new(TOML, &Known::default(), &Store::default());
        played.start();
        played
    }

    fn start(&mut self) -> Vec<(String, Value)> {
        self.stage.run(|scene| self.statistics.start(scene))
    }

    fn step(&mut self, step: &PrintStep) -> Vec<(String, Value)> {
        self.stage.run(|scene| self.statistics.print(step, scene))
    }

    fn incoming(&mut self, topic: &str, payload: &str) -> Vec<(String, Value)> {
        let (topic, payload) = (topic.to_owned(), payload.to_owned().into());
        let incoming = Incoming { topic, payload, retained: false };
        self.stage.run(|scene| self.statistics.incoming(&incoming, scene))
    }

    /// Lets time pass, and the printer say that its print is so far.
    fn printing(&mut self, seconds: u64, completion: Option<f64>) {
        self.stage.now.wall += Duration::from_secs(seconds);
        self.stage.now.instant += Duration::from_secs(seconds);
        let current = json!({
            "state": {"text": if completion.is_some() { "Printing" } else { "Operational" }},
            "job": {"file": {"name": "a.gcode", "path": "x/a.gcode", "origin": "local"},
                "filament": {"tool0": {"length": 8000.0}, "tool1": {"length": 2000.0}}},
            "progress": {"completion": completion},
        });
        self.stage.snapshot.apply(&current.to_string(), self.stage.now).unwrap();
        let message = Message::new(
            "current",
            current.to_string().into(),
            self.stage.now.instant.into(),
            self.stage.now.wall,
            1,
        )
        .unwrap();
        self.stage.run(|scene| self.statistics.message(&message, scene));
    }
}

fn print() -> Print {
    Print {
        name: Some("a.gcode".to_owned()),
        path: Some("x/a.gcode".to_owned()),
        origin: Some("local".to_owned()),
        ..Print::default()
    }
}

fn started() -> PrintStep {
    PrintStep { print: print(), at: None, result: None }
}

fn ended(outcome: Outcome, took: Option<f64>, number: u64) -> PrintStep {
    let result = PrintResult { outcome, took, reason: None, number, recovered: false };
    PrintStep { print: print(), at: None, result: Some(result) }
}

/// The same end, which no event reported, at this Unix time.
fn recovered(step: PrintStep, at: u64) -> PrintStep {
    let result = step.result.map(|result| PrintResult { recovered: true, ..result });
    PrintStep { at: Some(UNIX_EPOCH + Duration::from_secs(at)), result, ..step }
}

fn on<'s>(said: &'s [(String, Value)], topic: &str) -> &'s Value {
    let found = said.iter().find(|(of, _)| of == topic);
    &found.unwrap_or_else(|| panic!("nothing on {topic}: {said:?}")).1
}

#[tokio::test]
async fn a_print_counts_with_its_duration_filament_and_cost() {
    let mut played = Played::without_store();
    played.stage.now.wall = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert_eq!(played.step(&started()), []);
    played.printing(3600, Some(100.0));
    let said = played.step(&ended(Outcome::Done, Some(3599.5), 1));
    let statistics = on(&said, "statistics");
    assert_eq!(statistics["prints_done"], 1);
    assert_eq!(
        (&statistics["prints_failed"], &statistics["prints_cancelled"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(statistics["print_hours"], 1.0);
    assert_eq!(
        (&statistics["filament_m"], &statistics["filament_g"]),
        (&json!(10.0), &json!(29.8))
    );
    assert_eq!(statistics["persistent"], false);
    // 10 m of 1.75 mm have 24.05 cm³, which weigh 29.83 g.
    assert_eq!(
        on(&said, "history")["prints"],
        json!([{
            "file": "a.gcode", "path": "x/a.gcode", "started": "2023-11-14T22:13:20Z",
            "ended": "2023-11-14T23:13:20Z", "result": "done", "duration": 3599.5,
            "filament_m": 10.0, "filament_g": 29.83, "cost": 0.75, "reason": null, "recovered": false,
        }])
    );
}

#[tokio::test]
async fn a_cancelled_print_uses_filament_as_far_as_it_came() {
    let mut played = Played::without_store();
    played.step(&started());
    played.printing(60, Some(12.0));
    played.printing(60, Some(25.0));
    let said = played.step(&ended(Outcome::Cancelled, None, 1));
    let print = &on(&said, "history")["prints"][0];
    assert_eq!((&print["result"], &print["duration"]), (&json!("cancelled"), &json!(120.0)));
    assert_eq!(print["filament_m"], 2.5);
    // A print of which nothing is known costs nothing.
    let unknown = PrintStep { print: Print::default(), ..ended(Outcome::Failed, None, 2) };
    let mut played = Played::without_store();
    let said = played.step(&unknown);
    let print = &on(&said, "history")["prints"][0];
    assert_eq!((&print["started"], &print["duration"]), (&Value::Null, &Value::Null));
    assert_eq!((&print["filament_m"], &print["cost"]), (&Value::Null, &Value::Null));
    assert_eq!(on(&said, "statistics")["prints_failed"], 1);
}

#[tokio::test]
async fn the_weight_of_the_slicer_goes_before_that_of_the_length() {
    let mut played = Played::without_store();
    let job = json!({"job": {"file": {"path": "x/a.gcode", "origin": "local"},
        "filament": {"tool0": {"length": 8000.0, "weight": 20.0}, "tool1": {"length": 1.0, "weight": 4.0}}}});
    played.stage.snapshot.apply(&job.to_string(), played.stage.now).unwrap();
    played.step(&started());
    let said = played.step(&ended(Outcome::Done, Some(1.0), 1));
    let print = &on(&said, "history")["prints"][0];
    assert_eq!((&print["filament_g"], &print["cost"]), (&json!(24.0), &json!(0.6)));
}

#[tokio::test]
async fn each_print_counts_once_over_restarts() {
    let data = tempfile::tempdir().unwrap();
    let (store, known) = Store::open(Some(data.path()));
    let mut played = Played::new(TOML, &known, &store);
    let since = on(&played.start(), "statistics")["since"].clone();
    assert!(since.is_string());
    played.step(&started());
    played.printing(100, Some(40.0));
    let at = timestamp::unix(played.stage.now.wall);
    store.close(Duration::from_secs(10)).await;
    // The bridge was away while the print was cancelled.
    let (store, known) = Store::open(Some(data.path()));
    let mut played = Played::new(TOML, &known, &store);
    assert_eq!(on(&played.start(), "statistics")["since"], since);
    let end = recovered(ended(Outcome::Cancelled, None, 1), at + 100);
    let said = played.step(&end);
    let print = &on(&said, "history")["prints"][0];
    assert_eq!((&print["duration"], &print["filament_m"]), (&json!(200.0), &json!(4.0)));
    assert_eq!(print["recovered"], true);
    store.close(Duration::from_secs(10)).await;
    // It was killed before that end was recorded as published, so the end comes again.
    let (store, known) = Store::open(Some(data.path()));
    let mut played = Played::new(TOML, &known, &store);
    let before = on(&played.start(), "statistics").clone();
    assert_eq!((&before["prints_cancelled"], &before["persistent"]), (&json!(1), &json!(true)));
    assert_eq!(played.step(&end), [], "counted already");
    let said = played.step(&recovered(ended(Outcome::Done, Some(9.0), 2), at + 200));
    assert_eq!(on(&said, "statistics")["prints_done"], 1);
    // The record of the ends was lost, and they are numbered from the start.
    let said = played.step(&ended(Outcome::Done, Some(9.0), 1));
    assert_eq!(on(&said, "statistics")["prints_done"], 2);
    let said = played.step(&recovered(ended(Outcome::Done, Some(9.0), 2), at + 300));
    assert_eq!(on(&said, "statistics")["prints_done"], 3);
}

#[tokio::test]
async fn ends_that_were_numbered_otherwise_before_a_crash_count_once() {
    let of = |path: &str, step: PrintStep| PrintStep {
        print: Print { path: Some(path.to_owned()), ..print() },
        ..step
    };
    let mut played = Played::without_store();
    let now = timestamp::unix(played.stage.now.wall);
    // While the end of the print before was being looked up, the bridge was killed.
    played.step(&of("second", ended(Outcome::Done, Some(60.0), 1)));
    let said = played.step(&of("first", recovered(ended(Outcome::Done, Some(60.0), 1), now - 90)));
    assert_eq!(on(&said, "statistics")["prints_done"], 2);
    let again = of("second", recovered(ended(Outcome::Done, Some(60.0), 2), now - 1));
    assert_eq!(played.step(&again), [], "counted already");
    let said = played.step(&of("second", recovered(ended(Outcome::Done, None, 3), now + 90)));
    assert_eq!(on(&said, "statistics")["prints_done"], 3);
}

#[tokio::test]
async fn the_end_of_a_print_that_is_found_late_does_not_take_the_start_of_the_next() {
    let mut played = Played::without_store();
    let start = timestamp::unix(played.stage.now.wall);
    played.step(&started());
    let said = played.step(&recovered(ended(Outcome::Failed, None, 1), start - 60));
    assert_eq!(on(&said, "history")["prints"][0]["started"], Value::Null);
    played.printing(90, Some(50.0));
    let said = played.step(&ended(Outcome::Done, None, 2));
    assert_eq!(on(&said, "history")["prints"][0]["duration"], 90.0);
}

#[tokio::test]
async fn the_last_hundred_are_kept_and_ten_of_them_published() {
    let mut played = Played::without_store();
    let mut said = Vec::new();
    for number in 1..=105_u32 {
        said = played.step(&ended(Outcome::Done, Some(f64::from(number)), number.into()));
    }
    let last = on(&said, "history")["prints"].as_array().unwrap();
    assert_eq!((last.len(), &last[0]["duration"]), (10, &json!(105.0)));
    assert_eq!(on(&said, "statistics")["prints_done"], 105);
    let asked = r#"{"printer":"mk3","transaction":"x"}"#;
    let topic = "octoprint2mqtt/bridge/request/history";
    let answer = played.incoming(topic, asked);
    let [(topic_of_answer, answer)] = answer.as_slice() else { panic!("{answer:?}") };
    assert_eq!(topic_of_answer, "octoprint2mqtt/bridge/response/history");
    assert_eq!((&answer["status"], &answer["transaction"]), (&json!("ok"), &json!("x")));
    let all = answer["data"]["prints"].as_array().unwrap();
    assert_eq!((all.len(), &all[99]["duration"]), (100, &json!(6.0)));
    let csv = played.incoming(topic, r#"{"printer":"mk3","format":"csv"}"#);
    let csv = csv[0].1["data"]["csv"].as_str().unwrap();
    assert_eq!(csv.split_terminator("\r\n").count(), 101);
    for (topic, payload) in [
        (topic, r#"{"printer":"mini"}"#),
        ("octoprint2mqtt/bridge/request/info", "mk3"),
        ("zigbee2mqtt/plug", "ON"),
    ] {
        assert_eq!(played.incoming(topic, payload), [], "{topic} {payload}");
    }
}

#[tokio::test]
async fn maintenance_becomes_due_once_and_begins_again() {
    let mut played = Played::without_store();
    let said = played.start();
    assert_eq!(
        *on(&said, "maintenance/nozzle"),
        json!({"used": 0.0, "due_after": 2.0, "unit": "h", "due": false})
    );
    let said = played.step(&ended(Outcome::Done, Some(5400.0), 1));
    assert_eq!(on(&said, "maintenance/nozzle")["used"], 1.5);
    assert!(said.iter().all(|(topic, _)| topic != "maintenance_due"), "{said:?}");
    let said = played.step(&ended(Outcome::Cancelled, Some(1800.0), 2));
    assert_eq!(on(&said, "maintenance/nozzle")["due"], true);
    assert_eq!(on(&said, "maintenance/belts")["used"], 2.0);
    let events: Vec<&Value> =
        said.iter().filter(|(topic, _)| topic == "maintenance_due").map(|(_, e)| e).collect();
    let names: Vec<&Value> = events.iter().map(|event| &event["name"]).collect();
    assert_eq!(names, ["belts", "nozzle"]);
    assert_eq!((&events[1]["used"], &events[1]["unit"]), (&json!(2.0), &json!("h")));
    let said = played.step(&ended(Outcome::Done, Some(60.0), 3));
    assert!(said.iter().all(|(topic, _)| topic != "maintenance_due"), "only once: {said:?}");
    let effect = Effect::Maintained("nozzle".to_owned());
    let said = played.stage.run(|scene| played.statistics.effect(&effect, scene));
    assert_eq!(on(&said, "maintenance/nozzle")["used"], 0.0);
    assert_eq!(on(&said, "maintenance/nozzle")["due"], false);
    assert_eq!(on(&said, "maintenance/belts")["used"], 3.0, "the others go on");
}

#[tokio::test]
async fn counters_survive_and_those_that_are_gone_are_cleared() {
    let data = tempfile::tempdir().unwrap();
    let (store, known) = Store::open(Some(data.path()));
    let mut played = Played::new(TOML, &known, &store);
    played.start();
    played.step(&ended(Outcome::Done, Some(3600.0), 1));
    store.close(Duration::from_secs(10)).await;
    let (store, known) = Store::open(Some(data.path()));
    let mut played =
        Played::new("maintenance = { nozzle = \"500h\", new = \"5 prints\" }", &known, &store);
    let said = played.start();
    assert_eq!(on(&said, "maintenance/nozzle")["used"], 1.0);
    assert_eq!(on(&said, "maintenance/new")["used"], 0.0);
    assert_eq!(*on(&said, "maintenance/belts"), Value::Null);
    assert_eq!(*on(&said, "maintenance/dry-box"), Value::Null);
}
