//! `octoprint2mqtt authorize` with the application-keys plugin of a real OctoPrint.

use std::os::unix::fs::PermissionsExt;

use crate::real::bridge::{Bridge, run, run_alone};
use crate::real::http_proxy::HttpProxy;
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::{KEY, OctoPrint, USER};
use crate::real::sockjs::SockJs;
use crate::real::watcher::Watcher;
use crate::real::{eventually, free_port};
use serde_json::{Value, json};

/// The token with which a user decides on the request that is open now.
async fn user_token(pages: &SockJs, decided: usize) -> String {
    eventually("the dialog in OctoPrint", || async {
        let asked: Vec<Value> = pages
            .messages()
            .iter()
            .filter(|(kind, _)| kind == "plugin")
            .map(|(_, payload)| serde_json::from_str::<Value>(payload).unwrap())
            .filter(|plugin| plugin["data"]["type"] == "request_access")
            .collect();
        let request = asked.get(decided)?;
        assert_eq!(request["data"]["app_name"], "octoprint2mqtt");
        request["data"]["user_token"].as_str().map(str::to_owned)
    })
    .await
}

pub async fn decide(octoprint: &OctoPrint, pages: &SockJs, decided: usize, decision: bool) {
    let token = user_token(pages, decided).await;
    let path = format!("plugin/appkeys/decision/{token}");
    assert_eq!(octoprint.post(&path, json!({ "decision": decision })).await, 204);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OctoPrint: ./tests/run real"]
async fn a_key_is_asked_for_allowed_denied_or_not_decided() {
    let octoprint = OctoPrint::start().await;
    let pages = SockJs::start(&octoprint.url()).await;
    let url = octoprint.url();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let save = ["authorize", "--url", &url, "--user", USER, "--save", path.to_str().unwrap()];
    let ((code, out, told), ()) =
        tokio::join!(run_alone(&save), decide(&octoprint, &pages, 0, true));
    assert_eq!((code, out.as_str()), (Some(0), ""), "{told}");
    assert!(told.contains("Allow") && told.contains(&url), "{told}");
    let key = std::fs::read_to_string(&path).unwrap();
    assert!(!told.contains(key.trim()), "the key is in the file alone");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let user: Value = reqwest::Client::new()
        .get(format!("{url}/api/currentuser"))
        .header("X-Api-Key", key.trim())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(user["name"], USER, "the key is good");
    assert_ne!(key.trim(), KEY);

    let ask = ["authorize", "--url", &url];
    let ((code, out, told), ()) =
        tokio::join!(run_alone(&ask), decide(&octoprint, &pages, 1, false));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(told.contains("denied"), "{told}");

    let (code, out, told) = run_alone(&["authorize", "--url", &url, "--timeout", "2s"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(told.contains("nobody allowed the request within 2s"), "{told}");

    // OctoPrint takes three requests a minute.
    let (code, _, told) = run_alone(&ask).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("no more requests"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OctoPrint: ./tests/run real"]
async fn each_reason_not_to_ask_is_reported() {
    let octoprint =
        OctoPrint::start_with(|config| config.replace("_disabled: [", "_disabled: [appkeys, "))
            .await;
    let (code, out, told) = run_alone(&["authorize", "--url", &octoprint.url()]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(told.contains("Application Keys"), "{told}");

    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let (code, _, told) = run_alone(&["authorize", "--url", &nowhere]).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("refused"), "{told}");

    let save = ["authorize", "--url", &nowhere, "--save", "/nowhere/at/all/key"];
    let (code, _, told) = run_alone(&save).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("/nowhere/at/all/key cannot be written"), "{told}");

    let (code, _, told) = run_alone(&["authorize", "--url", "octopi.local"]).await;
    assert_eq!(code, Some(2));
    assert!(told.contains("http://octopi.local"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OctoPrint and Mosquitto: ./tests/run real"]
async fn behind_a_proxy_that_asks_for_a_login_and_a_header() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let pages = SockJs::start(&octoprint.url()).await;
    let proxy = HttpProxy::start(octoprint.port, "", true).await;
    // user:p@ss
    proxy.want("authorization: basic dXNlcjpwQHNz\r\n");
    proxy.want("x-proxy: MARKER-header\r\n");
    let url = proxy.url().replace("http://", "http://user:p%40ss@");
    let (code, _, told) = run_alone(&["authorize", "--url", &proxy.url()]).await;
    assert_eq!(code, Some(1), "{told}");

    let header = "X-Proxy: MARKER-header";
    let ask = ["authorize", "--url", &url, "--header", header];
    let ((code, key, told), ()) =
        tokio::join!(run_alone(&ask), decide(&octoprint, &pages, 0, true));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&proxy.url()) && !told.contains("p%40ss"), "{told}");
    assert!(!told.contains("MARKER"), "{told}");

    // The same from the configuration, which has no key yet.
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("header");
    std::fs::write(&secret, "MARKER-header\n").unwrap();
    let config = format!(
        "[mqtt]\nurl = \"{}\"\n[printers.mk3]\nurl = \"{url}\"\napi_key = \"\"\n[printers.mk3.socket]\nheaders = {{ X-Proxy = {{ file = \"{}\" }} }}\n",
        broker.url(),
        secret.display()
    );
    let path = dir.path().join("key");
    let ask = ["authorize", "--printer", "mk3", "--save", path.to_str().unwrap()];
    let ((code, told), ()) = tokio::join!(run(&config, &ask), decide(&octoprint, &pages, 1, true));
    assert_eq!(code, Some(0), "{told}");
    assert!(!told.contains("p%40ss") && !told.contains("MARKER"), "{told}");
    let (code, told) = run(&config, &["authorize", "--printer", "mini"]).await;
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("one of: mk3"), "{told}");

    // And the bridge with that key, over WebSocket and REST.
    let watcher = Watcher::start(broker.port).await;
    let bridge =
        Bridge::start(&config.replace("api_key = \"\"", &format!("api_key = \"{}\"", key.trim())));
    watcher
        .wait_json(0, "octoprint2mqtt/mk3/socket", |socket| {
            socket["state"] == "connected" && socket["transport"] == "websocket"
        })
        .await;
    let answer = watcher.command("rate", "2").await;
    assert_eq!(answer["ok"], true, "{answer}");
    for shown in [bridge.log(), format!("{:?}", watcher.seen())] {
        for secret in ["p%40ss", "p@ss", "dXNlcjpwQHNz", "MARKER", key.trim()] {
            assert!(!shown.contains(secret), "{secret} shows");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_on_the_command_line_are_reported_without_secrets() {
    for (arguments, telling) in [
        (&["--url", "http://user:MARKER@host?x"][..], "--url: expected"),
        (&["--url", "http://host", "--header", "MARKER"], "--header: expected"),
        (&["--printer", "mk3", "--url", "http://host"], "cannot be used with"),
        (&[], "--url"),
    ] {
        let (code, _, told) = run_alone(&[&["authorize"], arguments].concat()).await;
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains(telling) && !told.contains("MARKER"), "{told}");
    }
}
