//! SockJS over WebSocket.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use reqwest::header::{CONNECTION, HeaderMap, HeaderName, UPGRADE};
use reqwest::{Method, StatusCode};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message as WsMessage};

use super::large::Sizes;
use super::received::{Received, TransportError, session_path};
use super::ws_text::TextAsBinary;
use crate::octoprint::rest::answer::one_line;
use crate::octoprint::rest::http::HttpClient;

/// How long a write may take before the line counts as dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer may take to echo a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A printer's messages are small and its bridge may have a thousand sockets. A larger message
/// gets the room it needs.
const READ_BUFFER: usize = 2 * 1024;
/// After a message of this size, such as the `history` of half an hour, the room that it needed is
/// given back: tungstenite keeps it for ever.
const LARGE: usize = 16 * 1024;

type WsStream = WebSocketStream<TextAsBinary<reqwest::Upgraded>>;

/// An open connection: frames in, text out.
pub(in crate::octoprint) struct WebSocket {
    /// `None` where it has ended.
    stream: Option<WsStream>,
    sizes: Sizes,
    /// Whether the stream has more room than it needs.
    oversized: bool,
}

impl WebSocket {
    /// Opens a WebSocket with a session of its own. Not limited in time: the caller does that.
    pub(in crate::octoprint) async fn open(
        http: &HttpClient,
        sizes: Sizes,
    ) -> Result<Self, TransportError> {
        let path = format!("{}/websocket", session_path());
        let key = generate_key();
        let request = http
            .request_without_timeout(Method::GET, &path)
            .map_err(TransportError::Argument)?
            .headers(upgrade_headers(&key));
        let response = http.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(response).await);
        }
        let accept = response.headers().get("sec-websocket-accept");
        if accept
            .is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes())
        {
            return Err(TransportError::NoWebSocket);
        }
        let stream = response.upgrade().await.map_err(TransportError::from_request)?;
        let stream = Some(wrap(TextAsBinary::new(stream, sizes), sizes).await);
        Ok(Self { stream, sizes, oversized: false })
    }

    /// What comes next. May be dropped and called again without losing anything.
    pub(in crate::octoprint) async fn receive(&mut self) -> Result<Received, TransportError> {
        self.shrink().await;
        let Some(stream) = &mut self.stream else { return Err(TransportError::Ended) };
        match stream.next().await {
            Some(Ok(WsMessage::Binary(bytes))) => {
                self.oversized = bytes.len() >= LARGE;
                Ok(Received::Frame(stream.get_mut().take_message(bytes)))
            }
            Some(Ok(WsMessage::Text(text))) => Ok(Received::Frame(text.into())),
            // After a close frame the stream ends by itself; its end is the event.
            Some(Ok(_)) => Ok(Received::Alive),
            Some(Err(error)) => Err(ws_error(error)),
            None => Err(TransportError::Ended),
        }
    }

    /// Whether a part of a message has come since this was asked last, or one waits for its turn.
    pub(in crate::octoprint) fn is_receiving(&mut self) -> bool {
        self.stream.as_mut().is_some_and(|stream| stream.get_mut().is_receiving())
    }

    /// Goes on with a new tungstenite on the same connection. Nothing is lost: the old one has read
    /// to the end of a frame and no further, and has nothing left to write, else it stays.
    async fn shrink(&mut self) {
        if std::mem::take(&mut self.oversized)
            && let Some(stream) = &mut self.stream
            && matches!(stream.flush().now_or_never(), Some(Ok(())))
            && let Some(stream) = self.stream.take()
        {
            self.stream = Some(wrap(stream.into_inner(), self.sizes).await);
        }
    }

    /// Sends a SockJS frame.
    pub(in crate::octoprint) async fn send(&mut self, text: String) -> Result<(), TransportError> {
        self.write(WsMessage::Text(text.into())).await
    }

    /// Asks for a sign of life.
    pub(in crate::octoprint) async fn ping(&mut self) -> Result<(), TransportError> {
        self.write(WsMessage::Ping(Bytes::new())).await
    }

    async fn write(&mut self, message: WsMessage) -> Result<(), TransportError> {
        let Some(stream) = &mut self.stream else { return Err(TransportError::Ended) };
        match timeout(WRITE_TIMEOUT, stream.send(message)).await {
            Ok(written) => written.map_err(ws_error),
            Err(_) => Err(TransportError::WriteTimeout),
        }
    }

    /// Closes with code 1000 and waits a moment for the echo.
    pub(in crate::octoprint) async fn close(self) {
        let Some(mut stream) = self.stream else { return };
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let closing = async {
            if stream.close(Some(frame)).await.is_ok() {
                while let Some(Ok(message)) = stream.next().await {
                    if message.is_close() {
                        break;
                    }
                }
            }
        };
        // Whether the peer echoes it or not, the connection is dropped next.
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }
}

async fn wrap(stream: TextAsBinary<reqwest::Upgraded>, sizes: Sizes) -> WsStream {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(sizes.max))
        .max_frame_size(Some(sizes.max));
    WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await
}

fn upgrade_headers(key: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let fixed = [
        (CONNECTION, "Upgrade"),
        (UPGRADE, "websocket"),
        (HeaderName::from_static("sec-websocket-version"), "13"),
    ];
    for (name, value) in fixed {
        headers.insert(name, reqwest::header::HeaderValue::from_static(value));
    }
    // The key is Base64, which is a header value always.
    if let Ok(key) = key.parse() {
        headers.insert("sec-websocket-key", key);
    }
    headers
}

/// What an answer to the upgrade other than the switch means. The login has just succeeded, so
/// OctoPrint is there: what refuses is mostly a proxy in between.
async fn refused(mut response: reqwest::Response) -> TransportError {
    let status = response.status().as_u16();
    let text = match response.chunk().await {
        Ok(Some(chunk)) => one_line(&String::from_utf8_lossy(&chunk[..chunk.len().min(200)])),
        _ => String::new(),
    };
    match status {
        502..=504 => TransportError::NotUp { status },
        200 | 400 | 426 => TransportError::Blocked { status, text },
        _ => TransportError::Refused { status },
    }
}

fn ws_error(error: WsError) -> TransportError {
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    match error {
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | WsError::ConnectionClosed
        | WsError::AlreadyClosed => TransportError::Ended,
        WsError::Io(error) => TransportError::Io(error),
        WsError::Capacity(error) => TransportError::TooLarge(error.into()),
        error => TransportError::Protocol(error.into()),
    }
}
