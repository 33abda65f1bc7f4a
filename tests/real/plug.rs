//! A plug at the broker, which reports each state that it is told.

use std::time::Duration;

use super::watcher::Watcher;

pub const STATE: &str = "stat/plug/POWER";
pub const COMMAND: &str = "cmnd/plug/POWER";

pub struct Plug(tokio::task::JoinHandle<()>);

impl Drop for Plug {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Plug {
    /// Starts one that is off.
    pub async fn start(port: u16) -> Self {
        let watcher = Watcher::start(port).await;
        watcher.publish(STATE, "OFF", true).await;
        Self(tokio::spawn(async move {
            let mut mark = 0;
            loop {
                let seen = watcher.seen();
                for told in seen[mark..].iter().filter(|seen| seen.topic == COMMAND) {
                    watcher.publish(STATE, &told.payload, true).await;
                }
                mark = seen.len();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }))
    }
}

/// The keys of a printer with it.
pub fn keys() -> String {
    format!("power = {{ state_topic = \"{STATE}\", command_topic = \"{COMMAND}\" }}")
}
