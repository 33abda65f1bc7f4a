//! Owns the connection to the broker: feeds it from the outbox and settles receipts on PUBACK.
//!
//! rumqttc drops pending publications when the broker answers without a session, and a packet id
//! collision can wedge its event loop for ever (bytebeamio/rumqtt 1014, 1056). So each connection
//! gets a new protocol state of rumqttc and few publications at a time, and the [`Outbox`] is the
//! source of truth.

mod actor;
pub(super) mod api;
pub(super) mod connection;
mod dial;
mod filters;
mod link;
mod log;
pub(super) mod lost;
mod persister;
mod session;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument;

use self::actor::{Actor, ProgramStart};
pub use self::api::{Audiences, BrokerStatus, Held, PersistEvents, Persistence};
use self::api::{BrokerRequest, Options};
use self::filters::Filters;
use self::log::BrokerLog;
use self::persister::Persister;
use super::outbox::Outbox;
use super::outbox::entry::{Bounds, Counts};
use super::outbox::gate::AudienceGate;
use super::outbox::quarantine::{Quarantine, SuspectedCause};
use super::publication::{Incoming, PacketLimit, Publication};
use crate::clock;

/// A handle to the broker; cheap to clone. The connection lives until [`Broker::close`], or until
/// the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Broker {
    limit: PacketLimit,
    requests: mpsc::UnboundedSender<BrokerRequest>,
    status: watch::Receiver<BrokerStatus>,
    counts: watch::Receiver<Counts>,
    held: watch::Receiver<Held>,
}

impl Broker {
    /// Starts connecting on the current runtime. Messages on `filters` go to `incoming`, except
    /// those for the `audiences`. Without `persistence`, waiting events are lost at a restart.
    pub fn start(
        options: Options,
        bounds: Bounds,
        filters: BTreeSet<String>,
        incoming: mpsc::Sender<Incoming>,
        persistence: Option<Persistence>,
        audiences: Audiences,
    ) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        let (status_out, status) = watch::channel(BrokerStatus::default());
        let (counts_out, counts) = watch::channel(Counts::default());
        let (held_out, held_known) = watch::channel(Held::default());
        let mut outbox = Outbox::new(bounds);
        let mut start = ProgramStart::default();
        let persist_events = persistence.map(|Persistence { restored, away, persist }| {
            start = ProgramStart { restored: !restored.is_empty(), away };
            outbox.persist_events();
            let now = clock::now();
            for (lane, sequence, event) in restored {
                outbox.restore(lane, sequence, event, now);
            }
            persist
        });
        let limit = options.limit;
        let span = tracing::info_span!(parent: None, "broker", address = %options.address());
        let actor = Actor {
            options: Arc::new(options),
            filters: Filters::new(filters),
            outbox,
            persister: Persister::new(persist_events),
            queue,
            incoming,
            status: status_out,
            counts: counts_out,
            held: held_out,
            gate: AudienceGate::new(audiences.settle, audiences.home_assistant),
            asks_uptime: true,
            start: Some(start),
            last_heard: None,
            quarantine: Quarantine::default(),
            restart_unknown: false,
            cause: SuspectedCause::Unknown,
            closing: None,
            log: BrokerLog::default(),
        };
        // If it panics, `status` closes, so whoever waits for a change learns of it.
        tokio::spawn(actor.run().instrument(span));
        Self { limit, requests, status, counts, held: held_known }
    }

    /// Returns the size of the largest packet that is sent.
    pub fn limit(&self) -> PacketLimit {
        self.limit
    }

    /// Queues a publication; never blocks. One larger than [`Broker::limit`] is skipped with a line
    /// in the log, because it would cost the whole connection.
    pub fn publish(&self, publication: Publication) {
        self.publish_all(vec![publication]);
    }

    /// Queues the publications of one cause, as [`Broker::publish`] does. Events among them are
    /// persisted in one transaction.
    pub fn publish_all(&self, mut publications: Vec<Publication>) {
        publications.retain(|publication| self.fits(publication));
        if !publications.is_empty() {
            // Fails only after `close`.
            let _ = self.requests.send(BrokerRequest::Publish(publications));
        }
    }

    /// Whether a publication can be sent; reports it if it was too large.
    fn fits(&self, publication: &Publication) -> bool {
        let (topic, length) = (&publication.topic, publication.payload.len());
        let too_large = self.limit.exceeded_by(topic, length);
        if let Some(bytes) = too_large.or(publication.oversize) {
            let (topic, left_out) = (topic.clone(), too_large.is_some());
            let _ = self.requests.send(BrokerRequest::Oversize { topic, bytes, left_out });
        }
        too_large.is_none()
    }

    /// Publishes all remembered state again.
    pub fn republish(&self) {
        let _ = self.requests.send(BrokerRequest::Republish);
    }

    /// Unsubscribes from `removed`, and subscribes to `added`, on this and later connections. What is
    /// in both is subscribed again, for what is retained there.
    pub fn change_filters(&self, added: Vec<String>, removed: Vec<String>) {
        if !added.is_empty() || !removed.is_empty() {
            let _ = self.requests.send(BrokerRequest::Filters { added, removed });
        }
    }

    /// Clears all retained topics that were published in a lane.
    pub fn clear_states(&self, lane: usize) {
        let _ = self.requests.send(BrokerRequest::ClearStates(lane));
    }

    /// Drops what waits in a lane for which nothing more is published, and forgets its states.
    /// Returns `false` if something is still unacknowledged there: the lane must not be used for
    /// anything else then.
    pub async fn vacate(&self, lane: usize) -> bool {
        let (vacated, answer) = oneshot::channel();
        self.requests.send(BrokerRequest::Vacate { lane, vacated }).is_ok()
            && answer.await.unwrap_or(false)
    }

    /// Waits until the connection's task has had a turn; returns `false` if it has ended.
    pub async fn ping(&self) -> bool {
        let (alive, answer) = oneshot::channel();
        self.requests.send(BrokerRequest::Ping(alive)).is_ok() && answer.await.is_ok()
    }

    /// Returns how many publications wait in each lane; `None` if the connection's task has ended.
    pub async fn waiting(&self) -> Option<Vec<usize>> {
        let (respond, response) = oneshot::channel();
        self.requests.send(BrokerRequest::Waiting(respond)).ok()?;
        response.await.ok()
    }

    /// Watches the connection.
    pub fn status(&self) -> watch::Receiver<BrokerStatus> {
        self.status.clone()
    }

    /// Returns the counts since the start.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Watches the events that are held back on purpose.
    pub fn held(&self) -> watch::Receiver<Held> {
        self.held.clone()
    }

    /// Publishes what is ready, disconnects and ends. Returns `true` if everything published was
    /// acknowledged within `within`. Events held back on purpose are persisted for the next start,
    /// or published if there is no persistence.
    pub async fn close(&self, within: Duration) -> bool {
        let (done, closed) = oneshot::channel();
        if self.requests.send(BrokerRequest::Close { within, done }).is_err() {
            return false;
        }
        closed.await.unwrap_or(false)
    }
}
