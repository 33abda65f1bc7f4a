//! The events that wait in one lane (pure): in order, within bounds, and what of them is to be
//! kept over a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::entry::{Bounds, Event, PersistedEvent, Rank, with_delay};
use crate::mqtt::publication::Audience;
use crate::topics::Topic;

/// From which age on an event says how late it is.
const LATE: Duration = Duration::from_secs(1);

/// What is to be kept of an event, or no longer: its sequence, the event, and what goes along.
pub(in crate::mqtt) type PersistChange = (u64, Option<PersistedEvent>, Option<Bytes>);

/// See the module's text.
#[derive(Debug, Default)]
pub(in crate::mqtt) struct Events {
    events: BTreeMap<u64, Event>,
    next_sequence: u64,
    bytes: usize,
    /// Those that were not handed over on this connection, in order for each audience.
    pending: BTreeSet<(Audience, u64)>,
    /// The same ones, by what they are worth.
    ranked: BTreeSet<(Rank, u64)>,
    /// How many of them are for subscribers, and for Home Assistant.
    counts: (usize, usize),
    /// Sequence of the first event that is not kept, but for those in `persisted_early`.
    persisted_to: u64,
    /// Events that were kept at once.
    persisted_early: BTreeSet<u64>,
    unpersisted: Vec<PersistChange>,
}

impl Events {
    /// How many wait or are unacknowledged.
    pub(in crate::mqtt) fn len(&self) -> usize {
        self.events.len()
    }

    /// How many were not handed over: for subscribers, and for Home Assistant.
    pub(in crate::mqtt) fn pending(&self) -> (usize, usize) {
        self.counts
    }

    /// Takes in an event; with something to be kept along, it is kept at once. Yields how many
    /// were dropped to make room, itself perhaps.
    pub(in crate::mqtt) fn push(
        &mut self,
        event: Event,
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
            self.unpersisted.push((sequence, Some(event.kept(event.received)), along));
            self.persisted_early.insert(sequence);
        }
        self.insert(sequence, event);
        dropped
    }

    /// Takes in an event of before the restart, whose place is `sequence`.
    pub(in crate::mqtt) fn restore(
        &mut self,
        sequence: u64,
        event: PersistedEvent,
        now: Instant,
        bounds: Bounds,
    ) -> u64 {
        self.next_sequence = self.next_sequence.max(sequence + 1);
        self.persisted_to = self.next_sequence;
        let event = Event::restored(event, now);
        let Some(dropped) = self.make_room(&event, bounds) else {
            self.unpersisted.push((sequence, None, None));
            return 1;
        };
        self.insert(sequence, event);
        dropped
    }

    fn insert(&mut self, sequence: u64, event: Event) {
        self.bytes += event.bytes();
        self.wait(sequence, event.rank());
        self.events.insert(sequence, event);
    }

    /// Puts an event in line; `false` where it is there already.
    fn wait(&mut self, sequence: u64, rank: Rank) -> bool {
        let new = self.pending.insert((rank.1, sequence));
        if new {
            self.ranked.insert((rank, sequence));
            self.count(rank.1, |count| count + 1);
        }
        new
    }

    fn wait_no_more(&mut self, sequence: u64, rank: Rank) {
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

    /// Drops what is worth no more than the newcomer until there is room for it: the least worth
    /// first, then the oldest. What is in flight stays. Yields how many were dropped; `None` where
    /// all of that would not make room, and then nothing is dropped but the newcomer.
    fn make_room(&mut self, newcomer: &Event, bounds: Bounds) -> Option<u64> {
        let (mut count, mut bytes) = (self.events.len() + 1, self.bytes + newcomer.bytes());
        let fits =
            |count: usize, bytes: usize| count <= bounds.max_events && bytes <= bounds.max_bytes;
        let mut victims = Vec::new();
        for &(rank, sequence) in &self.ranked {
            if fits(count, bytes) || rank > newcomer.rank() {
                break;
            }
            count -= 1;
            bytes -= self.events.get(&sequence).map_or(0, Event::bytes);
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

    /// An event is on the disk, or cannot be: it waits for that no more.
    pub(in crate::mqtt) fn release(&mut self, sequence: u64) {
        if let Some(event) = self.events.get_mut(&sequence) {
            event.unwritten = false;
        }
    }

    /// Keeps what waits for an absent broker, or has waited for a second; `all`, or at once.
    pub(in crate::mqtt) fn spill(&mut self, all: bool, now: Instant) {
        let mut to = self.persisted_to;
        for (&sequence, event) in self.events.range(self.persisted_to..) {
            if !all && event.age(now) < LATE {
                break;
            }
            to = sequence + 1;
            if !self.persisted_early.contains(&sequence) {
                self.unpersisted.push((sequence, Some(event.kept(now)), None));
            }
        }
        self.persisted_to = to;
    }

    /// What is to be kept, and no longer, since the last call, in order.
    pub(in crate::mqtt) fn take_unpersisted(&mut self) -> Vec<PersistChange> {
        std::mem::take(&mut self.unpersisted)
    }

    /// What was handed over waits again, and its time says nothing of the broker.
    pub(in crate::mqtt) fn connection_lost(&mut self) {
        let places: Vec<(u64, Rank)> =
            self.events.iter().map(|(&sequence, event)| (sequence, event.rank())).collect();
        for (sequence, rank) in places {
            let handed_over = self.wait(sequence, rank);
            if let Some(event) = self.events.get_mut(&sequence) {
                event.again |= handed_over;
                event.spoil();
            }
        }
    }

    /// Events for other audiences than those up to `open` are held back: how long that takes says
    /// nothing of the broker.
    pub(in crate::mqtt) fn hold(&mut self, open: Audience) {
        for &(audience, sequence) in &self.pending {
            if audience > open
                && let Some(event) = self.events.get_mut(&sequence)
            {
                event.spoil();
            }
        }
    }

    /// The next to hand over to the audiences up to `open`: the oldest of the first in line of
    /// each. One that is not on the disk yet holds up its own audience alone.
    fn first(&self, open: Audience) -> Option<u64> {
        let first_of = |audience| {
            let (_, sequence) =
                self.pending.range((audience, 0)..=(audience, u64::MAX)).next().copied()?;
            self.events.get(&sequence).filter(|event| !event.unwritten).map(|_| sequence)
        };
        Audience::ALL.into_iter().filter(|audience| *audience <= open).filter_map(first_of).min()
    }

    /// Whether one may be handed over.
    pub(in crate::mqtt) fn has_next(&self, open: Audience) -> bool {
        !self.pending.is_empty() && self.first(open).is_some()
    }

    /// Hands over the next: its sequence, topic and payload.
    pub(in crate::mqtt) fn next(
        &mut self,
        open: Audience,
        now: Instant,
    ) -> Option<(u64, Topic, Bytes)> {
        let sequence = self.first(open)?;
        let event = self.events.get(&sequence)?;
        let (rank, age) = (event.rank(), event.age(now));
        let payload = if event.stamped && (event.again || age >= LATE) {
            with_delay(&event.payload, age)
        } else {
            event.payload.clone()
        };
        let topic = event.topic.clone();
        self.wait_no_more(sequence, rank);
        Some((sequence, topic, payload))
    }

    /// The broker does not take it: it goes without its payload, also after a restart.
    pub(in crate::mqtt) fn strip(&mut self, sequence: u64, now: Instant) {
        let Some(event) = self.events.get_mut(&sequence) else { return };
        self.bytes -= event.payload.len();
        event.payload = Bytes::new();
        event.stamped = false;
        if self.persisted_early.contains(&sequence) || sequence < self.persisted_to {
            self.unpersisted.push((sequence, Some(event.kept(now)), None));
        }
    }

    /// The broker does not take it even so.
    pub(in crate::mqtt) fn reject(&mut self, sequence: u64) {
        if let Some(mut event) = self.remove(sequence) {
            event.spoil();
        }
    }

    /// The broker has it.
    pub(in crate::mqtt) fn acknowledge(&mut self, sequence: u64) {
        if let Some(receipt) = self.remove(sequence).and_then(|event| event.receipt) {
            receipt.acknowledge();
        }
    }

    /// Takes an event out, and off the disk.
    fn remove(&mut self, sequence: u64) -> Option<Event> {
        let event = self.events.remove(&sequence)?;
        self.wait_no_more(sequence, event.rank());
        if self.events.is_empty() {
            // An emptied map keeps its room.
            self.events = BTreeMap::new();
        }
        self.bytes -= event.bytes();
        if self.persisted_early.remove(&sequence) || sequence < self.persisted_to {
            self.unpersisted.push((sequence, None, None));
        }
        Some(event)
    }
}
