//! The task that owns the connection, and reconnects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::api::{BrokerRequest, BrokerStatus, Held, Options};
use super::connection::{Arrived, Connection, Uptime};
use super::filters::Filters;
use super::log::{self, BrokerLog};
use super::lost::{Lost, Retry};
use super::persister::Persister;
use crate::causes;
use crate::clock::{self, sleep_until};
use crate::mqtt::outbox::Outbox;
use crate::mqtt::outbox::entry::{Counts, Outgoing, Slot};
use crate::mqtt::outbox::gate::{self, AudienceGate, BrokerAbsence};
use crate::mqtt::outbox::quarantine::{
    EndCause, Quarantine, RejectAction, Rejection, Suspect, SuspectedCause,
};
use crate::mqtt::publication::{Audience, Incoming};
use crate::topic::Topic;

/// Interval for checking unacknowledged publications.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// Interval for persisting unacknowledged events.
const PERSIST_INTERVAL: Duration = Duration::from_millis(500);
/// Time spent publishing before other work has a turn: a discovery message takes a fifth of a
/// millisecond to make, and there may be a thousand.
const PUBLISH_SLICE: Duration = Duration::from_millis(1);

pub(super) struct Closing {
    pub(super) deadline: Instant,
    pub(super) done: oneshot::Sender<bool>,
}

pub(super) struct Actor {
    pub(super) options: Arc<Options>,
    pub(super) filters: Filters,
    pub(super) outbox: Outbox,
    pub(super) persister: Persister,
    pub(super) queue: mpsc::UnboundedReceiver<BrokerRequest>,
    pub(super) incoming: mpsc::Sender<Incoming>,
    pub(super) status: watch::Sender<BrokerStatus>,
    pub(super) counts: watch::Sender<Counts>,
    pub(super) held: watch::Sender<Held>,
    pub(super) gate: AudienceGate,
    /// Whether to request the broker's uptime; not after the broker ended a connection for it.
    pub(super) asks_uptime: bool,
    /// How the program started; `None` once it was known who can hear events.
    pub(super) start: Option<ProgramStart>,
    /// When the last packet arrived, or the first attempt that found no broker started.
    pub(super) last_heard: Option<Instant>,
    pub(super) quarantine: Quarantine,
    /// Whether it is unknown if the broker was restarted since the last connection.
    pub(super) restart_unknown: bool,
    pub(super) cause: SuspectedCause,
    pub(super) closing: Option<Closing>,
    pub(super) log: BrokerLog,
}

/// How the program started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ProgramStart {
    /// Whether events from before it wait.
    pub(super) restored: bool,
    /// How long the program was not running, if known.
    pub(super) away: Option<Duration>,
}

enum Next {
    Retry(Lost),
    End { flushed: bool },
}

impl Actor {
    pub(super) async fn run(mut self) {
        let mut retry = Retry::new();
        let flushed = loop {
            let started = clock::now();
            let next = self.run_connection().await;
            self.outbox.disconnected(clock::now());
            self.persister.persist(&mut self.outbox);
            self.publish_counts();
            let lost = match next {
                Next::End { flushed } => break flushed,
                Next::Retry(lost) => lost,
            };
            self.asks_uptime &= !matches!(lost, Lost::NoUptime(_));
            if lost.end_cause() == EndCause::Unreachable && !lost.refused() {
                // From the first such attempt on, the broker is away.
                self.last_heard.get_or_insert(started);
            }
            let pause = retry.after(&lost, self.quarantine.is_settled());
            let lost = format!("{}{}", causes::text(&lost), log::suspicion_hint(self.cause));
            let known = self.status.borrow().error.as_ref() == Some(&lost);
            self.log.lost(&lost, known, pause);
            self.status.send_modify(|status| {
                // Consecutive failed attempts are one absence.
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

    /// Handles requests for `pause`; breaks if the actor must end.
    async fn wait(&mut self, pause: Duration) -> std::ops::ControlFlow<()> {
        let until = tokio::time::sleep(pause);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return std::ops::ControlFlow::Continue(()),
                request = self.queue.recv() => {
                    self.take(request)?;
                    self.persister.persist(&mut self.outbox);
                    // Without a connection nothing can be flushed.
                    if self.closing.is_some() {
                        return std::ops::ControlFlow::Break(());
                    }
                }
            }
        }
    }

    /// Connects, and serves the connection until it ends.
    async fn run_connection(&mut self) -> Next {
        let (options, filters) = (self.options.clone(), self.filters.all());
        let wanted = self.gate.wants_uptime() || self.quarantine.is_wary();
        let ask_uptime = self.asks_uptime && wanted;
        let connecting = Connection::open(&options, &filters, ask_uptime);
        tokio::pin!(connecting);
        let mut connection = loop {
            tokio::select! {
                opened = &mut connecting => match opened {
                    Ok(connection) => break connection,
                    Err(lost) => {
                        self.cause = self.quarantine.ended(lost.end_cause(), &[], clock::now());
                        return Next::Retry(lost);
                    }
                },
                request = self.queue.recv() => {
                    let ended = self.take(request).is_break();
                    self.persister.persist(&mut self.outbox);
                    if ended || self.closing.is_some() {
                        return Next::End { flushed: false };
                    }
                }
            }
        };
        tracing::info!("connected to the broker");
        self.outbox.connected();
        self.gate.connected();
        self.quarantine.connected();
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
        self.last_heard = Some(connection.last_heard());
        if let Next::Retry(lost) = &next {
            let in_flight = connection.in_flight();
            self.cause = self.quarantine.ended(lost.end_cause(), &in_flight, clock::now());
        }
        next
    }

    /// Determines who can hear events now, and releases events for them.
    fn admit(&mut self, connection: &Connection) {
        let now = clock::now();
        if self.gate.is_undecided() && !matches!(connection.uptime(), Uptime::Awaited { .. }) {
            let since = self.last_heard.map(|heard| now.duration_since(heard));
            let absence = match self.start.take() {
                Some(ProgramStart { restored, away }) => {
                    BrokerAbsence::Start { restored, away, unreached: since }
                }
                None => BrokerAbsence::Since(since.unwrap_or_default()),
            };
            self.gate.subscribed(absence, connection.uptime().known(), now);
        }
        self.gate.tick(now);
        if self.gate.take_republish() {
            self.outbox.republish();
        }
        if self.gate.is_announcing() && self.outbox.is_announced() {
            self.gate.announced(now);
        }
        let open = self.gate.open(now);
        if open == Audience::HomeAssistant {
            self.quarantine.opened(now);
        }
        // At the end, events that are not persisted are published, even if held back.
        let end = self.closing.is_some() && !self.persister.is_on();
        self.outbox.open_to(if end { Audience::HomeAssistant } else { open });
    }

    async fn serve(&mut self, connection: &mut Connection) -> Next {
        let mut watch = tokio::time::interval(WATCH_INTERVAL);
        watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut persist = tokio::time::interval(PERSIST_INTERVAL);
        persist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut requests = Vec::new();
        loop {
            self.admit(connection);
            self.persister.persist(&mut self.outbox);
            let sent = self.send_filters(connection).and_then(|()| self.publish_ready(connection));
            if let Err(lost) = sent {
                return Next::Retry(lost);
            }
            self.publish_counts();
            if let Some(closing) = &self.closing {
                let flushed = self.outbox.is_flushed() && self.persister.has_written();
                if flushed || clock::now() >= closing.deadline {
                    connection.disconnect().await;
                    return Next::End { flushed };
                }
            }
            let deadline = self.closing.as_ref().map(|closing| closing.deadline);
            let due = self.gate.due(clock::now());
            tokio::select! {
                count = self.queue.recv_many(&mut requests, 64) => {
                    if count == 0 {
                        return Next::End { flushed: false };
                    }
                    for request in requests.drain(..) {
                        // Only the end of the queue, `None`, breaks.
                        let _ = self.take(Some(request));
                    }
                }
                event = connection.next() => match event {
                    Ok(arrived) => {
                        if let Err(lost) = self.take_arrived(arrived, connection) {
                            return Next::Retry(lost);
                        }
                    }
                    Err(lost) => return Next::Retry(lost),
                },
                _ = watch.tick() => if let Some(lost) = connection.stalled(clock::now()) {
                    return Next::Retry(lost);
                },
                Some(written) = self.persister.next() => {
                    written.into_iter().for_each(|(lane, sequence)| self.outbox.release(lane, sequence));
                }
                _ = persist.tick(), if self.persister.is_on() => {
                    self.outbox.persist_late(clock::now());
                }
                () = sleep_until(deadline), if deadline.is_some() => {}
                () = sleep_until(due), if due.is_some() => {}
            }
        }
    }

    /// Subscribes to what was added, and unsubscribes from what was removed.
    fn send_filters(&mut self, connection: &mut Connection) -> Result<(), Lost> {
        let Some((added, removed)) = self.filters.take_changed() else { return Ok(()) };
        connection.request_subscription(&added)?;
        connection.unsubscribe(removed)
    }

    /// Handles what has arrived, and all else that can be had without waiting.
    fn take_arrived(&mut self, first: Arrived, connection: &mut Connection) -> Result<(), Lost> {
        let mut next = Some(first);
        while let Some(arrived) = next {
            if let Some(one) = arrived.acknowledged {
                self.outbox.acknowledge(one.token);
                let suspect = || Some(Suspect::new(one.token, &one.topic));
                self.quarantine.acknowledged(suspect, clock::now());
            }
            arrived.incoming.into_iter().for_each(|incoming| self.deliver(incoming));
            next = connection.ready()?;
        }
        Ok(())
    }

    fn publish_ready(&mut self, connection: &mut Connection) -> Result<(), Lost> {
        let now = clock::now();
        if !self.resolve_suspicion(connection, now) {
            return Ok(());
        }
        while connection.has_room() && self.quarantine.may_send(connection.in_flight_count()) {
            if self.quarantine.wants_proof(now) && self.outbox.is_ready() {
                self.outbox.publish_proof(self.quarantine.proof());
            }
            let Some(outgoing) = self.outbox.next(now) else { break };
            if self.is_withheld(&outgoing, now) || self.is_oversize(&outgoing) {
                outgoing.token.into_iter().for_each(|token| self.outbox.acknowledge(token));
                continue;
            }
            connection.publish(outgoing, now)?;
            // The event of a publication wakes the actor to continue.
            if now.elapsed() > PUBLISH_SLICE {
                break;
            }
        }
        Ok(())
    }

    /// Acts on a suspicion, if there is one. Returns `false` while it is unknown whether the broker
    /// was restarted, which would make the suspicion groundless.
    fn resolve_suspicion(&mut self, connection: &Connection, now: Instant) -> bool {
        if !self.quarantine.is_wary() {
            return true;
        }
        match connection.uptime() {
            Uptime::Awaited { .. } => return !self.quarantine.is_suspicious(),
            Uptime::Known(uptime) if self.restart_unknown => {
                let absence = self.last_heard.map(|heard| now.saturating_duration_since(heard));
                let absence = BrokerAbsence::Since(absence.unwrap_or_default());
                if gate::restarted(absence, Some(uptime)) {
                    self.quarantine.broker_restarted();
                }
            }
            Uptime::Known(_) | Uptime::Unknown => {}
        }
        self.restart_unknown = false;
        if let Some(rejection) = self.quarantine.rejection(now) {
            self.execute(&rejection, now);
        }
        true
    }

    fn execute(&mut self, rejection: &Rejection, now: Instant) {
        log::rejection(rejection);
        let token = rejection.message.token;
        match rejection.action {
            RejectAction::Strip => self.outbox.strip(token, now),
            RejectAction::Drop => self.outbox.drop_rejected(token),
        }
    }

    /// Whether a message must not be sent: on a banned topic, or with QoS 0 while it is unknown
    /// which message ends the connection.
    fn is_withheld(&mut self, outgoing: &Outgoing, now: Instant) -> bool {
        match outgoing.token {
            None => self.quarantine.is_suspicious(),
            Some(token) if matches!(token.slot, Slot::Event { .. }) => false,
            Some(_) => self.quarantine.is_banned(&outgoing.topic, now),
        }
    }

    /// Whether a message is too large; counts and logs it. Payloads made only now, and events
    /// stored by an earlier version, may be.
    fn is_oversize(&mut self, outgoing: &Outgoing) -> bool {
        let bytes = self.options.limit.exceeded_by(&outgoing.topic, outgoing.payload.len());
        if let Some(bytes) = bytes {
            self.oversize(&outgoing.topic, bytes, true);
        }
        bytes.is_some()
    }

    fn oversize(&mut self, topic: &Topic, bytes: usize, left_out: bool) {
        self.outbox.count_oversize();
        self.log.oversize(topic, bytes, self.options.limit.bytes(), left_out);
    }

    fn take(&mut self, request: Option<BrokerRequest>) -> std::ops::ControlFlow<()> {
        match request {
            None => return std::ops::ControlFlow::Break(()),
            Some(BrokerRequest::Publish(publications)) => {
                publications.into_iter().for_each(|publication| self.outbox.push(publication));
            }
            Some(BrokerRequest::Oversize { topic, bytes, left_out }) => {
                self.oversize(&topic, bytes, left_out);
            }
            Some(BrokerRequest::Republish) => self.outbox.republish(),
            Some(BrokerRequest::Filters { added, removed }) => self.filters.change(added, removed),
            Some(BrokerRequest::ClearStates(lane)) => self.outbox.clear_states(lane),
            Some(BrokerRequest::Vacate { lane, vacated }) => {
                let _ = vacated.send(self.outbox.vacate(lane));
            }
            // Whoever asked may have given up waiting.
            Some(BrokerRequest::Waiting(respond)) => {
                let _ = respond.send(self.outbox.waiting_by_lane());
            }
            Some(BrokerRequest::Ping(alive)) => {
                let _ = alive.send(());
            }
            Some(BrokerRequest::Close { within, done }) => {
                self.outbox.persist_all(clock::now());
                self.closing = Some(Closing { deadline: clock::now() + within, done });
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn deliver(&mut self, incoming: Incoming) {
        if self.gate.hear(&incoming, clock::now()) {
            return;
        }
        // A hub this far behind is better served by a drop than by unbounded memory.
        if let Err(mpsc::error::TrySendError::Full(incoming)) = self.incoming.try_send(incoming) {
            tracing::warn!(topic = %incoming.topic, "dropped a command: too many at once");
        }
    }

    fn publish_counts(&mut self) {
        let counts = self.outbox.counts();
        self.log.drops(counts.dropped);
        send_if_changed(&self.counts, counts);
        send_if_changed(&self.held, self.held_now());
    }

    fn held_now(&self) -> Held {
        let home_assistant = self.gate.state();
        // An undecided gate decides within a second; until then nothing is held back on purpose.
        if !self.status.borrow().connected || self.gate.is_undecided() {
            return Held { home_assistant, ..Held::default() };
        }
        let (now, counts) = (clock::now(), self.outbox.counts());
        let open = self.gate.open(now);
        let waiting = |audience, count| if audience > open { count } else { 0 };
        Held {
            open,
            until: self.gate.until(now),
            for_subscribers: waiting(Audience::Subscribers, counts.for_subscribers),
            for_home_assistant: waiting(Audience::HomeAssistant, counts.for_home_assistant),
            home_assistant,
        }
    }
}

fn send_if_changed<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|known| {
        let changed = *known != value;
        *known = value;
        changed
    });
}
