//! Owns the connection to the broker: feeds it from the outbox, settles on PUBACK.
//!
//! rumqttc forgets what is pending when the broker answers without a session, and a packet id
//! collision can wedge it for ever (bytebeamio/rumqtt 1014, 1056). So every connection here is a
//! new event loop, it gets few publications at a time, and the [`Outbox`] is the store of truth.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};

use super::admission::{self, Absence, Admission, Attendance};
use super::connection::{Connection, Options, Uptime};
use super::lost::Lost;
use super::outbox::{Bounds, Counts, Keep, KeptEvent, Outbox, Outgoing, Slot};
use super::packet::{PacketLimit, Told};
use super::publication::{Audience, Publication};
use super::quarantine::{Cause, End, Quarantine, Sentence, Suspect, Verdict};
use super::retry::Retry;
use crate::topic::Topic;

/// How often unacknowledged publications are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// How often the log is told of drops, and of one reason why there is no connection, at most.
const DROPS_INTERVAL: Duration = Duration::from_secs(60);

/// How often it is looked for events that are to be kept over a restart.
const KEEP_INTERVAL: Duration = Duration::from_millis(500);

/// How long publications are handed over before others have a turn: discovery messages, which are
/// made for it, take a fifth of a millisecond each, and there may be a thousand.
const HAND_OVER: Duration = Duration::from_millis(1);

/// Keeps events over a restart.
pub struct Keeper {
    /// The events of before the start: lane, sequence, event, in order.
    pub restored: Vec<(usize, u64, KeptEvent)>,
    /// For how long the program was not there, where that is known.
    pub away: Option<Duration>,
    /// Takes what is to be kept and no longer, as it becomes known.
    pub keep: KeepEvents,
}

/// Whom events wait for.
pub struct Audiences {
    /// How long events wait after a broker was restarted, so that subscribers are back too; zero is
    /// not at all.
    pub settle: Duration,
    /// Whether Home Assistant is there; `None` where it is not used.
    pub home_assistant: Option<Box<dyn Attendance>>,
}

impl Audiences {
    /// Nobody is waited for.
    pub fn not_awaited() -> Self {
        Self { settle: Duration::ZERO, home_assistant: None }
    }
}

/// What waits on purpose, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The last audience that can hear events now; all of them while the broker is away, which
    /// holds up everything anyway.
    pub open: Audience,
    /// Until when the others are waited for at most, as far as that is known.
    pub until: Option<Instant>,
    /// How many events wait for subscribers.
    pub for_subscribers: usize,
    /// How many events wait for Home Assistant.
    pub for_home_assistant: usize,
    /// The state of Home Assistant in one word; `None` where it is not used.
    pub home_assistant: Option<&'static str>,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            open: Audience::HomeAssistant,
            until: None,
            for_subscribers: 0,
            for_home_assistant: 0,
            home_assistant: None,
        }
    }
}

/// Takes what is to be kept and no longer. Where something is kept along with an event, yields
/// when that is on the disk, or cannot be: the event is published then and not before.
pub type KeepEvents = Box<dyn FnMut(Keep) -> Option<oneshot::Receiver<()>> + Send>;

/// A message of a topic that was subscribed.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub payload: Bytes,
    /// Whether it is a retained message that was replayed at subscription.
    pub retained: bool,
}

impl Incoming {
    /// Its topic, to publish there; `None`, with a line in the log, where that cannot be: brokers
    /// differ in what they let pass.
    pub fn own_topic(&self) -> Option<Topic> {
        let topic = Topic::read(&self.topic);
        topic.inspect_err(|error| tracing::warn!(topic = self.topic, "left as it is: {error}")).ok()
    }
}

/// What is known of the connection.
#[derive(Debug, Clone, Default)]
pub struct BrokerStatus {
    /// Connected and subscribed.
    pub connected: bool,
    /// Connections made since the start.
    pub connections: u64,
    /// Why there is no connection.
    pub error: Option<String>,
    /// Since when it is as it is.
    pub since: Option<Instant>,
}

enum Request {
    Publish(Publication),
    /// Something that is too large for the broker; `left_out`: it is not sent at all.
    Oversize {
        topic: Topic,
        bytes: usize,
        left_out: bool,
    },
    Republish,
    Ping(oneshot::Sender<()>),
    Waiting(oneshot::Sender<Vec<usize>>),
    Close {
        within: Duration,
        done: oneshot::Sender<bool>,
    },
}

/// The way to the broker; cheap to clone. The connection lives until [`Broker::close`], or until
/// the last handle is gone.
#[derive(Debug, Clone)]
pub struct Broker {
    limit: PacketLimit,
    requests: mpsc::UnboundedSender<Request>,
    status: watch::Receiver<BrokerStatus>,
    counts: watch::Receiver<Counts>,
    held: watch::Receiver<Held>,
}

impl Broker {
    /// Starts to connect, on the current runtime. What arrives on `filters` goes to `incoming`, but
    /// for what is for the `audiences`. Without a `keeper` a restart forgets what waits.
    pub fn start(
        options: Options,
        bounds: Bounds,
        filters: BTreeSet<String>,
        incoming: mpsc::Sender<Incoming>,
        keeper: Option<Keeper>,
        audiences: Audiences,
    ) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        let (status_out, status) = watch::channel(BrokerStatus::default());
        let (counts_out, counts) = watch::channel(Counts::default());
        let (held_out, held_known) = watch::channel(Held::default());
        let mut outbox = Outbox::new(bounds);
        let mut absence = Absence::Start { restored: false, away: None };
        let keep = keeper.map(|Keeper { restored, away, keep }| {
            absence = Absence::Start { restored: !restored.is_empty(), away };
            outbox.keep_events();
            let now = Instant::now();
            for (lane, sequence, event) in restored {
                outbox.restore(lane, sequence, event, now);
            }
            keep
        });
        let limit = options.limit;
        let actor = Actor {
            options: Arc::new(options),
            filters,
            outbox,
            keep,
            held: FuturesUnordered::new(),
            queue,
            incoming,
            status: status_out,
            counts: counts_out,
            held_told: held_out,
            admission: Admission::new(audiences.settle, audiences.home_assistant),
            asks_uptime: true,
            start: absence,
            heard: None,
            quarantine: Quarantine::default(),
            restart_unknown: false,
            cause: Cause::Unknown,
            closing: None,
            drops_told: None,
            lost_told: None,
            oversize_told: Told::default(),
        };
        // Where it panics, the other end of `status` is gone: whoever waits for a change is told.
        tokio::spawn(actor.run());
        Self { limit, requests, status, counts, held: held_known }
    }

    /// The largest packet that is sent.
    pub fn limit(&self) -> PacketLimit {
        self.limit
    }

    /// Hands over one publication; never blocks. What is larger than [`Broker::limit`] is left out
    /// with a line in the log, for it would cost the whole connection.
    pub fn publish(&self, publication: Publication) {
        let (topic, length) = (&publication.topic, publication.payload.len());
        let too_large = self.limit.exceeded_by(topic, length);
        if let Some(bytes) = too_large.or(publication.oversize) {
            let (topic, left_out) = (topic.clone(), too_large.is_some());
            let _ = self.requests.send(Request::Oversize { topic, bytes, left_out });
        }
        if too_large.is_none() {
            // Fails only after `close`, when nothing can be published any more.
            let _ = self.requests.send(Request::Publish(publication));
        }
    }

    /// Publishes all remembered state again.
    pub fn republish(&self) {
        let _ = self.requests.send(Request::Republish);
    }

    /// Waits until the task that owns the connection has had a turn; `false` where it has ended.
    pub async fn ping(&self) -> bool {
        let (alive, answer) = oneshot::channel();
        self.requests.send(Request::Ping(alive)).is_ok() && answer.await.is_ok()
    }

    /// What waits in each lane; `None` where the task that owns the connection has ended.
    pub async fn waiting(&self) -> Option<Vec<usize>> {
        let (tell, told) = oneshot::channel();
        self.requests.send(Request::Waiting(tell)).ok()?;
        told.await.ok()
    }

    /// The connection, as it changes.
    pub fn status(&self) -> watch::Receiver<BrokerStatus> {
        self.status.clone()
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// What waits on purpose, as it changes.
    pub fn held(&self) -> watch::Receiver<Held> {
        self.held.clone()
    }

    /// Publishes what may go, disconnects and ends; `true` when all of that was acknowledged within
    /// `within`. What is held back on purpose is kept for the next start, or goes out where nothing
    /// is kept.
    pub async fn close(&self, within: Duration) -> bool {
        let (done, closed) = oneshot::channel();
        if self.requests.send(Request::Close { within, done }).is_err() {
            return false;
        }
        closed.await.unwrap_or(false)
    }
}

struct Closing {
    deadline: Instant,
    done: oneshot::Sender<bool>,
}

struct Actor {
    options: Arc<Options>,
    filters: BTreeSet<String>,
    outbox: Outbox,
    keep: Option<KeepEvents>,
    /// Events that wait for the disk.
    held: FuturesUnordered<BoxFuture<'static, (usize, u64)>>,
    queue: mpsc::UnboundedReceiver<Request>,
    incoming: mpsc::Sender<Incoming>,
    status: watch::Sender<BrokerStatus>,
    counts: watch::Sender<Counts>,
    held_told: watch::Sender<Held>,
    admission: Admission,
    /// Whether the broker is asked for how long it runs: one ended the connection for it.
    asks_uptime: bool,
    /// How the program came to start.
    start: Absence,
    /// When the broker was heard last, or when it was tried first.
    heard: Option<Instant>,
    quarantine: Quarantine,
    /// Whether the broker was restarted since the last connection is to be found out.
    restart_unknown: bool,
    /// What is likely to have ended the last connection.
    cause: Cause,
    closing: Option<Closing>,
    /// How many drops the log was told of, and when.
    drops_told: Option<(u64, Instant)>,
    /// When the log was told last that there is no connection.
    lost_told: Option<Instant>,
    oversize_told: Told,
}

/// Why the actor goes on or ends.
enum Next {
    Retry(Lost),
    End { flushed: bool },
}

impl Actor {
    async fn run(mut self) {
        let mut retry = Retry::new();
        let flushed = loop {
            let started = Instant::now();
            let next = self.one_life().await;
            self.outbox.disconnected();
            self.keep();
            self.publish_counts();
            let lost = match next {
                Next::End { flushed } => break flushed,
                Next::Retry(lost) => lost,
            };
            self.asks_uptime &= !matches!(lost, Lost::NoUptime { .. });
            // A first attempt that failed: from then on the broker is away.
            self.heard.get_or_insert(started);
            let pause = retry.after(&lost, self.quarantine.is_settled());
            let lost = format!("{lost}{}", hint(self.cause));
            self.tell_lost(&lost, pause);
            self.status.send_modify(|status| {
                // One failed attempt after the other is one absence.
                if status.connected || status.since.is_none() {
                    status.since = Some(Instant::now());
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
                    self.keep();
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
                        self.cause = self.quarantine.ended(end(&lost), &[], Instant::now());
                        return Next::Retry(lost);
                    }
                },
                request = self.queue.recv() => {
                    let ended = self.take(request).is_break();
                    self.keep();
                    if ended || self.closing.is_some() {
                        return Next::End { flushed: false };
                    }
                }
            }
        };
        tracing::info!(broker = %options.address(), "connected to the broker");
        self.outbox.connected();
        self.admission.connected();
        self.quarantine.connected(Instant::now());
        self.restart_unknown = true;
        self.status.send_modify(|status| {
            status.connected = true;
            status.connections += 1;
            status.error = None;
            status.since = Some(Instant::now());
        });
        self.admit(&connection);
        for incoming in connection.take_early() {
            self.deliver(incoming);
        }
        let next = self.serve(&mut connection).await;
        self.heard = Some(connection.heard());
        if let Next::Retry(lost) = &next {
            let in_flight = connection.in_flight();
            self.cause = self.quarantine.ended(end(lost), &in_flight, Instant::now());
        }
        next
    }

    /// Finds out who can hear events now, and lets them go as far as that.
    fn admit(&mut self, connection: &Connection) {
        let now = Instant::now();
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
        let mut keep = tokio::time::interval(KEEP_INTERVAL);
        keep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut requests = Vec::new();
        loop {
            self.admit(connection);
            self.keep();
            if let Err(lost) = self.hand_over(connection) {
                return Next::Retry(lost);
            }
            self.publish_counts();
            if let Some(closing) = &self.closing {
                let flushed = self.outbox.is_flushed() && self.held.is_empty();
                if flushed || Instant::now() >= closing.deadline {
                    connection.disconnect().await;
                    return Next::End { flushed };
                }
            }
            let deadline = self.closing.as_ref().map(|closing| closing.deadline.into());
            let due = self.admission.due(Instant::now()).map(Into::into);
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
                            self.quarantine.acknowledged(whose, Instant::now());
                        }
                        event.incoming.into_iter().for_each(|incoming| self.deliver(incoming));
                    }
                    Err(lost) => return Next::Retry(lost),
                },
                _ = look.tick() => if let Some(lost) = connection.stalled(Instant::now()) {
                    return Next::Retry(lost);
                },
                Some((lane, sequence)) = self.held.next() => self.outbox.release(lane, sequence),
                _ = keep.tick(), if self.keep.is_some() => self.outbox.look(Instant::now()),
                () = sleep_until(deadline), if deadline.is_some() => {}
                () = sleep_until(due), if due.is_some() => {}
            }
        }
    }

    /// Hands on what is to be kept over a restart.
    fn keep(&mut self) {
        let Some(keep) = &mut self.keep else { return };
        for change in self.outbox.take_keep() {
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
        let now = Instant::now();
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
        let Verdict { guilty, sentence } = verdict;
        let (topic, bytes) = (&guilty.topic, guilty.bytes);
        let cause = "each time that it was given this message alone, the broker ended the connection; it may be larger than the broker takes (see mqtt.max_packet_size), or the broker's access rules may forbid the topic";
        match sentence {
            Sentence::Strip => {
                self.outbox.strip(guilty.token, now);
                tracing::error!(%topic, bytes, "sent without its payload: {cause}");
            }
            Sentence::Drop => {
                self.outbox.drop_rejected(guilty.token);
                tracing::error!(%topic, bytes, "dropped, for it was not taken without its payload either: {cause}");
            }
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
                self.outbox.keep_all(Instant::now());
                self.closing = Some(Closing { deadline: Instant::now() + within, done });
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn deliver(&mut self, incoming: Incoming) {
        if self.admission.hear(&incoming, Instant::now()) {
            return;
        }
        // A hub that is so far behind is better served by a refusal than by endless memory.
        if let Err(mpsc::error::TrySendError::Full(incoming)) = self.incoming.try_send(incoming) {
            tracing::warn!(topic = %incoming.topic, "too many commands at once, dropped");
        }
    }

    fn publish_counts(&mut self) {
        let counts = self.outbox.counts();
        self.tell_drops(counts.dropped);
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
        let (now, counts) = (Instant::now(), self.outbox.counts());
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

fn hint(cause: Cause) -> &'static str {
    match cause {
        Cause::Unknown => "",
        Cause::AnotherClient => {
            "; so soon after the start, twice, another client may be using the same mqtt.client_id"
        }
        Cause::Message => {
            "; the broker may not take one of the messages; they go out one at a time until it is found"
        }
    }
}

impl Actor {
    /// Says that there is no connection: at once where that is news, and else once a minute.
    fn tell_lost(&mut self, lost: &str, pause: Duration) {
        let known = self.status.borrow().error.as_deref() == Some(lost);
        let told = self.lost_told.is_some_and(|at| at.elapsed() < DROPS_INTERVAL);
        let (broker, pause) = (self.options.address(), pause.as_secs_f32());
        if known && told {
            tracing::debug!(%broker, "{lost}; next attempt in {pause:.1} s");
            return;
        }
        self.lost_told = Some(Instant::now());
        tracing::warn!(%broker, "{lost}; next attempt in {pause:.1} s");
    }

    fn oversize(&mut self, topic: &Topic, bytes: usize, left_out: bool) {
        self.outbox.count_oversize();
        if !self.oversize_told.tell(topic, Instant::now()) {
            return;
        }
        let max_packet_size = self.options.limit.bytes();
        if left_out {
            tracing::error!(%topic, bytes, max_packet_size, "too large for the broker, left out; see mqtt.max_packet_size");
        } else {
            tracing::warn!(%topic, bytes, max_packet_size, "too large for the broker, sent without what makes it so; see mqtt.max_packet_size");
        }
    }

    /// Says that events are being dropped: at once, and then once a minute.
    fn tell_drops(&mut self, dropped: u64) {
        let quiet = self.drops_told.is_some_and(|(_, at)| at.elapsed() < DROPS_INTERVAL);
        let told = self.drops_told.map_or(0, |(told, _)| told);
        if dropped > told && !quiet {
            self.drops_told = Some((dropped, Instant::now()));
            tracing::warn!(
                dropped = dropped - told,
                "the outbox is full: events were dropped, chatty ones first; see outbox.max_events and outbox.max_bytes"
            );
        }
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
