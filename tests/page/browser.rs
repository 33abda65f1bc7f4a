//! The page in a real browser, with a bridge that is played here.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use hyper::body::Bytes;
use octoprint2mqtt::bridge::board::{
    AskedByPage, Board, BrokerCard, Card, CardHeater, CardPicture, PageRequest, PairingStatus,
};
use octoprint2mqtt::bridge::newcomer::PairRequest;
use octoprint2mqtt::http;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::real::left_out;
use crate::real::reverse_proxy::Program;
use crate::world::{self, PASSWORD, World};

fn reading(heater: &str, actual: f64, target: f64) -> CardHeater {
    CardHeater { heater: heater.to_owned(), actual: Some(actual), target: Some(target) }
}

fn groups(names: &[&str]) -> BTreeMap<String, bool> {
    let all = ["bridge", "job", "temperature", "motion", "connection", "power", "gcode", "system"];
    all.iter().map(|name| ((*name).to_owned(), names.contains(name))).collect()
}

/// What every printer of the test has.
fn printer(id: &str, name: &str, state: &str) -> Card {
    Card {
        id: id.to_owned(),
        name: name.to_owned(),
        url: format!("http://{id}.local/"),
        added: true,
        online: true,
        socket: "connected".to_owned(),
        interval: Some(500),
        state: state.to_owned(),
        temperatures: vec![reading("tool0", 24.3, 0.0), reading("bed", 23.1, 0.0)],
        commands: groups(&["bridge", "job", "temperature", "motion", "connection", "power"]),
        ..Card::default()
    }
}

fn printing() -> Card {
    Card {
        file: Some("benchy_0.2mm_PETG_MK3S.gcode".to_owned()),
        completion: Some(61.0),
        time_left: Some(48 * 60),
        last_event: Some("print_started".to_owned()),
        last_event_at: Some("2026-03-01T09:30:00Z".to_owned()),
        temperatures: vec![reading("tool0", 240.2, 240.0), reading("bed", 84.8, 85.0)],
        ..printer("mk3", "Prusa MK3S", "printing")
    }
}

fn cards() -> Vec<Card> {
    let away = "no connection to http://ender.local/: connection refused; is OctoPrint running?";
    vec![
        printing(),
        Card {
            file: Some("bracket-left.gcode".to_owned()),
            completion: Some(18.4),
            last_event: Some("filament_change".to_owned()),
            last_event_at: Some("2026-03-01T10:02:11Z".to_owned()),
            temperatures: vec![
                reading("tool0", 214.9, 215.0),
                reading("tool1", 150.1, 150.0),
                reading("bed", 60.0, 60.0),
                reading("chamber", 38.2, 40.0),
            ],
            interval: Some(1500),
            added: false,
            ..printer("voron", "Voron 2.4", "paused")
        },
        Card {
            online: false,
            socket: "waiting".to_owned(),
            interval: None,
            error: Some(away.to_owned()),
            temperatures: Vec::new(),
            ..printer("ender", "Ender 3", "offline")
        },
    ]
}

/// A picture of a disc.
fn picture() -> CardPicture {
    const SIDE: u32 = 96;
    let pixels: Vec<u8> = (0..SIDE * SIDE)
        .flat_map(|at| {
            let (x, y) = ((at % SIDE) as i32 - 48, (at / SIDE) as i32 - 48);
            let shade = (160 - x - y).clamp(0, 255) as u8;
            if x * x + y * y < 40 * 40 { [shade, 110, 40, 255] } else { [0, 0, 0, 0] }
        })
        .collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgba);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    CardPicture { media_type: "image/png", bytes: Bytes::from(bytes) }
}

/// A printer that warms up, in simulated time: a point needs five seconds.
async fn warm_up(board: &Board) {
    tokio::time::pause();
    for n in 0..90 {
        let warm = |from: f64, to: f64, k: f64| to - (to - from) * (-f64::from(n) / k).exp();
        for card in cards() {
            let readings = card.temperatures.iter().enumerate().map(|(index, reading)| {
                let actual = warm(22.0, reading.actual.unwrap(), 8.0 + 9.0 * index as f64);
                CardHeater { actual: Some((actual * 10.0).round() / 10.0), ..reading.clone() }
            });
            board.show(Card { temperatures: readings.collect(), ..card });
        }
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    tokio::time::resume();
}

fn fill(world: &World) {
    world.board.show_picture("mk3", Some(picture()));
    world.board.show_broker(BrokerCard {
        address: "mqtt://broker.lan:1883".to_owned(),
        connected: true,
        waiting: 12,
        ..BrokerCard::default()
    });
    let late = "events reach the broker late: 1.8 s; the push rate is now one message in 1.5 s";
    world.log.add("WARN", Some("voron".to_owned()), late.to_owned());
    let away = "not connected: connection refused; is OctoPrint running?";
    world.log.add("ERROR", Some("ender".to_owned()), away.to_owned());
}

/// Plays the bridge: what the page asks happens on the board. A print goes on meanwhile.
async fn play(board: Board, mut asked: mpsc::Receiver<AskedByPage>, cards: Vec<Card>) {
    let mut shown: BTreeMap<String, Card> =
        cards.into_iter().map(|card| (card.id.clone(), card)).collect();
    let mut tick = tokio::time::interval(Duration::from_millis(300));
    loop {
        tokio::select! {
            Some((request, answer)) = asked.recv() => {
                let answered = answer_to(request, &board, &mut shown);
                answer.send(answered.map_err(Into::into)).unwrap();
            }
            _ = tick.tick() => {
                if let Some(card) = shown.get_mut("mk3") {
                    card.completion = card.completion.map(|done| (done + 0.1).min(100.0));
                    board.show(card.clone());
                }
            }
        }
    }
}

fn answer_to(
    request: PageRequest,
    board: &Board,
    shown: &mut BTreeMap<String, Card>,
) -> Result<Value, &'static str> {
    match request {
        PageRequest::Discover => Ok(json!({"octoprints": [
            {"name": "OctoPrint on prusa-mini", "url": "http://mini.local/", "configured": null},
            {"name": "OctoPrint on mk3", "url": "http://mk3.local/", "configured": "mk3"},
        ]})),
        PageRequest::Pair(PairRequest { url, name, id }) => {
            let url = url.expose().to_owned();
            if url.contains("nowhere") {
                return Err("no connection to http://nowhere.local/: the name is not known");
            }
            let name = name.unwrap_or_default();
            let id = id.unwrap_or_else(|| "mini".to_owned());
            let dialog = Some(format!("{url}plugin/appkeys/auth/1"));
            let outcome = "waiting".to_owned();
            board.show_pairing(Some(PairingStatus { url, id, name, dialog, outcome }));
            Ok(json!({}))
        }
        // The test's way to click Allow.
        PageRequest::AllowMqttPairing => {
            if let Some(pairing) = board.pairing() {
                let card = printer(&pairing.id, &pairing.name, "operational");
                board.show(card.clone());
                shown.insert(card.id.clone(), card);
                board
                    .show_pairing(Some(PairingStatus { outcome: "allowed".to_owned(), ..pairing }));
            }
            Ok(json!({}))
        }
        PageRequest::CancelPairing => {
            board.show_pairing(None);
            Ok(json!({}))
        }
        PageRequest::Remove(id) => {
            shown.remove(&id);
            board.remove(&id);
            Ok(json!({}))
        }
        PageRequest::Rename { id, name } => {
            let card = shown.get_mut(&id).ok_or("there is no such printer")?;
            card.name = name;
            board.show(card.clone());
            Ok(json!({}))
        }
        PageRequest::Groups { id, groups } => {
            let card = shown.get_mut(&id).ok_or("there is no such printer")?;
            card.commands.extend(groups);
            board.show(card.clone());
            Ok(json!({}))
        }
        PageRequest::Check => Ok(json!([
            {"what": "broker broker.lan:1883", "ok": true, "text": "connected"},
            {"what": "mk3 http://mk3.local/ login", "ok": true, "text": "logged in as bridge"},
            {"what": "ender http://ender.local/ login", "ok": false, "text": "connection refused"},
        ])),
    }
}

/// The Python that drives the browser.
pub fn python() -> String {
    let name = "OCTOPRINT2MQTT_TEST_PLAYWRIGHT";
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// Runs the script in the browser, with what it is given.
async fn browse(given: Value) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/page.py");
    let mut command = tokio::process::Command::new(python());
    command.arg(script).arg(given.to_string()).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

/// Where the pictures go.
pub fn directory() -> String {
    std::env::var("OCTOPRINT2MQTT_TEST_PICTURES")
        .unwrap_or_else(|_| std::env::temp_dir().join("octoprint2mqtt-page").display().to_string())
}

/// nginx as the guide has it, without TLS.
fn nginx(port: u16, page: &str) -> String {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/guides/page.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let location = guide.split("```").find_map(|block| block.strip_prefix("nginx\n")).unwrap();
    let location = location.replace("127.0.0.1:8099", page);
    format!("server {{\nlisten 127.0.0.1:{port};\n{location}}}\n")
}

#[tokio::test]
#[ignore = "needs Chromium: ./tests/run page"]
async fn a_tour_with_mouse_keyboard_phone_and_desktop_below_a_sub_path() {
    let world = World::new(&world::password());
    warm_up(&world.board).await;
    fill(&world);
    let listener = http::listen(([127, 0, 0, 1], 0).into()).unwrap();
    let page = listener.local_addr().unwrap().to_string();
    tokio::spawn(http::serve(listener, world.site));
    tokio::spawn(play(world.board.clone(), world.asked, cards()));
    let (proxy, url) = if Program::Nginx.is_installed() {
        let proxy = Program::Nginx.start(|port, _| nginx(port, &page)).await;
        let url = format!("http://127.0.0.1:{}/printers/", proxy.port);
        (Some(proxy), url)
    } else {
        left_out("the page below a sub-path", "no nginx");
        (None, format!("http://{page}/"))
    };
    let directory = directory();
    browse(json!({"tour": "whole", "url": url, "password": PASSWORD, "directory": directory}))
        .await;
    drop(proxy);
}

#[tokio::test]
#[ignore = "needs Chromium: ./tests/run page"]
async fn hostile_texts_do_nothing_in_a_browser_and_a_read_only_page_offers_no_change() {
    let world = World::new("");
    world.be_hostile();
    world.board.show_pairing(Some(PairingStatus {
        url: world::HOSTILE.to_owned(),
        id: "x".to_owned(),
        name: world::HOSTILE.to_owned(),
        dialog: Some("javascript:alert(5)".to_owned()),
        outcome: world::HOSTILE.to_owned(),
    }));
    let listener = http::listen(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(http::serve(listener, world.site));
    tokio::spawn(play(world.board.clone(), world.asked, Vec::new()));
    browse(json!({"tour": "hostile", "url": url, "directory": directory()})).await;
}
