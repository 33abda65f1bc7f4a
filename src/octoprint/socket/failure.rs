//! Why an attempt or a connection of the socket is over, and how long to wait where it failed.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use url::Url;

use super::dispatcher::{Dispatcher, Order};
use super::knocking::{KnockResult, Knocking};
use crate::causes::{self, Cause};
use crate::octoprint::rest::client::Rest;
use crate::octoprint::rest::error::LoginError;
use crate::octoprint::rest::http::{HttpClient, public_url};
use crate::octoprint::rest::reach::not_up;
use crate::octoprint::wire::received::TransportError;
use crate::octoprint::wire::transport::{Transport, sockjs_info};

/// After how many unreadable frames in a row the connection is given up.
const MAX_UNREADABLE: u32 = 20;

/// How long to wait where only a permission is missing.
const NO_PERMISSION_PAUSE: Duration = Duration::from_secs(60);

/// Why an attempt or a connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the socket was opened, but OctoPrint did not greet in time{}", held_back(*.0))]
    NoGreeting(Transport),
    #[error("logged in, but OctoPrint sent no state in time")]
    NotProven,
    #[error(
        "logged in again, but OctoPrint sent no state within {}",
        humantime::format_duration(*.0)
    )]
    NotProvenAgain(Duration),
    #[error("OctoPrint asks for a new login, which only a new connection can prove")]
    Unprovable,
    #[error(
        "the user {0} lacks the permission STATUS, without which OctoPrint pushes nothing: grant \
         it in OctoPrint's access control"
    )]
    NoPermission(String),
    #[error("OctoPrint calls every session stale that it gives")]
    Stale,
    #[error("nothing was heard from OctoPrint for {}", humantime::format_duration(*.0))]
    Silent(Duration),
    #[error("OctoPrint closed the session ({code} {reason})")]
    Closed { code: u16, reason: String },
    #[error("{MAX_UNREADABLE} frames in a row could not be read, the last one {0}")]
    Unreadable(#[source] Cause),
}

/// What may keep the greeting of a transport back.
fn held_back(transport: Transport) -> &'static str {
    match transport {
        Transport::WebSocket => "",
        Transport::XhrStreaming => {
            ": a proxy in front of OctoPrint may collect its answers; let it pass the headers \
             Upgrade and Connection, or buffer nothing"
        }
    }
}

impl SocketError {
    /// Whether trying again soon is of no use, because OctoPrint refuses who asks, or
    /// does the same again for certain.
    pub(super) fn refused(&self) -> bool {
        match self {
            Self::Login(error) => error.refused(),
            Self::NoPermission(_) | Self::Stale => true,
            // It sends the same again at once.
            Self::Transport(error) => matches!(error, TransportError::TooLarge(_)),
            _ => false,
        }
    }

    /// How long to wait before the next attempt, where that is not for the list of timeouts to say;
    /// `refused` after refused credentials.
    pub(super) fn pause(&self, refused: Duration) -> Option<Duration> {
        match self {
            // The login worked, so that another one does no harm; and someone may be about to grant
            // the permission.
            Self::NoPermission(_) => Some(refused.min(NO_PERMISSION_PAUSE)),
            _ => self.refused().then_some(refused),
        }
    }

    /// Whether OctoPrint could not be reached by an attempt.
    pub(super) fn unreached(&self) -> bool {
        match self {
            Self::Login(error) => error.unreached(),
            Self::Transport(error) => error.unreached(),
            _ => false,
        }
    }

    /// Whether it was OctoPrint that ended a connection.
    pub(super) fn closed_by_peer(&self) -> bool {
        match self {
            Self::Transport(error) => error.closed_by_peer(),
            Self::Closed { .. } => true,
            _ => false,
        }
    }
}

/// Why an attempt or a connection is over: told so, or failed.
pub(super) enum ConnectionEnd {
    Ordered(Order),
    Failed(SocketError),
}

impl From<Order> for ConnectionEnd {
    fn from(order: Order) -> Self {
        Self::Ordered(order)
    }
}

impl<E: Into<SocketError>> From<E> for ConnectionEnd {
    fn from(failure: E) -> Self {
        Self::Failed(failure.into())
    }
}

/// What could not be read on one connection.
#[derive(Default)]
pub(super) struct UnreadableFrames {
    /// Frames since the last readable one.
    frames: u32,
    /// What has been said of it in the log.
    complained: HashSet<String>,
}

impl UnreadableFrames {
    /// A frame could be read.
    pub(super) fn readable(&mut self) {
        self.frames = 0;
    }

    /// A frame could not be read. Single ones are skipped; where there are only such, the connection
    /// is worth nothing.
    pub(super) fn note(&mut self, what: impl Into<Cause>) -> Result<(), SocketError> {
        self.frames += 1;
        let few = self.frames < MAX_UNREADABLE;
        if few { Ok(()) } else { Err(SocketError::Unreadable(what.into())) }
    }

    /// Says what is skipped, the first time for each kind of it.
    pub(super) fn complain(&mut self, what: &dyn Display, url: &Url) {
        let what = what.to_string();
        if !self.complained.contains(&what) {
            let url = public_url(url);
            tracing::warn!(url, "skipped {what}; further ones on this connection are counted only");
            self.complained.insert(what);
        }
    }
}

/// What is known of OctoPrint since a connection ended, until there is the next one.
pub(super) struct Outage {
    rest: Rest,
    /// How long a knock may take.
    limit: Duration,
    knocking: Knocking,
    /// The client that knocks, from the first knock to the outage's end.
    knocker: Option<Arc<HttpClient>>,
    /// When OctoPrint closed the last connection that was logged in.
    closed_at: Option<Instant>,
    /// A connection that was logged in has just been lost.
    lost: bool,
}

impl Outage {
    pub(super) fn new(rest: Rest, limit: Duration, knock: bool) -> Self {
        let knocking = Knocking::new(knock);
        Self { rest, limit, knocking, knocker: None, closed_at: None, lost: false }
    }

    /// There is a connection: nobody has to knock.
    pub(super) fn opened(&mut self) {
        self.knocker = None;
    }

    /// There was a connection that was logged in: what was before is forgotten.
    pub(super) fn connected(&mut self) {
        self.knocking.reset();
        (self.closed_at, self.lost) = (None, false);
    }

    /// A connection that was logged in has failed.
    pub(super) fn lost(&mut self, failure: &SocketError) {
        self.lost = true;
        self.closed_at = failure.closed_by_peer().then(Instant::now);
    }

    /// A wait begins after a failure, if there is to be another attempt.
    pub(super) fn begin_wait(&mut self, failure: &SocketError, waits: bool) {
        if failure.unreached() && !self.lost && waits {
            self.knocking.start(fastrand::f64(), Instant::now());
        } else {
            self.knocking.stop();
        }
        // Whoever refuses who asks is there, and is not to be asked again soon.
        self.lost &= !failure.refused();
    }

    /// Waits for `pause` at most. Where OctoPrint could not be reached, asks meanwhile whether it
    /// is back; where a connection has just been lost, asks at once whether it is still there.
    pub(super) async fn wait(
        &mut self,
        dispatcher: &mut Dispatcher,
        pause: Duration,
    ) -> Result<(), Order> {
        let ends = Instant::now() + pause;
        let mut at = std::mem::take(&mut self.lost).then(Instant::now);
        loop {
            let now = Instant::now();
            let next = at.take().or_else(|| self.knocking.next(now, ends));
            let Some(http) = next.and_then(|_| self.knocker()) else {
                return dispatcher.run_unless_ordered(false, sleep_until(ends)).await;
            };
            let begun = next.unwrap_or(now);
            let knock = async {
                sleep_until(begun).await;
                timeout(self.limit, knock(&http)).await.unwrap_or(KnockResult::Away)
            };
            let Ok(answer) = dispatcher.run_unless_ordered(false, timeout_at(ends, knock)).await?
            else {
                return Ok(());
            };
            self.report_gone(dispatcher);
            if self.answered(answer, begun) {
                return Ok(());
            }
        }
    }

    /// Whether the answer to a knock ends the wait.
    fn answered(&mut self, answer: KnockResult, begun: Instant) -> bool {
        if answer == KnockResult::Away && !self.knocking.is_active() {
            self.knocking.start(fastrand::f64(), begun);
        }
        let ends = self.knocking.knocked(answer, begun);
        if ends {
            let url = public_url(self.rest.http().base());
            tracing::info!(url, "OctoPrint answers again; connecting");
        }
        ends
    }

    /// The client that knocks; `None` where there can be none.
    fn knocker(&mut self) -> Option<Arc<HttpClient>> {
        if self.knocker.is_none() {
            match self.rest.http().knocker() {
                Ok(http) => self.knocker = Some(Arc::new(http)),
                Err(error) => {
                    tracing::debug!(
                        error = causes::text(&error),
                        "cannot make a client that probes for OctoPrint"
                    );
                }
            }
        }
        self.knocker.clone()
    }

    /// Shows that OctoPrint is gone, where it closed the connection and is not there any more.
    pub(super) fn report_gone(&self, dispatcher: &Dispatcher) {
        let reach = self.rest.http().reach();
        if self.closed_at.is_some_and(|closed| reach.gone_since(closed)) {
            dispatcher.update_status(|status| status.gone = true);
        }
    }
}

async fn knock(http: &HttpClient) -> KnockResult {
    match sockjs_info(http).await {
        Ok(200) => KnockResult::There,
        Ok(status) if !not_up(status) => KnockResult::Other,
        Ok(_) | Err(_) => KnockResult::Away,
    }
}
