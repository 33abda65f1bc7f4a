//! The cost of one message in the pure parts, with recorded frames of a real OctoPrint.
//!
//! `cargo bench --bench parts`; with `-- --quick` it only checks that they run.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a measurement that cannot go on has failed, and nothing is above this crate"
)]
#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::hint::black_box;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use octoprint2mqtt::bridge::printer::messages::Mapping;
use octoprint2mqtt::bridge::printer::snapshot::{Now, Snapshot};
use octoprint2mqtt::gcode::{GcodeReader, ReadLimits};
use octoprint2mqtt::heater::{Heater, Limits};
use octoprint2mqtt::homeassistant::{
    CameraSource, Components, Extras, Groups, PrinterDevice, Profile, Settings, printer, published,
};
use octoprint2mqtt::mqtt::{Audience, Bounds, Kind, Outbox, Publication, Worth};
use octoprint2mqtt::octoprint::{Frame, Message, MessageKind, decode};
use octoprint2mqtt::receipt::Receipt;
use octoprint2mqtt::topics::{BridgeTopics, PrinterTopics, Topic};
use octoprint2mqtt::{config, splice};

/// A whole print, as recorded.
const PRINT: &str = include_str!("../tests/captures/print_done.jsonl");

/// The SockJS frames of the print.
fn frames() -> Vec<Bytes> {
    let message = |line: &str| {
        let start = line.find("\"m\":").expect("each line has a message") + 4;
        Bytes::from(format!("a[{}]", &line[start..line.len() - 1]))
    };
    PRINT.lines().map(message).collect()
}

fn messages() -> Vec<Message> {
    let decoded = |frame: &Bytes| match decode(frame) {
        Ok(Frame::Messages(decoded)) => decoded.messages,
        other => panic!("a recorded frame holds messages, and not {other:?}"),
    };
    let (now, wall) = (tokio::time::Instant::now(), SystemTime::now());
    frames()
        .iter()
        .flat_map(decoded)
        .map(|raw| Message::new(raw.kind, raw.payload, now, wall, 1).expect("UTF-8"))
        .collect()
}

/// `current` messages as the bridge has them by default: without the terminal's lines.
fn without_terminal(messages: &[Message]) -> Vec<Message> {
    let stripped = |message: &Message| {
        let mut payload: serde_json::Value = message.json().expect("JSON");
        for lines in ["logs", "messages"] {
            payload[lines] = serde_json::json!([]);
        }
        let payload = Bytes::from(payload.to_string());
        Message::new("current", payload, message.received(), message.received_at(), 1)
            .expect("UTF-8")
    };
    messages
        .iter()
        .filter(|message| *message.kind() == MessageKind::Current)
        .map(stripped)
        .collect()
}

fn printer_config() -> std::sync::Arc<config::Printer> {
    let text = "[printers.mk3]\nurl = \"http://octopi.local\"\napi_key = \"key\"\n";
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).expect("the configuration is written");
    config::read(Some(&path)).expect("it is right").config.printers.remove(0)
}

fn frame(c: &mut Criterion) {
    let frames = frames();
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Bytes(frames.iter().map(|frame| frame.len() as u64).sum()));
    group.bench_function("decode a print", |b| {
        b.iter(|| frames.iter().for_each(|frame| drop(black_box(decode(frame)))));
    });
    group.finish();
}

fn snapshot(c: &mut Criterion) {
    let messages = messages();
    let now = Now { instant: Instant::now(), wall: SystemTime::now() };
    let mut group = c.benchmark_group("snapshot");
    let current: Vec<&Message> =
        messages.iter().filter(|m| *m.kind() == MessageKind::Current).collect();
    group.throughput(Throughput::Elements(current.len() as u64));
    group.bench_function("current, with the terminal", |b| {
        b.iter_batched_ref(
            Snapshot::new,
            |snapshot| {
                for message in &current {
                    let _ = black_box(snapshot.apply(message.payload(), now));
                }
            },
            BatchSize::SmallInput,
        );
    });
    let bare = without_terminal(&messages);
    group.bench_function("current", |b| {
        b.iter_batched_ref(
            Snapshot::new,
            |snapshot| {
                for message in &bare {
                    let _ = black_box(snapshot.apply(message.payload(), now));
                }
            },
            BatchSize::SmallInput,
        );
    });
    let mut snapshot = Snapshot::new();
    let _ = snapshot.apply(bare[20].payload(), now);
    group.throughput(Throughput::Elements(1));
    group.bench_function("current, unchanged", |b| {
        b.iter(|| black_box(snapshot.apply(bare[20].payload(), now)).is_ok());
    });
    group.finish();
}

fn mapping(c: &mut Criterion) {
    let messages = messages();
    let (config, now) = (printer_config(), tokio::time::Instant::now());
    let (tell, _told) = tokio::sync::mpsc::unbounded_channel();
    let mut group = c.benchmark_group("mapping");
    group.throughput(Throughput::Elements(messages.len() as u64));
    group.bench_function("a print", |b| {
        b.iter_batched_ref(
            || Mapping::new(1, PrinterTopics::new("octoprint2mqtt", "mk3"), &config),
            |mapping| {
                for message in &messages {
                    let receipt = Receipt::new(1, now, tell.clone());
                    black_box(mapping.map(message, &receipt));
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn outbox(c: &mut Criterion) {
    let topics: Vec<Topic> = (0..10).map(|n| Topic::from(format!("o/mk3/topic{n}"))).collect();
    let payload = Bytes::from_static(b"{\"actual\":60.1,\"target\":60.0,\"offset\":0.0}");
    let bounds = Bounds { max_events: 10_000, max_bytes: 16 << 20 };
    let kinds = [
        ("state", Kind::State),
        (
            "event",
            Kind::Event { worth: Worth::Event, audience: Audience::Subscribers, stamped: true },
        ),
        ("newest", Kind::Newest),
    ];
    let mut group = c.benchmark_group("outbox");
    for printers in [1, 1000] {
        for (name, kind) in kinds {
            let mut outbox = Outbox::new(bounds);
            outbox.connected();
            // What is known of each printer waits in its lane, published.
            for lane in 1..=printers {
                for topic in &topics {
                    let (topic, payload) = (topic.clone(), payload.clone());
                    outbox.push(Publication::new(lane, topic, payload, Kind::State));
                    publish_all(&mut outbox);
                }
            }
            group.throughput(Throughput::Elements(topics.len() as u64));
            let mut lane = 0;
            group.bench_function(format!("{name}, {printers} printers"), |b| {
                b.iter(|| {
                    lane = lane % printers + 1;
                    for topic in &topics {
                        let (topic, payload) = (topic.clone(), payload.clone());
                        outbox.push(Publication::new(lane, topic, payload, kind));
                    }
                    publish_all(&mut outbox);
                });
            });
        }
    }
    group.finish();
}

/// Hands everything over, and has it acknowledged.
fn publish_all(outbox: &mut Outbox) {
    let now = Instant::now();
    while let Some(outgoing) = outbox.next(now) {
        if let Some(token) = black_box(outgoing).token {
            outbox.acknowledge(token);
        }
    }
}

fn discovery(c: &mut Criterion) {
    let settings = Settings {
        prefix: "homeassistant".to_owned(),
        climate: true,
        topics: BridgeTopics::new("octoprint2mqtt"),
        identity: "octoprint2mqtt".to_owned(),
    };
    let device = PrinterDevice {
        id: "mk3".to_owned(),
        name: "Prusa MK3".to_owned(),
        url: "http://octopi.local".to_owned(),
        profile: Profile {
            manufacturer: Some("Prusa".to_owned()),
            model: Some("i3 MK3".to_owned()),
            octoprint_version: Some("1.11.8".to_owned()),
            heaters: Heater::assumed(),
            files: Some((0..50).map(|n| format!("local/part{n}.gcode")).collect()),
            system_commands: Vec::new(),
            webcams: Vec::new(),
            ..Profile::default()
        },
        limits: Limits { tool: 300.0, bed: 120.0, chamber: 80.0 },
        max_rate_factor: 20,
        camera: CameraSource::Webcams,
        layers: true,
        thumbnails: true,
        groups: Groups {
            bridge: true,
            job: true,
            temperature: true,
            motion: true,
            connection: true,
            power: true,
            gcode: false,
            system: false,
        },
        entities: Default::default(),
        extras: Extras::default(),
    };
    let topics = PrinterTopics::new("octoprint2mqtt", "mk3");
    let gone = Components::new();
    let mut group = c.benchmark_group("discovery");
    group.bench_function("make", |b| {
        b.iter(|| black_box(printer(&settings, &topics, &device, &gone)));
    });
    let message = printer(&settings, &topics, &device, &gone);
    group.bench_function("read back", |b| {
        b.iter(|| black_box(published(&settings, &message.payload)));
    });
    group.finish();
}

fn splicing(c: &mut Criterion) {
    let event =
        br#"{"name":"part.gcode","path":"part.gcode","origin":"local","size":21247,"time":97.4}"#;
    c.bench_function("splice/append to an event", |b| {
        b.iter(|| {
            black_box(splice::append(
                event,
                &[("_event", "\"PrintDone\""), ("_timestamp", "1795447676")],
            ))
        });
    });
}

/// A file of a few megabytes, as chunks from the network.
fn gcode(c: &mut Criterion) {
    let layer = |at: u32| {
        let z = f64::from(at + 1) / 5.0;
        let moves = (0..500).map(|at| {
            let (x, y) = (f64::from(at % 37) * 1.731, f64::from(at % 53) * 2.117);
            format!("G1 X{x:.3} Y{y:.3} E.{:05}\n", at * 7 + 13)
        });
        let begin = format!(";LAYER_CHANGE\n;Z:{z}\n;HEIGHT:0.2\nG1 Z{z} F9000\n;TYPE:Perimeter\n");
        begin + &moves.collect::<String>()
    };
    let file: String = std::iter::once("M83\n".to_owned()).chain((0..300).map(layer)).collect();
    let mut group = c.benchmark_group("gcode");
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("read a file", |b| {
        b.iter(|| {
            let mut reader = GcodeReader::new(&ReadLimits::default());
            file.as_bytes().chunks(64 * 1024).for_each(|chunk| reader.feed(chunk));
            black_box(reader.finish())
        });
    });
    group.finish();
}

criterion_group!(parts, frame, snapshot, mapping, outbox, discovery, splicing, gcode);
criterion_main!(parts);
