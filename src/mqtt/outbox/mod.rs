//! What waits for the broker (pure): the newest state of each topic, events in order and until
//! their audience can hear them, and messages that the broker rejects.
//!
//! An entry leaves when it is acknowledged, not before. Whatever is unacknowledged when a
//! connection ends waits again, at its old place.

pub(super) mod entry;
mod events;
pub(super) mod gate;
mod lane;
pub(super) mod quarantine;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::entry::{
    Bounds, Counts, Outgoing, PersistedEvent, QueuedEvent, Slot, Token, Transient, Unpersisted,
};
use self::lane::Lane;
use crate::mqtt::publication::{Audience, Kind, Publication};

/// Most publications in flight.
pub const WINDOW: usize = 100;

/// See the module documentation.
#[derive(Debug)]
pub struct Outbox {
    bounds: Bounds,
    lanes: Vec<Lane>,
    /// Lanes with something to send, each once, in turn.
    ready: VecDeque<usize>,
    connected: bool,
    open: Audience,
    in_flight: usize,
    counts: Counts,
    /// Whether events are persisted across restarts.
    persistent: bool,
    unpersisted: Vec<Unpersisted>,
}

impl Outbox {
    /// Creates an empty outbox, not connected, without persistence.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            persistent: false,
            unpersisted: Vec::new(),
            lanes: Vec::new(),
            ready: VecDeque::new(),
            connected: false,
            open: Audience::HomeAssistant,
            in_flight: 0,
            counts: Counts::default(),
        }
    }

    /// Turns persistence on: see [`Outbox::take_unpersisted`].
    pub fn persist_events(&mut self) {
        self.persistent = true;
    }

    /// Restores an event from before the restart. Must be called in the order of `sequence`, before
    /// any other event of the lane. The event may have been published already, so it gets
    /// `_delayed`.
    pub fn restore(&mut self, lane: usize, sequence: u64, event: PersistedEvent, now: Instant) {
        self.make_lane(lane);
        let bounds = self.bounds;
        self.counts.dropped +=
            self.change(lane, |queue| queue.events.restore(sequence, event, now, bounds));
        self.collect(lane);
        self.make_ready(lane);
    }

    /// Releases an event that waited to be written to disk, or could not be.
    pub fn release(&mut self, lane: usize, sequence: u64) {
        if let Some(queue) = self.lanes.get_mut(lane) {
            queue.events.release(sequence);
            self.make_ready(lane);
        }
    }

    /// Persists events that have been unacknowledged for a second; without a connection, all.
    pub fn persist_late(&mut self, now: Instant) {
        self.spill(!self.connected, now);
    }

    /// Persists all waiting events, before the program ends.
    pub fn persist_all(&mut self, now: Instant) {
        self.spill(true, now);
    }

    fn spill(&mut self, all: bool, now: Instant) {
        if !self.persistent {
            return;
        }
        for lane in 1..self.lanes.len() {
            self.lanes[lane].events.spill(all, now);
            self.collect(lane);
        }
    }

    /// Releases events for the audiences up to `open`, and holds back the others.
    pub fn open_to(&mut self, open: Audience) {
        if open == self.open {
            return;
        }
        let held = open < self.open;
        self.open = open;
        for lane in 0..self.lanes.len() {
            if held {
                self.lanes[lane].events.hold(open);
            }
            self.make_ready(lane);
        }
    }

    /// Takes the changes to persist since the last call, in order.
    pub fn take_unpersisted(&mut self) -> Vec<Unpersisted> {
        std::mem::take(&mut self.unpersisted)
    }

    fn collect(&mut self, lane: usize) {
        let changes = self.lanes[lane].events.take_unpersisted();
        // The bridge's own lane has only answers, which are of no use after a restart.
        if self.persistent && lane > 0 {
            let at = |(sequence, event, along)| Unpersisted { lane, sequence, event, along };
            self.unpersisted.extend(changes.into_iter().map(at));
        }
    }

    /// Changes a lane and updates the counts, rather than summing over perhaps a thousand lanes.
    fn change<T>(&mut self, lane: usize, change: impl FnOnce(&mut Lane) -> T) -> T {
        let queue = &mut self.lanes[lane];
        let before = queue.waiting();
        let pending = queue.events.pending();
        let changed = change(queue);
        let counts = &mut self.counts;
        counts.waiting = counts.waiting + queue.waiting() - before;
        let now = queue.events.pending();
        counts.for_subscribers = counts.for_subscribers + now.0 - pending.0;
        counts.for_home_assistant = counts.for_home_assistant + now.1 - pending.1;
        changed
    }

    fn make_lane(&mut self, lane: usize) {
        while self.lanes.len() <= lane {
            self.lanes.push(Lane::default());
        }
    }

    /// Queues a publication.
    pub fn push(&mut self, publication: Publication) {
        let Publication { lane, topic, payload, make, kind, received, receipt, along, .. } =
            publication;
        self.make_lane(lane);
        let connected = self.connected;
        let heard = match kind {
            Kind::Event { audience, .. } => audience <= self.open,
            _ => true,
        };
        // The absence of the broker or of its subscribers must not be measured as latency.
        let receipt = match receipt {
            Some(receipt) if !connected || !heard => {
                receipt.spoil();
                None
            }
            receipt => receipt,
        };
        let (persistent, bounds) = (self.persistent, self.bounds);
        self.counts.dropped += self.change(lane, |queue| {
            match kind {
                Kind::State => queue.set_state(topic, payload, make, receipt),
                Kind::Event { worth, audience, stamped } => {
                    let event = QueuedEvent {
                        topic,
                        payload,
                        received,
                        receipt,
                        stamped,
                        worth,
                        audience,
                        restored_age: Duration::ZERO,
                        maybe_sent: false,
                        // Published before it is persisted, it would be repeated after a crash.
                        unwritten: persistent && lane > 0 && along.is_some(),
                    };
                    let dropped = queue.events.push(event, along, bounds);
                    if persistent && !connected {
                        queue.events.spill(true, received);
                    }
                    return dropped;
                }
                Kind::Newest | Kind::Fleeting { .. } | Kind::Unacknowledged if !connected => {}
                Kind::Newest | Kind::Fleeting { .. } | Kind::Unacknowledged => {
                    let acknowledged = kind != Kind::Unacknowledged;
                    queue.push_transient(Transient {
                        topic,
                        payload,
                        receipt: receipt.filter(|_| acknowledged),
                        retain: kind == Kind::Fleeting { retain: true },
                        acknowledged,
                        newest_only: kind == Kind::Newest,
                    });
                }
            }
            0
        });
        self.collect(lane);
        self.make_ready(lane);
    }

    /// Counts a message that was too large for the broker.
    pub fn count_oversize(&mut self) {
        self.counts.oversize += 1;
    }

    /// Removes the payload of a rejected event or state; other publications are gone with their
    /// connection.
    pub fn strip(&mut self, token: Token, now: Instant) {
        self.reject(token, |queue| match token.slot {
            Slot::Event { sequence } => queue.events.strip(sequence, now),
            Slot::State { index, version } => queue.strip_state(index, version),
            Slot::Transient { .. } => {}
        });
    }

    /// Drops an event that was rejected even without its payload.
    pub fn drop_rejected(&mut self, token: Token) {
        self.reject(token, |queue| {
            if let Slot::Event { sequence } = token.slot {
                queue.events.reject(sequence);
            }
        });
    }

    fn reject(&mut self, token: Token, change: impl FnOnce(&mut Lane)) {
        self.counts.rejected += 1;
        if token.lane < self.lanes.len() {
            self.change(token.lane, change);
            self.collect(token.lane);
        }
    }

    /// Publishes a small state of the bridge's own lane again, the smallest for `choice` 0: most
    /// probably a message that the broker accepts.
    pub fn publish_proof(&mut self, choice: usize) {
        if !self.lanes.is_empty() {
            self.change(0, |lane| lane.repeat_small(choice));
            self.make_ready(0);
        }
    }

    /// Whether some lane probably has something to send.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A new connection is subscribed: publishes all state again.
    pub fn connected(&mut self) {
        self.connected = true;
        self.republish();
    }

    /// Publishes all state again.
    pub fn republish(&mut self) {
        for lane in 0..self.lanes.len() {
            self.change(lane, Lane::mark_all_states);
            self.make_ready(lane);
        }
    }

    /// The connection is gone: queues what was unacknowledged again, and drops what must not wait.
    pub fn disconnected(&mut self, now: Instant) {
        self.connected = false;
        self.in_flight = 0;
        self.ready.clear();
        for lane in 0..self.lanes.len() {
            self.change(lane, Lane::connection_lost);
        }
        self.persist_late(now);
    }

    /// Returns the next publication to send, if any.
    pub fn next(&mut self, now: Instant) -> Option<Outgoing> {
        if !self.connected || self.in_flight >= WINDOW {
            return None;
        }
        let open = self.open;
        // A lane has nothing if its only event was dropped meanwhile.
        loop {
            let lane = self.ready.pop_front()?;
            let outgoing = self.change(lane, |queue| queue.next(lane, open, now));
            self.lanes[lane].queued = false;
            self.make_ready(lane);
            if let Some(outgoing) = outgoing {
                self.counts.published += 1;
                self.in_flight += usize::from(outgoing.token.is_some());
                return Some(outgoing);
            }
        }
    }

    /// The broker has acknowledged a publication.
    pub fn acknowledge(&mut self, token: Token) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.counts.acknowledged += 1;
        if token.lane < self.lanes.len() {
            self.change(token.lane, |queue| queue.acknowledge(token.slot));
            self.collect(token.lane);
        }
    }

    /// Whether nothing is unacknowledged, and everything that waits is held back.
    pub fn is_flushed(&self) -> bool {
        self.in_flight == 0 && self.ready.is_empty()
    }

    /// Whether the broker has all state of the bridge's own lane, including discovery.
    pub fn is_announced(&self) -> bool {
        self.lanes.first().is_none_or(|lane| lane.waiting_states() == 0)
    }

    /// Clears every topic of the states of a lane.
    pub fn clear_states(&mut self, lane: usize) {
        if lane < self.lanes.len() {
            self.change(lane, Lane::clear_states);
            self.make_ready(lane);
        }
    }

    /// Drops the waiting events of a lane. If nothing is unacknowledged there then, forgets its states
    /// and returns `true`: the lane is as new.
    pub fn vacate(&mut self, lane: usize) -> bool {
        if lane >= self.lanes.len() {
            return true;
        }
        self.change(lane, |queue| queue.events.drop_unsent());
        self.collect(lane);
        let is_empty = self.lanes[lane].waiting() == 0;
        if is_empty {
            self.ready.retain(|ready| *ready != lane);
            self.lanes[lane] = Lane::default();
        }
        is_empty
    }

    /// Returns how many publications wait or are unacknowledged, lane by lane.
    pub fn waiting_by_lane(&self) -> Vec<usize> {
        self.lanes.iter().map(Lane::waiting).collect()
    }

    /// Returns the counts since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn make_ready(&mut self, lane: usize) {
        let open = self.open;
        let queue = &mut self.lanes[lane];
        if self.connected && !queue.queued && queue.has_next(open) {
            queue.queued = true;
            match lane {
                // The bridge's own lane goes first: `online` and discovery.
                0 => self.ready.push_front(lane),
                _ => self.ready.push_back(lane),
            }
        }
    }
}

#[cfg(test)]
mod tests;
