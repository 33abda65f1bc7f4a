//! What a transport yields, and why it could not be opened or ended.

use bytes::Bytes;

use crate::causes::{self, Cause};
use crate::octoprint::rest::error::{BodyError, CallError, NetError, RestError};

/// How a WebSocket failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::octoprint) enum WebSocketFailure {
    /// The upgrade was refused, or the connection broke over it.
    Blocked,
    /// It was not opened in time, or it ended before it carried so much as `connected`.
    Silent,
    /// OctoPrint was not there to be asked. This says nothing of WebSocket.
    Down,
}

/// What a transport yields.
#[derive(Debug)]
pub(in crate::octoprint) enum Received {
    /// A SockJS frame.
    Frame(Bytes),
    /// A sign of life with nothing in it.
    Alive,
}

/// Why a transport could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
pub(in crate::octoprint) enum TransportError {
    #[error("no connection ({source})")]
    Call {
        source: NetError,
        /// Whether there was a connection over which it was asked for.
        sent: bool,
    },
    #[error("no connection ({})", causes::text(.0))]
    Argument(#[source] RestError),
    #[error("no connection ({0})")]
    Body(#[source] BodyError),
    #[error(
        "the WebSocket upgrade is blocked ({status}: {text}): let the proxy in front of OctoPrint \
         pass the headers Upgrade and Connection"
    )]
    Blocked { status: u16, text: String },
    #[error("the WebSocket upgrade was answered with {status}{}", refusal(*.status))]
    Refused { status: u16 },
    #[error("OctoPrint is not up (HTTP status {status} at the WebSocket upgrade)")]
    NotUp { status: u16 },
    #[error("the answer to the WebSocket upgrade is not one")]
    NoWebSocket,
    #[error("the socket was not opened in time")]
    OpenTimeout,
    #[error("XHR streaming was answered with {status}{}", refusal(*.status))]
    XhrRefused { status: u16 },
    #[error("OctoPrint is gone (the connection ended without a close)")]
    Ended,
    #[error("the connection broke ({0})")]
    Io(#[source] std::io::Error),
    #[error("the framing is broken ({0})")]
    Protocol(#[source] Cause),
    #[error(
        "OctoPrint sends a message that is too large ({0}): mostly the temperatures of many hours, so \
         lower temperature.cutoff in OctoPrint's settings"
    )]
    TooLarge(#[source] Cause),
    #[error("OctoPrint accepted nothing for 15 s")]
    SendTimeout,
    #[error("nothing could be sent for 10 s")]
    WriteTimeout,
}

/// What a status may mean: who asks has just been logged in to OctoPrint, so it is hardly OctoPrint
/// that refuses.
fn refusal(status: u16) -> &'static str {
    match status {
        401 | 403 | 407 => {
            ": a proxy in front of OctoPrint may want a login of its own, in the address as \
             user:password@ or in an extra header"
        }
        _ => "",
    }
}

impl TransportError {
    pub(in crate::octoprint) fn from_request(error: reqwest::Error) -> Self {
        CallError::from_send(error).into()
    }

    /// Whether OctoPrint could not be reached.
    pub(in crate::octoprint) fn unreached(&self) -> bool {
        match self {
            Self::NotUp { .. } => true,
            Self::Call { source, .. } => source.unreached(),
            _ => false,
        }
    }

    /// Whether it was the other side that ended an open connection: closed it, or reset it.
    pub(in crate::octoprint) fn closed_by_peer(&self) -> bool {
        use std::io::ErrorKind;
        match self {
            Self::Ended | Self::Call { source: NetError::Down(_), .. } => true,
            Self::Io(error) => matches!(
                error.kind(),
                ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
            ),
            _ => false,
        }
    }

    /// What it says of WebSocket, where it is why none was opened.
    pub(in crate::octoprint) fn websocket_failure(&self) -> WebSocketFailure {
        match self {
            Self::Blocked { .. } | Self::Refused { .. } | Self::NoWebSocket => {
                WebSocketFailure::Blocked
            }
            Self::Call { source: NetError::Timeout, .. } | Self::OpenTimeout => {
                WebSocketFailure::Silent
            }
            Self::Call { source: NetError::Down(_) | NetError::Unreadable(_), sent: true } => {
                WebSocketFailure::Blocked
            }
            _ => WebSocketFailure::Down,
        }
    }
}

impl From<CallError> for TransportError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(source) => Self::Call { source, sent: false },
            CallError::Unanswered(source) => Self::Call { source, sent: true },
            CallError::Body { source, .. } => Self::Body(source),
        }
    }
}

/// A fresh server and session id: SockJS would take a known one for the old session.
pub(in crate::octoprint) fn session_path() -> String {
    let session: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
    format!("sockjs/{:03}/{session}", fastrand::u16(0..1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_is_a_fresh_one() {
        let (one, other) = (session_path(), session_path());
        assert_ne!(one, other);
        assert!(one.starts_with("sockjs/") && one.split('/').nth(1).is_some_and(|s| s.len() == 3));
    }
}
