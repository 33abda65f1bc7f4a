//! What a [`Broker`](super::Broker) is started with, what it reports, and what its handle requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::mqtt::outbox::entry::{PersistedEvent, Unpersisted};
use crate::mqtt::outbox::gate::Attendance;
use crate::mqtt::publication::{Audience, PacketLimit, Publication};
use crate::secret::Secret;
use crate::topic::Topic;

/// Largest packet the bridge accepts, in bytes: commands are small.
pub const MAX_INCOMING: usize = 1024 * 1024;

/// Options of a connection to the broker.
#[derive(Debug, Clone)]
pub struct Options {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS configuration; `None` for a plain connection.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Path for MQTT over WebSocket, starting with `/`; `None` for plain MQTT.
    pub websocket: Option<String>,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// MQTT client id.
    pub client_id: String,
    /// Interval of pings.
    pub keep_alive: Duration,
    /// Topic and payload of the last will, which is retained.
    pub last_will: Option<(String, String)>,
    /// Largest packet accepted, in bytes; a larger one ends the connection.
    pub max_incoming: usize,
    /// Largest packet sent.
    pub limit: PacketLimit,
}

impl Options {
    /// Returns the broker's address as a URL.
    pub fn address(&self) -> String {
        let scheme = match (&self.websocket, &self.tls) {
            (None, None) => "mqtt",
            (None, Some(_)) => "mqtts",
            (Some(_), None) => "ws",
            (Some(_), Some(_)) => "wss",
        };
        let (host, path) = (bracketed(&self.host), self.websocket.as_deref().unwrap_or_default());
        format!("{scheme}://{host}:{}{path}", self.port)
    }
}

/// Puts an IPv6 address in brackets, as in a URL.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Persistence of events across restarts.
pub struct Persistence {
    /// Events from before the restart: lane, sequence, event, in order.
    pub restored: Vec<(usize, u64, PersistedEvent)>,
    /// How long the program was not running, if known.
    pub away: Option<Duration>,
    /// Persists events, and removes persisted ones.
    pub persist: PersistEvents,
}

/// The audiences that events wait for.
pub struct Audiences {
    /// How long events wait for subscribers to return after a broker restart; zero for not at all.
    pub settle: Duration,
    /// Whether Home Assistant is there; `None` if it is not used.
    pub home_assistant: Option<Box<dyn Attendance>>,
}

impl Audiences {
    /// Events wait for nobody.
    pub fn not_awaited() -> Self {
        Self { settle: Duration::ZERO, home_assistant: None }
    }
}

/// Events held back on purpose, and for which audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The last audience that can hear events now; the last of all while the broker is away, which
    /// holds up everything anyway.
    pub open: Audience,
    /// When the wait for the others ends at the latest, if known.
    pub until: Option<Instant>,
    /// Events waiting for subscribers.
    pub for_subscribers: usize,
    /// Events waiting for Home Assistant.
    pub for_home_assistant: usize,
    /// The state of Home Assistant in one word; `None` if it is not used.
    pub home_assistant: Option<&'static str>,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            open: Audience::HomeAssistant,
            until: None,
            for_subscribers: 0,
            for_home_assistant: 0,
            home_assistant: None,
        }
    }
}

/// Persists or removes events in one transaction. If one of them has [`Unpersisted::along`], returns
/// a receiver that resolves once all are on disk or have failed; that event is published only then.
pub type PersistEvents = Box<dyn FnMut(Vec<Unpersisted>) -> Option<oneshot::Receiver<()>> + Send>;

/// State of the connection.
#[derive(Debug, Clone, Default)]
pub struct BrokerStatus {
    /// Connected and subscribed.
    pub connected: bool,
    /// Connections made since the start.
    pub connections: u64,
    /// Why there is no connection.
    pub error: Option<String>,
    /// When the connection was made or lost.
    pub since: Option<Instant>,
}

pub(super) enum BrokerRequest {
    /// Publications of one cause: what is persisted of them is persisted together.
    Publish(Vec<Publication>),
    /// A message is too large for the broker; `left_out`: it is not sent at all.
    Oversize {
        topic: Topic,
        bytes: usize,
        left_out: bool,
    },
    Republish,
    /// Filters to subscribe to, and to unsubscribe from.
    Filters {
        added: Vec<String>,
        removed: Vec<String>,
    },
    /// Clears the topics of all states of a lane.
    ClearStates(usize),
    /// Drops what waits in a lane, and answers whether the lane is empty and can be used anew.
    Vacate {
        lane: usize,
        vacated: oneshot::Sender<bool>,
    },
    Ping(oneshot::Sender<()>),
    Waiting(oneshot::Sender<Vec<usize>>),
    Close {
        within: Duration,
        done: oneshot::Sender<bool>,
    },
}
