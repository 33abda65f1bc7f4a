//! Each line of the log says whose it is: a printer's, the broker's, or the bridge's own.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "real/in_process.rs"]
mod in_process;
#[path = "real/proxy.rs"]
#[allow(dead_code, reason = "the tests with real programs use the rest")]
mod proxy;
#[path = "real/watcher.rs"]
#[allow(dead_code, reason = "the tests with real programs use the rest")]
mod watcher;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use in_process::InProcess;
use octoprint2mqtt::cli::demo;
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use octoprint2mqtt::{config, tls};
use proxy::Proxy;
use serde_json::Value;
use watcher::Watcher;

const PATIENCE: Duration = Duration::from_secs(30);

/// The log, as it is written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn read(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap().clone();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// Waits for a line with this text.
    async fn wait(&self, text: &str) {
        let there = || self.read().iter().any(|line| line.to_string().contains(text));
        for _ in 0..600 {
            if there() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited in vain for {text:?}:\n{:#?}", self.read());
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_says_whose_it_is() {
    let lines = Lines::default();
    let to = lines.clone();
    tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || to.clone())
        .init();
    tls::install_provider();
    let port = free_port();
    tokio::task::spawn_blocking(move || demo::start_broker(port)).await.unwrap().unwrap();
    let (watcher, line) = (Watcher::start(port).await, Proxy::start(port).await);
    let address = format!("mqtt://127.0.0.1:{}", line.port);
    let data = tempfile::tempdir().unwrap();
    let (one, two) = tokio::join!(
        Simulator::start(SimulatorOptions::default()),
        Simulator::start(SimulatorOptions::default())
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    let printer = |id: &str, url: String, key: &str| {
        format!(
            "[printers.{id}]\nurl = \"{url}\"\napi_key = \"{key}\"\noffline_after = \"200ms\"\n"
        )
    };
    let text = format!(
        "data_dir = {:?}\n[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\nmax_packet_size = \"20kB\"\n[outbox]\nsettle = \"0s\"\n{}{}{}",
        data.path(),
        line.port,
        printer("mk3", one.url(), "SIMULATOR-KEY"),
        printer("mini", two.url(), "SIMULATOR-KEY"),
        printer("refused", two.url().replace("127.0.0.1", "localhost"), "no such key"),
    );
    let config = config::from_toml(&text).unwrap();
    let bridge = InProcess::start(config);
    for id in ["mk3", "mini"] {
        let topic = format!("octoprint2mqtt/{id}/availability");
        watcher.wait("online", |seen| seen.topic == topic && seen.payload == "online").await;
    }
    // A malformed message, one that is too large, a command that fails.
    one.raw("a[{\"current\":[]}]");
    one.event("Big", serde_json::json!({"text": "x".repeat(50_000)}));
    watcher.publish("octoprint2mqtt/mini/set/target_bed", "warm", false).await;
    watcher.wait("an answer", |seen| seen.topic == "octoprint2mqtt/mini/result").await;
    lines.wait("too large").await;
    // The broker is away, and OctoPrint is.
    line.refuse(true);
    line.cut();
    lines.wait("next attempt").await;
    line.refuse(false);
    two.stop();
    lines.wait("OctoPrint is offline").await;
    bridge.stop().await;

    let mut seen = BTreeSet::new();
    for line in lines.read() {
        let target = line["target"].as_str().unwrap();
        // The other programs of this test.
        if target.starts_with("rumqttd")
            || target.contains("::simulator")
            || target.contains("::demo")
        {
            continue;
        }
        let span = &line["spans"][0];
        let whose = match span["name"].as_str() {
            Some("printer") => span["id"].as_str().unwrap().to_owned(),
            Some("broker") => {
                assert_eq!(span["address"], address);
                "the broker".to_owned()
            }
            Some("bridge") => "the bridge".to_owned(),
            _ => panic!("nobody knows whose this line is: {line}"),
        };
        seen.insert(whose);
    }
    assert_eq!(
        seen,
        BTreeSet::from(["mini", "mk3", "refused", "the bridge", "the broker"].map(str::to_owned))
    );
}
