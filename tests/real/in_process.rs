//! The bridge in this process.

use std::sync::Arc;

use octoprint2mqtt::cli;
use octoprint2mqtt::config::Config;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub struct InProcess {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl InProcess {
    pub fn start(config: Config) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async move {
                let _ = stopped.await;
            };
            cli::run::bridge(config, Arc::new(|_| Ok(())), stopped).await.unwrap();
        });
        Self { stop, task }
    }

    /// Ends it, as a signal would.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}
