//! What `B/bridge/info` and `B/bridge/health` say (pure, but for a look at the own memory).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::Serialize;
use serde_json::{Value, json};

use super::watch::Restarts;
use crate::clock;
use crate::config::Config;
use crate::mqtt::{Audience, Broker, Held};
use crate::octoprint::Socket;
use crate::ordered;
use crate::timestamp;

/// When the bridge was started, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// For the uptime.
    pub instant: Instant,
    /// For people.
    pub wall: SystemTime,
}

/// The payload of `B/bridge/info`.
pub fn info(config: &Config, start: Start) -> Value {
    let printers: Vec<&str> = config.printers.iter().map(|printer| printer.id.as_str()).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": timestamp::rfc3339(start.wall),
        "printers": printers,
        "identity": config.mqtt.identity,
        "config": config.without_secrets(),
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

/// What waits on purpose, and for whom.
#[derive(Serialize)]
struct Delivery {
    /// `subscribers`, `home_assistant` or null.
    waits_for: Option<Audience>,
    /// RFC 3339.
    until: Option<String>,
    /// Events that wait for subscribers who reconnect.
    for_subscribers: usize,
    /// Print events that wait for Home Assistant.
    for_home_assistant: usize,
    /// Home Assistant's state in one word; null where it is not used.
    home_assistant: Option<&'static str>,
}

#[derive(Serialize)]
struct PrinterHealth {
    socket: &'static str,
    messages: u64,
    decode_errors: u64,
    reconnects: u64,
    /// How often its tasks were begun anew because one of them failed.
    restarts: u64,
}

/// The payload of `B/bridge/health`: uptime in seconds, memory in bytes.
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
    // Numbers and texts only: it always has a JSON form.
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

/// Resident memory of this process in bytes; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
