//! What the bridge costs, from end to end: simulated OctoPrints in this process, the bridge as a
//! child process, a real Mosquitto, a subscriber, and a bare rumqttc publisher as the yardstick.
//!
//! `cargo bench --bench end_to_end` takes about a quarter of an hour; with `-- --quick` it takes
//! under two minutes and its numbers mean little. The results are written to
//! `target/end_to_end.json` and `target/end_to_end.svg`, or below `--out DIRECTORY`.

mod bare;
mod bridge;
mod broker;
mod frames;
mod picture;
mod printers;
mod report;
mod runs;
mod sent;

use std::path::PathBuf;
use std::time::Duration;

use bridge::Variant;
use runs::{Plan, start, throughput, under_load};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let out = arguments.iter().position(|argument| argument == "--out");
    let out = out.and_then(|at| arguments.get(at + 1)).map_or_else(default_out, PathBuf::from);
    octoprint2mqtt::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let results = runtime.expect("a runtime").block_on(measure(quick));
    println!("{}", results.text());
    std::fs::create_dir_all(&out).expect("the directory of the results can be made");
    let json = serde_json::to_string_pretty(&results).expect("numbers have a JSON form");
    std::fs::write(out.join("end_to_end.json"), json + "\n").expect("the results are written");
    let picture = picture::draw(&results);
    std::fs::write(out.join("end_to_end.svg"), picture).expect("the picture is written");
    println!("written to {}", out.display());
}

fn default_out() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target")
}

async fn measure(quick: bool) -> report::Results {
    let plain = Variant::default();
    let terminal = Variant { terminal: true, ..plain };
    let no_discovery = Variant { no_discovery: true, ..plain };
    let one_core = Variant { one_core: true, ..plain };
    let plan = |name, printers, seconds, variant| Plan {
        name,
        printers,
        idle: Duration::from_secs(if quick { 2 } else { 10 }),
        span: Duration::from_secs(if quick { 3 } else { seconds }),
        variant,
    };
    let mut plans = vec![plan("1 printer", 1, 90, plain), plan("10 printers", 10, 30, plain)];
    if !quick {
        plans.extend([
            plan("100 printers", 100, 30, plain),
            plan("100 printers, terminal = true", 100, 30, terminal),
            plan("100 printers, no discovery", 100, 30, no_discovery),
            plan("1,000 printers", 1000, 30, plain),
            plan("1,000 printers, one core", 1000, 30, one_core),
        ]);
    }
    let mut results = report::Results::new(quick);
    results.start = start(if quick { 2 } else { 20 }).await;
    for plan in plans {
        results.load.push(under_load(plan).await);
    }
    let variants =
        [("default", plain), ("terminal = true", terminal), ("no discovery", no_discovery)];
    for (name, variant) in variants.into_iter().take(if quick { 1 } else { 3 }) {
        results.throughput.push(throughput(name, variant, quick).await);
    }
    results
}
