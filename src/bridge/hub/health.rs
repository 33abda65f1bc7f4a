//! The bridge's health: the payloads of `B/bridge/info` and `B/bridge/health`, and the checks
//! behind `/health` and `/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::registry::Registry;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::bridge::watch::Restarts;
use crate::clock;
use crate::config::Config;
use crate::lanes::Lanes;
use crate::metrics::Queues;
use crate::mqtt::{Audience, Broker, Held};
use crate::octoprint::Socket;
use crate::ordered;
use crate::timestamp;
use crate::topics::Topic;

/// When the bridge was started.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// On the monotonic clock, for the uptime.
    pub instant: Instant,
    /// On the wall clock.
    pub wall: SystemTime,
}

/// Returns the payload of `B/bridge/info`.
pub fn info(config: &Config, start: Start, config_error: Option<&str>) -> Value {
    let printers: Vec<&str> = config.printers.iter().map(|printer| printer.id.as_str()).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": timestamp::rfc3339(start.wall),
        "printers": printers,
        "identity": config.mqtt.identity,
        "config": config.without_secrets(),
        "config_error": config_error,
    })
}

#[derive(Serialize)]
struct Health<'a> {
    uptime: u64,
    memory: Option<u64>,
    broker: BrokerHealth,
    delivery: Delivery,
    printers: BTreeMap<&'a str, PrinterHealth>,
}

#[derive(Serialize)]
struct BrokerHealth {
    connected: bool,
    reconnects: u64,
    published: u64,
    acknowledged: u64,
    waiting: usize,
    dropped: u64,
    oversize: u64,
    rejected: u64,
}

/// Messages that are held back on purpose.
#[derive(Serialize)]
struct Delivery {
    /// `subscribers`, `home_assistant` or null.
    waits_for: Option<Audience>,
    /// RFC 3339.
    until: Option<String>,
    for_subscribers: usize,
    for_home_assistant: usize,
    /// Home Assistant's state in one word; null if it is not used.
    home_assistant: Option<&'static str>,
}

#[derive(Serialize)]
struct PrinterHealth {
    socket: &'static str,
    messages: u64,
    decode_errors: u64,
    reconnects: u64,
    restarts: u64,
}

/// Returns the payload of `B/bridge/health`: uptime in seconds, memory in bytes.
pub fn health(
    start: Start,
    broker: &Broker,
    sockets: &[(Arc<str>, Socket)],
    restarts: &Restarts,
) -> Vec<u8> {
    let counts = broker.counts();
    let status = broker.status();
    let status = status.borrow();
    let health = Health {
        uptime: start.instant.elapsed().as_secs(),
        memory: resident_bytes(),
        broker: BrokerHealth {
            connected: status.connected,
            reconnects: status.connections.saturating_sub(1),
            published: counts.published,
            acknowledged: counts.acknowledged,
            waiting: counts.waiting,
            dropped: counts.dropped,
            oversize: counts.oversize,
            rejected: counts.rejected,
        },
        delivery: delivery(*broker.held().borrow()),
        printers: ordered::map(
            sockets.iter().map(|(id, socket)| (&**id, printer(socket, restarts.of(id)))),
        ),
    };
    // Numbers and strings only, so this cannot fail.
    serde_json::to_vec(&health).unwrap_or_default()
}

fn delivery(held: Held) -> Delivery {
    let waits_for = match held.open {
        Audience::Asker => Some(Audience::Subscribers),
        Audience::Subscribers => Some(Audience::HomeAssistant),
        Audience::HomeAssistant => None,
    };
    let until = held.until.and_then(|until| {
        timestamp::rfc3339(SystemTime::now() + until.saturating_duration_since(clock::now()))
    });
    Delivery {
        waits_for,
        until,
        for_subscribers: held.for_subscribers,
        for_home_assistant: held.for_home_assistant,
        home_assistant: held.home_assistant,
    }
}

fn printer(socket: &Socket, restarts: u64) -> PrinterHealth {
    let counters = socket.counters();
    PrinterHealth {
        socket: socket.status().borrow().state.as_str(),
        messages: counters.messages,
        decode_errors: counters.decode_errors,
        reconnects: counters.reconnects,
        restarts,
    }
}

/// Resident memory of this process in bytes; `None` if the system does not report it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Time limit for the answer of an event loop.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the broker may be unreachable before the bridge is unhealthy; covers its restarts.
const BROKER_AWAY: Duration = Duration::from_secs(60);

/// Time limit for the broker to deliver the bridge's own state. A broker whose access rules forbid
/// publishing acknowledges and drops messages: MQTT 3.1.1 has no other answer.
const ECHO_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks that the broker delivers the bridge's own state.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// Deadline of the delivery.
    due: Option<Instant>,
    last: Option<Instant>,
}

impl Echo {
    /// Notes that the connection to the broker changed; it is connected `since` then.
    pub(super) fn expect(&mut self, connected: bool, since: Option<Instant>) {
        // The state may arrive before the change of the connection is seen.
        let arrived = since.is_some_and(|since| self.last.is_some_and(|at| at >= since));
        self.due = (connected && !arrived).then(|| clock::now() + ECHO_TIMEOUT);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn arrived(&mut self) {
        (self.due, self.last) = (None, Some(clock::now()));
    }

    /// Logs that the state, published to `topic`, did not arrive in time.
    pub(super) fn report_missing(&mut self, topic: &Topic) {
        self.due = None;
        tracing::error!(
            %topic,
            "the broker does not send the bridge its own state: it drops what the bridge publishes, or does not let it read; check the broker's access rules: this user must be able to write and read everything below mqtt.base_topic"
        );
    }
}

/// A liveness check of the hub, which answers it.
pub(super) type Ping = oneshot::Sender<()>;

/// The sources of health checks and metrics.
pub struct Vitals {
    pub(super) hub: mpsc::Sender<Ping>,
    pub(super) broker: Broker,
    pub(super) started: Instant,
    pub(super) registry: Registry,
    pub(super) queues: Queues,
    pub(super) lanes: Lanes,
    pub(super) restarts: Restarts,
}

impl Vitals {
    /// Returns the printers whose tasks failed recently. They do not make the bridge unhealthy: a
    /// restart of the bridge would interrupt the other printers.
    pub fn degraded(&self) -> Map<String, Value> {
        self.restarts.recent()
    }

    /// Returns what is wrong. An unreachable OctoPrint is not: printers are switched off at night.
    pub async fn problem(&self) -> Option<String> {
        let (ping, pong) = oneshot::channel();
        let hub = async { self.hub.send(ping).await.is_ok() && pong.await.is_ok() };
        if tokio::time::timeout(LIVENESS_TIMEOUT, hub).await != Ok(true) {
            return Some("the bridge's event loop does not respond".to_owned());
        }
        if tokio::time::timeout(LIVENESS_TIMEOUT, self.broker.ping()).await != Ok(true) {
            return Some("the event loop of the broker's connection does not respond".to_owned());
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

    /// Returns all metrics in Prometheus' text format.
    ///
    /// # Errors
    /// If a metric cannot be encoded.
    pub async fn metrics(&self) -> Result<String, std::fmt::Error> {
        if let Ok(Some(waiting)) =
            tokio::time::timeout(LIVENESS_TIMEOUT, self.broker.waiting()).await
        {
            self.queues.set(self.lanes.by_printer(&waiting));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
