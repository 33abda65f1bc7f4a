//! What the bridge costs, from end to end: simulated OctoPrints in this process, the bridge as a
//! child process, a real Mosquitto, a subscriber, and a bare rumqttc publisher as the yardstick.
//!
//! `cargo bench --bench end_to_end` takes about twenty minutes; with `-- --quick` it takes
//! under two minutes and its numbers mean little; with `-- start`, or any other text, only those
//! measurements are made whose names have it in them. The results are written to
//! `target/end_to_end.json` and `target/end_to_end.svg`, or below `--out DIRECTORY`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a measurement that cannot go on has failed, and nothing is above this crate"
)]

mod bare;
mod bridge;
mod broker;
mod frames;
mod live;
mod picture;
mod printers;
mod report;
mod runs;
mod sent;

use std::path::PathBuf;
use std::time::Duration;

use bridge::Variant;
use runs::{Plan, start, throughput, under_load};

/// What was asked for.
struct Asked {
    quick: bool,
    out: PathBuf,
    /// Part of the names of the measurements to run.
    filter: String,
}

impl Asked {
    fn read(mut arguments: impl Iterator<Item = String>) -> Self {
        let out = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target");
        let mut asked = Self { quick: false, out, filter: String::new() };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => asked.quick = true,
                "--out" => asked.out = arguments.next().expect("--out takes a directory").into(),
                // What cargo says to every benchmark.
                "--bench" => {}
                filter => filter.clone_into(&mut asked.filter),
            }
        }
        asked
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }
}

fn main() {
    let asked = Asked::read(std::env::args().skip(1));
    octoprint2mqtt::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let results = runtime.expect("a runtime").block_on(measure(&asked));
    println!("{}", results.text());
    let out = &asked.out;
    std::fs::create_dir_all(out).expect("the directory of the results can be made");
    let json = serde_json::to_string_pretty(&results).expect("numbers have a JSON form");
    std::fs::write(out.join("end_to_end.json"), json + "\n").expect("the results are written");
    let picture = picture::draw(&results);
    std::fs::write(out.join("end_to_end.svg"), picture).expect("the picture is written");
    println!("written to {}", out.display());
}

async fn measure(asked: &Asked) -> report::Results {
    let quick = asked.quick;
    let plain = Variant::default();
    let terminal = Variant { terminal: true, ..plain };
    let no_discovery = Variant { no_discovery: true, ..plain };
    let one_core = Variant { one_core: true, ..plain };
    let files = Variant { files: true, ..plain };
    let plan = |name, printers, seconds, variant| Plan {
        name,
        printers,
        idle: Duration::from_secs(if quick { 2 } else { 10 }),
        span: Duration::from_secs(if quick { 3 } else { seconds }),
        variant,
    };
    let mut plans = vec![plan("1 printer", 1, 100, plain), plan("10 printers", 10, 20, plain)];
    // The short form has time for them only where they are asked for.
    if !quick || !asked.filter.is_empty() {
        plans.extend([
            plan("100 printers", 100, 20, plain),
            plan("100 printers, terminal = true", 100, 20, terminal),
            plan("100 printers, no discovery", 100, 20, no_discovery),
            plan("1,000 printers", 1000, 20, plain),
            plan("1,000 printers, one core", 1000, 20, one_core),
            // All have begun after a minute, and 16 files at a time are read.
            plan("1,000 printers, files", 1000, 270, files),
        ]);
    }
    let mut results = report::Results::new(quick);
    if asked.wants("start") {
        results.start = Some(start(if quick { 2 } else { 20 }).await);
    }
    for plan in plans.into_iter().filter(|plan| asked.wants(plan.name)) {
        results.load.push(under_load(plan).await);
    }
    if asked.wants("live changes") && (!quick || !asked.filter.is_empty()) {
        results.live = Some(live::live_changes(quick).await);
    }
    let variants = [
        ("throughput", plain),
        ("throughput, terminal = true", terminal),
        ("throughput, no discovery", no_discovery),
    ];
    for (name, variant) in
        variants.into_iter().take(if quick && asked.filter.is_empty() { 1 } else { 3 })
    {
        if asked.wants(name) {
            results.throughput.push(throughput(name, variant, quick).await);
        }
    }
    results
}
