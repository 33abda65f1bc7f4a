//! The bridge as a child process, and its use of resources.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::broker::{BASE, Process};
use crate::printers::Printers;

/// How the bridge is configured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Variant {
    /// `homeassistant.enabled = false`.
    pub no_discovery: bool,
    /// `socket.terminal = true`.
    pub terminal: bool,
    /// Bound to one core.
    pub one_core: bool,
    /// The printers' G-code files are there to be read, and the prints start within a minute.
    pub files: bool,
}

/// A running bridge.
pub struct Bridge {
    process: Process,
    dir: tempfile::TempDir,
    /// What it was started with.
    config: String,
}

/// The program that is measured: `OCTOPRINT2MQTT_BENCH_BRIDGE`, else the one that was just built,
/// which holds the simulated OctoPrint as well.
pub fn program() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_octoprint2mqtt"));
    std::env::var_os("OCTOPRINT2MQTT_BENCH_BRIDGE").map_or_else(built, PathBuf::from)
}

fn config(
    broker: &str,
    printers: &Printers,
    count: usize,
    data: &Path,
    variant: Variant,
) -> String {
    let mut config = format!(
        "data_dir = {data:?}\n[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"{broker}\"\nbase_topic = \"{BASE}\"\n\
         [homeassistant]\nenabled = {}\n[log]\nlevel = \"warn\"\n",
        !variant.no_discovery
    );
    for index in 0..count {
        let (url, terminal) = (printers.url(index), variant.terminal);
        write!(
            config,
            "[printers.p{index}]\nurl = \"{url}\"\napi_key = \"bench\"\nsocket = {{ terminal = {terminal} }}\n"
        )
        .expect("a string can be written to");
    }
    config
}

impl Bridge {
    /// Starts it for so many of the printers; `data` is its `data_dir`.
    pub fn start(
        broker: &str,
        printers: &Printers,
        count: usize,
        data: &Path,
        variant: Variant,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the bridge");
        let path = dir.path().join("config.toml");
        let config = config(broker, printers, count, data, variant);
        std::fs::write(&path, &config).expect("the bridge's configuration is written");
        let mut command = if variant.one_core {
            let mut command = Command::new("taskset");
            command.args(["-c", "0"]).arg(program());
            command
        } else {
            Command::new(program())
        };
        command.arg("--config").arg(path).env_remove("OCTOPRINT2MQTT_CONFIG");
        let child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
        Self { process: Process(child.expect("the bridge starts")), dir, config }
    }

    /// Gives it the configuration that it was started with, and `more`, while it runs.
    pub fn add_to_config(&self, more: &str) {
        let text = format!("{}{more}", self.config);
        std::fs::write(self.dir.path().join("config.toml"), text).expect("it is written");
        let id = self.process.0.id().to_string();
        let told = Command::new("kill").args(["-HUP", &id]).status();
        assert!(told.is_ok_and(|status| status.success()), "the bridge runs");
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most of it so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id()));
        let status = status.expect("the bridge runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: u64 = kibibytes.and_then(|text| text.parse().ok()).expect("a number of kB");
        kibibytes * 1024
    }

    /// Processor time of all its threads so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.0.id()));
        let nanos = tasks.expect("the bridge runs").filter_map(|task| {
            // A thread may end meanwhile.
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        nanos.sum::<u64>() as f64 / 1e9
    }

    /// Asks it to end, and waits until it has.
    pub async fn end(mut self) {
        let kill = Command::new("kill").arg(self.process.0.id().to_string()).status();
        assert!(kill.is_ok_and(|status| status.success()), "the bridge runs until told to end");
        let deadline = Instant::now() + Duration::from_secs(15);
        while self.process.0.try_wait().expect("its own child").is_none() {
            assert!(Instant::now() < deadline, "the bridge does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts to watch how much processor time it takes.
    pub fn watch(&self) -> Watch<'_> {
        Watch { bridge: self, cpu: self.cpu_seconds(), since: Instant::now() }
    }
}

/// Watches processor time.
pub struct Watch<'b> {
    bridge: &'b Bridge,
    cpu: f64,
    since: Instant,
}

impl Watch<'_> {
    /// Seconds of processor time, and the share of one core, in percent.
    pub fn end(&self) -> (f64, f64) {
        let seconds = self.bridge.cpu_seconds() - self.cpu;
        (seconds, 100.0 * seconds / self.since.elapsed().as_secs_f64())
    }
}
