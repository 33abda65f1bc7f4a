//! One lane of the outbox (pure): what waits for one printer.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use super::entry::{Outgoing, Slot, Token, Transient};
use super::events::Events;
use crate::mqtt::publication::{Audience, Make};
use crate::receipt::Receipt;
use crate::topics::Topic;

#[derive(Debug, Default)]
pub(in crate::mqtt) struct Lane {
    /// Whether the outbox has this lane in its list of ready ones.
    pub(in crate::mqtt) queued: bool,
    /// In order of first publication, the order in which a new connection repeats them.
    states: Vec<TopicState>,
    by_topic: HashMap<Topic, usize>,
    /// Indices of `states` to publish, each once.
    dirty: VecDeque<usize>,
    pub(in crate::mqtt) events: Events,
    transient: VecDeque<Transient>,
    transient_sequence: u64,
    in_flight: HashMap<u64, Receipt>,
    transient_in_flight: usize,
    waiting_states: usize,
}

#[derive(Debug)]
struct TopicState {
    topic: Topic,
    payload: Bytes,
    /// Makes the payload on each publication, instead of `payload`.
    make: Option<Make>,
    version: u64,
    acknowledged: u64,
    dirty: bool,
    waiting: Option<Receipt>,
    sent: Vec<(u64, Receipt)>,
}

impl TopicState {
    fn waits(&self) -> bool {
        self.dirty || self.acknowledged < self.version
    }
}

impl Lane {
    pub(in crate::mqtt) fn set_state(
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
                self.states.push(TopicState {
                    topic,
                    payload: Bytes::new(),
                    make: None,
                    version: 0,
                    acknowledged: 0,
                    dirty: false,
                    waiting: None,
                    sent: Vec::new(),
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

    /// Publishes nothing on every topic that has something.
    pub(in crate::mqtt) fn clear_states(&mut self) {
        let has_payload = |state: &&TopicState| !state.payload.is_empty() || state.make.is_some();
        let topics: Vec<Topic> =
            self.states.iter().filter(has_payload).map(|state| state.topic.clone()).collect();
        topics.into_iter().for_each(|topic| self.set_state(topic, Bytes::new(), None, None));
    }

    pub(in crate::mqtt) fn push_transient(&mut self, transient: Transient) {
        let replaces = |older: &Transient| {
            transient.newest_only && older.newest_only && older.topic == transient.topic
        };
        match self.transient.iter_mut().find(|older| replaces(older)) {
            Some(older) => {
                older.payload = transient.payload;
                if let Some(superseded) = std::mem::replace(&mut older.receipt, transient.receipt) {
                    superseded.spoil();
                }
            }
            None => self.transient.push_back(transient),
        }
    }

    pub(in crate::mqtt) fn mark_all_states(&mut self) {
        self.dirty.clear();
        for (index, state) in self.states.iter_mut().enumerate() {
            // A topic whose clearing was acknowledged needs no publication.
            let empty = state.payload.is_empty() && state.make.is_none();
            let cleared = empty && state.acknowledged == state.version;
            state.dirty = !cleared;
            if !cleared {
                self.dirty.push_back(index);
            }
        }
        self.waiting_states = self.states.iter().filter(|state| state.waits()).count();
    }

    /// Publishes a state again: the smallest for `choice` 0, the next for 1, and so on, in turn.
    pub(in crate::mqtt) fn repeat_small(&mut self, choice: usize) {
        let size = |index: &usize| {
            let state = &self.states[*index];
            (state.make.is_some(), state.payload.len())
        };
        let mut small: Vec<usize> = (0..self.states.len()).collect();
        small.retain(|index| size(index) != (false, 0));
        small.sort_by_key(size);
        let Some(index) = small.get(choice % small.len().max(1)).copied() else { return };
        let state = &mut self.states[index];
        self.waiting_states += usize::from(!state.waits());
        if state.dirty {
            // In front of what the broker may reject.
            self.dirty.retain(|dirty| *dirty != index);
        }
        state.dirty = true;
        self.dirty.push_front(index);
    }

    /// Removes the payload of this version of a state, which the broker rejects.
    pub(in crate::mqtt) fn strip_state(&mut self, index: usize, version: u64) {
        if let Some(state) = self.states.get_mut(index).filter(|state| state.version == version) {
            state.payload = Bytes::new();
            state.make = None;
        }
    }

    pub(in crate::mqtt) fn connection_lost(&mut self) {
        self.queued = false;
        for state in &mut self.states {
            state.sent.drain(..).for_each(|(_, receipt)| receipt.spoil());
            if let Some(receipt) = state.waiting.take() {
                receipt.spoil();
            }
        }
        self.events.connection_lost();
        for transient in self.transient.drain(..) {
            transient.receipt.map(Receipt::spoil).unwrap_or_default();
        }
        self.in_flight.drain().for_each(|(_, receipt)| receipt.spoil());
        self.transient_in_flight = 0;
    }

    pub(in crate::mqtt) fn has_next(&self, open: Audience) -> bool {
        !self.dirty.is_empty() || !self.transient.is_empty() || self.events.has_next(open)
    }

    pub(in crate::mqtt) fn waiting_states(&self) -> usize {
        self.waiting_states
    }

    pub(in crate::mqtt) fn waiting(&self) -> usize {
        self.waiting_states + self.events.len() + self.transient.len() + self.transient_in_flight
    }

    /// Returns the next publication: states first (they are bounded), then events, then the rest.
    pub(in crate::mqtt) fn next(
        &mut self,
        lane: usize,
        open: Audience,
        now: Instant,
    ) -> Option<Outgoing> {
        let (slot, outgoing) = self
            .next_state()
            .or_else(|| self.next_event(open, now))
            .or_else(|| self.next_transient())?;
        Some(Outgoing { token: slot.map(|slot| Token { lane, slot }), ..outgoing })
    }

    fn next_state(&mut self) -> Option<(Option<Slot>, Outgoing)> {
        let index = self.dirty.pop_front()?;
        let state = &mut self.states[index];
        state.dirty = false;
        self.waiting_states -= usize::from(!state.waits());
        if let Some(receipt) = state.waiting.take() {
            state.sent.push((state.version, receipt));
        }
        let slot = Slot::State { index, version: state.version };
        let payload = state.make.as_ref().map_or_else(|| state.payload.clone(), Make::payload);
        Some((Some(slot), outgoing(&state.topic, payload, true)))
    }

    fn next_event(&mut self, open: Audience, now: Instant) -> Option<(Option<Slot>, Outgoing)> {
        let (sequence, topic, payload) = self.events.next(open, now)?;
        Some((Some(Slot::Event { sequence }), outgoing(&topic, payload, false)))
    }

    fn next_transient(&mut self) -> Option<(Option<Slot>, Outgoing)> {
        let transient = self.transient.pop_front()?;
        let out = outgoing(&transient.topic, transient.payload, transient.retain);
        if !transient.acknowledged {
            return Some((None, out));
        }
        let sequence = self.transient_sequence;
        self.transient_sequence += 1;
        self.transient_in_flight += 1;
        if let Some(receipt) = transient.receipt {
            self.in_flight.insert(sequence, receipt);
        }
        Some((Some(Slot::Transient { sequence }), out))
    }

    pub(in crate::mqtt) fn acknowledge(&mut self, slot: Slot) {
        match slot {
            Slot::State { index, version } => self.acknowledge_state(index, version),
            Slot::Event { sequence } => self.events.acknowledge(sequence),
            Slot::Transient { sequence } => {
                self.transient_in_flight = self.transient_in_flight.saturating_sub(1);
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
        while let Some(position) = state.sent.iter().position(|(sent, _)| *sent <= version) {
            state.sent.remove(position).1.acknowledge();
        }
    }
}

fn outgoing(topic: &Topic, payload: Bytes, retain: bool) -> Outgoing {
    Outgoing { token: None, topic: topic.clone(), payload, retain }
}
