//! The measurements, each with a broker, printers and a bridge of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bare;
use crate::bridge::{Bridge, Variant};
use crate::broker::{Mosquitto, Subscriber};
use crate::frames::{self, Moving};
use crate::printers::Printers;
use crate::sent::{Latency, Sent};

/// The default rate of OctoPrint: two messages a second.
const INTERVAL: Duration = Duration::from_millis(500);
/// Between a change and the measurement of what it led to.
const SETTLE: Duration = Duration::from_secs(3);

/// Within this, the prints of files begin.
const MINUTE: Duration = Duration::from_secs(60);

/// One measurement under a steady load.
pub struct Plan {
    /// What it is called.
    pub name: &'static str,
    /// How many printers.
    pub printers: usize,
    /// How long they are idle first.
    pub idle: Duration,
    /// How long is measured.
    pub span: Duration,
    /// How the bridge is configured.
    pub variant: Variant,
}

/// What a steady load of two messages a second and printer costs.
#[derive(Debug, Serialize)]
pub struct Load {
    /// What it is called.
    pub name: &'static str,
    /// How many printers.
    pub printers: usize,
    /// From the publisher to the subscriber, without a bridge.
    pub bare: Latency,
    /// From the frame leaving OctoPrint to the subscriber.
    pub bridge: Latency,
    /// The difference: what the bridge adds.
    pub added: Added,
    /// Resident, in bytes, while all printers are idle.
    pub memory_idle: u64,
    /// Resident, in bytes, while all printers print.
    pub memory_printing: u64,
    /// The most that was resident, in bytes: at the start, when all connect.
    pub memory_peak: u64,
    /// Share of one core while all printers are idle.
    pub cpu_idle_percent: f64,
    /// Share of one core while all printers print.
    pub cpu_printing_percent: f64,
    /// Processor time for a million messages of OctoPrint, in seconds.
    pub cpu_seconds_a_million: f64,
}

impl Load {
    /// Resident, in bytes, in the state that takes more of it.
    pub fn memory(&self) -> u64 {
        self.memory_idle.max(self.memory_printing)
    }
}

/// How much longer the way through the bridge is. Less than nothing is noise of the machine.
#[derive(Debug, Serialize)]
pub struct Added {
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p95_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
}

impl Added {
    fn by(bridge: &Latency, bare: &Latency) -> Self {
        Self {
            p50_ms: bridge.p50_ms - bare.p50_ms,
            p95_ms: bridge.p95_ms - bare.p95_ms,
            p99_ms: bridge.p99_ms - bare.p99_ms,
        }
    }
}

/// Measures the bare path, then the bridge, at two messages a second and printer.
pub async fn under_load(plan: Plan) -> Load {
    eprintln!("{} …", plan.name);
    let sent = Arc::new(Sent::new(plan.printers));
    let broker = Mosquitto::start();
    let tracked = "temperature/tool0";
    let subscriber =
        Subscriber::start(broker.port, tracked, tracked, sent.clone(), Instant::now()).await;
    let (port, printers, span, bare_sent) = (broker.port, plan.printers, plan.span, sent.clone());
    let (terminal, moving) = (plan.variant.terminal, Moving::Temperature);
    let payloads = (terminal, moving);
    let bare = move || bare::latency(port, printers, payloads, INTERVAL, span, bare_sent);
    let bare = tokio::task::spawn_blocking(bare).await.expect("the bare publisher does not fail");

    let file = plan.variant.files.then(frames::gcode);
    let octoprints = Printers::start(plan.printers, terminal, moving, file, sent.clone()).await;
    let data = tempfile::tempdir().expect("a data_dir");
    let bridge =
        Bridge::start(&broker.url(), &octoprints, plan.printers, data.path(), plan.variant);
    octoprints.all_live().await;
    tokio::time::sleep(SETTLE).await;
    let watch = bridge.watch();
    tokio::time::sleep(plan.idle).await;
    let (_, cpu_idle_percent) = watch.end();
    let memory_idle = bridge.memory();

    let within = if plan.variant.files { MINUTE } else { Duration::ZERO };
    octoprints.print_within(within, INTERVAL);
    tokio::time::sleep(SETTLE).await;
    let watch = bridge.watch();
    let measured = sent.measure(plan.span).await;
    let (cpu, cpu_printing_percent) = watch.end();
    drop(subscriber);
    Load {
        name: plan.name,
        printers: plan.printers,
        added: Added::by(&measured, &bare),
        bare,
        memory_idle,
        memory_printing: bridge.memory(),
        memory_peak: bridge.peak_memory(),
        cpu_idle_percent,
        cpu_printing_percent,
        cpu_seconds_a_million: cpu / measured.sent as f64 * 1e6,
        bridge: measured,
    }
}

/// How long the bridge takes from its start until its printer's discovery message is there, in
/// milliseconds.
#[derive(Debug, Serialize)]
pub struct Start {
    /// With an empty `data_dir`.
    pub first_ms: f64,
    /// With a `data_dir` that knows the printer: the median …
    pub again_p50_ms: f64,
    /// … and the longest.
    pub again_max_ms: f64,
}

/// Starts the bridge again and again.
pub async fn start(times: usize) -> Start {
    eprintln!("start …");
    let sent = Arc::new(Sent::new(1));
    let broker = Mosquitto::start();
    let started = Instant::now();
    let subscriber = Subscriber::start(broker.port, "none", "none", sent.clone(), started).await;
    let octoprints = Printers::start(1, false, Moving::Nothing, None, sent).await;
    let data = tempfile::tempdir().expect("a data_dir");
    let mut took = Vec::new();
    for _ in 0..=times {
        subscriber.arrived.discovery.store(0, Ordering::Relaxed);
        let begun = started.elapsed();
        let bridge = Bridge::start(&broker.url(), &octoprints, 1, data.path(), Variant::default());
        let deadline = Instant::now() + Duration::from_secs(30);
        let there = loop {
            let there = subscriber.arrived.discovery.load(Ordering::Relaxed);
            if there != 0 {
                break Duration::from_nanos(there);
            }
            assert!(Instant::now() < deadline, "no discovery message came");
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        took.push((there - begun).as_secs_f64() * 1e3);
        octoprints.all_live().await;
        // What it has learned is written within a second.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        bridge.end().await;
    }
    let first_ms = took.remove(0);
    took.sort_by(f64::total_cmp);
    Start { first_ms, again_p50_ms: took[took.len() / 2], again_max_ms: took[took.len() - 1] }
}

/// How much goes through.
#[derive(Debug, Serialize)]
pub struct Throughput {
    /// How the bridge is configured.
    pub name: &'static str,
    /// What the bare publisher gets acknowledged, in publications a second.
    pub bare_per_second: f64,
    /// The bridge's highest sustained rate, in publications a second.
    pub bridge_per_second: f64,
    /// The messages of OctoPrint that cause them, a second.
    pub messages_per_second: f64,
    /// Latency with that.
    pub latency: Latency,
    /// Processor time of the bridge for a million publications, in seconds.
    pub cpu_seconds_a_million: f64,
}

/// Printers of the throughput measurement.
const PRINTERS: usize = 250;
/// What counts as keeping up.
const KEEPS_UP_MS: f64 = 50.0;

/// What counts as all of it: the rate itself wavers a little.
const WHOLE: f64 = 0.98;

/// Finds the highest rate that the bridge sustains: everything arrives, nothing is replaced by
/// something newer on the way, and 99 % arrive within 50 ms.
pub async fn throughput(name: &'static str, variant: Variant, quick: bool) -> Throughput {
    eprintln!("throughput, {name} …");
    let (moving, tracked) = (Moving::Everything, "message/current");
    let sent = Arc::new(Sent::new(PRINTERS));
    let broker = Mosquitto::start();
    // All of it is subscribed in both measurements.
    let subscriber =
        Subscriber::start(broker.port, "#", tracked, sent.clone(), Instant::now()).await;
    let (port, span) = (broker.port, Duration::from_secs(if quick { 2 } else { 10 }));
    let payloads = (variant.terminal, moving);
    let bare = move || bare::throughput(port, PRINTERS, payloads, span);
    let bare_before =
        tokio::task::spawn_blocking(bare).await.expect("the bare publisher does not fail");

    let octoprints = Printers::start(PRINTERS, variant.terminal, moving, None, sent.clone()).await;
    let data = tempfile::tempdir().expect("a data_dir");
    let bridge = Bridge::start(&broker.url(), &octoprints, PRINTERS, data.path(), variant);
    octoprints.all_live().await;
    octoprints.print(INTERVAL);
    tokio::time::sleep(SETTLE).await;

    let publications = moving.topics().len() as f64;
    let published = || subscriber.arrived.messages.load(Ordering::Relaxed) as f64;
    let span = Duration::from_secs(if quick { 2 } else { 4 });
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut best: Option<(Latency, f64, f64)> = None;
    let mut rate = bare_before / publications * if quick { 0.2 } else { 0.3 };
    for _ in 0..if quick { 3 } else { 10 } {
        octoprints.print(Duration::from_secs_f64(PRINTERS as f64 / rate));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (watch, begun, before) = (bridge.watch(), Instant::now(), published());
        let latency = sent.measure(span).await;
        let (elapsed, cpu) = (begun.elapsed().as_secs_f64(), watch.end().0);
        let (real, all) = (latency.sent as f64 / span.as_secs_f64(), published() - before);
        let cpu = cpu / elapsed;
        // State that a newer one has replaced would be missing among all that arrived.
        let whole = all >= WHOLE * real * publications * elapsed;
        let keeps_up = whole && latency.arrived == latency.sent && latency.p99_ms < KEEPS_UP_MS;
        eprintln!(
            "  {:.0} publications/s, {:.0} arrived: of the messages {} of {}, p99 {:.1} ms, bridge at {:.0} % of a core",
            real * publications,
            all / elapsed,
            latency.arrived,
            latency.sent,
            latency.p99_ms,
            cpu * 100.0
        );
        if keeps_up {
            low = rate;
            if best.as_ref().is_none_or(|(_, known, _)| real > *known) {
                best = Some((latency, real, cpu));
            }
        } else {
            high = rate;
            // Whatever piled up must be gone before the next attempt.
            octoprints.print(INTERVAL);
            tokio::time::sleep(SETTLE).await;
        }
        rate = if high.is_finite() { f64::midpoint(low, high) } else { rate * 1.4 };
    }
    drop((bridge, octoprints));
    tokio::time::sleep(SETTLE).await;
    // Once more, as a virtual machine is not equally fast all the time.
    let bare_after =
        tokio::task::spawn_blocking(bare).await.expect("the bare publisher does not fail");
    eprintln!("  bare: {bare_before:.0} publications/s before, {bare_after:.0} after");
    let bare_per_second = f64::midpoint(bare_before, bare_after);
    drop(subscriber);
    let nothing = Latency::none();
    let (latency, messages_per_second, cpu) = best.unwrap_or((nothing, 0.0, 0.0));
    Throughput {
        name,
        bare_per_second,
        bridge_per_second: messages_per_second * publications,
        messages_per_second,
        latency,
        cpu_seconds_a_million: cpu / (messages_per_second * publications) * 1e6,
    }
}
