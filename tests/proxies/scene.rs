//! A reverse proxy with the configuration of the guide, and what is around it.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::real::eventually;
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::{OctoPrint, PASSWORD, USER};
use crate::real::reverse_proxy::{Program, ReverseProxy};
use crate::real::watcher::{Seen, Watcher};

/// A certificate for 127.0.0.1 in `dir`, its key, and both in one file.
pub fn certify(dir: &Path) {
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
pub fn changed(text: &str, line: &str, instead: &str) -> String {
    assert!(text.contains(line), "no {line:?} in {text}");
    text.replace(line, instead)
}

/// What is missing in an nginx configuration that is too short for WebSocket.
pub const NO_UPGRADE: &[&str] = &["set_header Upgrade", "set_header Connection", "http_version"];

/// The same without these lines.
pub fn without(text: &str, lines: &[&str]) -> String {
    let stays = |line: &&str| !lines.iter().any(|missing| line.contains(missing));
    text.lines().filter(stays).flat_map(|line| [line, "\n"]).collect()
}

pub fn topic(id: &str, rest: &str) -> String {
    format!("octoprint2mqtt/{id}/{rest}")
}

pub fn is(topic: String, payload: &'static str) -> impl Fn(&Seen) -> bool {
    move |seen| seen.topic == topic && seen.payload == payload
}

/// A broker, a watcher and a proxy in front of one OctoPrint or two.
pub struct Scene {
    broker: Mosquitto,
    pub watcher: Watcher,
    pub proxy: ReverseProxy,
    pub octoprints: Vec<OctoPrint>,
}

impl Scene {
    /// With the guide's configuration, as `change` makes it.
    pub async fn start(
        program: Program,
        count: usize,
        change: impl FnOnce(String) -> String,
    ) -> Self {
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
    pub fn config(&self, ids: &[&str]) -> String {
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

    pub async fn connected(&self, mark: usize, id: &str, transport: &str) {
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
    pub async fn works(&self, id: &str, octoprint: &OctoPrint, target: f64) {
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
    pub async fn restarts(&mut self, id: &str, transport: &str) {
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
