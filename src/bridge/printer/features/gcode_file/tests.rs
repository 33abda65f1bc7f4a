use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::bridge::printer::features::stage::Stage;
use crate::bridge::watch::Watch;
use crate::gcode::{GcodeReader, LayerIndex, ReadLimits};
use crate::octoprint::{Credentials, Rest, Socket, SocketOptions};
use crate::secret::Secret;
use crate::simulator::{Faults, Simulator, SimulatorOptions};

const SIZE: u64 = 5000;

type Published = Vec<(String, Value)>;

/// A feature, its printer, and what its work in the background finds.
struct World {
    stage: Stage,
    feature: GcodeFiles,
    findings: mpsc::Receiver<Box<FeatureFinding>>,
}

fn background() -> (Background, mpsc::Receiver<Box<FeatureFinding>>) {
    let (findings, receiver) = mpsc::channel(16);
    (Background { watch: Watch::new().0, findings }, receiver)
}

fn wanted() -> WantedFile {
    WantedFile { slicer: true, picture: true, max_size: 10_000 }
}

impl World {
    fn new(wanted: WantedFile) -> Self {
        let (background, findings) = background();
        Self { stage: Stage::new(), feature: GcodeFiles::new(wanted, background), findings }
    }

    /// Receives a message after so many seconds.
    fn receives(&mut self, seconds: u64, kind: &str, payload: &Value) -> Published {
        self.stage.now.instant += Duration::from_secs(seconds);
        let (now, text) = (self.stage.now, payload.to_string());
        match kind {
            "connected" => {}
            "history" => drop(self.stage.snapshot.apply_history(&text, now).unwrap()),
            _ => drop(self.stage.snapshot.apply(&text, now).unwrap()),
        }
        let message = Message::new(kind, text.into(), now.instant.into(), now.wall, 1).unwrap();
        let feature = &mut self.feature;
        self.stage.run(|scene| feature.message(&message, scene))
    }

    /// Receives a `current` of this state with the position in this file, half a second later.
    fn is(&mut self, state: &str, file: &Value, filepos: &Value) -> Published {
        self.stage.now.instant += Duration::from_millis(500);
        self.receives(
            0,
            "current",
            &json!({"state": {"text": state}, "job": {"file": file},
            "progress": {"filepos": filepos, "completion": 50.0}}),
        )
    }

    fn event(&mut self, kind: &str) -> Published {
        let feature = &mut self.feature;
        self.stage.event(feature, kind, &json!({}))
    }

    /// Waits so many seconds, and does what is due.
    fn wait(&mut self, seconds: u64) -> Published {
        self.stage.now.instant += Duration::from_secs(seconds);
        let feature = &mut self.feature;
        self.stage.run(|scene| feature.flush(scene))
    }

    /// Seconds until something is due.
    fn due_in(&self) -> Option<u64> {
        let due = self.feature.due()?;
        Some(due.saturating_duration_since(self.stage.now.instant).as_secs_f64().round() as u64)
    }

    async fn finds(&mut self) -> Published {
        let finding = self.findings.recv().await.unwrap();
        self.takes(&finding)
    }

    fn takes(&mut self, finding: &FeatureFinding) -> Published {
        let feature = &mut self.feature;
        self.stage.run(|scene| feature.find(finding, scene))
    }

    fn found(&self, found: Found) -> FeatureFinding {
        let generation = self.feature.state.generation;
        FeatureFinding::Gcode(Box::new(GcodeFinding { generation, found }))
    }
}

fn file(path: &str) -> Value {
    json!({"origin": "local", "path": path, "name": path, "size": SIZE, "date": 1})
}

/// A file of three layers.
fn whole() -> (Found, Arc<LayerIndex>) {
    let mut reader = GcodeReader::new(&ReadLimits::default());
    let mut text = ";FLAVOR:Marlin\n;TIME:600\n;LAYER_COUNT:3\nG28\n".to_owned();
    for layer in 1..4 {
        text += &format!(";LAYER:{}\nG1 X1 Y1 Z0.{} E1\nG1 X50 Y50 E2\n", layer - 1, layer * 2);
    }
    reader.feed(text.as_bytes());
    let whole = WholeFile::of(reader.finish()).unwrap();
    let index = Arc::clone(&whole.layers);
    (Found::Whole(Ok(whole)), index)
}

fn topics(published: &Published) -> Vec<&str> {
    published.iter().map(|(topic, _)| topic.as_str()).collect()
}

fn of<'a>(published: &'a Published, topic: &str) -> &'a Value {
    &published.iter().find(|(name, _)| name == topic).unwrap().1
}

#[tokio::test]
async fn layers_are_published_from_the_reading_of_the_file_to_the_end_of_the_print() {
    let mut world = World::new(wanted());
    let feature = &mut world.feature;
    let first = world.stage.run(|scene| feature.start(scene));
    assert_eq!(topics(&first), ["gcode", "layer"]);
    let nothing = json!({"current": null, "total": null, "z": null});
    assert_eq!(
        (of(&first, "gcode")["slicer"].clone(), of(&first, "layer")),
        (Value::Null, &nothing)
    );
    world.is("Operational", &file("a.gcode"), &Value::Null);
    assert_eq!(world.due_in(), Some(2));
    world.feature.state.look_at = None;
    world.event("PrintStarted");
    assert!(world.is("Printing", &file("a.gcode"), &json!(0)).is_empty());
    assert_eq!(world.due_in(), Some(30));
    let (found, index) = whole();
    let starts: Vec<u64> = index.iter().map(|(start, _)| start).collect();
    let finding = world.found(found);
    let read = world.takes(&finding);
    assert_eq!(of(&read, "layer"), &json!({"current": null, "total": 3, "z": null}));
    assert_eq!(of(&read, "gcode")["print_time"], 600);
    assert_eq!(of(&read, "gcode")["layers"], 3);
    let mut changes = Vec::new();
    for at in [starts[0] + 1, starts[0] + 5, starts[1] + 1, starts[2] + 1] {
        let published = world.is("Printing", &file("a.gcode"), &json!(at));
        for (topic, payload) in published {
            match topic.as_str() {
                "layer" => assert_eq!(payload["total"], 3),
                _ => changes.push((topic, payload["layer"].clone(), payload["z"].clone())),
            }
        }
    }
    let change = |layer: u32, z: f64| ("layer_change".to_owned(), json!(layer), json!(z));
    assert_eq!(changes, [change(1, 0.2), change(2, 0.4), change(3, 0.6)]);
    let over = world.is("Operational", &file("a.gcode"), &json!(SIZE));
    assert_eq!(over, [("layer".to_owned(), nothing)]);
    // The next print of the same file is known from its start.
    world.event("PrintStarted");
    let again = world.is("Printing", &file("a.gcode"), &json!(starts[0] + 1));
    assert_eq!(topics(&again), ["layer", "layer_change"]);
    assert_eq!(world.due_in(), None, "it is not read again");
    // Another one is not.
    let mut changed = file("a.gcode");
    changed["date"] = json!(2);
    let other = world.is("Printing", &changed, &json!(starts[0] + 1));
    assert_eq!(of(&other, "layer")["total"], Value::Null);
    assert_eq!(world.feature.state.read_at, Some(world.stage.now.instant + READ_AFTER));
}

#[tokio::test]
async fn what_was_found_about_another_file_is_outdated() {
    let mut world = World::new(wanted());
    world.is("Printing", &file("a.gcode"), &json!(0));
    let (found, _) = whole();
    let finding = world.found(found);
    world.is("Printing", &file("b.gcode"), &json!(0));
    assert!(world.takes(&finding).is_empty());
    assert!(!world.feature.state.layers.is_known());
}

#[tokio::test]
async fn a_picture_is_replaced_and_cleared() {
    let mut world = World::new(wanted());
    let feature = &mut world.feature;
    world.stage.run(|scene| feature.start(scene));
    let none = world.is("Operational", &Value::Null, &Value::Null);
    assert_eq!(topics(&none), ["gcode", "thumbnail"], "of before the start of the bridge");
    assert_eq!(topics(&world.is("Operational", &file("a.gcode"), &Value::Null)), ["gcode"]);
    let picture = Bytes::from_static(b"picture");
    let ends = Ends { picture: Some(picture), slicer: Some(SlicerInfo::default()), failure: None };
    let finding = world.found(Found::Ends(ends));
    assert_eq!(topics(&world.takes(&finding)), ["gcode", "thumbnail"]);
    assert!(world.feature.state.has_picture);
    assert_eq!(topics(&world.is("Operational", &file("b.gcode"), &Value::Null)), ["gcode"]);
    let finding = world.found(Found::Ends(Ends::default()));
    assert_eq!(topics(&world.takes(&finding)), ["thumbnail"], "it has none");
    assert!(!world.feature.state.has_picture);
    let none = world.is("Operational", &Value::Null, &Value::Null);
    assert_eq!(topics(&none), ["gcode", "thumbnail"]);
}

#[tokio::test]
async fn a_lost_connection_is_tried_again_a_few_times() {
    let mut world = World::new(wanted());
    world.is("Printing", &file("a.gcode"), &json!(0));
    world.feature.state.look_at = None;
    for attempt in 1..=MAX_ATTEMPTS {
        world.wait(world.due_in().unwrap());
        assert!(world.feature.state.reading.is_some());
        // A push opens the gate.
        world.is("Printing", &file("a.gcode"), &json!(0));
        // Nothing listens there.
        assert!(world.finds().await.is_empty());
        assert_eq!(world.due_in(), (attempt < MAX_ATTEMPTS).then_some(60), "{attempt}");
    }
    world.is("Operational", &file("a.gcode"), &Value::Null);
    world.is("Printing", &file("a.gcode"), &json!(0));
    assert_eq!(world.due_in(), Some(30), "another print");
}

#[tokio::test]
async fn a_refused_or_missing_file_is_not_tried_again() {
    for failure in [Failure::Refused, Failure::Missing, Failure::TooLarge] {
        let mut world = World::new(wanted());
        world.is("Printing", &file("a.gcode"), &json!(0));
        world.feature.state.look_at = None;
        world.wait(30);
        let finding = world.found(Found::Whole(Err(failure)));
        assert!(world.takes(&finding).is_empty());
        assert_eq!(
            (world.due_in(), world.feature.is_refusal_logged),
            (None, failure == Failure::Refused)
        );
    }
}

#[tokio::test]
async fn large_files_and_files_on_the_printer_are_not_read() {
    let mut large = file("a.gcode");
    large["size"] = json!(10_001);
    let mut on_printer = file("A.GCO");
    on_printer["origin"] = json!("sdcard");
    for file in [large, on_printer] {
        let mut world = World::new(wanted());
        world.is("Printing", &file, &json!(0));
        world.feature.state.look_at = None;
        world.wait(30);
        assert!(world.feature.state.reading.is_none(), "{file}");
        assert_eq!(world.due_in(), None);
    }
}

#[tokio::test]
async fn reading_ends_with_the_print() {
    let mut world = World::new(wanted());
    world.is("Printing", &file("a.gcode"), &json!(0));
    world.feature.state.look_at = None;
    world.wait(30);
    assert!(world.feature.state.reading.is_some());
    world.is("Operational", &file("a.gcode"), &Value::Null);
    assert!(world.feature.state.reading.is_none());
    tokio::task::yield_now().await;
    assert!(world.findings.try_recv().is_err(), "it was cancelled");
    assert_eq!(world.due_in(), None);
}

#[tokio::test]
async fn only_what_is_wanted_is_published() {
    let mut world = World::new(WantedFile { slicer: false, ..wanted() });
    assert_eq!(topics(&world.is("Printing", &Value::Null, &json!(0))), ["thumbnail"]);
    assert!(world.is("Printing", &file("a.gcode"), &json!(0)).is_empty());
    world.feature.state.look_at = None;
    assert_eq!(world.due_in(), None, "no layers are wanted");
    let mut world = World::new(WantedFile { picture: false, ..wanted() });
    let published = world.is("Printing", &file("a.gcode"), &json!(0));
    assert_eq!(topics(&published), ["gcode", "layer"]);
    let finding = world.found(Found::Ends(Ends::default()));
    assert!(world.takes(&finding).is_empty());
}

/// OctoPrint's login, without a socket that connects.
fn rest_of(octoprint: &Simulator) -> (Socket, Rest) {
    crate::tls::install_provider();
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let url = format!("http://127.0.0.1:{}/", octoprint.port()).parse().unwrap();
    let key = Credentials::ApiKey(Secret::new(SimulatorOptions::default().api_key.as_str()));
    let socket = Socket::new(SocketOptions::new(url, key, Arc::new(tls))).unwrap();
    let rest = socket.rest();
    (socket, rest)
}

#[tokio::test]
async fn both_ends_and_the_whole_say_what_is_in_the_file() {
    let octoprint = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let (_socket, rest) = rest_of(&octoprint);
    let path = FilePath::parse("local/a.gcode").unwrap();
    let wanted = WantedFile { max_size: 2_000_000, ..wanted() };
    let ends = reading::ends(&rest, &path, wanted, true).await;
    assert_eq!(ends.failure, None);
    assert_eq!(ends.slicer.unwrap().print_time, Some(80));
    assert!(ends.picture.unwrap().starts_with(b"\x89PNG"));
    let (gate, open_until) = watch::channel(tokio::time::Instant::now() + Duration::from_secs(60));
    let file = reading::whole(&rest, &path, wanted, open_until.clone()).await.unwrap();
    assert_eq!(file.layers.total(), 40);
    let small = WantedFile { max_size: 1_000_000, ..wanted };
    let large = reading::whole(&rest, &path, small, open_until.clone()).await;
    assert_eq!(large.err(), Some(Failure::TooLarge));
    // A wrong key is answered with 403.
    octoprint.set_faults(Faults { deactivated: true, ..Faults::default() });
    let refused = reading::whole(&rest, &path, wanted, open_until.clone()).await;
    assert_eq!(refused.err(), Some(Failure::Refused));
    let refused = reading::ends(&rest, &path, wanted, true).await;
    assert_eq!(refused.failure, Some(Failure::Refused));
    drop(gate);
}

#[tokio::test]
async fn late_pushes_pause_the_reading() {
    let octoprint = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let (_socket, rest) = rest_of(&octoprint);
    let path = FilePath::parse("local/a.gcode").unwrap();
    let wanted = WantedFile { max_size: 2_000_000, ..wanted() };
    let (gate, open_until) = watch::channel(tokio::time::Instant::now());
    let mut reading = Box::pin(reading::whole(&rest, &path, wanted, open_until));
    let wait = Duration::from_millis(200);
    assert!(tokio::time::timeout(wait, &mut reading).await.is_err(), "no push has come");
    assert_eq!(octoprint.observed().downloads, 0);
    gate.send_replace(tokio::time::Instant::now() + Duration::from_secs(60));
    assert_eq!(reading.await.unwrap().layers.total(), 40);
    assert_eq!(octoprint.observed().downloads, 1);
}

#[tokio::test]
async fn the_gate_follows_the_push_interval() {
    let mut world = World::new(wanted());
    world.is("Printing", &file("a.gcode"), &json!(0));
    world.feature.state.look_at = None;
    world.wait(30);
    world.is("Printing", &file("a.gcode"), &json!(0));
    let until = |world: &World| {
        let reading = world.feature.state.reading.as_ref().unwrap();
        let until = reading.open_until.borrow().into_std();
        until.saturating_duration_since(world.stage.now.instant)
    };
    assert_eq!(until(&world), Duration::from_secs(1));
    let message = Message::new(
        "current",
        "{}".into(),
        world.stage.now.instant.into(),
        world.stage.now.wall,
        1,
    );
    let (feature, message) = (&mut world.feature, message.unwrap());
    world.stage.run(|scene| {
        scene.push_interval = Duration::from_secs(4);
        feature.message(&message, scene);
    });
    assert_eq!(until(&world), Duration::from_secs(8));
}

#[tokio::test]
async fn the_version_is_that_of_the_greeting() {
    let mut world = World::new(wanted());
    for (version, expected) in [("2.0.0rc7", true), ("1.11.8", false), ("10.1", true)] {
        world.receives(1, "connected", &json!({"version": version}));
        assert_eq!(world.feature.state.is_2, expected, "{version}");
    }
}
