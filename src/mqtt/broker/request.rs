//! What passes between the handle and the task that owns the connection.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::mqtt::outbox::admission::Attendance;
use crate::mqtt::outbox::entry::{PersistedEvent, Unpersisted};
use crate::mqtt::publication::{Audience, Publication};
use crate::topic::Topic;

/// Keeps events over a restart.
pub struct Persistence {
    /// The events of before the start: lane, sequence, event, in order.
    pub restored: Vec<(usize, u64, PersistedEvent)>,
    /// For how long the program was not there, where that is known.
    pub away: Option<Duration>,
    /// Takes what is to be kept and no longer, as it becomes known.
    pub keep: PersistEvents,
}

/// Whom events wait for.
pub struct Audiences {
    /// How long events wait after a broker was restarted, so that subscribers are back too; zero is
    /// not at all.
    pub settle: Duration,
    /// Whether Home Assistant is there; `None` where it is not used.
    pub home_assistant: Option<Box<dyn Attendance>>,
}

impl Audiences {
    /// Nobody is waited for.
    pub fn not_awaited() -> Self {
        Self { settle: Duration::ZERO, home_assistant: None }
    }
}

/// What waits on purpose, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The last audience that can hear events now; all of them while the broker is away, which
    /// holds up everything anyway.
    pub open: Audience,
    /// Until when the others are waited for at most, as far as that is known.
    pub until: Option<Instant>,
    /// How many events wait for subscribers.
    pub for_subscribers: usize,
    /// How many events wait for Home Assistant.
    pub for_home_assistant: usize,
    /// The state of Home Assistant in one word; `None` where it is not used.
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

/// Takes what is to be kept and no longer. Where something is kept along with an event, yields
/// when that is on the disk, or cannot be: the event is published then and not before.
pub type PersistEvents = Box<dyn FnMut(Unpersisted) -> Option<oneshot::Receiver<()>> + Send>;

/// What is known of the connection.
#[derive(Debug, Clone, Default)]
pub struct BrokerStatus {
    /// Connected and subscribed.
    pub connected: bool,
    /// Connections made since the start.
    pub connections: u64,
    /// Why there is no connection.
    pub error: Option<String>,
    /// Since when it is as it is.
    pub since: Option<Instant>,
}

/// What the handle asks of the task that owns the connection.
pub(super) enum Request {
    Publish(Publication),
    /// Something that is too large for the broker; `left_out`: it is not sent at all.
    Oversize {
        topic: Topic,
        bytes: usize,
        left_out: bool,
    },
    Republish,
    Ping(oneshot::Sender<()>),
    Waiting(oneshot::Sender<Vec<usize>>),
    Close {
        within: Duration,
        done: oneshot::Sender<bool>,
    },
}
