//! The bridge, as users start it.

use std::process::{Command, Stdio};

use super::Process;

pub struct Bridge {
    pub process: Process,
    dir: tempfile::TempDir,
}

fn command(dir: &tempfile::TempDir, config: &str, arguments: &[&str]) -> Command {
    let path = dir.path().join("config.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_octoprint2mqtt"));
    command.arg("--config").arg(path).args(arguments).env_remove("OCTOPRINT2MQTT_CONFIG");
    command
}

impl Bridge {
    /// Starts it with `config` as its file.
    pub fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = command(&dir, config, &[]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { process: Process(child), dir }
    }

    /// Gives it another configuration, which it reads at once.
    pub fn change(&self, config: &str) {
        std::fs::write(self.dir.path().join("config.toml"), config).unwrap();
        self.process.signal("HUP");
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

/// Runs a command to its end: exit code, and both outputs together.
pub async fn run(config: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(&dir, config, arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Runs a command that needs no configuration to its end: exit code, standard output, standard
/// error.
pub async fn run_alone(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_octoprint2mqtt"));
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A configuration with one printer `mk3`; `more` is appended to its table. Each test has a broker
/// that was started for it: subscribers are not waited for, where a test is not about that.
pub fn config(broker: &str, octoprint: &str, more: &str) -> String {
    format!("[outbox]\nsettle = \"0s\"\n{}", config_as_shipped(broker, octoprint, more))
}

/// The same, in which events wait for subscribers as they do by themselves.
pub fn config_as_shipped(broker: &str, octoprint: &str, more: &str) -> String {
    let key = super::octoprint::KEY;
    format!(
        "[mqtt]\nurl = \"{broker}\"\n[log]\nlevel = \"debug\"\n[printers.mk3]\nurl = \"{octoprint}\"\napi_key = \"{key}\"\noffline_after = \"1s\"\n{more}\n"
    )
}
