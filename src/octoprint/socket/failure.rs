//! Why an attempt or a connection of the socket is over, and how long to wait where it failed.

use std::collections::HashSet;
use std::fmt::Display;
use std::time::Duration;

use url::Url;

use super::dispatcher::Order;
use crate::causes::Cause;
use crate::octoprint::rest::http::public_url;
use crate::octoprint::rest::login::LoginError;
use crate::octoprint::wire::received::TransportError;
use crate::octoprint::wire::transport::Transport;

/// After how many unreadable frames in a row the connection is given up.
const MAX_UNREADABLE: u32 = 20;

/// How long to wait where only a permission is missing.
const NO_PERMISSION_PAUSE: Duration = Duration::from_secs(60);

/// Why an attempt or a connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
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

impl Failure {
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
pub(super) enum Over {
    Told(Order),
    Failed(Failure),
}

impl From<Order> for Over {
    fn from(order: Order) -> Self {
        Self::Told(order)
    }
}

impl<E: Into<Failure>> From<E> for Over {
    fn from(failure: E) -> Self {
        Self::Failed(failure.into())
    }
}

/// What could not be read on one connection.
#[derive(Default)]
pub(super) struct Unreadable {
    /// Frames since the last readable one.
    frames: u32,
    /// What has been said of it in the log.
    complained: HashSet<String>,
}

impl Unreadable {
    /// A frame could be read.
    pub(super) fn readable(&mut self) {
        self.frames = 0;
    }

    /// A frame could not be read. Single ones are skipped; where there are only such, the connection
    /// is worth nothing.
    pub(super) fn note(&mut self, what: impl Into<Cause>) -> Result<(), Failure> {
        self.frames += 1;
        let few = self.frames < MAX_UNREADABLE;
        if few { Ok(()) } else { Err(Failure::Unreadable(what.into())) }
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
