//! What waits for the broker: the newest state of each topic, events in order (pure).
//!
//! An entry leaves at its acknowledgement and not before. What was handed over and not
//! acknowledged when a connection ends waits again, at its old place.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::entry::{Bounds, Counts, Event, Outgoing, PersistedEvent, Slot, Token, Unpersisted};
use super::lane::Lane;
use crate::mqtt::publication::{Audience, Kind, Publication};

/// Most publications handed over and not yet acknowledged.
pub const WINDOW: usize = 100;

/// See the module's text.
#[derive(Debug)]
pub struct Outbox {
    bounds: Bounds,
    lanes: Vec<Lane>,
    /// Lanes with something to hand over, each once, in turn.
    ready: VecDeque<usize>,
    connected: bool,
    /// The audiences that can hear events are those up to this one.
    open: Audience,
    in_flight: usize,
    counts: Counts,
    /// Whether events are kept over a restart at all.
    persistent: bool,
    unpersisted: Vec<Unpersisted>,
}

impl Outbox {
    /// An empty outbox, not connected, which keeps nothing over a restart.
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

    /// Makes this an outbox that says what is to be kept: see [`Outbox::take_unpersisted`].
    pub fn persist_events(&mut self) {
        self.persistent = true;
    }

    /// Takes in an event of before the restart, in the order of `sequence` and before any other of
    /// its lane. Whether it was published then is not known, so it says that it is late.
    pub fn restore(&mut self, lane: usize, sequence: u64, event: PersistedEvent, now: Instant) {
        self.make_lane(lane);
        let bounds = self.bounds;
        self.counts.dropped +=
            self.change(lane, |queue| queue.events.restore(sequence, event, now, bounds));
        self.collect(lane);
        self.make_ready(lane);
    }

    /// An event with something kept along is on the disk, or cannot be: it is published now.
    pub fn release(&mut self, lane: usize, sequence: u64) {
        if let Some(queue) = self.lanes.get_mut(lane) {
            queue.events.release(sequence);
            self.make_ready(lane);
        }
    }

    /// Looks for events that the broker has not acknowledged for a second: they are to be kept.
    pub fn look(&mut self, now: Instant) {
        self.spill(!self.connected, now);
    }

    /// Says of all events that wait that they are to be kept: the program is about to end.
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

    /// Lets events go to the audiences up to `open`; those for others are held back until then.
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

    /// How many events are held back because nobody is there to hear them.
    pub fn held(&self) -> usize {
        let Counts { for_subscribers, for_home_assistant, .. } = self.counts;
        match self.open {
            Audience::Asker => for_subscribers + for_home_assistant,
            Audience::Subscribers => for_home_assistant,
            Audience::HomeAssistant => 0,
        }
    }

    /// What is to be kept, and no longer, since the last call, in order.
    pub fn take_unpersisted(&mut self) -> Vec<Unpersisted> {
        std::mem::take(&mut self.unpersisted)
    }

    fn collect(&mut self, lane: usize) {
        let changes = self.lanes[lane].events.take_unpersisted();
        // The bridge's own lane has answers, which nobody waits for after a restart.
        if self.persistent && lane > 0 {
            let at = |(sequence, event, along)| Unpersisted { lane, sequence, event, along };
            self.unpersisted.extend(changes.into_iter().map(at));
        }
    }

    /// Changes a lane, and keeps count of what waits in all of them: there may be a thousand.
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

    /// Takes in one publication.
    pub fn push(&mut self, publication: Publication) {
        let Publication { lane, topic, payload, make, kind, received, receipt, along, .. } =
            publication;
        self.make_lane(lane);
        let connected = self.connected;
        let heard = match kind {
            Kind::Event { audience, .. } => audience <= self.open,
            _ => true,
        };
        // How long the broker or its subscribers are away says nothing of how fast it is.
        let receipt = match receipt {
            Some(receipt) if !connected || !heard => {
                receipt.spoil();
                None
            }
            receipt => receipt,
        };
        let (keeps, bounds) = (self.persistent, self.bounds);
        self.counts.dropped += self.change(lane, |queue| {
            match kind {
                Kind::State => queue.set_state(topic, payload, make, receipt),
                Kind::Event { worth, audience, stamped } => {
                    let event = Event {
                        topic,
                        payload,
                        received,
                        receipt,
                        stamped,
                        worth,
                        audience,
                        earlier: Duration::ZERO,
                        again: false,
                        // Told before it is kept, it would be told twice after a crash.
                        unwritten: keeps && lane > 0 && along.is_some(),
                    };
                    let dropped = queue.events.push(event, along, bounds);
                    if keeps && !connected {
                        queue.events.spill(true, received);
                    }
                    return dropped;
                }
                Kind::Newest | Kind::Fleeting { .. } | Kind::Unacknowledged if !connected => {}
                Kind::Newest => queue.push_newest(topic, payload, receipt),
                Kind::Fleeting { retain } => queue.push_fleeting(topic, payload, retain, receipt),
                Kind::Unacknowledged => queue.push_unacknowledged(topic, payload),
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

    /// The broker does not take what `token` names: an event or a state is sent without its payload,
    /// what passes is gone with its connection.
    pub fn strip(&mut self, token: Token, now: Instant) {
        self.reject(token, |queue| match token.slot {
            Slot::Event { sequence } => queue.events.strip(sequence, now),
            Slot::State { index, version } => queue.strip_state(index, version),
            Slot::Passing { .. } => {}
        });
    }

    /// The broker does not take it even so: an event is dropped.
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

    /// Publishes the first state of the bridge's own lane once more: a message that every broker
    /// takes.
    pub fn repeat_first(&mut self) {
        if !self.lanes.is_empty() {
            self.change(0, Lane::repeat_first);
            self.make_ready(0);
        }
    }

    /// Whether something may be handed over, as far as is known.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A new connection is there and subscribed: all state is to be published again.
    pub fn connected(&mut self) {
        self.connected = true;
        self.republish();
    }

    /// Marks all remembered state as to be published again.
    pub fn republish(&mut self) {
        for lane in 0..self.lanes.len() {
            self.change(lane, Lane::mark_all_states);
            self.make_ready(lane);
        }
    }

    /// The connection is gone: what it owed waits again, what must not wait is dropped.
    pub fn disconnected(&mut self, now: Instant) {
        self.connected = false;
        self.in_flight = 0;
        self.ready.clear();
        for lane in 0..self.lanes.len() {
            self.change(lane, Lane::connection_lost);
        }
        self.look(now);
    }

    /// What to hand over next, if anything may be handed over.
    pub fn next(&mut self, now: Instant) -> Option<Outgoing> {
        if !self.connected || self.in_flight >= WINDOW {
            return None;
        }
        let open = self.open;
        // A lane whose only event was dropped meanwhile has nothing: the next one has its turn.
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

    /// The broker has acknowledged what `token` names.
    pub fn acknowledge(&mut self, token: Token) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.counts.acknowledged += 1;
        if token.lane < self.lanes.len() {
            self.change(token.lane, |queue| queue.acknowledge(token.slot));
            self.collect(token.lane);
        }
    }

    /// Whether nothing waits and nothing is unacknowledged.
    pub fn is_empty(&self) -> bool {
        self.in_flight == 0 && self.counts.waiting == 0
    }

    /// Whether nothing is unacknowledged, and all that waits is held back.
    pub fn is_flushed(&self) -> bool {
        self.in_flight == 0 && self.ready.is_empty()
    }

    /// Whether the broker has all state of the bridge's own lane, discovery among it.
    pub fn is_announced(&self) -> bool {
        self.lanes.first().is_none_or(|lane| lane.waiting_states() == 0)
    }

    /// What waits or is unacknowledged, lane by lane.
    pub fn waiting_by_lane(&self) -> Vec<usize> {
        self.lanes.iter().map(Lane::waiting).collect()
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn make_ready(&mut self, lane: usize) {
        let open = self.open;
        let queue = &mut self.lanes[lane];
        if self.connected && !queue.queued && queue.has_next(open) {
            queue.queued = true;
            match lane {
                // The bridge's own lane first: `online` and discovery precede all.
                0 => self.ready.push_front(lane),
                _ => self.ready.push_back(lane),
            }
        }
    }
}
