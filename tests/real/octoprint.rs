//! A real OctoPrint with its virtual printer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Process, eventually, free_port, within};

/// OctoPrint starts slowly where others are busy too.
const START: Duration = Duration::from_secs(120);
pub const KEY: &str = "A0B1C2D3E4F5A0B1C2D3E4F5A0B1C2D3";
pub const USER: &str = "admin";
pub const PASSWORD: &str = "correct horse";

const CONFIG: &str = "
server: {firstRun: false, onlineCheck: {enabled: false}, pluginBlacklist: {enabled: false}}
accessControl: {autologinLocal: false}
serial: {port: VIRTUAL, autoconnect: true}
plugins:
  _disabled: [softwareupdate, tracking, announcements, discovery, errortracking, achievements, health_check, firmware_check, file_check]
  virtual_printer: {enabled: true, simulated_errors: [], throttle: 0.001, sendWait: false}
";

pub struct OctoPrint {
    pub port: u16,
    program: PathBuf,
    dir: tempfile::TempDir,
    process: Option<Process>,
    http: reqwest::Client,
}

fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("OCTOPRINT2MQTT_TEST_OCTOPRINT") {
        return program.into();
    }
    let home = std::env::var("HOME").unwrap();
    PathBuf::from(home).join(".cache/octoprint2mqtt/octoprint-1.11.8/bin/octoprint")
}

/// The release candidate of OctoPrint 2.0.
fn program_2() -> PathBuf {
    let named = std::env::var_os("OCTOPRINT2MQTT_TEST_OCTOPRINT_2").map(PathBuf::from);
    named.or_else(|| program_of("2.0.0rc7")).expect("OctoPrint 2.0 is installed")
}

/// Another version of it, which is installed beside it; `None` where it is not.
fn program_of(version: &str) -> Option<PathBuf> {
    let environments = program().ancestors().nth(3)?.to_owned();
    let program = environments.join(format!("octoprint-{version}/bin/octoprint"));
    program.exists().then_some(program)
}

/// The version that is installed beside `program`: its directory may be called `latest`.
fn installed_version(program: &Path) -> String {
    let environment = program.ancestors().nth(2).unwrap();
    let pythons = std::fs::read_dir(environment.join("lib")).expect("OctoPrint is installed");
    let packages = pythons.map(|python| python.unwrap().path().join("site-packages"));
    let names = packages.flat_map(|packages| std::fs::read_dir(packages).unwrap());
    let mut names = names.map(|name| name.unwrap().file_name().to_string_lossy().to_lowercase());
    let of = |name: String| {
        let version = name.strip_prefix("octoprint-")?.strip_suffix(".dist-info")?;
        Some(version.to_owned())
    };
    names.find_map(of).expect("OctoPrint's package says its version")
}

/// A base directory with a plugin of one file.
fn dir_with_plugin(name: &str, source: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    std::fs::write(dir.path().join("plugins").join(name), source).unwrap();
    dir
}

impl OctoPrint {
    /// Starts one and waits until its printer is operational.
    pub async fn start() -> Self {
        Self::start_with(|config| config).await
    }

    /// The same with its `config.yaml` changed.
    pub async fn start_with(change: impl FnOnce(String) -> String) -> Self {
        Self::start_program(program(), change).await
    }

    /// Starts one of this version; `None` where it is not installed.
    pub async fn start_version(version: &str) -> Option<Self> {
        Some(Self::start_program(program_of(version)?, |config| config).await)
    }

    /// Starts the release candidate of 2.0, with its `config.yaml` changed.
    pub async fn start_2_with(change: impl FnOnce(String) -> String) -> Self {
        Self::start_program(program_2(), change).await
    }

    /// The same with a plugin of one file.
    pub async fn start_2_with_plugin(
        name: &str,
        source: &str,
        change: impl FnOnce(String) -> String,
    ) -> Self {
        Self::start_in(dir_with_plugin(name, source), program_2(), change).await
    }

    /// Starts one with a plugin of one file.
    pub async fn start_with_plugin(
        name: &str,
        source: &str,
        change: impl FnOnce(String) -> String,
    ) -> Self {
        Self::start_in(dir_with_plugin(name, source), program(), change).await
    }

    /// Starts one with a plugin that is a Python package.
    pub async fn start_with_package(
        name: &str,
        package: &Path,
        change: impl FnOnce(String) -> String,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("plugins")).unwrap();
        let place = dir.path().join("plugins").join(name);
        let copied = Command::new("cp").arg("-r").arg(package).arg(place).status();
        assert!(copied.expect("cp is there").success());
        Self::start_in(dir, program(), change).await
    }

    async fn start_program(program: PathBuf, change: impl FnOnce(String) -> String) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), program, change).await
    }

    async fn start_in(
        dir: tempfile::TempDir,
        program: PathBuf,
        change: impl FnOnce(String) -> String,
    ) -> Self {
        octoprint2mqtt::tls::install_provider();
        std::fs::write(dir.path().join("config.yaml"), change(CONFIG.to_owned())).unwrap();
        let mut octoprint = Self {
            port: free_port(),
            program,
            dir,
            process: None,
            // Old versions close a connection after each GET, without announcing it.
            http: reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap(),
        };
        octoprint.add_user(USER, PASSWORD, KEY, true).await;
        octoprint.run().await;
        octoprint
    }

    /// `serve` takes the common options behind its name, `user` before it.
    fn octoprint(&self, serve: bool) -> Command {
        let mut command = Command::new(&self.program);
        command.args(serve.then_some("serve"));
        command.arg("--basedir").arg(self.dir.path());
        // Since 2.0 only `serve` asks who starts it.
        let asks = serve || installed_version(&self.program).starts_with("1.");
        command.args(asks.then_some("--iknowwhatimdoing"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Adds a user with an API key; before the start.
    async fn add_user(&self, name: &str, password: &str, key: &str, admin: bool) {
        let mut command = self.octoprint(false);
        command.args(["user", "add", "--password", password, name]);
        if admin {
            command.arg("--admin");
        }
        // Others start meanwhile, in the same task.
        let status = tokio::process::Command::from(command).status().await;
        assert!(status.expect("OctoPrint is installed").success());
        let path = self.dir.path().join("users.yaml");
        let users = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, users.replacen("apikey: null", &format!("apikey: {key}"), 1))
            .unwrap();
    }

    /// Starts it, again on its port.
    pub async fn run(&mut self) {
        let mut command = self.octoprint(true);
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        self.process = Some(Process(command.spawn().expect("OctoPrint is installed")));
        let this = &*self;
        within(START, "OctoPrint's printer to be operational", || async move {
            let answer = this.try_get("api/printer").await?;
            answer["state"]["flags"]["operational"].as_bool().filter(|operational| *operational)
        })
        .await;
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn try_get(&self, path: &str) -> Option<Value> {
        let url = format!("{}/{path}", self.url());
        let answer = self.http.get(url).header("X-Api-Key", KEY).send().await.ok()?;
        let text = answer.text().await.ok()?;
        serde_json::from_str(&text).ok()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.try_get(path).await.unwrap_or(Value::Null)
    }

    /// The same in the shape of 2.0.
    pub async fn get_2(&self, path: &str) -> Value {
        let url = format!("{}/{path}", self.url());
        let request = self.http.get(url).header("X-Api-Key", KEY);
        let answer = request.header("X-OctoPrint-Api-Version", "2.0.0").send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    /// `POST` in the shape of 2.0.
    pub async fn post_2(&self, path: &str, body: Value) -> u16 {
        let url = format!("{}/{path}", self.url());
        let request = self.http.post(url).header("X-Api-Key", KEY).json(&body);
        let answer = request.header("X-OctoPrint-Api-Version", "2.0.0").send().await.unwrap();
        answer.status().as_u16()
    }

    /// A file in its base directory.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// Its version, such as `1.11.8`.
    pub async fn version(&self) -> String {
        self.get("api/version").await["server"].as_str().unwrap().to_owned()
    }

    pub async fn post(&self, path: &str, body: Value) -> u16 {
        let url = format!("{}/{path}", self.url());
        let request = self.http.post(url).header("X-Api-Key", KEY).json(&body);
        request.send().await.unwrap().status().as_u16()
    }

    /// `POST`, for its answer.
    pub async fn ask(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/{path}", self.url());
        let request = self.http.post(url).header("X-Api-Key", KEY).json(&body);
        let answer = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{path}: {answer}"))
    }

    pub async fn put(&self, path: &str, body: Value) -> u16 {
        let url = format!("{}/{path}", self.url());
        let request = self.http.put(url).header("X-Api-Key", KEY).json(&body);
        request.send().await.unwrap().status().as_u16()
    }

    pub async fn patch(&self, path: &str, body: Value) -> u16 {
        let url = format!("{}/{path}", self.url());
        let request = self.http.patch(url).header("X-Api-Key", KEY).json(&body);
        request.send().await.unwrap().status().as_u16()
    }

    /// Uploads a file of `seconds` of dwelling, a tenth each.
    pub async fn upload(&self, name: &str, tenths: usize) {
        let mut gcode = String::from("G28\nG1 Z0.2 F600000\n");
        for n in 0..tenths {
            gcode += &format!("G1 X{} E0.1 F600000\nG4 P100\n", n % 50);
        }
        self.upload_text(name, &gcode).await;
    }

    /// Uploads a file with this text.
    pub async fn upload_text(&self, name: &str, gcode: &str) {
        let boundary = "----octoprint2mqtt-test";
        let body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n{gcode}\r\n--{boundary}--\r\n"
        );
        let answer = self
            .http
            .post(format!("{}/api/files/local", self.url()))
            .header("X-Api-Key", KEY)
            .header("Content-Type", format!("multipart/form-data; boundary={boundary}"))
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 201, "{}", answer.text().await.unwrap());
    }

    /// Writes a file in its base directory.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Removes a file from its base directory.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.dir.path().join(name)).unwrap();
    }

    /// Sends a line of G-code.
    pub async fn command(&self, line: &str) {
        assert_eq!(self.post("api/printer/command", json!({"command": line})).await, 204);
    }

    pub async fn select(&self, name: &str) {
        let status =
            self.post(&format!("api/files/local/{name}"), json!({"command": "select"})).await;
        assert_eq!(status, 204);
    }

    pub async fn job(&self, body: Value) {
        assert_eq!(self.post("api/job", body).await, 204);
    }

    /// Waits for a state text such as `Printing`.
    pub async fn until(&self, state: &str) {
        eventually(state, || async {
            (self.get("api/job").await["state"] == *state).then_some(())
        })
        .await;
    }
}
