//! A real Home Assistant, without a browser.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Process, free_port};

/// Home Assistant starts slowly where others are busy too.
const PATIENCE: Duration = Duration::from_secs(90);
pub const CLIENT_ID: &str = "http://127.0.0.1/";

pub struct HomeAssistant {
    pub port: u16,
    pub token: String,
    pub dir: tempfile::TempDir,
    process: Option<Process>,
    http: reqwest::Client,
}

pub fn bin(name: &str) -> std::path::PathBuf {
    let bin = std::env::var_os("OCTOPRINT2MQTT_TEST_HASS").map_or_else(
        || {
            let home = std::env::var("HOME").unwrap();
            std::path::PathBuf::from(home).join(".cache/octoprint2mqtt/homeassistant-2025.4.4/bin")
        },
        std::path::PathBuf::from,
    );
    bin.join(name)
}

/// The year of its version.
fn version() -> u32 {
    let output = Command::new(bin("hass")).arg("--version").output();
    let output = output.expect("Home Assistant is installed");
    let version = String::from_utf8(output.stdout).unwrap();
    version.split('.').next().and_then(|year| year.parse().ok()).expect("a version")
}

impl HomeAssistant {
    /// Starts one whose MQTT integration is set up for the broker at this port.
    pub async fn start(broker: u16) -> Self {
        octoprint2mqtt::tls::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let diary = dir.path().join("diary.sh");
        std::fs::write(&diary, "echo \"$*\" >>\"$(dirname \"$0\")/diary\"\n").unwrap();
        let diary = diary.display();
        let port = free_port();
        let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join(".storage")).unwrap();
        // Since 2026 the port in the YAML is a proposal that somebody has to confirm.
        let address = if version() < 2026 {
            format!("server_host: 127.0.0.1, server_port: {port}")
        } else {
            let stable = json!({"server_host": ["127.0.0.1"], "server_port": port,
                "cors_allowed_origins": [], "login_attempts_threshold": -1, "ip_ban_enabled": true,
                "ssl_profile": "intermediate_v6", "use_x_frame_options": true});
            let data = json!({"stable": stable, "pending": null, "yaml_migration_done": true});
            let stored = json!({"version": 3, "minor_version": 1, "key": "http", "data": data});
            file(".storage/http", &stored.to_string());
            String::new()
        };
        file(
            "configuration.yaml",
            &format!(
                "homeassistant: {{name: Test, unit_system: metric, time_zone: UTC}}\nhttp: {{{address}}}\napi:\nconfig:\nfrontend:\nhistory:\nblueprint:\nlogger: {{default: warning}}\nautomation: !include automations.yaml\nscript: !include scripts.yaml\nscene: !include scenes.yaml\ninput_boolean: {{plug: {{name: Plug, initial: true}}}}\nshell_command: {{diary: 'sh {diary} {{{{ entry }}}}'}}\n"
            ),
        );
        let blueprints = dir.path().join("blueprints/automation/octoprint2mqtt");
        std::fs::create_dir_all(&blueprints).unwrap();
        let ours = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/homeassistant/blueprints/automation/octoprint2mqtt"
        );
        for blueprint in std::fs::read_dir(ours).unwrap() {
            let path = blueprint.unwrap().path();
            std::fs::copy(&path, blueprints.join(path.file_name().unwrap())).unwrap();
        }
        file("automations.yaml", "[]");
        file("scripts.yaml", "{}");
        file("scenes.yaml", "[]");
        let now = "2025-01-01T00:00:00+00:00";
        file(
            ".storage/core.config_entries",
            &json!({"version": 1, "minor_version": 5, "key": "core.config_entries", "data": {"entries": [{
                "created_at": now, "modified_at": now, "data": {"broker": "127.0.0.1", "port": broker},
                "disabled_by": null, "discovery_keys": {}, "domain": "mqtt",
                "entry_id": "mqtt0000000000000000000000", "minor_version": 2, "options": {},
                "pref_disable_new_entities": false, "pref_disable_polling": false, "source": "user",
                "subentries": [], "title": "test", "unique_id": null, "version": 1,
            }]}})
            .to_string(),
        );
        file(
            ".storage/onboarding",
            &json!({"version": 4, "minor_version": 1, "key": "onboarding",
                "data": {"done": ["user", "core_config", "analytics", "integration"]}})
            .to_string(),
        );
        let path = dir.path().to_owned();
        let added = tokio::task::spawn_blocking(move || {
            Command::new(bin("hass"))
                .args(["--script", "auth", "-c"])
                .arg(path)
                .args(["add", "test", "correct-horse"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .expect("Home Assistant is installed")
        });
        assert!(added.await.unwrap().success());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut this = Self { port, token: String::new(), dir, process: None, http };
        this.run().await;
        this.log_in().await;
        this
    }

    /// Starts it, again in its directory.
    pub async fn run(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("test.log"))
            .unwrap();
        let child = Command::new(bin("hass"))
            .arg("-c")
            .arg(self.dir.path())
            .arg("--skip-pip")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Home Assistant is installed");
        self.process = Some(Process(child));
        let deadline = Instant::now() + PATIENCE;
        while self.http.get(self.url("manifest.json")).send().await.is_err() {
            assert!(Instant::now() < deadline, "Home Assistant does not start: {}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends it in good order, and starts it again.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    /// Ends it in good order.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        process.signal("INT");
        process.ended().await;
    }

    /// What automations have written down by the action `shell_command.diary`, a line an `entry`:
    /// neither a broker nor a Home Assistant that is away loses any of it.
    pub fn diary(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("diary")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(self.url(path)).bearer_auth(&self.token).json(&body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    async fn log_in(&mut self) {
        let ask = json!({"client_id": CLIENT_ID, "handler": ["homeassistant", null], "redirect_uri": CLIENT_ID});
        let (_, flow) = self.post("auth/login_flow", ask).await;
        let path = format!("auth/login_flow/{}", flow["flow_id"].as_str().unwrap());
        let login =
            json!({"client_id": CLIENT_ID, "username": "test", "password": "correct-horse"});
        let (_, code) = self.post(&path, login).await;
        let form = format!(
            "grant_type=authorization_code&code={}&client_id={}",
            code["result"].as_str().unwrap(),
            CLIENT_ID.replace(':', "%3A").replace('/', "%2F")
        );
        let request = self.http.post(self.url("auth/token")).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let token: Value = request.send().await.unwrap().json().await.unwrap();
        self.token = token["access_token"].as_str().unwrap().to_owned();
    }

    /// The states of all entities.
    pub async fn states(&self) -> Vec<Value> {
        let request = self.http.get(self.url("api/states")).bearer_auth(&self.token);
        match request.send().await {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// The picture of an image entity; empty if there is none.
    pub async fn image(&self, entity: &str) -> Vec<u8> {
        let path = format!("api/image_proxy/{entity}");
        let answer = self.http.get(self.url(&path)).bearer_auth(&self.token).send().await.unwrap();
        if !answer.status().is_success() {
            return Vec::new();
        }
        answer.bytes().await.unwrap().to_vec()
    }

    /// One state; null where there is no such entity.
    pub async fn state(&self, entity: &str) -> Value {
        let states = self.states().await;
        states.into_iter().find(|state| state["entity_id"] == *entity).unwrap_or(Value::Null)
    }

    /// Waits until the state of `entity` is as wanted.
    pub async fn wait(&self, entity: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state(entity).await;
            if matches(&state) {
                return state;
            }
            if Instant::now() > deadline {
                panic!("waited in vain for {entity}: {state}\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until `entity` has this state.
    pub async fn is(&self, entity: &str, wanted: &str) {
        self.wait(entity, |state| state["state"] == *wanted).await;
    }

    /// Calls an action on an entity once it is available: Home Assistant passes over others.
    pub async fn act(&self, action: &str, entity: &str, data: Value) {
        self.wait(entity, |s| s["state"].is_string() && s["state"] != "unavailable").await;
        let mut body = data;
        body["entity_id"] = entity.into();
        let (status, answer) = self.post(&format!("api/services/{action}"), body).await;
        assert_eq!(status, 200, "{action} {entity}: {answer}\n{}", self.log());
    }

    /// Adds or replaces an automation.
    pub async fn automate(&self, id: &str, automation: Value) {
        let path = format!("api/config/automation/config/{id}");
        let (status, answer) = self.post(&path, automation).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Asks over the WebSocket API.
    pub async fn ask(&self, question: Value) -> Value {
        let address = format!("ws://127.0.0.1:{}/api/websocket", self.port);
        let (mut socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
        let mut question = question;
        question["id"] = 1.into();
        let auth = json!({"type": "auth", "access_token": self.token});
        socket.send(Message::text(auth.to_string())).await.unwrap();
        socket.send(Message::text(question.to_string())).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            let Ok(text) = message.to_text() else { continue };
            let answer: Value = serde_json::from_str(text).unwrap_or_default();
            if answer["type"] == "result" {
                assert_eq!(answer["success"], true, "{question}: {answer}");
                return answer["result"].clone();
            }
        }
        panic!("no answer to {question}");
    }

    /// The YAML file of this package as JSON.
    pub fn yaml(&self, path: &str) -> Value {
        let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
        // An absolute path stays one.
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let output = Command::new(bin("python")).args(["-c", script]).arg(&path).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The device with this identifier.
    pub async fn device(&self, identifier: &str) -> Option<Value> {
        let devices = self.ask(json!({"type": "config/device_registry/list"})).await;
        let wanted = json!(["mqtt", identifier]);
        let is = |device: &&Value| device["identifiers"].as_array().unwrap().contains(&wanted);
        devices.as_array().unwrap().iter().find(is).cloned()
    }

    /// All that it has logged, over restarts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("test.log")).unwrap()
    }

    /// The lines of the log that complain of what is the bridge's.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let complaints = (0..lines.len()).filter(|at| is_complaint(lines[*at]));
        complaints.map(|at| format!("{}{}", lines[at], cause(&lines[at + 1..]))).collect()
    }
}

/// The last line of the traceback that follows a line of the log, if one does.
fn cause(after: &[&str]) -> String {
    let is_new = |line: &&&str| line.starts_with("20");
    let traceback = after.iter().position(|line| is_new(&line)).unwrap_or(after.len());
    after[..traceback].last().map(|line| format!(" … {line}")).unwrap_or_default()
}

/// What is named in lines about the bridge's topics, ids, entities and templates: no others are in
/// this Home Assistant.
const OURS: &[&str] =
    &["octoprint2mqtt", "octoprint_bridge", "prusa_mk3s", ".mk3_", ".xl_", "value_json"];

/// Whether Home Assistant logged a problem with the bridge. What it logs about its own connection, as
/// when a broker stops, contains none of these names.
pub fn is_complaint(line: &str) -> bool {
    let warns = line.contains("WARNING") || line.contains("ERROR");
    // It is installed below a directory with our name, which is in what it says of its own code.
    let home = std::env::var("OCTOPRINT2MQTT_TEST_HASS").unwrap_or_default();
    let cache = std::path::Path::new(&home).ancestors().nth(2).unwrap_or(std::path::Path::new(""));
    let cache = cache.to_string_lossy();
    let line = if cache.is_empty() { line.to_owned() } else { line.replace(&*cache, "") };
    warns && OURS.iter().any(|ours| line.contains(ours))
}
