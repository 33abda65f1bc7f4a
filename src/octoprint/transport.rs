//! The transports under the socket: WebSocket, and XHR streaming where WebSocket is blocked.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use tokio::time::{Instant, timeout};

use super::TransportChoice;
use super::http::{CallError, Http};
use super::rest::Rest;
use super::status::Transport;
use super::websocket::WebSocket;
use super::xhr::Xhr;

/// How long XHR streaming is used before WebSocket is tried again.
const REMEMBER: Duration = Duration::from_secs(600);

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
    #[error("no connection ({0})")]
    Call(String),
    #[error(
        "the WebSocket upgrade is blocked ({status}: {text}): let the proxy in front of OctoPrint \
         pass the headers Upgrade and Connection"
    )]
    Blocked { status: u16, text: String },
    #[error("the WebSocket upgrade was answered with {status}")]
    Refused { status: u16 },
    #[error("OctoPrint is not up (HTTP status {status} at the WebSocket upgrade)")]
    NotUp { status: u16 },
    #[error("the answer to the WebSocket upgrade is not one")]
    NoWebSocket,
    #[error("the socket was not opened in time")]
    OpenTimeout,
    #[error("XHR streaming was answered with {status}")]
    XhrRefused { status: u16 },
    #[error("OctoPrint is gone (the connection ended without a close)")]
    Ended,
    #[error("the connection broke ({0})")]
    Io(String),
    #[error("the framing is broken ({0})")]
    Protocol(String),
    #[error("a message is too large ({0})")]
    TooLarge(String),
    #[error("OctoPrint accepted nothing for 15 s")]
    SendTimeout,
    #[error("nothing could be sent for 10 s")]
    WriteTimeout,
}

impl TransportError {
    pub(super) fn of_call(error: &reqwest::Error) -> Self {
        match CallError::of_send(error) {
            CallError::NotSent(cause) | CallError::Unanswered(cause) => {
                Self::Call(cause.to_string())
            }
            CallError::Body { reason, .. } => Self::Call(reason),
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

/// Which transports to try, and what is known of them.
#[derive(Debug)]
pub(super) struct Transports {
    choice: TransportChoice,
    /// When WebSocket turned out to be blocked.
    blocked: Option<Instant>,
}

/// What to try for one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    WebSocket,
    XhrStreaming,
    /// WebSocket, and where it is blocked XHR streaming.
    Both,
}

impl Transports {
    pub(super) fn new(choice: TransportChoice) -> Self {
        Self { choice, blocked: None }
    }

    /// What to try now.
    pub(super) fn plan(&self, now: Instant) -> Plan {
        match self.choice {
            TransportChoice::WebSocket => Plan::WebSocket,
            TransportChoice::XhrStreaming => Plan::XhrStreaming,
            TransportChoice::Auto => match self.blocked {
                Some(since) if now.saturating_duration_since(since) < REMEMBER => {
                    Plan::XhrStreaming
                }
                _ => Plan::Both,
            },
        }
    }

    /// Remembers what worked, having been tried as `plan` says.
    pub(super) fn worked(&mut self, plan: Plan, transport: Transport, now: Instant) {
        match (plan, transport) {
            (_, Transport::WebSocket) => self.blocked = None,
            (Plan::Both, Transport::XhrStreaming) => self.blocked = Some(now),
            _ => {}
        }
    }
}

impl Plan {
    /// Opens a connection; each transport may take `limit`.
    pub(super) async fn open(
        self,
        rest: &Rest,
        limit: Duration,
        max_message: usize,
    ) -> Result<Link, TransportError> {
        let failed = match self {
            Self::XhrStreaming => return open_xhr(rest, limit, max_message).await,
            Self::WebSocket | Self::Both => {
                match open_websocket(rest.http(), limit, max_message).await {
                    Ok(link) => return Ok(link),
                    Err(failed) => failed,
                }
            }
        };
        if self == Self::WebSocket || !sockjs_is_there(rest.http(), limit).await {
            return Err(failed);
        }
        tracing::warn!("{failed}; trying XHR streaming");
        // The first failure is the one worth telling.
        open_xhr(rest, limit, max_message).await.map_err(|_| failed)
    }
}

async fn open_websocket(
    http: &Http,
    limit: Duration,
    max_message: usize,
) -> Result<Link, TransportError> {
    let opened = timeout(limit, WebSocket::open(http, max_message)).await;
    opened.unwrap_or(Err(TransportError::OpenTimeout)).map(|link| Link::WebSocket(Box::new(link)))
}

async fn open_xhr(rest: &Rest, limit: Duration, max: usize) -> Result<Link, TransportError> {
    let opened = timeout(limit, Xhr::open(rest.clone(), max)).await;
    opened.unwrap_or(Err(TransportError::OpenTimeout)).map(|link| Link::Xhr(Box::new(link)))
}

/// Whether OctoPrint's SockJS answers, so that a failed upgrade means a blocked one.
async fn sockjs_is_there(http: &Http, limit: Duration) -> bool {
    let path = "sockjs/info";
    let Ok(request) = http.request(Method::GET, path) else {
        return false;
    };
    let answer = timeout(limit, http.answer(path, request)).await;
    matches!(answer, Ok(Ok(answer)) if answer.status.as_u16() == 200)
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
    fn what_worked_is_remembered_for_ten_minutes() {
        let now = Instant::now();
        let mut auto = Transports::new(TransportChoice::Auto);
        assert_eq!(auto.plan(now), Plan::Both);
        auto.worked(Plan::Both, Transport::XhrStreaming, now);
        assert_eq!(auto.plan(now + REMEMBER / 2), Plan::XhrStreaming);
        auto.worked(Plan::XhrStreaming, Transport::XhrStreaming, now + REMEMBER / 2);
        assert_eq!(auto.plan(now + REMEMBER), Plan::Both);
        auto.worked(Plan::Both, Transport::WebSocket, now + REMEMBER);
        assert_eq!(auto.blocked, None);
        let only = Transports::new(TransportChoice::WebSocket);
        assert_eq!(only.plan(now), Plan::WebSocket);
    }

    #[test]
    fn every_session_is_a_fresh_one() {
        let (one, other) = (session_path(), session_path());
        assert_ne!(one, other);
        assert!(one.starts_with("sockjs/") && one.split('/').nth(1).is_some_and(|s| s.len() == 3));
    }
}
