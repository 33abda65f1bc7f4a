//! The binary as a Home Assistant add-on, with a stand-in for the supervisor.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

use std::collections::BTreeMap;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A supervisor that knows a broker, or none; yields what it was asked.
async fn supervisor(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        let head = if answer.is_empty() { "404 Not Found" } else { "200 OK" };
        let text = format!(
            "HTTP/1.1 {head}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (url, asked)
}

async fn check(options: &str, supervisor: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("options.json");
    std::fs::write(&path, options).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_octoprint2mqtt"));
    command
        .arg("check")
        .env("SUPERVISOR_TOKEN", "MARKER-token")
        .env("OCTOPRINT2MQTT_OPTIONS", path)
        .env("OCTOPRINT2MQTT_SUPERVISOR", supervisor);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

const PRINTERS: &str = r#""printers": [
    {"id": "mk3", "name": "MK3", "url": "http://127.0.0.1:9", "api_key": "k"},
    {"id": "mini", "name": null, "url": "http://127.0.0.1:10", "api_key": "k"}]"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_comes_from_the_supervisor_and_the_printers_from_the_options() {
    let known = r#"{"result":"ok","data":{"host":"127.0.0.1","port":9,"ssl":false,"username":"addons","password":"MARKER-password","protocol":"3.1.1"}}"#;
    let (url, asked) = supervisor(known).await;
    let options = format!("{{\"log_level\": \"info\", {PRINTERS}}}");
    let (code, text) = check(&options, &url).await;
    assert_eq!(code, Some(1), "nothing listens there: {text}");
    for what in ["broker 127.0.0.1:9", "mk3 http://127.0.0.1:9/", "mini http://127.0.0.1:10/"] {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert!(!text.contains("MARKER"), "{text}");
    let request = asked.await.unwrap();
    assert!(request.starts_with("GET /services/mqtt "), "{request}");
    assert!(request.to_lowercase().contains("authorization: bearer marker-token"), "{request}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_broker_is_used_and_a_missing_one_is_reported() {
    let options = format!("{{\"mqtt\": {{\"url\": \"mqtt://127.0.0.1:8\"}}, {PRINTERS}}}");
    let (code, text) = check(&options, "http://127.0.0.1:1").await;
    assert_eq!(code, Some(1));
    assert!(text.contains("broker 127.0.0.1:8"), "{text}");
    let (url, _asked) = supervisor("").await;
    let (code, text) = check(&format!("{{{PRINTERS}}}"), &url).await;
    assert_eq!(code, Some(2));
    assert!(text.contains("Mosquitto add-on"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_options_are_named() {
    let options =
        r#"{"mqtt": {"url": "mqtt://h"}, "printers": [{"url": "http://a", "api_kye": "k"}]}"#;
    let (code, text) = check(options, "http://127.0.0.1:1").await;
    assert_eq!(code, Some(2));
    for what in ["options.json", "(number 1)"] {
        assert!(text.contains(what), "{what}: {text}");
    }
    let (code, text) = check("[]", "http://127.0.0.1:1").await;
    assert_eq!(code, Some(2));
    assert!(text.contains("options"), "{text}");
}

/// The keys of a mapping at the top of the add-on's `config.yaml`, each with what stands behind it.
fn mapping(yaml: &str, name: &str) -> BTreeMap<String, String> {
    let inside = yaml.lines().skip_while(|line| *line != format!("{name}:")).skip(1);
    let inside = inside.take_while(|line| line.starts_with(' '));
    let own = inside.filter_map(|line| line.strip_prefix("  ").filter(|key| !key.starts_with(' ')));
    let pairs = own.filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_needs_to_be_written() {
    let yaml = include_str!("../docker/addon/config.yaml");
    let (options, schema) = (mapping(yaml, "options"), mapping(yaml, "schema"));
    // The supervisor takes a missing group for a mistake, and drops an option that is not in the schema.
    let groups = schema.iter().filter(|(_, value)| value.is_empty());
    for (group, _) in groups {
        assert!(matches!(options.get(group).map(String::as_str), Some("{}" | "[]")), "{group}");
    }
    assert!(options.keys().all(|key| schema.contains_key(key)), "{options:?} {schema:?}");
    for line in ["ingress: true", "ingress_port: 8099"] {
        assert!(yaml.lines().any(|have| have == line), "{line}");
    }
    let known = r#"{"result":"ok","data":{"host":"127.0.0.1","port":9}}"#;
    let (url, _asked) = supervisor(known).await;
    let values = options.iter().map(|(key, value)| match value.as_str() {
        "{}" | "[]" => format!("{key:?}: {value}"),
        _ => format!("{key:?}: {value:?}"),
    });
    let options = values.collect::<Vec<_>>().join(", ");
    let (code, text) = check(&format!("{{{options}}}"), &url).await;
    assert_eq!(code, Some(1), "only the broker is away: {text}");
    assert!(text.contains("broker 127.0.0.1:9"), "{text}");
}
