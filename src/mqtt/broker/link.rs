//! The bytes of a connection to the broker, whether a stream or WebSocket messages carry them.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// Largest payload of one WebSocket message sent, in bytes.
const CHUNK: usize = 8 * 1024;

pub(in crate::mqtt) trait ByteStream:
    AsyncRead + AsyncWrite + Unpin + Send
{
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// A connection to the broker that can carry MQTT.
pub(in crate::mqtt) enum BrokerLink {
    /// TCP, with or without TLS.
    Bytes(Box<dyn ByteStream>),
    /// A WebSocket.
    Messages(Box<WebSocketStream<Box<dyn ByteStream>>>),
}

impl BrokerLink {
    /// Appends to `input` what has arrived, and returns its length in bytes; 0 at the end.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let socket = match self {
            // Reading is cancel-safe: what is not ready has read nothing.
            Self::Bytes(stream) => return pin!(stream.read_buf(input)).poll(cx),
            Self::Messages(socket) => socket,
        };
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut **socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) if !bytes.is_empty() => {
                    input.extend_from_slice(&bytes);
                    Ok(bytes.len())
                }
                // MQTT uses no text messages, and tungstenite answers pings itself.
                Some(Ok(_)) => continue,
                None | Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => Ok(0),
                Some(Err(error)) => Err(io_error(error)),
            });
        }
    }

    /// Sends all of `output`, and flushes. What was sent is taken from it.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        output: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Bytes(stream) => {
                while !output.is_empty() {
                    let sent = ready!(Pin::new(&mut *stream).poll_write(cx, output))?;
                    if sent == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    output.advance(sent);
                }
                Pin::new(stream).poll_flush(cx)
            }
            Self::Messages(socket) => {
                let mut socket = Pin::new(&mut **socket);
                while !output.is_empty() {
                    ready!(socket.as_mut().poll_ready(cx)).map_err(io_error)?;
                    let chunk = output.split_to(output.len().min(CHUNK)).freeze();
                    socket.as_mut().start_send(Message::Binary(chunk)).map_err(io_error)?;
                }
                socket.poll_flush(cx).map_err(io_error)
            }
        }
    }

    /// Closes the side of the bridge, so that the broker closes its own.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Bytes(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Messages(socket) => Pin::new(&mut **socket).poll_close(cx).map_err(io_error),
        }
    }
}

fn io_error(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | WsError::ConnectionClosed
        | WsError::AlreadyClosed => io::ErrorKind::UnexpectedEof.into(),
        error => io::Error::other(error),
    }
}
