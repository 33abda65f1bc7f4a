//! What a user may see in OctoPrint changes while the bridge is connected.

use crate::real;
use crate::real::bridge::{Bridge, config, run};
use crate::real::left_out;
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::{KEY, OctoPrint};
use crate::real::watcher::Watcher;
use serde_json::json;

const AVAILABILITY: &str = "octoprint2mqtt/mk3/availability";
const SOCKET: &str = "octoprint2mqtt/mk3/socket";
const USER: &str = "api/access/users/watcher";

/// Makes a user who may see the state, and a key of theirs.
async fn user(octoprint: &OctoPrint) -> String {
    let user = json!({"name": "watcher", "password": "secret words", "active": true,
        "permissions": ["STATUS", "FILES_LIST"], "groups": []});
    octoprint.ask("api/access/users", user).await;
    let key = octoprint.ask(&format!("{USER}/apikey"), json!({})).await;
    key["apikey"].as_str().unwrap().to_owned()
}

async fn grant(octoprint: &OctoPrint, permissions: &[&str]) {
    assert_eq!(octoprint.put(USER, json!({"permissions": permissions, "groups": []})).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn the_right_to_see_the_state_is_taken_and_given_back() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let key = user(&octoprint).await;
    let config = config(&broker.url(), &octoprint.url(), "").replace(KEY, &key);
    let watcher = Watcher::start(broker.port).await;
    let bridge = Bridge::start(&config);
    let said = |payload: &'static str| {
        move |seen: &real::watcher::Seen| seen.topic == AVAILABILITY && seen.payload == payload
    };
    watcher.wait("online", said("online")).await;

    // Another right changes: the new login is proven on the same connection.
    let mark = watcher.mark();
    grant(&octoprint, &["STATUS", "FILES_LIST", "CONNECTION"]).await;
    watcher
        .wait_from(mark, "the proof", |seen| seen.topic == "octoprint2mqtt/mk3/message/history")
        .await;
    // Longer than a proof may take.
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    let states = watcher.seen().split_off(mark);
    let gone = states.iter().find(|seen| {
        seen.topic == AVAILABILITY || seen.topic == SOCKET && seen.json()["state"] != "connected"
    });
    assert!(gone.is_none(), "{gone:?}\n{}", bridge.log());

    let mark = watcher.mark();
    grant(&octoprint, &["FILES_LIST"]).await;
    let taken = std::time::Instant::now();
    let offline = watcher.wait_from(mark, "offline", said("offline")).await;
    let after = offline.at - taken;
    watcher
        .wait_json(mark, SOCKET, |socket| {
            socket["error"].as_str().is_some_and(|error| error.contains("sent no state within 5s"))
        })
        .await;
    watcher
        .wait_json(mark, SOCKET, |socket| {
            let error = socket["error"].as_str().unwrap_or_default();
            socket["state"] == "waiting" && error.contains("STATUS")
        })
        .await;
    println!("offline {after:?} after the right was taken");

    let mark = watcher.mark();
    grant(&octoprint, &["STATUS", "FILES_LIST"]).await;
    watcher.publish("octoprint2mqtt/mk3/set/reconnect", "", false).await;
    watcher.wait_from(mark, "online", said("online")).await;
    assert!(!bridge.log().contains(&key));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_wrong_key_and_a_deactivated_user_are_reported_as_what_they_may_be() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let key = user(&octoprint).await;
    let config = config(&broker.url(), &octoprint.url(), "");
    assert_eq!(octoprint.put(USER, json!({"active": false})).await, 200);
    for (key, told) in [
        ("WRONGKEY", "does not know this API key: check it"),
        (key.as_str(), "does not know this API key, or its user is deactivated"),
    ] {
        let (code, text) = run(&config.replace(KEY, key), &["check"]).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(told) && !text.contains(key), "{text}");
    }
}

/// It has no subscriptions, so that nothing but a new connection proves a new login.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 1.7.3: ./tests/run --long real"]
async fn long_octoprint_1_7_3_takes_a_new_connection() {
    let Some(octoprint) = OctoPrint::start_version("1.7.3").await else {
        left_out("1.7.3", "this OctoPrint is not installed: ./tests/run --long real");
        return;
    };
    let broker = Mosquitto::start().await;
    let key = user(&octoprint).await;
    let config = config(&broker.url(), &octoprint.url(), "").replace(KEY, &key);
    let watcher = Watcher::start(broker.port).await;
    let _bridge = Bridge::start(&config);
    let state = |state: &'static str| move |socket: &serde_json::Value| socket["state"] == state;
    watcher.wait_json(0, SOCKET, state("connected")).await;
    let mark = watcher.mark();
    grant(&octoprint, &["STATUS", "FILES_LIST", "CONNECTION"]).await;
    let waiting = watcher.wait_json(mark, SOCKET, state("waiting")).await;
    let error = waiting["error"].as_str().unwrap();
    assert!(error.contains("only a new connection can prove"), "{waiting}");
    watcher.wait_json(mark, SOCKET, state("connected")).await;
    let mark = watcher.mark();
    grant(&octoprint, &["FILES_LIST"]).await;
    watcher
        .wait_json(mark, SOCKET, |socket| {
            let error = socket["error"].as_str().unwrap_or_default();
            socket["state"] == "waiting" && error.contains("STATUS")
        })
        .await;
}
