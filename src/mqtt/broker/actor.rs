//! The task that owns the connection: one life of a connection after the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};

use super::connection::{Connection, Uptime};
use super::lost::Lost;
use super::options::Options;
use super::request::{BrokerStatus, Held, PersistEvents, Request};
use super::retry::Retry;
use super::said::{self, Said, hint};
use crate::causes;
use crate::clock;
use crate::mqtt::outbox::admission;
use crate::mqtt::outbox::admission::{Absence, Admission};
use crate::mqtt::outbox::entry::{Counts, Outgoing, Slot};
use crate::mqtt::outbox::quarantine::{Cause, End, Quarantine, Sentence, Suspect, Verdict};
use crate::mqtt::outbox::queue::Outbox;
use crate::mqtt::publication::{Audience, Incoming};
use crate::topic::Topic;

/// How often unacknowledged publications are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// How often it is looked for events that are to be kept over a restart.
const PERSIST_INTERVAL: Duration = Duration::from_millis(500);

/// How long publications are handed over before others have a turn: discovery messages, which are
/// made for it, take a fifth of a millisecond each, and there may be a thousand.
const HAND_OVER: Duration = Duration::from_millis(1);

pub(super) struct Closing {
    pub(super) deadline: Instant,
    pub(super) done: oneshot::Sender<bool>,
}

pub(super) struct Actor {
    pub(super) options: Arc<Options>,
    pub(super) filters: BTreeSet<String>,
    pub(super) outbox: Outbox,
    pub(super) keep: Option<PersistEvents>,
    /// Events that wait for the disk.
    pub(super) held: FuturesUnordered<BoxFuture<'static, (usize, u64)>>,
    pub(super) queue: mpsc::UnboundedReceiver<Request>,
    pub(super) incoming: mpsc::Sender<Incoming>,
    pub(super) status: watch::Sender<BrokerStatus>,
    pub(super) counts: watch::Sender<Counts>,
    pub(super) held_told: watch::Sender<Held>,
    pub(super) admission: Admission,
    /// Whether the broker is asked for how long it runs: one ended the connection for it.
    pub(super) asks_uptime: bool,
    /// How the program came to start.
    pub(super) start: Absence,
    /// When the broker was heard last, or when it was tried first.
    pub(super) heard: Option<Instant>,
    pub(super) quarantine: Quarantine,
    /// Whether the broker was restarted since the last connection is to be found out.
    pub(super) restart_unknown: bool,
    /// What is likely to have ended the last connection.
    pub(super) cause: Cause,
    pub(super) closing: Option<Closing>,
    pub(super) said: Said,
}

/// Why the actor goes on or ends.
enum Next {
    Retry(Lost),
    End { flushed: bool },
}

impl Actor {
    pub(super) async fn run(mut self) {
        let mut retry = Retry::new();
        let flushed = loop {
            let started = clock::now();
            let next = self.one_life().await;
            self.outbox.disconnected(clock::now());
            self.persist();
            self.publish_counts();
            let lost = match next {
                Next::End { flushed } => break flushed,
                Next::Retry(lost) => lost,
            };
            self.asks_uptime &= !matches!(lost, Lost::NoUptime(_));
            // A first attempt that failed: from then on the broker is away.
            self.heard.get_or_insert(started);
            let pause = retry.after(&lost, self.quarantine.is_settled());
            let lost = format!("{}{}", causes::text(&lost), hint(self.cause));
            let known = self.status.borrow().error.as_ref() == Some(&lost);
            self.said.lost(&lost, known, pause);
            self.status.send_modify(|status| {
                // One failed attempt after the other is one absence.
                if status.connected || status.since.is_none() {
                    status.since = Some(clock::now());
                }
                status.connected = false;
                status.error = Some(lost);
            });
            if self.wait(pause).await.is_break() {
                break false;
            }
        };
        if let Some(closing) = self.closing.take() {
            // The caller of `close` may have given up waiting.
            let _ = closing.done.send(flushed);
        }
    }

    /// Takes in requests for `pause`; breaks when the actor is to end.
    async fn wait(&mut self, pause: Duration) -> std::ops::ControlFlow<()> {
        let until = tokio::time::sleep(pause);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return std::ops::ControlFlow::Continue(()),
                request = self.queue.recv() => {
                    self.take(request)?;
                    self.persist();
                    // Without a connection there is nothing to flush to.
                    if self.closing.is_some() {
                        return std::ops::ControlFlow::Break(());
                    }
                }
            }
        }
    }

    /// One connection, from connecting to its end.
    async fn one_life(&mut self) -> Next {
        let (options, filters) = (self.options.clone(), self.filters.clone());
        let wanted = self.admission.wants_uptime() || self.quarantine.is_wary();
        let ask_uptime = self.asks_uptime && wanted;
        let connecting = Connection::open(&options, &filters, ask_uptime);
        tokio::pin!(connecting);
        let mut connection = loop {
            tokio::select! {
                opened = &mut connecting => match opened {
                    Ok(connection) => break connection,
                    Err(lost) => {
                        self.cause = self.quarantine.ended(end(&lost), &[], clock::now());
                        return Next::Retry(lost);
                    }
                },
                request = self.queue.recv() => {
                    let ended = self.take(request).is_break();
                    self.persist();
                    if ended || self.closing.is_some() {
                        return Next::End { flushed: false };
                    }
                }
            }
        };
        tracing::info!("connected to the broker");
        self.outbox.connected();
        self.admission.connected();
        self.quarantine.connected(clock::now());
        self.restart_unknown = true;
        self.status.send_modify(|status| {
            status.connected = true;
            status.connections += 1;
            status.error = None;
            status.since = Some(clock::now());
        });
        self.admit(&connection);
        for incoming in connection.take_early() {
            self.deliver(incoming);
        }
        let next = self.serve(&mut connection).await;
        self.heard = Some(connection.heard());
        if let Next::Retry(lost) = &next {
            let in_flight = connection.in_flight();
            self.cause = self.quarantine.ended(end(lost), &in_flight, clock::now());
        }
        next
    }

    /// Finds out who can hear events now, and lets them go as far as that.
    fn admit(&mut self, connection: &Connection) {
        let now = clock::now();
        if self.admission.is_open_question() {
            let uptime = match connection.uptime() {
                Uptime::Awaited { .. } => None,
                Uptime::Known(uptime) => Some(Some(uptime)),
                Uptime::Unknown => Some(None),
            };
            if let Some(uptime) = uptime {
                let absence = self.heard.map(|heard| Absence::Since(now.duration_since(heard)));
                self.admission.subscribed(absence.unwrap_or(self.start), uptime, now);
            }
        }
        self.admission.tick(now);
        if self.admission.take_republish() {
            self.outbox.republish();
        }
        if self.admission.is_announcing() && self.outbox.is_announced() {
            self.admission.announced(now);
        }
        let open = self.admission.open(now);
        // Nothing is kept of what is held back now: it goes out with the end.
        let end = self.closing.is_some() && self.keep.is_none();
        self.outbox.open_to(if end { Audience::HomeAssistant } else { open });
    }

    async fn serve(&mut self, connection: &mut Connection) -> Next {
        let mut look = tokio::time::interval(WATCH_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut keep = tokio::time::interval(PERSIST_INTERVAL);
        keep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut requests = Vec::new();
        loop {
            self.admit(connection);
            self.persist();
            if let Err(lost) = self.hand_over(connection) {
                return Next::Retry(lost);
            }
            self.publish_counts();
            if let Some(closing) = &self.closing {
                let flushed = self.outbox.is_flushed() && self.held.is_empty();
                if flushed || clock::now() >= closing.deadline {
                    connection.disconnect().await;
                    return Next::End { flushed };
                }
            }
            let deadline = self.closing.as_ref().map(|closing| closing.deadline.into());
            let due = self.admission.due(clock::now()).map(Into::into);
            tokio::select! {
                count = self.queue.recv_many(&mut requests, 64) => {
                    if count == 0 {
                        return Next::End { flushed: false };
                    }
                    for request in requests.drain(..) {
                        // A drained request is always `Some`: only the end of the queue breaks.
                        let _ = self.take(Some(request));
                    }
                }
                event = connection.next() => match event {
                    Ok(event) => {
                        if let Some(one) = event.acknowledged {
                            self.outbox.acknowledge(one.token);
                            let whose = || Some(Suspect::new(one.token, &one.topic));
                            self.quarantine.acknowledged(whose, clock::now());
                        }
                        event.incoming.into_iter().for_each(|incoming| self.deliver(incoming));
                    }
                    Err(lost) => return Next::Retry(lost),
                },
                _ = look.tick() => if let Some(lost) = connection.stalled(clock::now()) {
                    return Next::Retry(lost);
                },
                Some((lane, sequence)) = self.held.next() => self.outbox.release(lane, sequence),
                _ = keep.tick(), if self.keep.is_some() => self.outbox.look(clock::now()),
                () = sleep_until(deadline), if deadline.is_some() => {}
                () = sleep_until(due), if due.is_some() => {}
            }
        }
    }

    /// Hands on what is to be kept over a restart.
    fn persist(&mut self) {
        let Some(keep) = &mut self.keep else { return };
        for change in self.outbox.take_unpersisted() {
            let place = (change.lane, change.sequence);
            match keep(change) {
                Some(kept) => self.held.push(Box::pin(async move {
                    // Told or not: what keeps things may have ended, and the event must not.
                    let _ = kept.await;
                    place
                })),
                None => self.outbox.release(place.0, place.1),
            }
        }
    }

    fn hand_over(&mut self, connection: &mut Connection) -> Result<(), Lost> {
        let now = clock::now();
        if !self.look_into(connection, now) {
            return Ok(());
        }
        while connection.has_room() && self.quarantine.may_hand_over(connection.owed()) {
            if self.quarantine.wants_proof(now) && self.outbox.is_ready() {
                self.outbox.repeat_first();
            }
            let Some(outgoing) = self.outbox.next(now) else { break };
            if self.is_withheld(&outgoing, now) {
                outgoing.token.into_iter().for_each(|token| self.outbox.acknowledge(token));
                continue;
            }
            // What is made only now, and what an earlier version kept, may be too large.
            if let Some(bytes) =
                self.options.limit.exceeded_by(&outgoing.topic, outgoing.payload.len())
            {
                self.oversize(&outgoing.topic, bytes, true);
                outgoing.token.into_iter().for_each(|token| self.outbox.acknowledge(token));
                continue;
            }
            connection.publish(outgoing, now)?;
            // What was handed over comes back as an event, and then it goes on.
            if now.elapsed() > HAND_OVER {
                break;
            }
        }
        Ok(())
    }

    /// Looks into a suspicion, if there is one; `false` while it is not known whether the broker was
    /// restarted, which would make it groundless.
    fn look_into(&mut self, connection: &Connection, now: Instant) -> bool {
        if !self.quarantine.is_wary() {
            return true;
        }
        match connection.uptime() {
            Uptime::Awaited { .. } => return !self.quarantine.is_suspicious(),
            Uptime::Known(uptime) if self.restart_unknown => {
                let absence = self.heard.map(|heard| now.saturating_duration_since(heard));
                let absence = Absence::Since(absence.unwrap_or_default());
                if admission::restarted(absence, Some(uptime)) {
                    self.quarantine.broker_restarted();
                }
            }
            Uptime::Known(_) | Uptime::Unknown => {}
        }
        self.restart_unknown = false;
        if let Some(verdict) = self.quarantine.verdict(now) {
            self.execute(&verdict, now);
        }
        true
    }

    fn execute(&mut self, verdict: &Verdict, now: Instant) {
        said::sentence(verdict);
        let token = verdict.guilty.token;
        match verdict.sentence {
            Sentence::Strip => self.outbox.strip(token, now),
            Sentence::Drop => self.outbox.drop_rejected(token),
        }
    }

    /// Whether a message is not to be sent: on a topic that the broker does not take, or one that
    /// nobody acknowledges while it is found out which message ends the connection.
    fn is_withheld(&mut self, outgoing: &Outgoing, now: Instant) -> bool {
        match outgoing.token {
            None => self.quarantine.is_suspicious(),
            Some(token) if matches!(token.slot, Slot::Event { .. }) => false,
            Some(_) => self.quarantine.is_banned(&outgoing.topic, now),
        }
    }

    fn oversize(&mut self, topic: &Topic, bytes: usize, left_out: bool) {
        self.outbox.count_oversize();
        self.said.oversize(topic, bytes, self.options.limit.bytes(), left_out);
    }

    fn take(&mut self, request: Option<Request>) -> std::ops::ControlFlow<()> {
        match request {
            None => return std::ops::ControlFlow::Break(()),
            Some(Request::Publish(publication)) => self.outbox.push(publication),
            Some(Request::Oversize { topic, bytes, left_out }) => {
                self.oversize(&topic, bytes, left_out);
            }
            Some(Request::Republish) => self.outbox.republish(),
            Some(Request::Waiting(tell)) => {
                let _ = tell.send(self.outbox.waiting_by_lane());
            }
            Some(Request::Ping(alive)) => {
                // Who asked may have given up waiting.
                let _ = alive.send(());
            }
            Some(Request::Close { within, done }) => {
                self.outbox.persist_all(clock::now());
                self.closing = Some(Closing { deadline: clock::now() + within, done });
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn deliver(&mut self, incoming: Incoming) {
        if self.admission.hear(&incoming, clock::now()) {
            return;
        }
        // A hub that is so far behind is better served by a refusal than by endless memory.
        if let Err(mpsc::error::TrySendError::Full(incoming)) = self.incoming.try_send(incoming) {
            tracing::warn!(topic = %incoming.topic, "dropped a command: too many at once");
        }
    }

    fn publish_counts(&mut self) {
        let counts = self.outbox.counts();
        self.said.drops(counts.dropped);
        self.counts.send_if_modified(|known| {
            let changed = *known != counts;
            *known = counts;
            changed
        });
        let held = self.held_now();
        self.held_told.send_if_modified(|known| {
            let changed = *known != held;
            *known = held;
            changed
        });
    }

    fn held_now(&self) -> Held {
        let home_assistant = self.admission.state();
        // That it is not known yet for whom to wait passes within a second, and is no decision.
        if !self.status.borrow().connected || self.admission.is_open_question() {
            return Held { home_assistant, ..Held::default() };
        }
        let (now, counts) = (clock::now(), self.outbox.counts());
        let open = self.admission.open(now);
        let waiting = |audience, count| if audience > open { count } else { 0 };
        Held {
            open,
            until: self.admission.until(now),
            for_subscribers: waiting(Audience::Subscribers, counts.for_subscribers),
            for_home_assistant: waiting(Audience::HomeAssistant, counts.for_home_assistant),
            home_assistant,
        }
    }
}

/// How a connection ended, or an attempt.
fn end(lost: &Lost) -> End {
    match lost {
        Lost::Closed { by_peer: true, soon, .. } => End::ByBroker { soon: *soon },
        lost if lost.was_connected() => End::Otherwise,
        _ => End::Unreachable,
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
