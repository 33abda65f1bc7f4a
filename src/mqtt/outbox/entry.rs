//! What the outbox is made of, and what it takes and gives (pure).

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::mqtt::publication::{Audience, Worth};
use crate::receipt::Receipt;
use crate::topic::Topic;

/// Bounds of the events that wait, for each lane by itself.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most events.
    pub max_events: usize,
    /// Most bytes of events, payloads and topics together.
    pub max_bytes: usize,
}

/// An event as it is kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistedEvent {
    /// Where it goes.
    pub topic: Topic,
    /// What it says, without `_delayed`.
    pub payload: Bytes,
    /// How long ago it was received.
    pub age: Duration,
    /// Carries `_delayed` when it is late.
    pub stamped: bool,
    /// What it is worth when there is no room.
    pub worth: Worth,
    /// Who must be there to hear it.
    pub audience: Audience,
}

/// What is to be kept over a restart, or needs to be kept no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpersisted {
    /// Whose it is.
    pub lane: usize,
    /// Its place among the events of that lane.
    pub sequence: u64,
    /// The event; `None`: it is acknowledged or dropped.
    pub event: Option<PersistedEvent>,
    /// What is to be kept with it, in one transaction, at once: the event waits for
    /// [`Outbox::release`](super::queue::Outbox::release) until then.
    pub along: Option<Bytes>,
}

/// Names what was handed over, for [`Outbox::acknowledge`](super::queue::Outbox::acknowledge).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    pub(in crate::mqtt) lane: usize,
    pub(in crate::mqtt) slot: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::mqtt) enum Slot {
    State { index: usize, version: u64 },
    Event { sequence: u64 },
    Passing { sequence: u64 },
}

/// A publication as it is handed to the connection.
#[derive(Debug)]
pub struct Outgoing {
    /// `None` for QoS 0, which nobody acknowledges.
    pub token: Option<Token>,
    /// Where it goes.
    pub topic: Topic,
    /// What it says, `_delayed` included.
    pub payload: Bytes,
    /// The retain flag.
    pub retain: bool,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Publications handed to the connection.
    pub published: u64,
    /// Acknowledgements received.
    pub acknowledged: u64,
    /// Events dropped because the outbox was full.
    pub dropped: u64,
    /// Messages that were too large for the broker: sent cut down, or left out.
    pub oversize: u64,
    /// Messages that the broker would not take: sent without their payload, or dropped.
    pub rejected: u64,
    /// Publications that are waiting or unacknowledged.
    pub waiting: usize,
    /// Events for any subscriber that wait or are unacknowledged, as far as they were not handed
    /// over.
    pub for_subscribers: usize,
    /// Events for Home Assistant, the same.
    pub for_home_assistant: usize,
}

/// One event that waits or is unacknowledged.
#[derive(Debug)]
pub(in crate::mqtt) struct Event {
    pub(in crate::mqtt) topic: Topic,
    pub(in crate::mqtt) payload: Bytes,
    pub(in crate::mqtt) received: Instant,
    pub(in crate::mqtt) receipt: Option<Receipt>,
    pub(in crate::mqtt) stamped: bool,
    pub(in crate::mqtt) worth: Worth,
    pub(in crate::mqtt) audience: Audience,
    /// How old it was when it was taken in after a restart.
    pub(in crate::mqtt) earlier: Duration,
    /// It may have been published before.
    pub(in crate::mqtt) again: bool,
    /// It waits until it is on the disk, and those behind it with it.
    pub(in crate::mqtt) unwritten: bool,
}

impl Event {
    /// An event of before the restart.
    pub(super) fn restored(event: PersistedEvent, now: Instant) -> Self {
        let PersistedEvent { topic, payload, age, stamped, worth, audience } = event;
        Self {
            topic,
            payload,
            received: now,
            receipt: None,
            stamped,
            worth,
            audience,
            earlier: age,
            again: true,
            unwritten: false,
        }
    }

    pub(super) fn kept(&self, now: Instant) -> PersistedEvent {
        PersistedEvent {
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            age: self.age(now),
            stamped: self.stamped,
            worth: self.worth,
            audience: self.audience,
        }
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        self.earlier + now.saturating_duration_since(self.received)
    }

    pub(super) fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }

    pub(super) fn rank(&self) -> Rank {
        (self.worth, self.audience)
    }

    pub(super) fn spoil(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            receipt.spoil();
        }
    }
}

/// What goes first when there is no room: the lowest.
pub(super) type Rank = (Worth, Audience);

/// Dropped when the connection ends.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) topic: Topic,
    pub(super) payload: Bytes,
    pub(super) receipt: Option<Receipt>,
    pub(super) retain: bool,
    pub(super) acknowledged: bool,
    pub(super) newest_only: bool,
}

/// Adds `_delayed` to a JSON object, before its closing brace; other payloads stay as they are.
pub(in crate::mqtt) fn with_delay(payload: &Bytes, delay: Duration) -> Bytes {
    crate::splice::append(payload, &[("_delayed", delay.as_secs().to_string().as_str())])
        .unwrap_or_else(|| payload.clone())
}
