//! Starts the real programs for a test, each on a free port of 127.0.0.1, and ends them with it.

#![allow(dead_code, reason = "each test binary uses its part of the harness")]

pub mod bridge;
pub mod brokers;
pub mod gcode;
pub mod homeassistant;
pub mod http_proxy;
pub mod mosquitto;
pub mod octoprint;
pub mod plug;
pub mod proxy;
pub mod reverse_proxy;
pub mod sockjs;
pub mod verbatim;
pub mod watcher;

use std::time::{Duration, Instant, SystemTime};

/// How long a test waits for a condition before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Says that a test was left out, past cargo, which shows no output of tests that pass.
pub fn left_out(test: &str, why: &str) {
    use std::io::Write;
    let line = format!("LEFT OUT: {test}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `probe` yields something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    probe: impl FnMut() -> F,
) -> T {
    within(PATIENCE, what, probe).await
}

/// Waits until `probe` yields something, for what takes longer.
pub async fn within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until now is in a later second than `shown`: starts of prints are told in whole seconds.
pub async fn another_second(shown: &str) {
    let a_second_ago =
        || octoprint2mqtt::timestamp::rfc3339(SystemTime::now() - Duration::from_secs(1)).unwrap();
    eventually("another second", || async { (*a_second_ago() > *shown).then_some(()) }).await;
}

/// A child process that does not outlive its test.
pub struct Process(pub std::process::Child);

impl Process {
    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill")
            .args([format!("-{name}"), self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "kill -{name}");
    }

    /// Waits for its end and returns the exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the process does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
