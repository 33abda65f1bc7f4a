//! What waits for one printer (pure): a part of the outbox.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::outbox::{Bounds, KeptEvent, Outgoing, Slot, Token, with_delay};
use super::publication::Make;
use super::receipt::Receipt;
use crate::topics::Topic;

/// From which age on an event says how late it is.
const LATE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Whether the outbox has this lane in its list of ready ones.
    pub(super) queued: bool,
    /// In order of first publication, so that a new connection repeats that order.
    states: Vec<State>,
    by_topic: HashMap<Topic, usize>,
    /// Indices of `states` that are to be published, each once.
    dirty: VecDeque<usize>,
    events: BTreeMap<u64, Event>,
    /// Sequence of the first event that was not handed over on this connection.
    cursor: u64,
    next_sequence: u64,
    event_bytes: usize,
    /// Chatty events that were not handed over.
    chatty: BTreeSet<u64>,
    /// Sequence of the first event that is not kept, but for those in `kept_early`.
    kept_to: u64,
    /// Events that were kept at once.
    kept_early: BTreeSet<u64>,
    keep: Vec<KeepChange>,
    passing: VecDeque<Passing>,
    passing_sequence: u64,
    in_flight: HashMap<u64, Receipt>,
    passing_in_flight: usize,
    /// States that wait or are unacknowledged.
    waiting_states: usize,
}

#[derive(Debug)]
struct State {
    topic: Topic,
    payload: Bytes,
    /// Makes the payload instead.
    make: Option<Make>,
    version: u64,
    acknowledged: u64,
    dirty: bool,
    waiting: Option<Receipt>,
    /// Receipts of versions that were handed over.
    handed: Vec<(u64, Receipt)>,
}

impl State {
    /// Whether it waits or is unacknowledged.
    fn waits(&self) -> bool {
        self.dirty || self.acknowledged < self.version
    }
}

/// What is to be kept of an event, or no longer: its sequence, the event, and what goes along.
type KeepChange = (u64, Option<KeptEvent>, Option<Bytes>);

#[derive(Debug)]
pub(super) struct Event {
    pub(super) topic: Topic,
    pub(super) payload: Bytes,
    pub(super) received: Instant,
    pub(super) receipt: Option<Receipt>,
    pub(super) stamped: bool,
    pub(super) chatty: bool,
    /// How old it was when it was taken in after a restart.
    pub(super) earlier: Duration,
    /// It may have been published before.
    pub(super) again: bool,
    /// It waits until it is on the disk, and those behind it with it.
    pub(super) held: bool,
}

impl Event {
    fn kept(&self, now: Instant) -> KeptEvent {
        KeptEvent {
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            age: self.age(now),
            stamped: self.stamped,
            chatty: self.chatty,
        }
    }

    fn age(&self, now: Instant) -> Duration {
        self.earlier + now.saturating_duration_since(self.received)
    }

    fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// Dropped when the connection ends.
#[derive(Debug)]
struct Passing {
    topic: Topic,
    payload: Bytes,
    receipt: Option<Receipt>,
    retain: bool,
    acknowledged: bool,
    newest_only: bool,
}

impl Lane {
    pub(super) fn set_state(
        &mut self,
        topic: Topic,
        payload: Bytes,
        make: Option<Make>,
        receipt: Option<Receipt>,
    ) {
        let index = match self.by_topic.get(&topic) {
            Some(&index) => index,
            None => {
                self.by_topic.insert(topic.clone(), self.states.len());
                self.states.push(State {
                    topic,
                    payload: Bytes::new(),
                    make: None,
                    version: 0,
                    acknowledged: 0,
                    dirty: false,
                    waiting: None,
                    handed: Vec::new(),
                });
                self.states.len() - 1
            }
        };
        let state = &mut self.states[index];
        self.waiting_states += usize::from(!state.waits());
        state.payload = payload;
        state.make = make;
        state.version += 1;
        if let Some(superseded) = std::mem::replace(&mut state.waiting, receipt) {
            superseded.spoil();
        }
        if !state.dirty {
            state.dirty = true;
            self.dirty.push_back(index);
        }
    }

    /// Takes in an event; with something to be kept along, it is kept at once.
    pub(super) fn push_event(&mut self, event: Event, along: Option<Bytes>) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.event_bytes += event.bytes();
        if event.chatty {
            self.chatty.insert(sequence);
        }
        if along.is_some() {
            self.keep.push((sequence, Some(event.kept(event.received)), along));
            self.kept_early.insert(sequence);
        }
        self.events.insert(sequence, event);
    }

    /// An event is on the disk, or cannot be: it waits no more.
    pub(super) fn release(&mut self, sequence: u64) {
        if let Some(event) = self.events.get_mut(&sequence) {
            event.held = false;
        }
    }

    pub(super) fn restore(&mut self, sequence: u64, event: KeptEvent, now: Instant) {
        let KeptEvent { topic, payload, age, stamped, chatty } = event;
        let event = Event {
            topic,
            payload,
            received: now,
            receipt: None,
            stamped,
            chatty,
            earlier: age,
            again: true,
            held: false,
        };
        self.event_bytes += event.bytes();
        if chatty {
            self.chatty.insert(sequence);
        }
        self.events.insert(sequence, event);
        self.next_sequence = self.next_sequence.max(sequence + 1);
        self.kept_to = self.next_sequence;
    }

    /// Keeps what waits for an absent broker, or has waited for a second.
    pub(super) fn spill(&mut self, connected: bool, now: Instant) {
        let mut to = self.kept_to;
        for (&sequence, event) in self.events.range(self.kept_to..) {
            if connected && event.age(now) < LATE {
                break;
            }
            to = sequence + 1;
            if !self.kept_early.contains(&sequence) {
                self.keep.push((sequence, Some(event.kept(now)), None));
            }
        }
        self.kept_to = to;
    }

    pub(super) fn take_keep(&mut self) -> Vec<KeepChange> {
        std::mem::take(&mut self.keep)
    }

    /// Drops events until the bounds hold: the oldest chatty one first, then the oldest. What is
    /// in flight stays. Returns how many were dropped.
    pub(super) fn shrink(&mut self, bounds: Bounds) -> u64 {
        let mut dropped = 0;
        while self.events.len() > bounds.max_events || self.event_bytes > bounds.max_bytes {
            let Some(sequence) =
                self.chatty.first().copied().or_else(|| {
                    self.events.range(self.cursor..).next().map(|(&sequence, _)| sequence)
                })
            else {
                break;
            };
            if let Some(receipt) = self.remove_event(sequence).and_then(|event| event.receipt) {
                receipt.spoil();
            }
            dropped += 1;
        }
        dropped
    }

    pub(super) fn push_newest(&mut self, topic: Topic, payload: Bytes, receipt: Option<Receipt>) {
        let older = self.passing.iter_mut().find(|p| p.newest_only && p.topic == topic);
        if let Some(older) = older {
            older.payload = payload;
            if let Some(superseded) = std::mem::replace(&mut older.receipt, receipt) {
                superseded.spoil();
            }
            return;
        }
        self.passing.push_back(Passing {
            topic,
            payload,
            receipt,
            retain: false,
            acknowledged: true,
            newest_only: true,
        });
    }

    pub(super) fn push_fleeting(
        &mut self,
        topic: Topic,
        payload: Bytes,
        retain: bool,
        receipt: Option<Receipt>,
    ) {
        self.passing.push_back(Passing {
            topic,
            payload,
            receipt,
            retain,
            acknowledged: true,
            newest_only: false,
        });
    }

    pub(super) fn push_unacknowledged(&mut self, topic: Topic, payload: Bytes) {
        self.passing.push_back(Passing {
            topic,
            payload,
            receipt: None,
            retain: false,
            acknowledged: false,
            newest_only: true,
        });
    }

    pub(super) fn mark_all_states(&mut self) {
        self.dirty.clear();
        for (index, state) in self.states.iter_mut().enumerate() {
            // A topic that was cleared, and whose clearing the broker has, is left alone.
            let empty = state.payload.is_empty() && state.make.is_none();
            let cleared = empty && state.acknowledged == state.version;
            state.dirty = !cleared;
            if !cleared {
                self.dirty.push_back(index);
            }
        }
        self.waiting_states = self.states.iter().filter(|state| state.waits()).count();
    }

    pub(super) fn connection_lost(&mut self) {
        self.queued = false;
        for state in &mut self.states {
            state.handed.drain(..).for_each(|(_, receipt)| receipt.spoil());
            if let Some(receipt) = state.waiting.take() {
                receipt.spoil();
            }
        }
        for (_, event) in self.events.range_mut(..self.cursor) {
            event.again = true;
        }
        for event in self.events.values_mut() {
            if let Some(receipt) = event.receipt.take() {
                receipt.spoil();
            }
        }
        self.cursor = self.events.keys().next().copied().unwrap_or(self.next_sequence);
        for passing in self.passing.drain(..) {
            passing.receipt.map(Receipt::spoil).unwrap_or_default();
        }
        self.in_flight.drain().for_each(|(_, receipt)| receipt.spoil());
        self.passing_in_flight = 0;
    }

    pub(super) fn has_next(&self) -> bool {
        let event = self.events.range(self.cursor..).next().is_some_and(|(_, event)| !event.held);
        !self.dirty.is_empty() || !self.passing.is_empty() || event
    }

    /// What waits or is unacknowledged.
    pub(super) fn waiting(&self) -> usize {
        self.waiting_states + self.events.len() + self.passing.len() + self.passing_in_flight
    }

    /// The next to hand over: state first (it is bounded), then events, then what passes.
    pub(super) fn next(&mut self, lane: usize, now: Instant) -> Option<Outgoing> {
        let (slot, outgoing) =
            self.next_state().or_else(|| self.next_event(now)).or_else(|| self.next_passing())?;
        Some(Outgoing { token: slot.map(|slot| Token { lane, slot }), ..outgoing })
    }

    fn next_state(&mut self) -> Option<(Option<Slot>, Outgoing)> {
        let index = self.dirty.pop_front()?;
        let state = &mut self.states[index];
        state.dirty = false;
        self.waiting_states -= usize::from(!state.waits());
        if let Some(receipt) = state.waiting.take() {
            state.handed.push((state.version, receipt));
        }
        let slot = Slot::State { index, version: state.version };
        let payload = state.make.as_ref().map_or_else(|| state.payload.clone(), Make::payload);
        Some((Some(slot), outgoing(&state.topic, payload, true)))
    }

    fn next_event(&mut self, now: Instant) -> Option<(Option<Slot>, Outgoing)> {
        let (&sequence, event) = self.events.range(self.cursor..).next()?;
        if event.held {
            return None;
        }
        self.cursor = sequence + 1;
        self.chatty.remove(&sequence);
        let age = event.age(now);
        let payload = if event.stamped && (event.again || age >= LATE) {
            with_delay(&event.payload, age)
        } else {
            event.payload.clone()
        };
        Some((Some(Slot::Event { sequence }), outgoing(&event.topic, payload, false)))
    }

    fn next_passing(&mut self) -> Option<(Option<Slot>, Outgoing)> {
        let passing = self.passing.pop_front()?;
        let out = outgoing(&passing.topic, passing.payload, passing.retain);
        if !passing.acknowledged {
            return Some((None, out));
        }
        let sequence = self.passing_sequence;
        self.passing_sequence += 1;
        self.passing_in_flight += 1;
        if let Some(receipt) = passing.receipt {
            self.in_flight.insert(sequence, receipt);
        }
        Some((Some(Slot::Passing { sequence }), out))
    }

    pub(super) fn acknowledge(&mut self, slot: Slot) {
        match slot {
            Slot::State { index, version } => self.acknowledge_state(index, version),
            Slot::Event { sequence } => {
                if let Some(receipt) = self.remove_event(sequence).and_then(|event| event.receipt) {
                    receipt.acknowledge();
                }
            }
            Slot::Passing { sequence } => {
                self.passing_in_flight = self.passing_in_flight.saturating_sub(1);
                if let Some(receipt) = self.in_flight.remove(&sequence) {
                    receipt.acknowledge();
                }
            }
        }
    }

    fn acknowledge_state(&mut self, index: usize, version: u64) {
        let Some(state) = self.states.get_mut(index) else { return };
        let waited = state.waits();
        state.acknowledged = state.acknowledged.max(version);
        self.waiting_states -= usize::from(waited && !state.waits());
        while let Some(position) = state.handed.iter().position(|(handed, _)| *handed <= version) {
            state.handed.remove(position).1.acknowledge();
        }
    }

    fn remove_event(&mut self, sequence: u64) -> Option<Event> {
        self.chatty.remove(&sequence);
        let event = self.events.remove(&sequence)?;
        if self.events.is_empty() {
            // An emptied map keeps its room.
            self.events = BTreeMap::new();
        }
        self.event_bytes -= event.bytes();
        if self.kept_early.remove(&sequence) || sequence < self.kept_to {
            self.keep.push((sequence, None, None));
        }
        Some(event)
    }
}

fn outgoing(topic: &Topic, payload: Bytes, retain: bool) -> Outgoing {
    Outgoing { token: None, topic: topic.clone(), payload, retain }
}
