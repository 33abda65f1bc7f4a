//! Everything at trace, with secrets that can be recognised: none of them shows anywhere.

use crate::real::bridge::{Bridge, run};
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::{KEY, OctoPrint, PASSWORD, USER};
use crate::real::watcher::Watcher;

const MQTT_PASSWORD: &str = "MARKER-mqtt-password";
const HEADER: &str = "MARKER-header-value";
const LOGIN: &str = "MARKER-user:MARKER-p%40ss";
/// What is sent for it.
const BASIC: &str = "TUFSS0VSLXVzZXI6TUFSS0VSLXBAc3M=";

/// What looks like one of OctoPrint's sessions: 64 hexadecimal digits.
fn session_in(text: &str) -> Option<&str> {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.split(|c| !is_hex(c)).find(|word| word.len() == 64)
}

fn clean(what: &str, text: &str) {
    let of_url = ["MARKER-user", "MARKER-p", BASIC];
    for secret in [KEY, PASSWORD, MQTT_PASSWORD, HEADER].into_iter().chain(of_url) {
        let at = text.find(secret);
        let around = at.map(|at| &text[at.saturating_sub(200)..(at + 40).min(text.len())]);
        assert!(around.is_none(), "{what}: {around:?}");
    }
    if let Some(session) = session_in(text) {
        let at = text.find(session).unwrap();
        panic!("{what} has a session: {}", &text[at.saturating_sub(200)..at + 8]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn no_secret_in_any_log_topic_error_or_answer() {
    let (broker, mut octoprint) =
        tokio::join!(Mosquitto::with_password("bridge", MQTT_PASSWORD), OctoPrint::start());
    let url = octoprint.url();
    let other = url.replace("127.0.0.1", "localhost");
    let with_login = url.replace("http://", &format!("http://{LOGIN}@"));
    let text = format!(
        "[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"{}\"\nusername = \"bridge\"\npassword = \"{MQTT_PASSWORD}\"\n[log]\nlevel = \"trace\"\n\
         [printers.mk3]\nurl = \"{with_login}\"\napi_key = \"{KEY}\"\n[printers.mk3.socket]\ntimeouts = [1]\nheaders = {{ X-Proxy = \"{HEADER}\" }}\n\
         [printers.user]\nurl = \"{other}\"\nusername = \"{USER}\"\npassword = \"{PASSWORD}\"\n[printers.user.socket]\ntimeouts = [1]\ntransport = \"xhr-streaming\"\n",
        broker.url()
    );
    let watcher = Watcher::log_in(broker.port, "bridge", MQTT_PASSWORD).await;
    let mut bridge = Bridge::start(&text);
    for id in ["mk3", "user"] {
        let topic = format!("octoprint2mqtt/{id}/availability");
        watcher.wait(id, |seen| seen.topic == topic && seen.payload == "online").await;
    }
    // Commands that are done, refused and unknown; requests; a second login on the same socket.
    for (command, payload) in
        [("temperature/bed", "40"), ("job", "pause"), ("nonsense", KEY), ("rate", "99")]
    {
        watcher.command(command, payload).await;
    }
    for request in ["info", "health_check", "republish"] {
        let mark = watcher.mark();
        watcher.publish(&format!("octoprint2mqtt/bridge/request/{request}"), "", false).await;
        let response = format!("octoprint2mqtt/bridge/response/{request}");
        watcher.wait_from(mark, request, |seen| seen.topic == response).await;
    }
    octoprint.kill();
    let mark = watcher.mark();
    let waiting = |id: &str| format!("octoprint2mqtt/{id}/socket");
    for id in ["mk3", "user"] {
        watcher.wait_json(mark, &waiting(id), |socket| socket["state"] == "waiting").await;
    }
    octoprint.run().await;
    for id in ["mk3", "user"] {
        watcher.wait_json(mark, &waiting(id), |socket| socket["state"] == "connected").await;
    }
    bridge.process.signal("TERM");
    assert_eq!(bridge.process.ended().await, Some(0));

    let log = bridge.log();
    assert!(log.contains("TRACE"), "everything is logged");
    clean("the log", &log);
    for seen in watcher.seen() {
        // What the test itself sent as a command's text comes back as that.
        if !seen.topic.contains("/set/nonsense") && !seen.payload.contains("nonsense") {
            clean(&seen.topic, &format!("{} {}", seen.topic, seen.payload));
        }
    }
    let (code, output) = run(&text, &["check"]).await;
    assert_eq!(code, Some(0), "{output}");
    clean("check", &output);
    let (_, output) = run(&text, &["discovery"]).await;
    clean("discovery", &output);
    let broken = text.replace("[log]", "[lgo]").replace(KEY, &format!("{KEY}\\u0001"));
    let (code, output) = run(&broken, &[]).await;
    assert_eq!(code, Some(2), "{output}");
    clean("the mistakes", &output);
}
