//! One message on its way to the broker.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::receipt::Receipt;
use crate::topics::Topic;

/// The bridge's own lane, which goes first; printers follow from 1 on.
pub const OWN_LANE: usize = 0;

/// What waits, what is replaced and what is given up while the broker is slow or away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Retained, QoS 1. Only the newest value of a topic waits; the outbox remembers it and
    /// publishes it again on every new connection. An empty payload clears the topic.
    State,
    /// QoS 1, not retained: first in, first out, at least once.
    Event {
        /// What it is worth when the outbox is full.
        worth: Worth,
        /// Who must be there to hear it.
        audience: Audience,
        /// Carries `_delayed` when it is late (its payload is a JSON object).
        stamped: bool,
    },
    /// QoS 1, not retained: only the newest of a topic waits; dropped while the broker is away.
    Newest,
    /// QoS 1, in order, dropped while the broker is away.
    Fleeting {
        /// The retain flag (to clear a retained message of somebody else).
        retain: bool,
    },
    /// QoS 0, dropped while the broker is away.
    Unacknowledged,
}

impl Kind {
    /// An answer, which never waits for anybody: who asked is there.
    pub const ANSWER: Self =
        Self::Event { worth: Worth::Event, audience: Audience::Asker, stamped: false };

    /// A message that is passed through, for any subscriber.
    pub const MESSAGE: Self =
        Self::Event { worth: Worth::Message, audience: Audience::Subscribers, stamped: false };
}

/// What an event is worth: when the outbox is full, the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worth {
    /// A plugin's message, or one of an unknown type.
    Message,
    /// An event that comes often and says little.
    Chatty,
    /// Any other event.
    #[default]
    Event,
    /// The beginning or the end of a print, and what automations live on.
    Print,
}

/// Who must be there to hear an event. A subscriber with a clean session hears nothing of what was
/// delivered before it is back, so events wait for their audience. Each one includes those
/// before it: who waits for Home Assistant waits for subscribers too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Who asked just now: an answer never waits.
    Asker,
    /// Any subscriber: waits until they are back after the broker was restarted.
    #[default]
    Subscribers,
    /// Home Assistant.
    HomeAssistant,
}

impl Audience {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Asker, Self::Subscribers, Self::HomeAssistant];
}

/// Makes a payload.
#[derive(Clone)]
pub struct Make(Arc<dyn Fn() -> Bytes + Send + Sync>);

impl Make {
    /// Makes it with `make`, which yields the same each time.
    pub fn new(make: impl Fn() -> Bytes + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// The payload.
    pub fn payload(&self) -> Bytes {
        (self.0)()
    }
}

impl fmt::Debug for Make {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Make")
    }
}

/// A message for the broker.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Whose it is; lanes take turns and have bounds of their own, after [`OWN_LANE`].
    pub lane: usize,
    /// Where it goes.
    pub topic: Topic,
    /// What it says; empty where it is made.
    pub payload: Bytes,
    /// Of a state: makes the payload each time that it is published, so that a large one which is
    /// seldom sent need not be remembered.
    pub make: Option<Make>,
    /// How it is treated.
    pub kind: Kind,
    /// When its cause was received.
    pub received: Instant,
    /// Tells the cause when the broker has it.
    pub receipt: Option<Receipt>,
    /// It stands for one that was too large for the broker, and had so many bytes.
    pub oversize: Option<usize>,
    /// Of an event: what is to be kept in the same transaction as the event itself, which is kept
    /// at once then and not only when the broker is slow or away.
    pub along: Option<Bytes>,
}

impl Publication {
    /// A publication that nobody waits for, received now.
    pub fn new(lane: usize, topic: Topic, payload: impl Into<Bytes>, kind: Kind) -> Self {
        let payload = payload.into();
        let received = Instant::now();
        Self {
            lane,
            topic,
            payload,
            make: None,
            kind,
            received,
            receipt: None,
            oversize: None,
            along: None,
        }
    }

    /// A state whose payload is made each time that it is published.
    pub fn made(lane: usize, topic: Topic, make: Make) -> Self {
        Self { make: Some(make), ..Self::new(lane, topic, Bytes::new(), Kind::State) }
    }
}

/// A message of a topic that was subscribed.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub payload: Bytes,
    /// Whether it is a retained message that was replayed at subscription.
    pub retained: bool,
}

impl Incoming {
    /// Its topic, to publish there; `None`, with a line in the log, where that cannot be: brokers
    /// differ in what they let pass.
    pub fn own_topic(&self) -> Option<Topic> {
        let topic = Topic::read(&self.topic);
        topic.inspect_err(|error| tracing::warn!(topic = self.topic, "left as it is: {error}")).ok()
    }
}
