//! The waiting events of one lane (pure): ordered, bounded, and persisted across restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::entry::{Bounds, PersistedEvent, QueuedEvent, Rank, with_delay};
use crate::mqtt::publication::Audience;
use crate::topics::Topic;

/// Age from which an event is persisted and carries `_delayed`.
const LATE: Duration = Duration::from_secs(1);

/// A change to persist: the event's sequence, the event (`None` to remove it), and data to persist
/// along with it.
pub(in crate::mqtt) type PersistChange = (u64, Option<PersistedEvent>, Option<Bytes>);

#[derive(Debug, Default)]
pub(in crate::mqtt) struct Events {
    events: BTreeMap<u64, QueuedEvent>,
    next_sequence: u64,
    bytes: usize,
    /// Events not sent on this connection, in order for each audience.
    pending: BTreeSet<(Audience, u64)>,
    /// The same events by rank.
    ranked: BTreeSet<(Rank, u64)>,
    /// Their number, for subscribers and for Home Assistant.
    counts: (usize, usize),
    /// Sequence of the first event that is not persisted, except those in `persisted_early`.
    persisted_to: u64,
    /// Events that were persisted at once.
    persisted_early: BTreeSet<u64>,
    unpersisted: Vec<PersistChange>,
}

impl Events {
    pub(in crate::mqtt) fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns how many were not sent on this connection, for subscribers and for Home Assistant.
    pub(in crate::mqtt) fn pending(&self) -> (usize, usize) {
        self.counts
    }

    /// Adds an event, and persists it at once if there is data `along`. Returns how many events
    /// were dropped to make room, possibly this one.
    pub(in crate::mqtt) fn push(
        &mut self,
        event: QueuedEvent,
        along: Option<Bytes>,
        bounds: Bounds,
    ) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let Some(dropped) = self.make_room(&event, bounds) else {
            let mut event = event;
            event.spoil();
            if along.is_some() {
                self.unpersisted.push((sequence, None, along));
            }
            return 1;
        };
        if along.is_some() {
            self.unpersisted.push((sequence, Some(event.to_persisted(event.received)), along));
            self.persisted_early.insert(sequence);
        }
        self.insert(sequence, event);
        dropped
    }

    /// Adds an event from before the restart at its place. Returns how many were dropped.
    pub(in crate::mqtt) fn restore(
        &mut self,
        sequence: u64,
        event: PersistedEvent,
        now: Instant,
        bounds: Bounds,
    ) -> u64 {
        self.next_sequence = self.next_sequence.max(sequence + 1);
        self.persisted_to = self.next_sequence;
        let event = QueuedEvent::restored(event, now);
        let Some(dropped) = self.make_room(&event, bounds) else {
            self.unpersisted.push((sequence, None, None));
            return 1;
        };
        self.insert(sequence, event);
        dropped
    }

    fn insert(&mut self, sequence: u64, event: QueuedEvent) {
        self.bytes += event.bytes();
        self.wait(sequence, event.rank());
        self.events.insert(sequence, event);
    }

    /// Queues an event; returns `false` if it is queued already.
    fn wait(&mut self, sequence: u64, rank: Rank) -> bool {
        let new = self.pending.insert((rank.1, sequence));
        if new {
            self.ranked.insert((rank, sequence));
            self.count(rank.1, |count| count + 1);
        }
        new
    }

    fn stop_waiting(&mut self, sequence: u64, rank: Rank) {
        if self.pending.remove(&(rank.1, sequence)) {
            self.ranked.remove(&(rank, sequence));
            self.count(rank.1, |count| count - 1);
        }
    }

    fn count(&mut self, audience: Audience, change: impl Fn(usize) -> usize) {
        match audience {
            Audience::Asker => {}
            Audience::Subscribers => self.counts.0 = change(self.counts.0),
            Audience::HomeAssistant => self.counts.1 = change(self.counts.1),
        }
    }

    /// Drops events ranked no higher than the newcomer until there is room for it: the lowest rank
    /// first, then the oldest. Events in flight stay. Returns how many were dropped; `None`,
    /// without dropping any, if that would not make room.
    fn make_room(&mut self, newcomer: &QueuedEvent, bounds: Bounds) -> Option<u64> {
        let (mut count, mut bytes) = (self.events.len() + 1, self.bytes + newcomer.bytes());
        let fits =
            |count: usize, bytes: usize| count <= bounds.max_events && bytes <= bounds.max_bytes;
        let mut victims = Vec::new();
        for &(rank, sequence) in &self.ranked {
            if fits(count, bytes) || rank > newcomer.rank() {
                break;
            }
            count -= 1;
            bytes -= self.events.get(&sequence).map_or(0, QueuedEvent::bytes);
            victims.push(sequence);
        }
        if !fits(count, bytes) {
            return None;
        }
        for &sequence in &victims {
            if let Some(mut event) = self.remove(sequence) {
                event.spoil();
            }
        }
        Some(victims.len() as u64)
    }

    /// An event is on disk, or could not be written; it no longer waits for that.
    pub(in crate::mqtt) fn release(&mut self, sequence: u64) {
        if let Some(event) = self.events.get_mut(&sequence) {
            event.unwritten = false;
        }
    }

    /// Persists the events that have waited for a second, or `all` of them.
    pub(in crate::mqtt) fn spill(&mut self, all: bool, now: Instant) {
        let mut to = self.persisted_to;
        for (&sequence, event) in self.events.range(self.persisted_to..) {
            if !all && event.age(now) < LATE {
                break;
            }
            to = sequence + 1;
            if !self.persisted_early.contains(&sequence) {
                self.unpersisted.push((sequence, Some(event.to_persisted(now)), None));
            }
        }
        self.persisted_to = to;
    }

    pub(in crate::mqtt) fn take_unpersisted(&mut self) -> Vec<PersistChange> {
        std::mem::take(&mut self.unpersisted)
    }

    /// Queues unacknowledged events again; their latency says nothing about the broker.
    pub(in crate::mqtt) fn connection_lost(&mut self) {
        let places: Vec<(u64, Rank)> =
            self.events.iter().map(|(&sequence, event)| (sequence, event.rank())).collect();
        for (sequence, rank) in places {
            let was_sent = self.wait(sequence, rank);
            if let Some(event) = self.events.get_mut(&sequence) {
                event.maybe_sent |= was_sent;
                event.spoil();
            }
        }
    }

    /// Holds back events for audiences beyond `open`; their latency says nothing about the broker.
    pub(in crate::mqtt) fn hold(&mut self, open: Audience) {
        for &(audience, sequence) in &self.pending {
            if audience > open
                && let Some(event) = self.events.get_mut(&sequence)
            {
                event.spoil();
            }
        }
    }

    /// Returns the next event for the audiences up to `open`: the oldest of the first of each. One
    /// that is not on disk yet holds up only its own audience.
    fn first(&self, open: Audience) -> Option<u64> {
        let first_of = |audience| {
            let (_, sequence) =
                self.pending.range((audience, 0)..=(audience, u64::MAX)).next().copied()?;
            self.events.get(&sequence).filter(|event| !event.unwritten).map(|_| sequence)
        };
        Audience::ALL.into_iter().filter(|audience| *audience <= open).filter_map(first_of).min()
    }

    pub(in crate::mqtt) fn has_next(&self, open: Audience) -> bool {
        !self.pending.is_empty() && self.first(open).is_some()
    }

    pub(in crate::mqtt) fn next(
        &mut self,
        open: Audience,
        now: Instant,
    ) -> Option<(u64, Topic, Bytes)> {
        let sequence = self.first(open)?;
        let event = self.events.get(&sequence)?;
        let (rank, age) = (event.rank(), event.age(now));
        let payload = if event.stamped && (event.maybe_sent || age >= LATE) {
            with_delay(&event.payload, age)
        } else {
            event.payload.clone()
        };
        let topic = event.topic.clone();
        self.stop_waiting(sequence, rank);
        Some((sequence, topic, payload))
    }

    /// Removes the payload of an event that the broker rejects, also in its persisted form.
    pub(in crate::mqtt) fn strip(&mut self, sequence: u64, now: Instant) {
        let Some(event) = self.events.get_mut(&sequence) else { return };
        self.bytes -= event.payload.len();
        event.payload = Bytes::new();
        event.stamped = false;
        if self.persisted_early.contains(&sequence) || sequence < self.persisted_to {
            self.unpersisted.push((sequence, Some(event.to_persisted(now)), None));
        }
    }

    /// Drops an event that the broker rejects even without its payload.
    pub(in crate::mqtt) fn reject(&mut self, sequence: u64) {
        if let Some(mut event) = self.remove(sequence) {
            event.spoil();
        }
    }

    /// Drops all events that are not in flight.
    pub(in crate::mqtt) fn drop_unsent(&mut self) {
        let unsent: Vec<u64> = self.pending.iter().map(|(_, sequence)| *sequence).collect();
        unsent.into_iter().for_each(|sequence| self.reject(sequence));
    }

    pub(in crate::mqtt) fn acknowledge(&mut self, sequence: u64) {
        if let Some(receipt) = self.remove(sequence).and_then(|event| event.receipt) {
            receipt.acknowledge();
        }
    }

    /// Removes an event, from disk as well.
    fn remove(&mut self, sequence: u64) -> Option<QueuedEvent> {
        let event = self.events.remove(&sequence)?;
        self.stop_waiting(sequence, event.rank());
        if self.events.is_empty() {
            // An emptied map does not free its memory.
            self.events = BTreeMap::new();
        }
        self.bytes -= event.bytes();
        if self.persisted_early.remove(&sequence) || sequence < self.persisted_to {
            self.unpersisted.push((sequence, None, None));
        }
        Some(event)
    }
}
