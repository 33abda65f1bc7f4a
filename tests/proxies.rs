//! OctoPrint behind the reverse proxies that people have, with the configurations of the guide.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "proxies/octopi.rs"]
mod octopi;
mod real;
#[path = "proxies/scene.rs"]
mod scene;

use std::time::Duration;

use futures_util::StreamExt;
use octoprint2mqtt::config::Tls;
use octoprint2mqtt::octoprint::{Credentials, Socket, SocketOptions, SocketState, TransportChoice};
use octoprint2mqtt::secret::Secret;
use real::bridge::{Bridge, run};
use real::left_out;
use real::octoprint::KEY;
use real::reverse_proxy::Program;
use real::watcher::Seen;
use scene::{NO_UPGRADE, Scene, changed, is, topic, without};
use serde_json::json;

/// Whether it can be tried at all.
fn is_there(program: Program) -> bool {
    let there = program.is_installed();
    if !there {
        left_out(&format!("{program:?}"), "not installed: ./tests/run --long proxies");
    }
    there
}

async fn as_the_guide_has_it(program: Program) {
    if !is_there(program) {
        return;
    }
    let mut scene = Scene::start(program, 2, |config| config).await;
    let config = scene.config(&["mk3", "mini"]);
    let _bridge = Bridge::start(&config);
    for (id, octoprint, target) in
        [("mk3", &scene.octoprints[0], 40.0), ("mini", &scene.octoprints[1], 41.0)]
    {
        scene.connected(0, id, "websocket").await;
        scene.works(id, octoprint, target).await;
    }
    // The second did not change the first.
    let printer = scene.octoprints[0].get("api/printer").await;
    assert_eq!(printer["temperature"]["bed"]["target"], 40.0);
    let (code, output) = run(&config, &["check"]).await;
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = run(&config.replace("s%40cret", "guess"), &["check"]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("a proxy") && !output.contains("guess"), "{output}");
    let mark = scene.watcher.mark();
    scene.restarts("mk3", "websocket").await;
    let gone = is(topic("mini", "availability"), "offline");
    assert!(!scene.watcher.seen()[mark..].iter().any(gone), "the other one is not concerned");
}

/// A proxy that lets no WebSocket through.
async fn the_upgrade_is_refused(program: Program) {
    if !is_there(program) {
        return;
    }
    let change = |config: String| match program {
        Program::HaProxy => changed(
            &config,
            "    use_backend mk3 if",
            "    http-request deny if { path_end /websocket }\n    use_backend mk3 if",
        ),
        Program::Nginx => without(&config, NO_UPGRADE),
        Program::Caddy => changed(
            &config,
            "    handle_path /mk3/*",
            "    @websocket path */websocket\n    handle @websocket {\n        respond 403\n    }\n    handle_path /mk3/*",
        ),
    };
    let mut scene = Scene::start(program, 1, change).await;
    let _bridge = Bridge::start(&scene.config(&["mk3"]));
    scene.connected(0, "mk3", "xhr-streaming").await;
    scene.works("mk3", &scene.octoprints[0], 40.0).await;
    scene.restarts("mk3", "xhr-streaming").await;
}

/// Answers an upgrade to WebSocket, and says nothing more.
async fn swallower() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await {
                    while let Some(Ok(_)) = socket.next().await {}
                }
            });
        }
    });
    port
}

/// A proxy that opens WebSockets, in which nothing passes.
async fn the_websocket_is_swallowed(program: Program) {
    if !is_there(program) {
        return;
    }
    let swallower = swallower().await;
    let change = |config: String| match program {
        Program::HaProxy => {
            changed(
                &config,
                "    use_backend mk3 if",
                "    use_backend mute if { path_end /websocket }\n    use_backend mk3 if",
            ) + &format!("\nbackend mute\n    server mute 127.0.0.1:{swallower}\n")
        }
        Program::Nginx => changed(
            &config,
            "    location /mk3/ {",
            &format!(
                "    location ~ /websocket$ {{\n        proxy_pass http://127.0.0.1:{swallower};\n        proxy_http_version 1.1;\n        proxy_set_header Upgrade $http_upgrade;\n        proxy_set_header Connection $connection_upgrade;\n    }}\n    location /mk3/ {{"
            ),
        ),
        Program::Caddy => changed(
            &config,
            "    handle_path /mk3/*",
            &format!(
                "    @websocket path */websocket\n    handle @websocket {{\n        reverse_proxy 127.0.0.1:{swallower}\n    }}\n    handle_path /mk3/*"
            ),
        ),
    };
    let scene = Scene::start(program, 1, change).await;
    let _bridge = Bridge::start(&scene.config(&["mk3"]));
    scene.connected(0, "mk3", "xhr-streaming").await;
    scene.works("mk3", &scene.octoprints[0], 40.0).await;
}

/// How long proxies let a connection be idle that were not told otherwise.
const USUAL_IDLE: Duration = Duration::from_secs(30);
/// How long the proxy lets a connection be idle here, and when a sign of life is asked for.
const IDLE: Duration = Duration::from_secs(8);
const PING_AFTER: Duration = Duration::from_secs(2);
/// The same for the bridge itself, which asks when it always does: before OctoPrint says anything by
/// itself, every 25 s.
const IDLE_OF_BRIDGE: Duration = Duration::from_secs(20);

/// The guide's configuration, with less patience for idle connections.
fn impatient(program: Program, config: &str, idle: Duration) -> String {
    let seconds = idle.as_secs();
    match program {
        Program::HaProxy => {
            let config =
                changed(config, "timeout client  1h", &format!("timeout client {seconds}s"));
            changed(&config, "timeout server  1h", &format!("timeout server {seconds}s"))
        }
        Program::Nginx => {
            changed(config, "proxy_read_timeout 1h", &format!("proxy_read_timeout {seconds}s"))
        }
        Program::Caddy => unreachable!("Caddy ends no idle connection"),
    }
}

/// Printers that are off, of which OctoPrint has nothing to say.
async fn the_bridge_keeps_idle_connections(program: Program) {
    if !is_there(program) {
        return;
    }
    let change = |config: String| impatient(program, &config, IDLE_OF_BRIDGE);
    let scene = Scene::start(program, 2, change).await;
    for octoprint in &scene.octoprints {
        let body = json!({"command": "disconnect"});
        assert_eq!(octoprint.post("api/connection", body).await, 204);
        octoprint.until("Offline").await;
    }
    let config = scene.config(&["mk3", "mini"]) + "transport = \"xhr-streaming\"\n";
    let _bridge = Bridge::start(&config);
    scene.connected(0, "mk3", "websocket").await;
    scene.connected(0, "mini", "xhr-streaming").await;
    let mark = scene.watcher.mark();
    // Nothing else happens in this time, which is what is tested.
    tokio::time::sleep(IDLE_OF_BRIDGE * 5 / 2).await;
    let lost = |seen: &Seen| {
        seen.topic.ends_with("/socket") && seen.json()["state"] != "connected"
            || seen.topic.ends_with("/availability") && seen.payload == "offline"
    };
    let lost: Vec<_> =
        scene.watcher.seen()[mark..].iter().filter(|seen| lost(seen)).cloned().collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// A printer that is off, of which OctoPrint has nothing to say.
async fn an_idle_connection_stays_open(program: Program) {
    if !is_there(program) {
        return;
    }
    let change = |config: String| impatient(program, &config, IDLE);
    let scene = Scene::start(program, 1, change).await;
    let octoprint = &scene.octoprints[0];
    assert_eq!(octoprint.post("api/connection", json!({"command": "disconnect"})).await, 204);
    octoprint.until("Offline").await;
    let ca_file = Some(scene.proxy.path("cert.pem").into());
    let tls =
        octoprint2mqtt::tls::client_config(&Tls { ca_file, ..Tls::default() }, false).unwrap();
    let url = format!("https://bridge:s%40cret@127.0.0.1:{}/mk3/", scene.proxy.port);
    for transport in [TransportChoice::WebSocket, TransportChoice::XhrStreaming] {
        let key = Credentials::ApiKey(Secret::new(KEY));
        let mut options = SocketOptions::new(url.parse().unwrap(), key, tls.clone());
        assert!(options.ping_after * 2 <= USUAL_IDLE, "{:?}", options.ping_after);
        options.transport = transport;
        options.ping_after = PING_AFTER;
        let socket = Socket::new(options).unwrap();
        socket.connect();
        let mut status = socket.status();
        let connected = status.wait_for(|status| status.state == SocketState::Connected);
        tokio::time::timeout(real::PATIENCE, connected).await.unwrap().unwrap();
        let ended = tokio::time::timeout(IDLE * 3, async {
            status.wait_for(|status| status.state != SocketState::Connected).await.unwrap().clone()
        });
        let ended = ended.await;
        assert!(ended.is_err(), "{transport:?}: {ended:?}");
        socket.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy, Mosquitto and OctoPrint: ./tests/run proxies"]
async fn haproxy_as_the_guide_has_it() {
    as_the_guide_has_it(Program::HaProxy).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy, Mosquitto and OctoPrint: ./tests/run proxies"]
async fn haproxy_refuses_the_upgrade() {
    the_upgrade_is_refused(Program::HaProxy).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy, Mosquitto and OctoPrint: ./tests/run proxies"]
async fn haproxy_swallows_the_websocket() {
    the_websocket_is_swallowed(Program::HaProxy).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy, Mosquitto and OctoPrint: ./tests/run proxies"]
async fn haproxy_keeps_an_idle_connection() {
    an_idle_connection_stays_open(Program::HaProxy).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy, Mosquitto and OctoPrint: ./tests/run proxies"]
async fn haproxy_and_the_bridge_keep_idle_connections() {
    the_bridge_keeps_idle_connections(Program::HaProxy).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, Mosquitto and OctoPrint: ./tests/run --long proxies"]
async fn long_nginx_and_the_bridge_keep_idle_connections() {
    the_bridge_keeps_idle_connections(Program::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, Mosquitto and OctoPrint: ./tests/run --long proxies"]
async fn long_nginx_as_the_guide_has_it() {
    as_the_guide_has_it(Program::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, Mosquitto and OctoPrint: ./tests/run --long proxies"]
async fn long_nginx_refuses_the_upgrade() {
    the_upgrade_is_refused(Program::Nginx).await;
}

/// nginx with its default configuration also buffers what is streamed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, Mosquitto and OctoPrint: ./tests/run --long proxies"]
async fn long_nginx_lets_nothing_through_and_the_remedy_is_logged() {
    if !is_there(Program::Nginx) {
        return;
    }
    let change = |config: String| without(&without(&config, NO_UPGRADE), &["proxy_buffering"]);
    let scene = Scene::start(Program::Nginx, 1, change).await;
    let (code, output) = run(&scene.config(&["mk3"]), &["check"]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("the headers Upgrade and Connection"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, Mosquitto and OctoPrint: ./tests/run --long proxies"]
async fn long_nginx_swallows_the_websocket() {
    the_websocket_is_swallowed(Program::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, Mosquitto and OctoPrint: ./tests/run --long proxies"]
async fn long_nginx_keeps_an_idle_connection() {
    an_idle_connection_stays_open(Program::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Caddy, Mosquitto and OctoPrint: ./tests/run --long proxies"]
async fn long_caddy_as_the_guide_has_it() {
    as_the_guide_has_it(Program::Caddy).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Caddy, Mosquitto and OctoPrint: ./tests/run --long proxies"]
async fn long_caddy_refuses_the_upgrade() {
    the_upgrade_is_refused(Program::Caddy).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Caddy, Mosquitto and OctoPrint: ./tests/run --long proxies"]
async fn long_caddy_swallows_the_websocket() {
    the_websocket_is_swallowed(Program::Caddy).await;
}
