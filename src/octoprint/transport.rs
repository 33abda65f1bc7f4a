//! The transports under the socket: WebSocket, and XHR streaming where WebSocket is blocked.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use tokio::time::timeout;

use super::fallback::Miss;
use super::http::{CallError, Http, RestError};
use super::net_error::NetError;
use super::options::Sizes;
use super::rest::Rest;
use super::status::Transport;
use super::websocket::WebSocket;
use super::xhr::Xhr;

/// What a transport yields.
#[derive(Debug)]
pub(super) enum Received {
    /// A SockJS frame.
    Frame(Bytes),
    /// A sign of life with nothing in it.
    Alive,
}

/// Why a transport could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    #[error("no connection ({cause})")]
    Call {
        cause: NetError,
        /// Whether there was a connection over which it was asked for.
        sent: bool,
    },
    #[error("no connection ({0})")]
    Argument(String),
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
    Io(std::io::Error),
    #[error("the framing is broken ({0})")]
    Protocol(String),
    #[error(
        "OctoPrint sends a message that is too large ({0}): mostly the temperatures of many hours, so \
         lower temperature.cutoff in OctoPrint's settings"
    )]
    TooLarge(String),
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
    pub(super) fn of_call(error: &reqwest::Error) -> Self {
        CallError::of_send(error).into()
    }

    /// Whether OctoPrint could not be reached.
    pub(super) fn unreached(&self) -> bool {
        match self {
            Self::NotUp { .. } => true,
            Self::Call { cause, .. } => cause.unreached(),
            _ => false,
        }
    }

    /// Whether it was the other side that ended an open connection: closed it, or reset it.
    pub(super) fn closed_by_peer(&self) -> bool {
        use std::io::ErrorKind;
        match self {
            Self::Ended | Self::Call { cause: NetError::Down(_), .. } => true,
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
    pub(super) fn miss(&self) -> Miss {
        match self {
            Self::Blocked { .. } | Self::Refused { .. } | Self::NoWebSocket => Miss::Blocked,
            Self::Call { cause: NetError::Timeout, .. } | Self::OpenTimeout => Miss::Mute,
            Self::Call { cause: NetError::Down(_) | NetError::Unreadable(_), sent: true } => {
                Miss::Blocked
            }
            _ => Miss::Down,
        }
    }
}

impl From<CallError> for TransportError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(cause) => Self::Call { cause, sent: false },
            CallError::Unanswered(cause) => Self::Call { cause, sent: true },
            CallError::Body { reason, .. } => Self::Argument(reason),
        }
    }
}

/// An open connection: SockJS frames in, text out.
pub(super) enum Link {
    WebSocket(Box<WebSocket>),
    Xhr(Box<Xhr>),
}

impl Link {
    pub(super) fn transport(&self) -> Transport {
        match self {
            Self::WebSocket(_) => Transport::WebSocket,
            Self::Xhr(_) => Transport::XhrStreaming,
        }
    }

    /// What comes next. May be dropped and called again without losing anything.
    pub(super) async fn receive(&mut self) -> Result<Received, TransportError> {
        match self {
            Self::WebSocket(link) => link.receive().await,
            Self::Xhr(link) => link.receive().await,
        }
    }

    /// Whether a part of a message has come since this was asked last, or a large one waits for its
    /// turn: the connection is alive then, though nothing was received.
    pub(super) fn is_receiving(&mut self) -> bool {
        match self {
            Self::WebSocket(link) => link.is_receiving(),
            Self::Xhr(link) => link.is_receiving(),
        }
    }

    /// Sends a SockJS frame.
    pub(super) async fn send(&mut self, text: String) -> Result<(), TransportError> {
        match self {
            Self::WebSocket(link) => link.send(text).await,
            Self::Xhr(link) => {
                link.send(text);
                Ok(())
            }
        }
    }

    /// Asks for a sign of life. XHR streaming has no ping: the throttle factor in force is sent
    /// once more, and its being accepted is the sign.
    pub(super) async fn ping(&mut self, factor: u32) -> Result<(), TransportError> {
        match self {
            Self::WebSocket(link) => link.ping().await,
            Self::Xhr(link) => {
                link.send(super::frame::encode("throttle", &factor.into()));
                Ok(())
            }
        }
    }

    /// Closes: WebSocket with code 1000. XHR streaming has no close; the session ends with the
    /// stream.
    pub(super) async fn close(self) {
        match self {
            Self::WebSocket(link) => link.close().await,
            Self::Xhr(_) => {}
        }
    }
}

/// Opens a WebSocket within `limit`.
pub(super) async fn open_websocket(
    http: &Http,
    limit: Duration,
    sizes: Sizes,
) -> Result<Link, TransportError> {
    let opened = timeout(limit, WebSocket::open(http, sizes)).await;
    opened.unwrap_or(Err(TransportError::OpenTimeout)).map(|link| Link::WebSocket(Box::new(link)))
}

/// Opens a stream within `limit`.
pub(super) async fn open_xhr(
    rest: &Rest,
    limit: Duration,
    sizes: Sizes,
) -> Result<Link, TransportError> {
    let opened = timeout(limit, Xhr::open(rest.clone(), sizes)).await;
    opened.unwrap_or(Err(TransportError::OpenTimeout)).map(|link| Link::Xhr(Box::new(link)))
}

/// Whether OctoPrint's SockJS answers, so that a failed upgrade means a blocked one.
pub(super) async fn sockjs_is_there(http: &Http, limit: Duration) -> bool {
    matches!(timeout(limit, sockjs_info(http)).await, Ok(Ok(200)))
}

/// Asks for `sockjs/info`, which anyone may; yields the status of the answer.
pub(super) async fn sockjs_info(http: &Http) -> Result<u16, RestError> {
    let path = "sockjs/info";
    let request = http.request(Method::GET, path)?;
    let answer = http.answer(path, request).await.map_err(|error| error.at(path))?;
    Ok(answer.status.as_u16())
}

/// A fresh server and session id: SockJS would take a known one for the old session.
pub(super) fn session_path() -> String {
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
