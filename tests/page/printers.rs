//! The page of a real bridge, used in a real browser: printers of real OctoPrints are found, added
//! with a click on Allow in OctoPrint's own page, watched, changed and removed.

use std::process::Stdio;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use octoprint2mqtt::config::{AddedPrinters, NewPrinter};
use octoprint2mqtt::secret::Secret;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::browser::{directory, python};
use crate::real::bridge::Bridge;
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::{KEY, OctoPrint, PASSWORD, USER};
use crate::real::proxy::Proxy;
use crate::real::watcher::{Watcher, retained};
use crate::real::{PATIENCE, eventually, free_port, within};

const PAGE_PASSWORD: &str = "staple of the page";
/// Has OctoPrint announce itself, by the loopback interface alone.
const ANNOUNCED: &str = "  discovery: {addresses: [127.0.0.1]}\nappearance: {name: Workshop}\n";
/// Has OctoPrint believe what it knows of a file: remarks take no time.
const ESTIMATED: &str = "estimation: {printTime: {stableThreshold: 0.0, validityRange: 1.0}}\n";
const VASE: &str = "vase_0.2mm_PETG.gcode";
const DEVICE: &str = "homeassistant/device/octoprint2mqtt_prusa_mk3s/config";

/// A bridge that serves its page.
struct World {
    broker: Mosquitto,
    data: tempfile::TempDir,
    bridge: Bridge,
    /// Hears all that browsers are told.
    page: Proxy,
}

impl World {
    /// Starts it with these added printers, and with `more` in its configuration.
    async fn start(added: &[(&str, &str, &OctoPrint)], more: &str) -> Self {
        let broker = Mosquitto::start().await;
        let data = tempfile::tempdir().unwrap();
        for (id, name, octoprint) in added {
            let new = NewPrinter {
                id: (*id).to_owned(),
                name: (*name).to_owned(),
                url: octoprint.url().parse().unwrap(),
                authorization: None,
                api_key: Secret::new(KEY),
            };
            AddedPrinters::in_dir(data.path()).add(&new).unwrap();
        }
        let port = free_port();
        let (dir, url) = (data.path(), broker.url());
        let bridge = Bridge::start(&format!(
            "data_dir = {dir:?}\n[outbox]\nsettle = \"0s\"\n[log]\nlevel = \"debug\"\n[mqtt]\nurl = \"{url}\"\n[http]\nlisten = \"127.0.0.1:{port}\"\npassword = \"{PAGE_PASSWORD}\"\n{more}"
        ));
        eventually("the page", || async {
            reqwest::get(format!("http://127.0.0.1:{port}/")).await.ok()
        })
        .await;
        Self { broker, data, bridge, page: Proxy::start(port).await }
    }

    /// What a tour is given.
    fn given(&self, tour: &str, octoprint: &OctoPrint) -> Value {
        json!({
            "tour": tour,
            "url": self.page.url("http") + "/",
            "password": PAGE_PASSWORD,
            "broker": format!("127.0.0.1:{}", self.broker.port),
            "octoprint": octoprint.url(),
            "user": USER,
            "user_password": PASSWORD,
            "directory": directory(),
            // Two minutes in pictures that people see.
            "points": if std::env::var_os("OCTOPRINT2MQTT_TEST_PICTURES").is_some() { 24 } else { 2 },
        })
    }

    fn printers(&self) -> toml::Table {
        let path = self.data.path().join("printers.toml");
        std::fs::read_to_string(path).unwrap().parse().unwrap()
    }
}

/// The script that uses the browser. It stops at its steps.
struct Tour {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    to_it: ChildStdin,
}

impl Tour {
    fn start(given: &Value) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/printers.py");
        let mut command = tokio::process::Command::new(python());
        command.arg(script).arg(given.to_string()).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let to_it = child.stdin.take().unwrap();
        Self { child, said, to_it }
    }

    /// Lets it go on to its next step; `None`: it has ended.
    async fn next(&mut self) -> Option<String> {
        while let Some(line) = self.said.next_line().await.unwrap() {
            match line.strip_prefix("STEP ") {
                Some(step) => return Some(step.to_owned()),
                None => println!("{line}"),
            }
        }
        None
    }

    /// Waits until it has come to this step.
    async fn reaches(&mut self, step: &str) {
        assert_eq!(self.next().await.as_deref(), Some(step));
    }

    async fn go_on(&mut self) {
        self.to_it.write_all(b"\n").await.unwrap();
    }

    async fn end(mut self) {
        assert_eq!(self.next().await, None);
        assert!(self.child.wait().await.unwrap().success());
    }
}

/// The vase's radius at a height of 0 to 4, from its rim down.
fn radius(height: f64) -> f64 {
    const AT: [f64; 5] = [46.0, 26.0, 50.0, 64.0, 38.0];
    let part = height.floor();
    if !(0.0..4.0).contains(&height) {
        return 0.0;
    }
    let (from, to) = (AT[part as usize], AT[part as usize + 1]);
    from + (to - from) * (1.0 - ((height - part) * std::f64::consts::PI).cos()) / 2.0
}

/// A picture of a vase as slicers draw it, with its layers.
fn vase() -> Vec<u8> {
    const SIDE: u32 = 220;
    let pixel = |at: u32| {
        let (x, y) = (f64::from(at % SIDE) - 110.0, f64::from(at / SIDE));
        let radius = radius((y - 14.0) / 48.0);
        let across = x / radius;
        if radius == 0.0 || across.abs() > 1.0 {
            return [0; 4];
        }
        let light = 0.4 + 0.6 * (1.0 - ((across + 0.3) / 1.35).powi(2)).max(0.0).sqrt();
        let layer = if (at / SIDE).is_multiple_of(5) { 0.84 } else { 1.0 };
        let shade = |part: f64| (part * light * layer).clamp(0.0, 255.0) as u8;
        [shade(250.0), shade(128.0), shade(38.0), 255]
    };
    let pixels: Vec<u8> = (0..SIDE * SIDE).flat_map(pixel).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgba);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

/// The picture, as PrusaSlicer writes it.
fn with_picture() -> String {
    let picture = BASE64_STANDARD.encode(vase());
    let mut text = format!(
        "; generated by PrusaSlicer 2.9.2 on 2026-01-01 at 00:00:00 UTC\n\n; thumbnail begin 220x220 {}\n",
        picture.len()
    );
    for line in picture.as_bytes().chunks(78) {
        text += &format!("; {}\n", std::str::from_utf8(line).unwrap());
    }
    text + "; thumbnail end\n\n"
}

/// A file that begins so, heats, and then prints for so many tenths of a second. So many percent of
/// it are remarks, which take no time.
fn gcode(begin: &str, heating: &str, tenths: usize, percent: usize) -> String {
    let begin = format!("{begin}{heating}\nG28\nG1 Z0.2 F600000\nM83\n");
    let moves: String =
        (0..tenths).map(|n| format!("G1 X{} Y20 E0.1 F600000\nG4 P100\n", n % 50)).collect();
    let remarks = (begin.len() + moves.len()) * percent / (100 - percent);
    begin + &"; a line of the slicer that is no command\n".repeat(remarks / 42) + &moves
}

/// Uploads a file, and waits until OctoPrint knows how long it takes: while it prints, it does not
/// look.
async fn upload(octoprint: &OctoPrint, name: &str, gcode: &str) {
    octoprint.upload_text(name, gcode).await;
    within(PATIENCE * 4, "OctoPrint's analysis", || async {
        let file = octoprint.get(&format!("api/files/local/{name}")).await;
        file["gcodeAnalysis"]["estimatedPrintTime"].as_f64()
    })
    .await;
}

async fn print(octoprint: &OctoPrint, name: &str) {
    let path = format!("api/files/local/{name}");
    assert_eq!(octoprint.post(&path, json!({"command": "select", "print": true})).await, 204);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium, Mosquitto and OctoPrint: ./tests/run page"]
async fn a_printer_is_found_added_with_a_click_watched_changed_and_removed_in_a_browser() {
    let announced = |config: String| config.replace(" discovery,", "") + ANNOUNCED;
    let (octoprint, world) = tokio::join!(OctoPrint::start_with(announced), World::start(&[], ""));
    let watcher = Watcher::start(world.broker.port).await;
    let mut tour = Tour::start(&world.given("flow", &octoprint));

    tour.reaches("added").await;
    watcher.wait_json(0, DEVICE, |it| it["device"]["name"] == "Prusa MK3S").await;
    let key = world.printers()["printers"]["prusa_mk3s"]["api_key"].as_str().unwrap().to_owned();
    assert_ne!(key, KEY);
    tour.go_on().await;

    tour.reaches("print").await;
    let vase = gcode(&with_picture(), "M140 S60\nM104 S215", 6000, 20);
    octoprint.upload_text("vase.gcode", &vase).await;
    print(&octoprint, "vase.gcode").await;
    tour.go_on().await;
    tour.reaches("cancel").await;
    octoprint.job(json!({"command": "cancel"})).await;
    tour.go_on().await;
    tour.reaches("print to the end").await;
    octoprint.until("Operational").await;
    octoprint.upload("short.gcode", 10).await;
    print(&octoprint, "short.gcode").await;
    tour.go_on().await;

    tour.reaches("changed").await;
    let printer = world.printers()["printers"]["prusa_mk3s"].clone();
    assert_eq!(printer["name"].as_str(), Some("Workshop left"), "{}", printer["name"]);
    assert_eq!(printer["commands"]["gcode"].as_bool(), Some(true), "{}", printer["commands"]);
    watcher.wait_json(0, DEVICE, |it| it["device"]["name"] == "Workshop left").await;
    tour.go_on().await;

    tour.reaches("removed").await;
    let file = world.data.path().join("printers.toml");
    assert!(!std::fs::read_to_string(file).unwrap().contains("prusa_mk3s"));
    eventually("nothing of the printer to be left at the broker", || async {
        let left = retained(world.broker.port).await;
        (!left.keys().any(|topic| topic.contains("prusa_mk3s"))).then_some(())
    })
    .await;
    tour.go_on().await;
    tour.end().await;

    assert!(world.page.has_said("prusa_mk3s"), "what browsers are told is heard");
    for secret in [key.as_str(), PAGE_PASSWORD] {
        assert!(!world.page.has_said(secret), "a browser was told a secret");
        assert!(!world.bridge.log().contains(secret), "a secret is in the log");
    }
}

/// One with two tools and a heated chamber.
async fn large() -> OctoPrint {
    let octoprint = OctoPrint::start_with(|config| {
        config.replace("throttle", "numExtruders: 2, hasChamber: true, throttle") + ESTIMATED
    })
    .await;
    let profile = json!({"profile": {"extruder": {"count": 2}, "heatedChamber": true}});
    assert_eq!(octoprint.patch("api/printerprofiles/_default", profile).await, 200);
    octoprint
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium, Mosquitto and OctoPrint: ./tests/run page"]
async fn three_printers_of_which_one_goes_away_in_a_browser() {
    let (mk3, voron, mut ender) = tokio::join!(
        OctoPrint::start_with(|config| config + ESTIMATED),
        large(),
        OctoPrint::start()
    );
    let vase = gcode(&with_picture(), "M140 S85\nM104 S240", 30_000, 40);
    let bracket = gcode("", "M140 S60\nM141 S40\nM104 T0 S215\nM104 T1 S150", 30_000, 18);
    tokio::join!(upload(&mk3, VASE, &vase), upload(&voron, "bracket-left.gcode", &bracket));
    let configured = format!(
        "[printers.voron]\nname = \"Voron 2.4\"\nurl = \"{}\"\napi_key = \"{KEY}\"\n",
        voron.url()
    );
    let added = [("mk3", "Prusa MK3S", &mk3), ("ender", "Ender 3", &ender)];
    let world = World::start(&added, &configured).await;
    let mut tour = Tour::start(&world.given("fleet", &mk3));
    tour.reaches("print").await;
    print(&mk3, VASE).await;
    print(&voron, "bracket-left.gcode").await;
    voron.until("Printing").await;
    // The remarks at its beginning pass at once.
    eventually("the print to come to its moves", || async {
        let job = voron.get("api/job").await;
        job["progress"]["completion"].as_f64().filter(|percent| *percent > 18.0)
    })
    .await;
    voron.job(json!({"command": "pause", "action": "pause"})).await;
    tour.go_on().await;
    tour.reaches("kill").await;
    ender.kill();
    tour.go_on().await;
    tour.end().await;
    assert!(world.page.has_said("Voron 2.4"));
    assert!(!world.page.has_said(KEY), "a browser was told a key");
}
