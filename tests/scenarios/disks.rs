//! Disks that are full, that cannot be written, and that hold rubbish: the bridge runs on and says
//! so.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::real;
use crate::real::bridge::Bridge;
use crate::real::mosquitto::Mosquitto;
use crate::real::watcher::Watcher;
use crate::real::{Process, within};
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use serde_json::json;

fn config(dir: &str, broker: &str, simulator: &Simulator) -> String {
    let url = simulator.url();
    format!(
        "data_dir = \"{dir}\"\n[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"{broker}\"\n[printers.mk3]\nurl = \"{url}\"\napi_key = \"SIMULATOR-KEY\"\n"
    )
}

struct World {
    broker: Mosquitto,
    simulator: Simulator,
    watcher: Watcher,
}

impl World {
    async fn start() -> Self {
        octoprint2mqtt::tls::install_provider();
        let broker = Mosquitto::start().await;
        let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
        let watcher = Watcher::start(broker.port).await;
        Self { broker, simulator, watcher }
    }

    /// The bridge works: events arrive.
    async fn works(&self) {
        let online = |s: &real::watcher::Seen| {
            s.topic == "octoprint2mqtt/mk3/availability" && s.payload == "online"
        };
        self.watcher.wait("online", online).await;
        let mark = self.watcher.mark();
        self.simulator.event("Counted", json!({"n": 1}));
        let topic = "octoprint2mqtt/mk3/event/Counted";
        self.watcher.wait_from(mark, "the event", |seen| seen.topic == topic).await;
    }
}

/// The bridge with a file system of its own at `mount`, made by the command `make`; the log goes to
/// the file beside it. Needs no root: a user namespace of its own.
fn confined(dir: &std::path::Path, config: &str, make: &str) -> Process {
    std::fs::write(dir.join("config.toml"), config).unwrap();
    std::fs::create_dir(dir.join("data")).unwrap();
    let script = format!(
        "set -e; {make}; exec {} --config {}/config.toml",
        env!("CARGO_BIN_EXE_octoprint2mqtt"),
        dir.display()
    );
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("unshare is installed");
    Process(child)
}

async fn logged(dir: &std::path::Path, text: &str) {
    let log = dir.join("log");
    let read = || async { std::fs::read_to_string(&log).unwrap().contains(text).then_some(()) };
    within(Duration::from_secs(20), text, read).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_full_disk_costs_a_warning() {
    let mut world = World::start().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    // Room for the database itself, and for little more.
    let make = format!("mount -t tmpfs -o size=2400k tmpfs {data}");
    let text = config(data, &world.broker.url(), &world.simulator);
    let _bridge = confined(dir.path(), &text, &make);
    world.works().await;
    // What waits for the broker is more than there is room for.
    world.broker.kill();
    let padding = "x".repeat(8000);
    for n in 0..800 {
        world.simulator.event("Padded", json!({"n": n, "padding": padding}));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    logged(dir.path(), "continuing in memory").await;
    world.broker.run().await;
    let last = |seen: &real::watcher::Seen| {
        seen.topic == "octoprint2mqtt/mk3/event/Padded" && seen.json()["n"] == 799
    };
    let watcher = Watcher::start(world.broker.port).await;
    watcher.wait("the last event", last).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_disk_that_cannot_be_written_costs_a_warning() {
    let world = World::start().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let make = format!("mount -t tmpfs -o ro tmpfs {data}");
    let text = config(data, &world.broker.url(), &world.simulator);
    let _bridge = confined(dir.path(), &text, &make);
    world.works().await;
    logged(dir.path(), "nothing will survive a restart").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_store_of_rubbish_is_set_aside() {
    let world = World::start().await;
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("octoprint2mqtt.redb"), vec![0x5a; 100_000]).unwrap();
    let dir = data.path().to_str().unwrap();
    let bridge = Bridge::start(&config(dir, &world.broker.url(), &world.simulator));
    world.works().await;
    assert!(bridge.log().contains("moved it aside"), "{}", bridge.log());
    let files = std::fs::read_dir(data.path()).unwrap();
    let names: Vec<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.contains("damaged")), "{names:?}");
}
