//! The output and the errors of a transport.

use bytes::Bytes;

use crate::causes::{self, Cause};
use crate::octoprint::rest::error::{BodyError, CallError, NetError, RestError};

/// How a WebSocket failed, for the choice of the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::octoprint) enum WebSocketFailure {
    /// The upgrade was refused, or it broke the connection.
    Blocked,
    /// It was not opened in time, or it ended before it carried `connected`.
    Silent,
    /// OctoPrint is unreachable, whatever the transport.
    Down,
}

#[derive(Debug)]
pub(in crate::octoprint) enum Received {
    Frame(Bytes),
    /// A sign of life without content.
    Alive,
}

#[derive(Debug, thiserror::Error)]
pub(in crate::octoprint) enum TransportError {
    #[error("no connection ({source})")]
    Call {
        source: NetError,
        /// Whether there was a connection on which the request was sent.
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

/// Explains a status. The login has just succeeded, so it is probably a proxy that refuses.
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

    pub(in crate::octoprint) fn unreached(&self) -> bool {
        match self {
            Self::NotUp { .. } => true,
            Self::Call { source, .. } => source.unreached(),
            _ => false,
        }
    }

    /// Whether the peer closed or reset an open connection.
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

    /// Classifies the error of a WebSocket that was not opened.
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

/// Returns a path with random server and session ids: SockJS would resume the session of a known id.
pub(in crate::octoprint) fn session_path() -> String {
    let session: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
    format!("sockjs/{:03}/{session}", fastrand::u16(0..1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_has_a_new_id() {
        let (one, other) = (session_path(), session_path());
        assert_ne!(one, other);
        assert!(one.starts_with("sockjs/") && one.split('/').nth(1).is_some_and(|s| s.len() == 3));
    }
}
