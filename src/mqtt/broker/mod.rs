//! Owns the connection to the broker: feeds it from the outbox, settles on PUBACK.
//!
//! rumqttc forgets what is pending when the broker answers without a session, and a packet id
//! collision can wedge it for ever (bytebeamio/rumqtt 1014, 1056). So every connection here is a
//! new event loop, it gets few publications at a time, and the [`Outbox`] is the store of truth.

mod actor;
pub(super) mod connection;
mod dial;
mod event_loop;
pub(super) mod lost;
pub(super) mod options;
mod request;
mod retry;
mod said;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument;

use self::actor::Actor;
use self::options::Options;
use self::request::Request;
pub use self::request::{Audiences, BrokerStatus, Held, PersistEvents, Persistence};
use self::said::Said;
use super::outbox::admission::{Absence, Admission};
use super::outbox::entry::{Bounds, Counts};
use super::outbox::quarantine::{Cause, Quarantine};
use super::outbox::queue::Outbox;
use super::packet::PacketLimit;
use super::publication::{Incoming, Publication};
use crate::clock;

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
    /// for what is for the `audiences`. Without a `persistence` a restart forgets what waits.
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
        let mut absence = Absence::Start { restored: false, away: None };
        let keep = persistence.map(|Persistence { restored, away, keep }| {
            absence = Absence::Start { restored: !restored.is_empty(), away };
            outbox.persist_events();
            let now = clock::now();
            for (lane, sequence, event) in restored {
                outbox.restore(lane, sequence, event, now);
            }
            keep
        });
        let limit = options.limit;
        let span = tracing::info_span!(parent: None, "broker", address = %options.address());
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
            said: Said::default(),
        };
        // Where it panics, the other end of `status` is gone: whoever waits for a change is told.
        tokio::spawn(actor.run().instrument(span));
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
