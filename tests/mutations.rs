//! Recorded messages with bytes flipped, cut, doubled and spliced: nothing panics, and no command
//! leaves its bounds. A fixed seed, so that a failure is found again.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use octoprint2mqtt::bridge::printer::commands::{Command, Rules, check, read_request};
use octoprint2mqtt::bridge::printer::prints::History;
use octoprint2mqtt::bridge::printer::snapshot::{EventFields, Now, Snapshot};
use octoprint2mqtt::config::Commands;
use octoprint2mqtt::heater::Limits;
use octoprint2mqtt::octoprint::{Event, Frame, Plugin, decode};
use serde_json::Value;
use serde_json::value::RawValue;

/// The payloads of recorded messages, by kind; long ones are left out, for they say little more.
fn recorded() -> Vec<(String, String)> {
    [
        include_str!("captures/print_done.jsonl"),
        include_str!("captures/misc_events.jsonl"),
        include_str!("captures/pause_resume_restart_cancel.jsonl"),
        include_str!("captures/two_tools_chamber_shared_nozzle.jsonl"),
    ]
    .iter()
    .flat_map(|file| file.lines())
    .filter_map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let (kind, payload) = line["m"].as_object()?.iter().next()?;
        Some((kind.clone(), payload.to_string()))
    })
    .filter(|(_, payload)| payload.len() < 1500)
    .collect()
}

fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    /// What JSON is made of, so that mutations get past its syntax.
    const PIECES: &[&[u8]] = &[
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"\"\"",
        b"[]",
        b"{}",
        b"\\u0000",
        b"\"",
        b",",
        b":",
        b"18446744073709551616",
        b"NaN",
        b"{\"",
        b"a[",
        b"h",
    ];
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..5) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 => bytes.truncate(at),
            2 => {
                let piece = PIECES[random.usize(0..PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            3 if at < bytes.len() => {
                let to = random.usize(at..bytes.len());
                bytes.drain(at..to);
            }
            _ => {
                let to = random.usize(at..=bytes.len()).min(at + 40);
                let copy: Vec<u8> = bytes[at..to].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
}

#[test]
fn a_million_mutated_frames_are_decoded_or_refused() {
    let frames: Vec<String> = recorded()
        .iter()
        .map(|(kind, payload)| format!("a[{{\"{kind}\":{payload}}}]"))
        .filter(|frame| frame.len() < 400)
        .collect();
    assert!(frames.len() > 20);
    let mut random = fastrand::Rng::with_seed(1);
    let mut decoded = 0;
    for n in 0..1_000_000 {
        let mut bytes = frames[n % frames.len()].clone().into_bytes();
        mutate(&mut random, &mut bytes);
        if let Ok(Frame::Messages(messages)) = decode(&Bytes::from(bytes)) {
            decoded += messages.messages.len();
        }
    }
    assert!(decoded > 10_000, "the mutations are too wild to say much: {decoded}");
}

#[test]
fn a_hundred_thousand_mutated_messages_are_folded_or_passed_over() {
    let messages = recorded();
    let mut random = fastrand::Rng::with_seed(2);
    let mut snapshot = Snapshot::new();
    let mut applied = 0;
    for n in 0..100_000 {
        let (kind, payload) = &messages[n % messages.len()];
        let mut bytes = payload.clone().into_bytes();
        mutate(&mut random, &mut bytes);
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        let now = Now { instant: Instant::now(), wall: SystemTime::now() };
        match kind.as_str() {
            "event" => {
                if let Ok(event) = serde_json::from_str::<Event<'_>>(text) {
                    snapshot.event(&event.kind, &EventFields::read(&event.kind, event.payload));
                }
            }
            "plugin" => drop(serde_json::from_str::<Plugin<'_>>(text)),
            "connected" => drop(snapshot.apply_server(text)),
            _ => {
                let changes = snapshot.apply(text, now);
                applied += usize::from(changes.is_ok());
                for change in changes.unwrap_or_default() {
                    // Valid JSON, though a number such as 1e999 may be more than a float holds.
                    let valid = serde_json::from_slice::<&RawValue>(&change.payload).is_ok();
                    assert!(change.payload.is_empty() || valid, "{:?}", change.payload);
                }
                let _ = History::read(text);
            }
        }
    }
    assert!(applied > 1000, "{applied}");
}

#[test]
fn a_hundred_thousand_mutated_commands_stay_within_their_bounds() {
    let all = Commands {
        bridge: true,
        job: true,
        temperature: true,
        motion: true,
        connection: true,
        power: true,
        gcode: true,
        system: true,
    };
    let limits = Limits { tool: 300.0, bed: 120.0, chamber: 80.0 };
    let (entities, maintenance) = Default::default();
    let rules = Rules { groups: all, limits, max_rate_factor: 20, entities, maintenance };
    let seeds = [
        ("temperature/bed", "60"),
        ("temperature/tool0", "{\"value\":210.5,\"id\":\"x\"}"),
        ("offset/bed", "-5"),
        ("feedrate", "110"),
        ("flowrate", "95"),
        ("jog", "{\"x\":10,\"y\":-5.5,\"z\":0.2,\"speed\":3000}"),
        ("extrude", "-3.5"),
        ("home", "x y z"),
        ("job", "cancel"),
        ("rate", "4"),
        ("select", "local/part.gcode"),
        ("message", "Hello"),
        ("gcode", "G28\nM117 x"),
        ("system", "reboot"),
    ];
    let mut random = fastrand::Rng::with_seed(3);
    let mut accepted = 0;
    for n in 0..100_000 {
        let (command, payload) = seeds[n % seeds.len()];
        let mut bytes = payload.as_bytes().to_vec();
        mutate(&mut random, &mut bytes);
        let Ok(checked) = check(&read_request(command, &bytes), &rules) else { continue };
        accepted += 1;
        match checked {
            Command::Temperature { heater, target } => {
                let limit = if heater == "bed" { 120.0 } else { 300.0 };
                assert!((0.0..=limit).contains(&target));
            }
            Command::Offset { offset, .. } => assert!(offset.abs() <= 50.0),
            Command::Feedrate(percent) | Command::Flowrate(percent) => {
                assert!((10..=500).contains(&percent));
            }
            Command::Jog(jog) => {
                for axis in [jog.x, jog.y, jog.z].into_iter().flatten() {
                    assert!(axis.abs() <= 1000.0);
                }
            }
            Command::Extrude(amount) => assert!(amount != 0.0 && amount.abs() <= 1000.0),
            Command::Gcode(lines) => {
                assert!(
                    lines.iter().all(|line| !line.chars().any(|c| c.is_control() && c != '\t'))
                );
            }
            Command::Message(text) => assert!(!text.chars().any(char::is_control)),
            _ => {}
        }
    }
    assert!(accepted > 5000, "{accepted}");
}
