//! A `history` of days, as OctoPrint sends it with a large `temperature.cutoff`: it is read, and
//! the room that it took is given back.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]
#![cfg(target_os = "linux")]

mod real;

use std::fmt::Write;

use octoprint2mqtt::cli::demo;
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use octoprint2mqtt::tls;
use real::bridge::{Bridge, config};
use real::octoprint::KEY;
use real::watcher::Watcher;
use real::{eventually, free_port};

const P: &str = "octoprint2mqtt/mk3";
const MIB: usize = 1024 * 1024;

/// A `history` of this size at least.
fn history(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 1000);
    text +=
        r#"a[{"history":{"state":{"text":"Operational","flags":{"operational":true}},"temps":["#;
    let mut time = 1_700_000_000;
    while text.len() < bytes {
        time += 1;
        let _ = write!(
            text,
            r#"{{"time":{time},"tool0":{{"actual":21.3,"target":0.0}},"bed":{{"actual":20.9,"target":0.0}}}},"#
        );
    }
    text += r#"{"time":1800000000}]}}]"#;
    text
}

/// What a process holds in memory, in bytes.
fn resident(bridge: &Bridge) -> usize {
    let path = format!("/proc/{}/status", bridge.process.0.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_of_days_is_read_and_its_room_given_back() {
    tls::install_provider();
    let port = free_port();
    tokio::task::spawn_blocking(move || demo::start_broker(port)).await.unwrap().unwrap();
    let watcher = Watcher::start(port).await;
    let options = SimulatorOptions { api_key: KEY.to_owned(), ..SimulatorOptions::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let bridge = Bridge::start(&config(&format!("mqtt://127.0.0.1:{port}"), &simulator.url(), ""));
    let online = |seen: &real::watcher::Seen| {
        seen.topic == format!("{P}/availability") && seen.payload == "online"
    };
    watcher.wait("online", online).await;
    let before = resident(&bridge);
    // The second is one that fits where the first was.
    for megabytes in [18, 17] {
        let mark = watcher.mark();
        simulator.raw(&history(megabytes * MIB));
        let topic = format!("{P}/message/history");
        let forwarded = watcher.wait_from(mark, "the history", |seen| seen.topic == topic).await;
        let bytes = forwarded.json()["_oversize"].as_u64();
        let bytes = bytes.unwrap_or_else(|| panic!("{:.200}", forwarded.payload));
        assert!(bytes as usize > megabytes * MIB && forwarded.payload.len() < 100);
        eventually("the room to be given back", || async {
            let more = resident(&bridge).saturating_sub(before);
            println!("after {megabytes} MiB: {more} bytes more than before");
            (more < 4 * MIB).then_some(())
        })
        .await;
    }
    let sockets = watcher.seen().into_iter().filter(|seen| seen.topic == format!("{P}/socket"));
    let states: Vec<_> = sockets.map(|seen| seen.json()["state"].clone()).collect();
    let connected = states.iter().position(|state| state == "connected").unwrap();
    assert!(states[connected..].iter().all(|state| state == "connected"), "{states:?}");
}
