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

mod real;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use octoprint2mqtt::config::Tls;
use octoprint2mqtt::octoprint::{Credentials, Socket, SocketOptions, SocketState, TransportChoice};
use octoprint2mqtt::secret::Secret;
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use real::bridge::{Bridge, run};
use real::mosquitto::Mosquitto;
use real::octoprint::{KEY, OctoPrint, PASSWORD, USER};
use real::reverse_proxy::{Program, ReverseProxy};
use real::watcher::{Seen, Watcher};
use real::{eventually, free_port, left_out};
use serde_json::{Value, json};

/// A certificate for 127.0.0.1 in `dir`, its key, and both in one file.
fn certify(dir: &Path) {
    let status = Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=printers.lan -addext subjectAltName=IP:127.0.0.1".split(' '))
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("openssl is installed");
    assert!(status.success());
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    std::fs::write(dir.join("printers.pem"), read("cert.pem") + &read("key.pem")).unwrap();
}

/// The guide's configuration, with the addresses of this test instead of its own.
fn of_guide(program: Program, port: u16, dir: &Path, octoprints: [u16; 2]) -> String {
    certify(dir);
    let file = |name: &str| dir.join(name).display().to_string();
    std::fs::write(dir.join("users"), format!("bridge:{}\n", program.hashed("s@cret"))).unwrap();
    let hashed = match program {
        Program::Caddy => program.hashed("s@cret"),
        Program::HaProxy | Program::Nginx => String::new(),
    };
    let [mk3, mini] = octoprints.map(|port| format!("127.0.0.1:{port}"));
    let mut text = program.guide();
    for (of_guide, ours) in [
        ("bind :443 ", format!("bind 127.0.0.1:{port} ")),
        ("listen 443 ", format!("listen 127.0.0.1:{port} ")),
        ("printers.lan {", format!("https://127.0.0.1:{port} {{\nbind 127.0.0.1")),
        ("/etc/haproxy/printers.pem", file("printers.pem")),
        ("/etc/nginx/cert.pem", file("cert.pem")),
        ("/etc/nginx/key.pem", file("key.pem")),
        ("/etc/nginx/users", file("users")),
        ("/etc/caddy/cert.pem", file("cert.pem")),
        ("/etc/caddy/key.pem", file("key.pem")),
        ("$2a$14$…", hashed),
        ("192.168.1.20:80", mk3.clone()),
        ("192.168.1.21:80", mini.clone()),
        ("http://192.168.1.20/", format!("http://{mk3}/")),
        ("http://192.168.1.21/", format!("http://{mini}/")),
    ] {
        text = text.replace(of_guide, &ours);
    }
    assert!(!text.contains("192.168") && !text.contains("/etc/"), "not replaced: {text}");
    text
}

/// The same with one line more in front of, or instead of, one that it has.
fn changed(text: &str, line: &str, instead: &str) -> String {
    assert!(text.contains(line), "no {line:?} in {text}");
    text.replace(line, instead)
}

/// What is missing in an nginx configuration that is too short for WebSocket.
const NO_UPGRADE: &[&str] = &["set_header Upgrade", "set_header Connection", "http_version"];

/// The same without these lines.
fn without(text: &str, lines: &[&str]) -> String {
    let stays = |line: &&str| !lines.iter().any(|missing| line.contains(missing));
    text.lines().filter(stays).flat_map(|line| [line, "\n"]).collect()
}

fn topic(id: &str, rest: &str) -> String {
    format!("octoprint2mqtt/{id}/{rest}")
}

fn is(topic: String, payload: &'static str) -> impl Fn(&Seen) -> bool {
    move |seen| seen.topic == topic && seen.payload == payload
}

/// A broker, a watcher and a proxy in front of one OctoPrint or two.
struct Scene {
    broker: Mosquitto,
    watcher: Watcher,
    proxy: ReverseProxy,
    octoprints: Vec<OctoPrint>,
}

impl Scene {
    /// With the guide's configuration, as `change` makes it.
    async fn start(program: Program, count: usize, change: impl FnOnce(String) -> String) -> Self {
        let (broker, octoprints) = tokio::join!(
            Mosquitto::start(),
            futures_util::future::join_all((0..count).map(|_| OctoPrint::start()))
        );
        let [first, last] = [&octoprints[0], &octoprints[count - 1]].map(|one| one.port);
        let config = |port, dir: &Path| change(of_guide(program, port, dir, [first, last]));
        let proxy = program.start(config).await;
        let watcher = Watcher::start(broker.port).await;
        Self { broker, watcher, proxy, octoprints }
    }

    /// The bridge's configuration of the guide; user and password log in, and make cookies.
    fn config(&self, ids: &[&str]) -> String {
        let mut text =
            format!("[mqtt]\nurl = \"{}\"\n[outbox]\nsettle = \"0s\"\n", self.broker.url());
        let (port, ca) = (self.proxy.port, self.proxy.path("cert.pem"));
        for id in ids {
            text += &format!(
                "[printers.{id}]\nurl = \"https://bridge:s%40cret@127.0.0.1:{port}/{id}\"\nusername = \"{USER}\"\npassword = \"{PASSWORD}\"\ntls = {{ ca_file = \"{ca}\" }}\n[printers.{id}.socket]\nconnect_timeout = \"2s\"\n",
            );
        }
        text
    }

    async fn connected(&self, mark: usize, id: &str, transport: &str) {
        let there =
            |socket: &Value| socket["state"] == "connected" && socket["transport"] == *transport;
        self.watcher.wait_json(mark, &topic(id, "socket"), there).await;
    }

    async fn command(&self, id: &str, command: &str, payload: &str) -> Value {
        let mark = self.watcher.mark();
        self.watcher.publish(&topic(id, &format!("set/{command}")), payload, false).await;
        let is = |result: &Value| result["command"] == *command;
        self.watcher.wait_json(mark, &topic(id, "result"), is).await
    }

    /// The bed's target goes to the right OctoPrint, and events come from it.
    async fn works(&self, id: &str, octoprint: &OctoPrint, target: f64) {
        let answer = self.command(id, "temperature/bed", &target.to_string()).await;
        assert_eq!(answer["ok"], true, "{id}: {answer}");
        eventually("the target to be with the printer", || async {
            let printer = octoprint.get("api/printer").await;
            (printer["temperature"]["bed"]["target"] == target).then_some(())
        })
        .await;
        let mark = self.watcher.mark();
        let file = format!("{id}{target}.gcode");
        octoprint.upload(&file, 1).await;
        let added = topic(id, "event/FileAdded");
        self.watcher.wait_json(mark, &added, |event| event["name"] == file).await;
    }

    /// OctoPrint's end is noticed through the proxy, and so is its return.
    async fn restarts(&mut self, id: &str, transport: &str) {
        let mark = self.watcher.mark();
        self.octoprints[0].kill();
        let availability = topic(id, "availability");
        self.watcher.wait_from(mark, "offline", is(availability.clone(), "offline")).await;
        let refused = self.command(id, "temperature/bed", "30").await;
        assert_eq!(refused["ok"], false, "{refused}");
        let mark = self.watcher.mark();
        self.octoprints[0].run().await;
        self.watcher.wait_from(mark, "online", is(availability, "online")).await;
        self.connected(mark, id, transport).await;
        self.works(id, &self.octoprints[0], 42.0).await;
    }
}

/// What a failed test is understood by.
impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the proxy:\n{}", self.proxy.log());
        }
    }
}

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

/// How long the proxy lets a connection be idle. Proxies have half a minute, and the bridge asks for
/// a sign of life after a quarter; here it is a tenth of that.
const IDLE: Duration = Duration::from_secs(3);
const PING_AFTER: Duration = Duration::from_millis(1500);

/// A printer that is off, of which OctoPrint has nothing to say.
async fn an_idle_connection_is_kept(program: Program) {
    if !is_there(program) {
        return;
    }
    let change = |config: String| match program {
        Program::HaProxy => {
            let config = changed(&config, "timeout client  1h", "timeout client  3s");
            changed(&config, "timeout server  1h", "timeout server  3s")
        }
        Program::Nginx => changed(&config, "proxy_read_timeout 1h", "proxy_read_timeout 3s"),
        Program::Caddy => unreachable!("Caddy ends no idle connection"),
    };
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

/// What HAProxy has on an OctoPi, with the OctoPrint switched off and on.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy and Mosquitto: ./tests/run proxies"]
async fn haproxy_with_the_options_of_octopi() {
    octoprint2mqtt::tls::install_provider();
    let broker = Mosquitto::start().await;
    let octoprint = free_port();
    let plain = free_port();
    let config = |port: u16, dir: &Path| {
        certify(dir);
        let dir = dir.display();
        std::fs::write(format!("{dir}/503.http"), "HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>OctoPrint is not running</html>\n").unwrap();
        format!(
            "defaults\n    mode http\n    compression algo gzip\n    option dontlognull\n    option redispatch\n    option http-server-close\n    option forwardfor\n    retries 3\n    timeout connect 5s\n    timeout client 15m\n    timeout server 15m\n\
            frontend public\n    bind 127.0.0.1:{plain}\n    bind 127.0.0.1:{port} ssl crt {dir}/printers.pem\n    option forwardfor except 127.0.0.1\n    default_backend octoprint\n\
            backend octoprint\n    acl needs_scheme req.hdr_cnt(X-Scheme) eq 0\n    http-request add-header X-Scheme https if needs_scheme {{ ssl_fc }}\n    http-request add-header X-Scheme http if needs_scheme !{{ ssl_fc }}\n    server octoprint1 127.0.0.1:{octoprint}\n    errorfile 503 {dir}/503.http\n"
        )
    };
    let proxy = Program::HaProxy.start(config).await;
    let simulate = async || {
        let listen = ([127, 0, 0, 1], octoprint).into();
        let options = SimulatorOptions { listen, ..SimulatorOptions::default() };
        Simulator::start(options).await.unwrap()
    };
    let simulator = simulate().await;
    let watcher = Watcher::start(broker.port).await;
    let (broker, port) = (broker.url(), proxy.port);
    let printer = |id: &str, url: String| {
        format!(
            "[printers.{id}]\nurl = \"{url}\"\napi_key = \"SIMULATOR-KEY\"\noffline_after = \"1h\"\n"
        )
    };
    let config = format!(
        "[mqtt]\nurl = \"{broker}\"\n[outbox]\nsettle = \"0s\"\n{}{}tls = {{ insecure = true }}\n",
        printer("mk3", format!("http://127.0.0.1:{plain}")),
        printer("safe", format!("https://127.0.0.1:{port}")),
    );
    let _bridge = Bridge::start(&config);
    for id in ["mk3", "safe"] {
        watcher.wait("online", is(topic(id, "availability"), "online")).await;
    }
    let mark = watcher.mark();
    simulator.stop();
    for id in ["mk3", "safe"] {
        watcher.wait_from(mark, "offline", is(topic(id, "availability"), "offline")).await;
    }
    let mark = watcher.mark();
    let simulator = simulate().await;
    for id in ["mk3", "safe"] {
        watcher.wait_from(mark, "online", is(topic(id, "availability"), "online")).await;
    }
    simulator.event("Home", json!({}));
    for id in ["mk3", "safe"] {
        watcher.wait_json(mark, &topic(id, "event/Home"), |_| true).await;
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
    an_idle_connection_is_kept(Program::HaProxy).await;
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

/// nginx as it is without being told anything also collects what is streamed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, Mosquitto and OctoPrint: ./tests/run --long proxies"]
async fn long_nginx_lets_nothing_through_and_the_remedy_is_told() {
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
    an_idle_connection_is_kept(Program::Nginx).await;
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
