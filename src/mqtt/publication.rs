//! Messages to and from the broker, and how large they may be.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::receipt::Receipt;
use crate::topics::Topic;

/// The bridge's own lane, which goes first; the printers' lanes start at 1.
pub const OWN_LANE: usize = 0;

/// What happens to a publication while the broker is slow or away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Retained, QoS 1. Only the newest value of a topic waits; the outbox remembers it and
    /// publishes it again on every new connection. An empty payload clears the topic.
    State,
    /// QoS 1, not retained: first in, first out, at least once.
    Event {
        /// Its worth when the outbox is full.
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
        /// The retain flag (to clear a retained message of another client).
        retain: bool,
    },
    /// QoS 0, dropped while the broker is away.
    Unacknowledged,
}

impl Kind {
    /// An answer, which waits for no audience: whoever asked is there.
    pub const ANSWER: Self =
        Self::Event { worth: Worth::Event, audience: Audience::Asker, stamped: false };

    /// A message of OctoPrint passed on to any subscriber.
    pub const MESSAGE: Self =
        Self::Event { worth: Worth::Message, audience: Audience::Subscribers, stamped: false };
}

/// Worth of an event: when the outbox is full, the lowest is dropped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worth {
    /// A plugin's message, or one of an unknown type.
    Message,
    /// A frequent event of little interest.
    Chatty,
    /// Any other event.
    #[default]
    Event,
    /// The start or end of a print, and other events that automations depend on.
    Print,
}

/// Who must be there to hear an event. A subscriber with a clean session misses what is delivered
/// before it is back, so events wait for their audience. Each one includes those before it: an
/// event that waits for Home Assistant waits for subscribers too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// The client that asked: an answer never waits.
    Asker,
    /// Any subscriber: waits for them to return after a broker restart.
    #[default]
    Subscribers,
    /// Home Assistant.
    HomeAssistant,
}

impl Audience {
    /// All audiences, in order.
    pub const ALL: [Self; 3] = [Self::Asker, Self::Subscribers, Self::HomeAssistant];
}

/// A function that makes a payload.
#[derive(Clone)]
pub struct Make(Arc<dyn Fn() -> Bytes + Send + Sync>);

impl Make {
    /// Wraps `make`, which must return the same payload each time.
    pub fn new(make: impl Fn() -> Bytes + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// Makes the payload.
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
    /// Its lane: lanes take turns, after [`OWN_LANE`], and each has its own bounds.
    pub lane: usize,
    /// Its topic.
    pub topic: Topic,
    /// Its payload; empty if `make` makes it.
    pub payload: Bytes,
    /// Makes the payload of a state on each publication, so that a large, seldom sent one need not
    /// be stored.
    pub make: Option<Make>,
    /// What happens to it while the broker is slow or away.
    pub kind: Kind,
    /// When its cause was received.
    pub received: Instant,
    /// Acknowledged when the broker has it.
    pub receipt: Option<Receipt>,
    /// Size of the packet that this one replaces because it was too large, in bytes.
    pub oversize: Option<usize>,
    /// Data to persist in the same transaction as this event, which is then persisted at once and
    /// not only when the broker is slow or away.
    pub along: Option<Bytes>,
}

impl Publication {
    /// Creates a publication without a receipt, received now.
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

    /// Creates a state whose payload is made on each publication.
    pub fn made(lane: usize, topic: Topic, make: Make) -> Self {
        Self { make: Some(make), ..Self::new(lane, topic, Bytes::new(), Kind::State) }
    }
}

/// A message from the broker.
#[derive(Debug, Clone, Default)]
pub struct Incoming {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
    /// Whether it was retained, and sent at subscription.
    pub retained: bool,
}

impl Incoming {
    /// Returns its topic for publishing. Logs a warning and returns `None` if that is not valid:
    /// brokers differ in the topics they accept.
    pub fn own_topic(&self) -> Option<Topic> {
        let topic = Topic::read(&self.topic);
        topic.inspect_err(|error| tracing::warn!(topic = self.topic, "not cleared: {error}")).ok()
    }
}

/// Size of the largest packet that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketLimit(usize);

impl PacketLimit {
    /// At most `bytes`: topic, payload and MQTT's overhead.
    pub fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    /// Returns the limit in bytes.
    pub fn bytes(self) -> usize {
        self.0
    }

    /// Returns the size of a PUBLISH in bytes if it exceeds the limit.
    pub fn exceeded_by(self, topic: &str, payload: usize) -> Option<usize> {
        Some(packet_bytes(topic, payload)).filter(|bytes| *bytes > self.0)
    }
}

/// Returns the size of a PUBLISH with QoS 1 in bytes; with QoS 0 it is two less.
pub fn packet_bytes(topic: &str, payload: usize) -> usize {
    let remaining = 2 + topic.len() + 2 + payload;
    let length = match remaining {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    };
    1 + length + remaining
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rumqttc::{Packet, Publish, QoS};

    use super::*;

    proptest! {
        #[test]
        fn the_size_is_that_of_the_packet(topic in "[a-z]{1,300}", payload in 0..20_000_usize) {
            let mut publish = Publish::new(&topic, QoS::AtLeastOnce, vec![b'x'; payload]);
            publish.pkid = 1;
            let mut written = bytes::BytesMut::new();
            Packet::Publish(publish).write(&mut written, usize::MAX).unwrap();
            prop_assert_eq!(packet_bytes(&topic, payload), written.len());
            let limit = PacketLimit::new(written.len());
            prop_assert_eq!(limit.exceeded_by(&topic, payload), None);
            prop_assert!(limit.exceeded_by(&topic, payload + 1).is_some());
        }
    }
}
