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

use super::received::{Received, TransportError, session_path};
use super::ws_text::TextAsBinary;
use crate::octoprint::large::Sizes;
use crate::octoprint::rest::answer::one_line;
use crate::octoprint::rest::http::HttpClient;

/// Timeout of a write, after which the connection counts as dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Initial size of the read buffer, in bytes. Small, because messages usually are and a bridge may
/// have a thousand sockets.
const READ_BUFFER: usize = 2 * 1024;
/// Size of a message after which the buffer is freed, in bytes: tungstenite never shrinks it.
const LARGE: usize = 16 * 1024;

type WsStream = WebSocketStream<TextAsBinary<reqwest::Upgraded>>;

pub(in crate::octoprint) struct WebSocket {
    /// `None` once closed.
    stream: Option<WsStream>,
    sizes: Sizes,
    /// Whether the stream's buffer is larger than necessary.
    oversized: bool,
}

impl WebSocket {
    /// Opens a WebSocket with a new session. The caller sets a timeout.
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

    /// Waits for the next frame or sign of life. Cancel-safe.
    pub(in crate::octoprint) async fn receive(&mut self) -> Result<Received, TransportError> {
        self.shrink().await;
        let Some(stream) = &mut self.stream else { return Err(TransportError::Ended) };
        match stream.next().await {
            Some(Ok(WsMessage::Binary(bytes))) => {
                self.oversized = bytes.len() >= LARGE;
                Ok(Received::Frame(stream.get_mut().take_message(bytes)))
            }
            Some(Ok(WsMessage::Text(text))) => Ok(Received::Frame(text.into())),
            // After a close frame the stream ends by itself.
            Some(Ok(_)) => Ok(Received::Alive),
            Some(Err(error)) => Err(ws_error(error)),
            None => Err(TransportError::Ended),
        }
    }

    pub(in crate::octoprint) fn is_receiving(&mut self) -> bool {
        self.stream.as_mut().is_some_and(|stream| stream.get_mut().is_receiving())
    }

    /// Replaces tungstenite's state on the same connection to free its buffer. Nothing is lost: the
    /// old state has not read past a frame, and it is replaced only if it has nothing left to write.
    async fn shrink(&mut self) {
        if std::mem::take(&mut self.oversized)
            && let Some(stream) = &mut self.stream
            && matches!(stream.flush().now_or_never(), Some(Ok(())))
            && let Some(stream) = self.stream.take()
        {
            self.stream = Some(wrap(stream.into_inner(), self.sizes).await);
        }
    }

    pub(in crate::octoprint) async fn send(&mut self, text: String) -> Result<(), TransportError> {
        self.write(WsMessage::Text(text.into())).await
    }

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
        // The connection is dropped next in any case.
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
    // The key is Base64, which is always a valid header value.
    if let Ok(key) = key.parse() {
        headers.insert("sec-websocket-key", key);
    }
    headers
}

/// Returns the error for a refused upgrade. The login has just succeeded, so usually a proxy refuses.
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
