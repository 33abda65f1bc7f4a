//! Why connections of the socket fail, and the outage until the next attempt.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use url::Url;

use super::dispatcher::{Dispatcher, Order};
use super::knocking::{KnockResult, Knocking};
use crate::causes::{self, Cause};
use crate::octoprint::rest::client::{CurrentUser, Rest};
use crate::octoprint::rest::error::{LoginError, RestError};
use crate::octoprint::rest::http::{HttpClient, public_url};
use crate::octoprint::rest::reach::not_up;
use crate::octoprint::wire::received::TransportError;
use crate::octoprint::wire::transport::{Transport, sockjs_info};

/// Unreadable frames in a row after which the connection is dropped.
const MAX_UNREADABLE: u32 = 20;

/// Delay before the next attempt if only a permission is missing.
const NO_PERMISSION_PAUSE: Duration = Duration::from_secs(60);

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
    #[error("OctoPrint reports every new session as stale")]
    Stale,
    #[error("nothing was heard from OctoPrint for {}", humantime::format_duration(*.0))]
    Silent(Duration),
    #[error("OctoPrint closed the session ({code} {reason})")]
    Closed { code: u16, reason: String },
    #[error("{MAX_UNREADABLE} frames in a row could not be read, the last one {0}")]
    Unreadable(#[source] Cause),
}

/// Explains what may delay the greeting on a transport.
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
    /// Returns why OctoPrint did not prove a login, given the user that it belongs to.
    pub(super) fn of_unproven(user: Result<CurrentUser, RestError>) -> Self {
        match user {
            Ok(CurrentUser { name: Some(name), permissions, .. })
                if !permissions.iter().any(|permission| permission == "STATUS") =>
            {
                Self::NoPermission(name)
            }
            _ => Self::NotProven,
        }
    }

    /// Whether retrying soon is useless: OctoPrint refuses the login, or would repeat what failed.
    pub(super) fn refused(&self) -> bool {
        match self {
            Self::Login(error) => error.refused(),
            Self::NoPermission(_) | Self::Stale => true,
            // OctoPrint would send the same message again.
            Self::Transport(error) => matches!(error, TransportError::TooLarge(_)),
            _ => false,
        }
    }

    /// Returns the delay before the next attempt; `None` to use the list of timeouts. `refused` is
    /// the delay after refused credentials.
    pub(super) fn pause(&self, refused: Duration) -> Option<Duration> {
        match self {
            // Another login is harmless, and someone may be about to grant the permission.
            Self::NoPermission(_) => Some(refused.min(NO_PERMISSION_PAUSE)),
            _ => self.refused().then_some(refused),
        }
    }

    pub(super) fn unreached(&self) -> bool {
        match self {
            Self::Login(error) => error.unreached(),
            Self::Transport(error) => error.unreached(),
            _ => false,
        }
    }

    pub(super) fn closed_by_peer(&self) -> bool {
        match self {
            Self::Transport(error) => error.closed_by_peer(),
            Self::Closed { .. } => true,
            _ => false,
        }
    }
}

/// Why an attempt or a connection ended: by an order, or by a failure.
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

#[derive(Default)]
pub(super) struct UnreadableFrames {
    in_a_row: u32,
    logged: HashSet<String>,
}

impl UnreadableFrames {
    pub(super) fn readable(&mut self) {
        self.in_a_row = 0;
    }

    /// Records an unreadable frame. Fails after too many in a row.
    pub(super) fn note(&mut self, what: impl Into<Cause>) -> Result<(), SocketError> {
        self.in_a_row += 1;
        let few = self.in_a_row < MAX_UNREADABLE;
        if few { Ok(()) } else { Err(SocketError::Unreadable(what.into())) }
    }

    /// Logs what is skipped, once for each kind of error.
    pub(super) fn log_once(&mut self, what: &dyn Display, url: &Url) {
        let what = what.to_string();
        if !self.logged.contains(&what) {
            let url = public_url(url);
            tracing::warn!(url, "skipped {what}; further ones on this connection are counted only");
            self.logged.insert(what);
        }
    }
}

/// The time from the end of a connection to the next one: waits, and knocks meanwhile.
pub(super) struct Outage {
    rest: Rest,
    limit: Duration,
    knocking: Knocking,
    /// The client for knocks; created for the first one of an outage.
    knocker: Option<Arc<HttpClient>>,
    /// When OctoPrint closed the last connection that was logged in.
    closed_at: Option<Instant>,
    /// A logged-in connection has just been lost: the next wait starts with a knock.
    lost: bool,
}

impl Outage {
    pub(super) fn new(rest: Rest, limit: Duration, knock: bool) -> Self {
        let knocking = Knocking::new(knock);
        Self { rest, limit, knocking, knocker: None, closed_at: None, lost: false }
    }

    /// Drops the client for knocks: a transport was opened.
    pub(super) fn opened(&mut self) {
        self.knocker = None;
    }

    pub(super) fn connected(&mut self) {
        self.knocking.reset();
        (self.closed_at, self.lost) = (None, false);
    }

    pub(super) fn lost(&mut self, failure: &SocketError) {
        self.lost = true;
        self.closed_at = failure.closed_by_peer().then(Instant::now);
    }

    /// Prepares the wait after a failure; `waits` is `false` if there is no next attempt.
    pub(super) fn begin_wait(&mut self, failure: &SocketError, waits: bool) {
        if failure.unreached() && !self.lost && waits {
            self.knocking.start(fastrand::f64(), Instant::now());
        } else {
            self.knocking.stop();
        }
        // An OctoPrint that refuses a login is up, and needs no knock.
        self.lost &= !failure.refused();
    }

    /// Waits for `pause`, or less if a knock finds OctoPrint. After the loss of a connection, the
    /// first knock is immediate.
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
            let started = next.unwrap_or(now);
            let knock = async {
                sleep_until(started).await;
                timeout(self.limit, knock(&http)).await.unwrap_or(KnockResult::Down)
            };
            let Ok(answer) = dispatcher.run_unless_ordered(false, timeout_at(ends, knock)).await?
            else {
                return Ok(());
            };
            self.report_gone(dispatcher);
            if self.answered(answer, started) {
                return Ok(());
            }
        }
    }

    /// Handles the result of a knock. Returns whether it ends the wait.
    fn answered(&mut self, answer: KnockResult, started: Instant) -> bool {
        if answer == KnockResult::Down && !self.knocking.is_active() {
            self.knocking.start(fastrand::f64(), started);
        }
        let ends = self.knocking.knocked(answer, started);
        if ends {
            let url = public_url(self.rest.http().base());
            tracing::info!(url, "OctoPrint answers again; connecting");
        }
        ends
    }

    fn knocker(&mut self) -> Option<Arc<HttpClient>> {
        if self.knocker.is_none() {
            match self.rest.http().knocker() {
                Ok(http) => self.knocker = Some(Arc::new(http)),
                Err(error) => {
                    tracing::debug!(
                        error = causes::text(&error),
                        "cannot create the client that probes for OctoPrint"
                    );
                }
            }
        }
        self.knocker.clone()
    }

    /// Marks OctoPrint as gone in the status, if it closed the connection and is down since.
    pub(super) fn report_gone(&self, dispatcher: &Dispatcher) {
        let reach = self.rest.http().reach();
        if self.closed_at.is_some_and(|closed| reach.gone_since(closed)) {
            dispatcher.update_status(|status| status.gone = true);
        }
    }
}

async fn knock(http: &HttpClient) -> KnockResult {
    match sockjs_info(http).await {
        Ok(200) => KnockResult::Up,
        Ok(status) if !not_up(status) => KnockResult::Other,
        Ok(_) | Err(_) => KnockResult::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octoprint::RestOptions;

    fn outage() -> Outage {
        let rest = Rest::new(RestOptions::unreachable()).unwrap();
        Outage::new(rest, Duration::from_secs(1), true)
    }

    #[tokio::test]
    async fn an_octoprint_that_refuses_is_not_knocked_at() {
        let down = || SocketError::Transport(TransportError::NotUp { status: 503 });
        let refusals = || {
            [
                SocketError::Login(LoginError::KeyRefused),
                SocketError::Login(LoginError::WrongPassword),
                SocketError::Login(LoginError::RateLimited),
                SocketError::NoPermission("admin".to_owned()),
                SocketError::Stale,
            ]
        };
        let now = Instant::now();
        let knocks = |outage: &Outage| outage.knocking.next(now, now + Duration::from_secs(3600));
        for refusal in refusals() {
            let mut outage = outage();
            outage.begin_wait(&down(), true);
            assert!(knocks(&outage).is_some());
            outage.begin_wait(&refusal, true);
            assert_eq!(knocks(&outage), None, "{refusal}");
            // Nor is there the knock that follows the loss of a connection.
            outage.lost(&down());
            outage.begin_wait(&refusal, true);
            assert!(!outage.lost && knocks(&outage).is_none(), "{refusal}");
        }
        let mut outage = outage();
        outage.begin_wait(&down(), false);
        assert_eq!(knocks(&outage), None, "it has given up");
    }
}
