//! The transports of the socket: WebSocket, and XHR streaming if WebSocket is blocked.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use tokio::time::timeout;

use super::frame::{self, Frame, FrameError};
use super::received::{Received, TransportError};
use super::websocket::WebSocket;
use super::xhr::Xhr;
use crate::octoprint::large::Sizes;
use crate::octoprint::rest::client::Rest;
use crate::octoprint::rest::error::RestError;
use crate::octoprint::rest::http::HttpClient;

/// The transport in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket.
    WebSocket,
    /// XHR streaming.
    XhrStreaming,
}

impl Transport {
    /// Returns the transport's name, as in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::XhrStreaming => "xhr-streaming",
        }
    }
}

/// An open connection: SockJS frames in, text out.
pub(in crate::octoprint) enum Link {
    WebSocket(Box<WebSocket>),
    Xhr(Box<Xhr>),
}

impl Link {
    pub(in crate::octoprint) fn transport(&self) -> Transport {
        match self {
            Self::WebSocket(_) => Transport::WebSocket,
            Self::Xhr(_) => Transport::XhrStreaming,
        }
    }

    /// Waits for the next frame or sign of life. Cancel-safe.
    pub(in crate::octoprint) async fn receive(&mut self) -> Result<Received, TransportError> {
        match self {
            Self::WebSocket(link) => link.receive().await,
            Self::Xhr(link) => link.receive().await,
        }
    }

    /// Whether data of a message arrived since the last call, or a large one waits for its turn: the
    /// connection is alive then, even without a complete message.
    pub(in crate::octoprint) fn is_receiving(&mut self) -> bool {
        match self {
            Self::WebSocket(link) => link.is_receiving(),
            Self::Xhr(link) => link.is_receiving(),
        }
    }

    pub(in crate::octoprint) async fn send(&mut self, text: String) -> Result<(), TransportError> {
        match self {
            Self::WebSocket(link) => link.send(text).await,
            Self::Xhr(link) => {
                link.send(text);
                Ok(())
            }
        }
    }

    /// Requests a sign of life. XHR streaming has no ping, so the throttle factor in force is sent
    /// again, and the response is the sign.
    pub(in crate::octoprint) async fn ping(&mut self, factor: u32) -> Result<(), TransportError> {
        match self {
            Self::WebSocket(link) => link.ping().await,
            Self::Xhr(link) => {
                link.send(frame::encode("throttle", &factor.into()));
                Ok(())
            }
        }
    }

    /// Closes a WebSocket with code 1000. XHR streaming has no close; the session ends with the
    /// stream.
    pub(in crate::octoprint) async fn close(self) {
        match self {
            Self::WebSocket(link) => link.close().await,
            Self::Xhr(_) => {}
        }
    }
}

/// Decodes a frame. One larger than `large` bytes is decoded on another thread, so that it does not
/// block other printers.
pub(in crate::octoprint) async fn decode(bytes: Bytes, large: usize) -> Result<Frame, FrameError> {
    if bytes.len() <= large {
        return frame::decode(&bytes);
    }
    let decoded = tokio::task::spawn_blocking(move || frame::decode(&bytes)).await;
    // Fails only while the runtime shuts down.
    decoded.unwrap_or(Err(FrameError::Empty))
}

pub(in crate::octoprint) async fn open_websocket(
    http: &HttpClient,
    limit: Duration,
    sizes: Sizes,
) -> Result<Link, TransportError> {
    let opened = timeout(limit, WebSocket::open(http, sizes)).await;
    opened.unwrap_or(Err(TransportError::OpenTimeout)).map(|link| Link::WebSocket(Box::new(link)))
}

pub(in crate::octoprint) async fn open_xhr(
    rest: &Rest,
    limit: Duration,
    sizes: Sizes,
) -> Result<Link, TransportError> {
    let opened = timeout(limit, Xhr::open(rest.clone(), sizes)).await;
    opened.unwrap_or(Err(TransportError::OpenTimeout)).map(|link| Link::Xhr(Box::new(link)))
}

/// Whether OctoPrint's SockJS answers, which makes a failed upgrade a blocked one.
pub(in crate::octoprint) async fn sockjs_is_there(http: &HttpClient, limit: Duration) -> bool {
    matches!(timeout(limit, sockjs_info(http)).await, Ok(Ok(200)))
}

/// Requests `sockjs/info`, which needs no login. Returns the status of the answer.
pub(in crate::octoprint) async fn sockjs_info(http: &HttpClient) -> Result<u16, RestError> {
    let path = "sockjs/info";
    let request = http.request(Method::GET, path)?;
    let answer = http.answer(path, request).await.map_err(|error| error.at(path))?;
    Ok(answer.status.as_u16())
}
