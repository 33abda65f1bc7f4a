//! How the broker is reached: name, TCP, TLS, and WebSocket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::api::Options;
use super::link::{BrokerLink, ByteStream};
use super::lost::Lost;
use crate::causes::{Cause, TlsFault};
use crate::names;

/// Size of a WebSocket's read buffer, in bytes: packets are small, and the buffer grows as needed.
const READ_BUFFER: usize = 8 * 1024;
/// Timeout for everything up to a subscribed connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn addresses(options: &Options) -> Result<Vec<SocketAddr>, Lost> {
    let found = names::resolve(&options.host, options.port).await;
    found.map_err(Lost::NoName)
}

/// Returns the deadline for the next of `left` addresses if all must be tried by `until`: each gets
/// a share, so that a dead address before a live one costs only seconds.
pub(super) fn share(now: Instant, until: Instant, left: usize) -> Instant {
    match u32::try_from(left) {
        Ok(left) if left > 1 => now + until.saturating_duration_since(now) / (left + 1),
        _ => until,
    }
}

/// Connects to this address over TCP, TLS and WebSocket as configured.
pub(super) async fn dial(options: &Options, address: SocketAddr) -> Result<BrokerLink, Lost> {
    let tcp = TcpStream::connect(address).await.map_err(|error| Lost::NoRoute(error.into()))?;
    // Fails only if the connection has ended, which shows at once.
    let _ = tcp.set_nodelay(true);
    let stream: Box<dyn ByteStream> = match &options.tls {
        None => Box::new(tcp),
        Some(config) => Box::new(tls(options, config, tcp).await?),
    };
    match &options.websocket {
        None => Ok(BrokerLink::Bytes(stream)),
        Some(_) => websocket(options, stream).await,
    }
}

async fn tls(
    options: &Options,
    config: &Arc<rustls::ClientConfig>,
    tcp: TcpStream,
) -> Result<impl ByteStream + use<>, Lost> {
    let name = ServerName::try_from(options.host.clone()).map_err(|_| {
        Lost::Tls(format!("{} is no name that a certificate can have", options.host).into())
    })?;
    let connector = TlsConnector::from(config.clone());
    connector.connect(name, tcp).await.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Lost::Tls(TlsFault(error).into()),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            Lost::Tls(
                "the other side ended the connection in the handshake, as a proxy does while the broker is away".into(),
            )
        }
        _ => Lost::NoRoute(error.into()),
    })
}

async fn websocket(options: &Options, stream: Box<dyn ByteStream>) -> Result<BrokerLink, Lost> {
    let refused = |cause: Cause| Lost::WebSocket(cause);
    let request = options.address().into_client_request();
    let mut request = request.map_err(|error| refused(error.into()))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    match opened {
        Ok((socket, _)) => Ok(BrokerLink::Messages(Box::new(socket))),
        Err(WsError::Http(answer)) => {
            let status = answer.status();
            Err(refused(format!("the answer to the upgrade was HTTP {status}").into()))
        }
        Err(error) => Err(refused(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_address_leaves_time_for_the_living() {
        let now = Instant::now();
        let all = Duration::from_secs(10);
        assert_eq!(share(now, now + all, 1), now + all);
        assert_eq!(share(now, now + all, 2), now + all / 3);
        let mut at = now;
        for left in (1..=6).rev() {
            let next = share(at, now + all, left);
            assert!(next - at >= Duration::from_millis(900), "{left}");
            at = next;
        }
        assert_eq!(at, now + all);
    }
}
