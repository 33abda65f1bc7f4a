//! How the bridge is: whether its loops turn, whether the broker hears it, and its metrics.

use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use super::watch::Restarts;
use crate::clock;
use crate::metrics::Queues;
use crate::mqtt::Broker;
use crate::topics::Topic;

/// How long the bridge's loops may take to say that they are alive.
const ALIVE: Duration = Duration::from_secs(2);
/// For how long the broker may be away before the bridge is unhealthy: restarts pass.
const BROKER_AWAY: Duration = Duration::from_secs(60);

/// How long the broker may take to send the bridge its own state back. A broker that lets this user
/// not publish drops what it says and acknowledges it: MQTT 3.1.1 has no other answer.
const ECHO: Duration = Duration::from_secs(10);

/// Whether the broker sends the bridge its own state back.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// When it must have come back.
    due: Option<Instant>,
    /// When it came back last.
    came: Option<Instant>,
}

impl Echo {
    /// The connection to the broker has changed; it is there `since` then.
    pub(super) fn expect(&mut self, connected: bool, since: Option<Instant>) {
        // It may have come back before this was heard of.
        let came = since.is_some_and(|since| self.came.is_some_and(|at| at >= since));
        self.due = (connected && !came).then(|| clock::now() + ECHO);
    }

    /// When it is missing.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It has come back.
    pub(super) fn came(&mut self) {
        (self.due, self.came) = (None, Some(clock::now()));
    }

    /// It did not come back in time; `topic` is its own.
    pub(super) fn is_missing(&mut self, topic: &Topic) {
        self.due = None;
        tracing::error!(
            %topic,
            "the broker does not send the bridge its own state: it takes publications and drops them, or lets this user not read; check the broker's access rules for this user, who must write and read everything below mqtt.base_topic"
        );
    }
}

/// Asks the hub for a sign of life.
pub(super) type Ping = oneshot::Sender<()>;

/// What health and metrics are told from.
pub struct Vitals {
    pub(super) hub: mpsc::Sender<Ping>,
    pub(super) broker: Broker,
    pub(super) started: Instant,
    pub(super) registry: Registry,
    pub(super) queues: Queues,
    pub(super) restarts: Restarts,
}

impl Vitals {
    /// The printers whose tasks failed lately. They do not make the bridge unhealthy: the other
    /// printers must not be restarted for one.
    pub fn degraded(&self) -> Map<String, Value> {
        self.restarts.lately()
    }

    /// What is wrong: an event loop that does not turn, or a broker that has been away for long. An
    /// OctoPrint that is away is as it should be at night.
    pub async fn unwell(&self) -> Option<String> {
        let (tell, told) = oneshot::channel();
        let hub = async { self.hub.send(tell).await.is_ok() && told.await.is_ok() };
        if tokio::time::timeout(ALIVE, hub).await != Ok(true) {
            return Some("the bridge's event loop does not turn".to_owned());
        }
        if tokio::time::timeout(ALIVE, self.broker.ping()).await != Ok(true) {
            return Some("the event loop of the broker's connection does not turn".to_owned());
        }
        let status = self.broker.status();
        let status = status.borrow();
        let since = status.since.unwrap_or(self.started);
        if status.connected || since.elapsed() < BROKER_AWAY {
            return None;
        }
        let error = status.error.as_deref().unwrap_or("no connection yet");
        Some(format!("the broker has been away for {} s: {error}", since.elapsed().as_secs()))
    }

    /// All metrics, in Prometheus' text format.
    ///
    /// # Errors
    /// Where a metric cannot be written.
    pub async fn metrics(&self) -> Result<String, std::fmt::Error> {
        if let Ok(Some(waiting)) = tokio::time::timeout(ALIVE, self.broker.waiting()).await {
            self.queues.set(waiting);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
