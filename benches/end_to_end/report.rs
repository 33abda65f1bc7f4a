//! The results: as JSON, and as text beside the targets.

use std::fmt::Write;
use std::process::Command;

use serde::Serialize;

use crate::bridge;
use crate::live::LiveChanges;
use crate::runs::{Added, Load, Start, Throughput};
use crate::sent::Latency;

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Whether it was the short form, whose numbers mean little.
    pub quick: bool,
    /// Where it was measured.
    pub machine: Machine,
    /// The program that was measured, in bytes.
    pub binary_bytes: u64,
    /// The image `octoprint2mqtt`, in bytes, where an engine has one.
    pub image_bytes: Option<u64>,
    /// From the start to discovery.
    pub start: Option<Start>,
    /// Under steady loads.
    pub load: Vec<Load>,
    /// Printers that come and go.
    pub live: Option<LiveChanges>,
    /// How much goes through.
    pub throughput: Vec<Throughput>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// As the kernel calls it.
    pub processor: String,
    /// How many cores all programs of the measurement share.
    pub cores: usize,
    /// Its version.
    pub mosquitto: String,
}

impl Machine {
    fn this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.map(|model| model.trim_start_matches([' ', '\t', ':']).to_owned());
        let version =
            output("mosquitto", &["-h"]).or_else(|| output("/usr/sbin/mosquitto", &["-h"]));
        Self {
            processor: model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            mosquitto: version
                .and_then(|text| text.lines().next().map(str::to_owned))
                .unwrap_or_default(),
        }
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()
}

fn image_bytes() -> Option<u64> {
    let size = ["image", "inspect", "--format", "{{.Size}}", "octoprint2mqtt"];
    output("docker", &size)?.trim().parse().ok()
}

/// Whether a measurement meets its target.
struct Target {
    what: String,
    measured: String,
    target: &'static str,
    holds: bool,
}

impl Results {
    /// Nothing measured yet, but for sizes.
    pub fn new(quick: bool) -> Self {
        let binary = std::fs::metadata(bridge::program()).expect("the bridge is built");
        Self {
            quick,
            machine: Machine::this(),
            binary_bytes: binary.len(),
            image_bytes: image_bytes(),
            start: None,
            load: Vec::new(),
            live: None,
            throughput: Vec::new(),
        }
    }

    fn load(&self, name: &str) -> Option<&Load> {
        self.load.iter().find(|load| load.name == name)
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut add = |what: &str, measured: f64, unit: &str, target, holds| {
            let measured = format!("{measured:.2} {unit}");
            targets.push(Target { what: what.to_owned(), measured, target, holds });
        };
        if let Some(one) = self.load("1 printer") {
            let Added { p50_ms: p50, p99_ms: p99, .. } = one.added;
            add("added latency p50, 1 printer", p50, "ms", "0.3 ms", p50 <= 0.3);
            add("added latency p99, 1 printer", p99, "ms", "2 ms", p99 <= 2.0);
            let memory = megabytes(one.memory());
            add("resident memory, 1 printer", memory, "MB", "8 MB", memory <= 8.0);
            let cpu = one.cpu_printing_percent;
            add("processor, 1 printer that prints", cpu, "% of a core", "0.2 %", cpu < 0.2);
        }
        if let Some(many) = self.load("1,000 printers, one core") {
            let p99 = many.bridge.p99_ms;
            add("latency p99, 1,000 printers on one core", p99, "ms", "20 ms", p99 < 20.0);
        }
        if let Some(many) = self.load("1,000 printers") {
            let memory = megabytes(many.memory());
            add("resident memory, 1,000 printers", memory, "MB", "80 MB", memory <= 80.0);
        }
        if let Some(through) = self.throughput.iter().find(|t| t.name == "throughput") {
            let share = 100.0 * through.bridge_per_second / through.bare_per_second;
            add("throughput, share of the bare publisher's", share, "%", "90 %", share >= 90.0);
        }
        if let Some(Start { again_p50_ms: start, .. }) = self.start {
            add("start to discovery published", start, "ms", "150 ms", start < 150.0);
        }
        if let Some(live) = &self.live {
            let latest = live.latency.max_ms;
            add("latest message while 100 come and go", latest, "ms", "50 ms", latest <= 50.0);
            let growth = megabytes(live.growth());
            add("memory that their coming and going takes", growth, "MB", "1 MB", growth <= 1.0);
        }
        let size = megabytes(self.binary_bytes);
        add("binary", size, "MB", "8 MB", size < 8.0);
        targets
    }

    /// All of it, for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string can be written to");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Machine { processor, cores, mosquitto } = &self.machine;
        writeln!(text, "\n{processor}, {cores} cores for everything; {mosquitto}")?;
        if self.quick {
            writeln!(text, "the quick form: these numbers mean little")?;
        }
        writeln!(text, "\n{:44} {:>18}   target", "", "measured")?;
        for Target { what, measured, target, holds } in self.targets() {
            let holds = if holds { "" } else { "  missed" };
            writeln!(text, "{what:44} {measured:>18}   {target}{holds}")?;
        }
        if let Some(Start { first_ms, again_p50_ms, again_max_ms }) = &self.start {
            writeln!(
                text,
                "\nstart to discovery: first {first_ms:.0} ms; again {again_p50_ms:.0} ms, at most {again_max_ms:.0} ms"
            )?;
        }
        if let Some(bytes) = self.image_bytes {
            writeln!(text, "image: {:.1} MB", megabytes(bytes))?;
        }
        writeln!(text, "\nlatency in ms at 2 messages/s and printer")?;
        writeln!(
            text,
            "{:30} {:>7} {:>6} {:>6} {:>6}  {:>9} {:>6} {:>6} {:>6}  {:>8} {:>6} {:>6}   arrived",
            "",
            "bare 50",
            "95",
            "99",
            "max",
            "bridge 50",
            "95",
            "99",
            "max",
            "added 50",
            "95",
            "99"
        )?;
        for Load { name, bare, bridge, added, .. } in &self.load {
            write!(text, "{name:30}")?;
            for (latency, width) in [(bare, 7), (bridge, 10)] {
                let Latency { p50_ms, p95_ms, p99_ms, max_ms, .. } = latency;
                write!(text, " {p50_ms:width$.2} {p95_ms:6.2} {p99_ms:6.2} {max_ms:6.2}")?;
            }
            let Added { p50_ms, p95_ms, p99_ms } = added;
            write!(text, "  {p50_ms:8.2} {p95_ms:6.2} {p99_ms:6.2}")?;
            writeln!(text, "   {} of {}", bridge.arrived, bridge.sent)?;
        }
        if let Some(LiveChanges { latency, rounds, memory }) = &self.live {
            let Latency { p50_ms, p99_ms, max_ms, arrived, sent, .. } = latency;
            let memory: Vec<String> =
                memory.iter().map(|bytes| format!("{:.1}", megabytes(*bytes))).collect();
            writeln!(
                text,
                "\n100 printers added and removed {rounds} times while 10 print: p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, max {max_ms:.2} ms, {arrived} of {sent} arrived; memory before, and after each: {} MB",
                memory.join(", ")
            )?;
        }
        writeln!(
            text,
            "\n{:30} {:>8} {:>8} {:>8}   {:>7} {:>9}   {:>14}",
            "", "MB idle", "printing", "peak", "% idle", "printing", "CPU s/million"
        )?;
        for load in &self.load {
            writeln!(
                text,
                "{:30} {:8.1} {:8.1} {:8.1}   {:7.2} {:9.2}   {:14.1}",
                load.name,
                megabytes(load.memory_idle),
                megabytes(load.memory_printing),
                megabytes(load.memory_peak),
                load.cpu_idle_percent,
                load.cpu_printing_percent,
                load.cpu_seconds_a_million
            )?;
        }
        writeln!(
            text,
            "\n{:30} {:>10} {:>10} {:>7} {:>10} {:>14}",
            "publications/s", "bare", "bridge", "share", "messages/s", "CPU s/million"
        )?;
        for through in &self.throughput {
            writeln!(
                text,
                "{:30} {:10.0} {:10.0} {:5.0} % {:10.0} {:14.1}",
                through.name,
                through.bare_per_second,
                through.bridge_per_second,
                100.0 * through.bridge_per_second / through.bare_per_second,
                through.messages_per_second,
                through.cpu_seconds_a_million
            )?;
        }
        Ok(())
    }
}

/// Bytes as millions of them.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
