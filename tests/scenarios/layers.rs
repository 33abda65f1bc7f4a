//! Layers, slicer data and pictures of G-code files that a real OctoPrint prints.

use std::time::{Duration, Instant};

use crate::real;
use crate::real::bridge::{Bridge, config};
use crate::real::gcode::{Sliced, picture, sliced};
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::{KEY, OctoPrint};
use crate::real::sockjs::SockJs;
use crate::real::watcher::Watcher;
use crate::real::{eventually, free_port, within};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};

/// The file is read half a minute after the start of a print.
const READ: Duration = Duration::from_secs(60);

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

/// OctoPrint does not know how long a print takes.
fn without_analysis(config: String) -> String {
    config + "\ngcodeAnalysis: {runAt: never}\n"
}

/// The retained payload of a topic; empty where there is none.
async fn retained(port: u16, topic: &str) -> Vec<u8> {
    let options = MqttOptions::new(format!("reader-{}", free_port()), "127.0.0.1", port);
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe(topic, QoS::AtLeastOnce).await.unwrap();
    client.subscribe("nothing", QoS::AtLeastOnce).await.unwrap();
    let mut acknowledged = 0;
    let read = async {
        loop {
            match events.poll().await.unwrap() {
                Event::Incoming(Packet::Publish(publish)) => return publish.payload.to_vec(),
                Event::Incoming(Packet::SubAck(_)) => acknowledged += 1,
                _ => {}
            }
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(2), read).await;
    assert!(acknowledged > 0, "the broker has answered");
    read.unwrap_or_default()
}

/// The layers on `B/P/layer_change` since `mark`.
fn changes(watcher: &Watcher, mark: usize) -> Vec<(u64, f64)> {
    let seen = watcher.seen();
    let changes = seen[mark..].iter().filter(|seen| seen.topic == topic("layer_change"));
    changes
        .map(|seen| {
            let change = seen.json();
            assert!(!seen.retained && change["event_type"] == "layer_change", "{change}");
            (change["layer"].as_u64().unwrap(), change["z"].as_f64().unwrap())
        })
        .collect()
}

async fn a_print_has_the_layers_of_its_file(octoprint: OctoPrint) {
    let broker = Mosquitto::start().await;
    let watcher = Watcher::start(broker.port).await;
    let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), ""));
    watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
    assert_eq!(retained(broker.port, &topic("thumbnail")).await, b"", "nothing is selected");

    let Sliced { text, layers } = sliced(12, 15);
    octoprint.upload_text("part \u{e4}.gcode", &text).await;
    let mark = watcher.mark();
    octoprint.select("part%20%C3%A4.gcode").await;
    watcher
        .wait_from(mark, "the picture", |s| s.topic == topic("thumbnail") && !s.payload.is_empty())
        .await;
    let (shown, in_file) = (retained(broker.port, &topic("thumbnail")).await, picture());
    let is_1 = octoprint.version().await.starts_with('1');
    assert_eq!(shown == in_file, is_1, "OctoPrint 2.0 has written an image of its own");
    // Signature and size are the same.
    assert_eq!(shown[..24], in_file[..24]);
    if is_1 {
        // Without ranges, what is at the end is not known yet.
        let gcode = watcher.wait_json(mark, &topic("gcode"), |g| g["print_time"] == 18).await;
        assert_eq!(
            (&gcode["slicer"], &gcode["slicer_version"]),
            (&json!("PrusaSlicer"), &json!("2.9.2"))
        );
        assert_eq!((&gcode["material"], &gcode["filament_weight"]), (&json!("PLA"), &json!(3.68)));
    }

    // The first print is read; the second is followed from its start.
    octoprint.job(json!({"command": "start"})).await;
    octoprint.until("Printing").await;
    octoprint.job(json!({"command": "pause", "action": "pause"})).await;
    within(READ, "the reading of the file", || async {
        let seen = watcher.seen();
        let is_read =
            |s: &real::watcher::Seen| s.topic == topic("layer") && s.json()["total"] == 12;
        seen[mark..].iter().any(is_read).then_some(())
    })
    .await;
    let gcode = watcher.wait_json(mark, &topic("gcode"), |g| g["layers"] == 12).await;
    assert_eq!(gcode["print_time"], 18, "{gcode}");
    octoprint.job(json!({"command": "cancel"})).await;
    octoprint.until("Operational").await;
    let nothing = |layer: &Value| *layer == json!({"current": null, "total": null, "z": null});
    let mark = watcher.mark();
    watcher.wait_json(mark.saturating_sub(20), &topic("layer"), nothing).await;

    octoprint.job(json!({"command": "start"})).await;
    let progress = topic("progress");
    let left = |p: &Value| p["print_time_left_origin"] == "slicer" && p["eta"].is_string();
    watcher.wait_json(mark, &progress, left).await;
    within(READ, "the end of the print", || async {
        watcher.print_events(mark).contains(&"print_done".to_owned()).then_some(())
    })
    .await;
    assert_eq!(changes(&watcher, mark), layers, "{}", bridge.log());
    watcher.wait_json(mark, &topic("layer"), nothing).await;

    // Another file has no picture of the first.
    octoprint.upload("plain.gcode", 3).await;
    octoprint.select("plain.gcode").await;
    eventually("no picture", || async {
        retained(broker.port, &topic("thumbnail")).await.is_empty().then_some(())
    })
    .await;
    let log = bridge.log();
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(complaints, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_print_of_octoprint_1_has_the_layers_of_its_file() {
    a_print_has_the_layers_of_its_file(OctoPrint::start_with(without_analysis).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_print_of_octoprint_2_has_the_layers_of_its_file() {
    a_print_has_the_layers_of_its_file(OctoPrint::start_2_with(without_analysis).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn without_the_permission_one_line_says_so_and_the_rest_works() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let user = json!({"name": "watcher", "password": "secret words", "active": true,
        "permissions": ["STATUS", "FILES_LIST", "PRINT"], "groups": []});
    octoprint.ask("api/access/users", user).await;
    let key = octoprint.ask("api/access/users/watcher/apikey", json!({})).await;
    let key = key["apikey"].as_str().unwrap();
    let watcher = Watcher::start(broker.port).await;
    let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), "").replace(KEY, key));
    watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
    let refusals = || bridge.log().matches("refuses the G-code file").count();
    for name in ["one.gcode", "two.gcode"] {
        octoprint.upload_text(name, &sliced(2, 3).text).await;
        let mark = watcher.mark();
        octoprint.select(name).await;
        watcher.wait_json(mark, &topic("job"), |job| job["file"] == name).await;
        watcher
            .wait_from(mark, "no picture", |s| {
                s.topic == topic("thumbnail") && s.payload.is_empty()
            })
            .await;
        assert_eq!(refusals(), 1, "{}", bridge.log());
    }
    let mark = watcher.mark();
    octoprint.job(json!({"command": "start"})).await;
    eventually("the print", || async {
        (watcher.print_events(mark) == ["print_started", "print_done"]).then_some(())
    })
    .await;
}

/// The resident memory of a process in kB.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// 200 MB: layers that are printed longer than the file is read, and then moves.
fn large() -> Sliced {
    let Sliced { mut text, layers } = sliced(480, 10);
    text.reserve(210_000_000);
    while text.len() < 200_000_000 {
        for n in 0..1000 {
            text += &format!("G1 X{}.123 Y{}.456 E0.01234\n", n % 200, (n * 7) % 200);
        }
    }
    Sliced { text, layers }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint, and nine minutes: ./tests/run --long real"]
async fn long_a_file_of_200_mb_costs_constant_memory_and_no_message() {
    let (broker, octoprint) =
        tokio::join!(Mosquitto::start(), OctoPrint::start_with(without_analysis));
    let watcher = Watcher::start(broker.port).await;
    let more = "max_gcode_size = \"300MB\"";
    let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), more));
    watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
    let beside = SockJs::start(&octoprint.url()).await;
    let Sliced { text, layers } = large();
    octoprint.write("uploads/large.gcode", &text);
    drop(text);
    octoprint.select("large.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    octoprint.until("Printing").await;
    let process = bridge.process.0.id();
    let (began, mut sizes) = (Instant::now(), Vec::new());
    let total = |s: &real::watcher::Seen| s.topic == topic("layer") && s.json()["total"].is_u64();
    while !watcher.seen().iter().any(total) {
        assert!(began.elapsed() < Duration::from_secs(900), "{}", bridge.log());
        sizes.push(resident(process));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let took = began.elapsed();
    let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    println!("read in {took:?}; resident memory {least} to {most} kB");
    assert!(took > Duration::from_secs(400), "at most 500 kB/s: {took:?}");
    assert!(most - least < 8_000, "{least} to {most} kB");
    within(Duration::from_secs(300), "the last layer", || async {
        changes(&watcher, 0).last().is_some_and(|last| last == layers.last().unwrap()).then_some(())
    })
    .await;
    let seen = changes(&watcher, 0);
    assert_eq!(seen[..], layers[layers.len() - seen.len()..], "none is missing from the first on");
    octoprint.job(json!({"command": "cancel"})).await;
    octoprint.until("Operational").await;
    let kinds = ["PrintStarted", "PrintCancelled", "ZChange"];
    let theirs = || {
        let messages = beside.messages();
        let is = |(kind, text): &&(String, String)| {
            let event = || serde_json::from_str::<Value>(text).unwrap();
            kind == "event" && kinds.iter().any(|kind| event()["type"] == **kind)
        };
        messages.iter().filter(is).count()
    };
    eventually("as many events as OctoPrint sent", || async {
        let seen = watcher.seen();
        let is = |s: &&real::watcher::Seen| {
            kinds.iter().any(|kind| s.topic == topic(&format!("event/{kind}")))
        };
        (seen.iter().filter(is).count() == theirs()).then_some(())
    })
    .await;
}
