//! OctoPrint 1.5 to 1.9, which close a connection after a GET without announcing it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

mod real;

use real::bridge::{Bridge, config, run};
use real::left_out;
use real::mosquitto::Mosquitto;
use real::octoprint::{KEY, OctoPrint, PASSWORD, USER};
use real::watcher::{Seen, Watcher};

const TIMES: usize = 20;

/// `check` finds nothing wrong, time after time, and the bridge itself works.
async fn nothing_is_wrong(version: &str) {
    let Some(octoprint) = OctoPrint::start_version(version).await else {
        left_out(version, "this OctoPrint is not installed: ./tests/run --long real");
        return;
    };
    let broker = Mosquitto::start().await;
    let by_key = config(&broker.url(), &octoprint.url(), "");
    let key = format!("api_key = \"{KEY}\"");
    let login = format!("username = \"{USER}\"\npassword = \"{PASSWORD}\"");
    let by_password = by_key.replace(&key, &login);
    for config in [&by_key, &by_password] {
        let mut alarms = Vec::new();
        for _ in 0..TIMES {
            let (code, text) = run(config, &["check"]).await;
            if code != Some(0) {
                alarms.push(text);
            }
        }
        let count = alarms.len();
        assert_eq!(count, 0, "{version}: {count} of {TIMES} false alarms:\n{}", alarms.concat());
    }
    // Before 1.8 a wrong key is answered as that of a deactivated user.
    for (config, right, wrong, told) in [
        (&by_key, KEY, "WRONGKEY", "does not know this API key"),
        (&by_password, PASSWORD, "wrong words", "refuses user name or password"),
    ] {
        let (code, text) = run(&config.replace(right, wrong), &["check"]).await;
        assert_eq!(code, Some(1), "{version}: {text}");
        assert!(text.contains(told) && !text.contains(wrong), "{version}: {text}");
    }
    for config in [&by_key, &by_password] {
        let watcher = Watcher::start(broker.port).await;
        let mut bridge = Bridge::start(config);
        let online = "octoprint2mqtt/mk3/availability";
        let live = |seen: &Seen| seen.topic == online && seen.payload == "online" && !seen.retained;
        watcher.wait("online", live).await;
        for target in 0..TIMES {
            // The first asks by GET whether there is a file, the second only sends.
            let answer = watcher.command("job", "start").await;
            assert_eq!(answer["status"], 409, "{answer}");
            let answer = watcher.command("temperature/bed", &target.to_string()).await;
            assert_eq!(answer["ok"], true, "{answer}");
        }
        let printer = octoprint.get("api/printer").await;
        assert_eq!(printer["temperature"]["bed"]["target"], (TIMES - 1) as f64, "{printer}");
        bridge.process.signal("TERM");
        assert_eq!(bridge.process.ended().await, Some(0), "{}", bridge.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 1.5.3: ./tests/run --long real"]
async fn long_octoprint_1_5_3() {
    nothing_is_wrong("1.5.3").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 1.6.1: ./tests/run --long real"]
async fn long_octoprint_1_6_1() {
    nothing_is_wrong("1.6.1").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 1.7.3: ./tests/run --long real"]
async fn long_octoprint_1_7_3() {
    nothing_is_wrong("1.7.3").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 1.8.7: ./tests/run --long real"]
async fn long_octoprint_1_8_7() {
    nothing_is_wrong("1.8.7").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 1.9.3: ./tests/run --long real"]
async fn long_octoprint_1_9_3() {
    nothing_is_wrong("1.9.3").await;
}
