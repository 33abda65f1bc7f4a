//! What goes wrong around the bridge, with the real programs.

use std::collections::BTreeSet;

use crate::real;
use crate::real::bridge::{Bridge, config, run};
use crate::real::free_port;
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::{KEY, OctoPrint};
use crate::real::watcher::{Watcher, retained};
use serde_json::json;

const AVAILABILITY: &str = "octoprint2mqtt/mk3/availability";
const PRINTER: &str = "octoprint2mqtt/mk3/printer";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_restart_of_octoprint_in_a_print_is_seen_and_survived() {
    let (broker, mut octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let watcher = Watcher::start(broker.port).await;
    let _bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), ""));
    octoprint.upload("part.gcode", 600).await;
    octoprint.select("part.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    watcher.wait_json(0, PRINTER, |printer| printer["state"] == "printing").await;
    let mark = watcher.mark();
    octoprint.kill();
    watcher.wait_from(mark, "offline", |s| s.topic == AVAILABILITY && s.payload == "offline").await;
    let mark = watcher.mark();
    octoprint.run().await;
    watcher.wait_from(mark, "online", |s| s.topic == AVAILABILITY && s.payload == "online").await;
    watcher.wait_json(mark, PRINTER, |printer| printer["state"] == "operational").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_broker_that_lost_everything_gets_everything_again() {
    let (mut broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let watcher = Watcher::start(broker.port).await;
    let _bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), ""));
    watcher.wait("bed", |seen| seen.topic == "octoprint2mqtt/mk3/temperature/bed").await;
    watcher.wait("online", |s| s.topic == AVAILABILITY && s.payload == "online").await;
    let before: BTreeSet<String> = retained(broker.port).await.into_keys().collect();
    assert!(before.len() >= 14, "{before:?}");
    broker.kill();
    broker.run().await;
    let port = broker.port;
    real::eventually("all retained topics to come back", || async {
        let now: BTreeSet<String> = retained(port).await.into_keys().collect();
        now.is_superset(&before).then_some(())
    })
    .await;
    let now = retained(port).await;
    assert_eq!(now[AVAILABILITY], "online");
    assert_eq!(now["octoprint2mqtt/bridge/state"], "online");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn the_order_of_start_does_not_matter() {
    let mut broker = Mosquitto::start().await;
    let mut octoprint = OctoPrint::start().await;
    broker.kill();
    octoprint.kill();
    let mut bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), ""));
    real::eventually("the bridge to have missed both", || async {
        let log = bridge.log();
        (log.contains("no connection") && log.contains("next attempt")).then_some(())
    })
    .await;
    assert!(bridge.process.0.try_wait().unwrap().is_none(), "it goes on");
    broker.run().await;
    let watcher = Watcher::start(broker.port).await;
    watcher.wait("offline", |s| s.topic == AVAILABILITY && s.payload == "offline").await;
    octoprint.run().await;
    watcher.wait("online", |s| s.topic == AVAILABILITY && s.payload == "online").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_retained_command_never_runs() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let watcher = Watcher::start(broker.port).await;
    let command = "octoprint2mqtt/mk3/set/temperature/bed";
    watcher.publish(command, "70", true).await;
    let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), ""));
    let result = watcher.wait_json(0, "octoprint2mqtt/mk3/result", |_| true).await;
    assert_eq!(result["ok"], false, "{result}");
    assert!(result["error"].as_str().unwrap().contains("retained"), "{result}");
    watcher.wait("the clearing", |seen| seen.topic == command && seen.payload.is_empty()).await;
    watcher.wait("online", |s| s.topic == AVAILABILITY && s.payload == "online").await;
    assert!(!retained(broker.port).await.contains_key(command), "it is cleared");
    assert_ne!(octoprint.get("api/printer").await["temperature"]["bed"]["target"], 70.0);
    assert!(bridge.log().contains("retained"));

    // One that comes while the bridge listens runs once and is cleared at once.
    let mark = watcher.mark();
    watcher.publish(command, "50", true).await;
    let result = watcher.wait_json(mark, "octoprint2mqtt/mk3/result", |_| true).await;
    assert_eq!(result["ok"], true, "{result}");
    watcher.wait_from(mark, "the clearing", |s| s.topic == command && s.payload.is_empty()).await;
    assert!(!retained(broker.port).await.contains_key(command));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn check_tells_what_is_wrong() {
    let (broker, octoprint) =
        tokio::join!(Mosquitto::with_password("bridge", "s3cret"), OctoPrint::start());
    let login = "username = \"bridge\"\npassword = \"s3cret\"\n[printers.mk3]";
    let good =
        config(&broker.url(), &octoprint.url(), "").replace("[log]", "#").replace("level", "#");
    let good = good.replace("[printers.mk3]", login);
    let (code, text) = run(&good, &["check"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches('✓').count(), 3, "{text}");

    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("http://{}", web.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = web.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnope";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let dead = format!("http://127.0.0.1:{}", free_port());
    let wrong_password = good.replace("s3cret", "guess");
    for (what, config, telling) in [
        ("wrong key", good.replace(KEY, "WRONGKEY"), "key"),
        ("nothing listens", good.replace(&octoprint.url(), &dead), "refused"),
        ("not OctoPrint", good.replace(&octoprint.url(), &elsewhere), "OctoPrint"),
        ("broker refuses", wrong_password, "mqtt.username"),
        (
            "no broker",
            good.replace(&broker.url(), &format!("mqtt://127.0.0.1:{}", free_port())),
            "mqtt.url",
        ),
    ] {
        let (code, text) = run(&config, &["check"]).await;
        assert_eq!(code, Some(1), "{what}: {text}");
        let wrong = text
            .lines()
            .find(|line| line.starts_with('✗'))
            .unwrap_or_else(|| panic!("{what}: {text}"));
        assert!(wrong.contains(telling), "{what}: {wrong}");
        assert!(!text.contains("WRONGKEY") && !text.contains("guess") && !text.contains("s3cret"));
    }
    let (code, text) = run(&good.replace("url", "ulr"), &["check"]).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("ulr") && text.contains("is url meant?"), "{text}");
}
