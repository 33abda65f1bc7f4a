//! Statistics and history of the prints of a real OctoPrint.

use crate::real::bridge::{Bridge, config};
use crate::real::eventually;
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::OctoPrint;
use crate::real::watcher::Watcher;
use serde_json::{Value, json};

const PRINTER: &str = "octoprint2mqtt/mk3/printer";
const STATISTICS: &str = "octoprint2mqtt/mk3/statistics";
const HISTORY: &str = "octoprint2mqtt/mk3/history";

/// Millimetres of filament in a tenth of a second.
const FEED: usize = 5;

/// Uploads a file that takes so many tenths of a second, and uses filament all the time.
async fn upload(octoprint: &OctoPrint, name: &str, tenths: usize) {
    let moves = (0..tenths).map(|n| format!("G1 X{} E{FEED} F600000\nG4 P100\n", n % 50));
    let text = format!("G28\nM83\nG1 Z0.2 F600000\n{}", moves.collect::<String>());
    octoprint.upload_text(name, &text).await;
}

async fn start(octoprint: &OctoPrint, watcher: &Watcher, name: &str) {
    octoprint.select(name).await;
    let mark = watcher.mark();
    octoprint.job(json!({"command": "start"})).await;
    let print = "octoprint2mqtt/mk3/print";
    watcher.wait_json(mark, print, |print| print["event_type"] == "print_started").await;
}

/// Waits until OctoPrint knows how much filament a file needs. Returns its length in mm.
async fn analysed(octoprint: &OctoPrint, name: &str) -> f64 {
    eventually("the analysis of the file", || async {
        let file = octoprint.get(&format!("api/files/local/{name}")).await;
        file["gcodeAnalysis"]["filament"]["tool0"]["length"].as_f64()
    })
    .await
}

async fn counted(watcher: &Watcher, mark: usize, counts: [u64; 3]) -> Value {
    let [done, failed, cancelled] = counts;
    let is = |told: &Value| {
        told["prints_done"] == done
            && told["prints_failed"] == failed
            && told["prints_cancelled"] == cancelled
    };
    watcher.wait_json(mark, STATISTICS, is).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn prints_count_once_also_those_that_end_while_the_bridge_is_away() {
    let (broker, mut octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let watcher = Watcher::start(broker.port).await;
    let data = tempfile::tempdir().unwrap();
    let text = format!(
        "data_dir = \"{}\"\n{}",
        data.path().display(),
        config(&broker.url(), &octoprint.url(), "filament_price = 30.0")
    );
    let bridge = Bridge::start(&text);
    watcher.wait_json(0, PRINTER, |printer| printer["state"] == "operational").await;
    upload(&octoprint, "short.gcode", 20).await;
    upload(&octoprint, "long.gcode", 300).await;
    let length = analysed(&octoprint, "short.gcode").await;
    assert!((length - (20 * FEED) as f64).abs() < 1.0, "{length}");
    analysed(&octoprint, "long.gcode").await;

    // A whole print.
    start(&octoprint, &watcher, "short.gcode").await;
    counted(&watcher, 0, [1, 0, 0]).await;
    let one = |told: &Value| told["prints"][0]["result"] == "done";
    let print = watcher.wait_json(0, HISTORY, one).await["prints"][0].clone();
    assert_eq!((&print["file"], &print["path"]), (&json!("short.gcode"), &json!("short.gcode")));
    assert!(print["duration"].as_f64().unwrap() >= 2.0, "{print}");
    assert!((print["filament_m"].as_f64().unwrap() - length / 1000.0).abs() < 0.006, "{print}");
    assert!(print["started"].as_str().unwrap() <= print["ended"].as_str().unwrap(), "{print}");

    // One that is cancelled half-way uses a part of its filament.
    octoprint.until("Operational").await;
    let mark = watcher.mark();
    start(&octoprint, &watcher, "long.gcode").await;
    let progress = "octoprint2mqtt/mk3/progress";
    let far = |told: &Value| told["completion"].as_f64().is_some_and(|percent| percent > 15.0);
    watcher.wait_json(mark, progress, far).await;
    octoprint.job(json!({"command": "cancel"})).await;
    counted(&watcher, mark, [1, 0, 1]).await;
    let cancelled = |told: &Value| told["prints"][0]["result"] == "cancelled";
    let print = watcher.wait_json(mark, HISTORY, cancelled).await["prints"][0].clone();
    let used = print["filament_m"].as_f64().unwrap();
    assert!(used > 0.0 && used < 0.9 * (300 * FEED) as f64 / 1000.0, "{print}");

    // One that ends while the bridge is away counts when the bridge is back.
    octoprint.until("Operational").await;
    start(&octoprint, &watcher, "short.gcode").await;
    // The store is written once a second.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    drop(bridge);
    octoprint.until("Operational").await;
    let mark = watcher.mark();
    let mut bridge = Bridge::start(&text);
    let counted_after = counted(&watcher, mark, [2, 0, 1]).await;
    assert_eq!(counted_after["persistent"], true);
    let recovered = |told: &Value| told["prints"][0]["recovered"] == true;
    let print = watcher.wait_json(mark, HISTORY, recovered).await["prints"][0].clone();
    assert_eq!(print["result"], "done");
    assert!(print["duration"].as_f64().unwrap() >= 2.0, "{print}");
    assert!((print["filament_m"].as_f64().unwrap() - length / 1000.0).abs() < 0.006, "{print}");

    // Another restart counts nothing again. The bridge is stopped, not killed: what it counted a moment
    // ago is persisted then.
    bridge.process.signal("TERM");
    assert_eq!(bridge.process.ended().await, Some(0));
    drop(bridge);
    let mark = watcher.mark();
    let _bridge = Bridge::start(&text);
    watcher.wait_json(mark, PRINTER, |printer| printer["state"] == "operational").await;
    // A restart of OctoPrint neither.
    octoprint.kill();
    octoprint.run().await;
    octoprint.select("short.gcode").await;
    let started = watcher.mark();
    octoprint.job(json!({"command": "start"})).await;
    counted(&watcher, started, [3, 0, 1]).await;
    let told: Vec<Value> = watcher.seen()[mark..]
        .iter()
        .filter(|seen| seen.topic == STATISTICS)
        .map(|seen| seen.json()["prints_done"].clone())
        .collect();
    assert_eq!(told, [2, 3], "at the start, and after the print");
}
