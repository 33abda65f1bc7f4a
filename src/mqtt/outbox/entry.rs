//! The types of the outbox: its entries, its input and its output (pure).

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::mqtt::publication::{Audience, Worth};
use crate::receipt::Receipt;
use crate::topic::Topic;

/// Bounds of the waiting events, for each lane.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most events.
    pub max_events: usize,
    /// Most bytes of payloads and topics together.
    pub max_bytes: usize,
}

/// An event in the form that survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistedEvent {
    /// Its topic.
    pub topic: Topic,
    /// Its payload, without `_delayed`.
    pub payload: Bytes,
    /// Time since it was received.
    pub age: Duration,
    /// Whether it carries `_delayed` when it is late.
    pub stamped: bool,
    /// Its worth when there is no room.
    pub worth: Worth,
    /// Who must be there to hear it.
    pub audience: Audience,
}

/// An event to persist, or to remove from the persisted ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpersisted {
    /// Its lane.
    pub lane: usize,
    /// Its place among the events of that lane.
    pub sequence: u64,
    /// The event; `None` if it was acknowledged or dropped.
    pub event: Option<PersistedEvent>,
    /// Data to persist at once and in the same transaction: the event waits for
    /// [`Outbox::release`](super::Outbox::release) until then.
    pub along: Option<Bytes>,
}

/// Identifies a sent publication for [`Outbox::acknowledge`](super::Outbox::acknowledge).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    pub(in crate::mqtt) lane: usize,
    pub(in crate::mqtt) slot: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::mqtt) enum Slot {
    State { index: usize, version: u64 },
    Event { sequence: u64 },
    Transient { sequence: u64 },
}

/// A publication for the connection.
#[derive(Debug)]
pub struct Outgoing {
    /// `None` for QoS 0, which is not acknowledged.
    pub token: Option<Token>,
    /// Its topic.
    pub topic: Topic,
    /// Its payload, including `_delayed`.
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
    /// Messages too large for the broker: shortened, or skipped.
    pub oversize: u64,
    /// Messages that the broker rejected: sent without their payload, or dropped.
    pub rejected: u64,
    /// Publications waiting or unacknowledged.
    pub waiting: usize,
    /// Events for any subscriber that were not sent on this connection.
    pub for_subscribers: usize,
    /// Events for Home Assistant that were not sent on this connection.
    pub for_home_assistant: usize,
}

#[derive(Debug)]
pub(in crate::mqtt) struct QueuedEvent {
    pub(in crate::mqtt) topic: Topic,
    pub(in crate::mqtt) payload: Bytes,
    pub(in crate::mqtt) received: Instant,
    pub(in crate::mqtt) receipt: Option<Receipt>,
    pub(in crate::mqtt) stamped: bool,
    pub(in crate::mqtt) worth: Worth,
    pub(in crate::mqtt) audience: Audience,
    /// Its age when it was restored after a restart.
    pub(in crate::mqtt) restored_age: Duration,
    pub(in crate::mqtt) maybe_sent: bool,
    /// It waits to be written to disk, and later events of its audience wait behind it.
    pub(in crate::mqtt) unwritten: bool,
}

impl QueuedEvent {
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
            restored_age: age,
            maybe_sent: true,
            unwritten: false,
        }
    }

    pub(super) fn to_persisted(&self, now: Instant) -> PersistedEvent {
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
        self.restored_age + now.saturating_duration_since(self.received)
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

/// Rank when there is no room: the lowest is dropped first.
pub(super) type Rank = (Worth, Audience);

/// A publication that is dropped when the connection ends.
#[derive(Debug)]
pub(super) struct Transient {
    pub(super) topic: Topic,
    pub(super) payload: Bytes,
    pub(super) receipt: Option<Receipt>,
    pub(super) retain: bool,
    /// Whether it has QoS 1.
    pub(super) acknowledged: bool,
    /// Whether a newer one of the same topic replaces it.
    pub(super) newest_only: bool,
}

/// Adds `_delayed`, in whole seconds, to a JSON object; other payloads are unchanged.
pub(in crate::mqtt) fn with_delay(payload: &Bytes, delay: Duration) -> Bytes {
    crate::splice::append(payload, &[("_delayed", delay.as_secs().to_string().as_str())])
        .unwrap_or_else(|| payload.clone())
}
