//! The way to the broker below MQTT: name, TCP, TLS, WebSocket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::lost::Lost;
use super::options::Options;
use crate::causes::{Cause, TlsFault};
use crate::names;

/// A packet is small, and a larger one gets the room it needs.
const READ_BUFFER: usize = 8 * 1024;

/// Bytes in and out.
pub(in crate::mqtt) trait Stream:
    tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send
{
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to the broker on which MQTT can be spoken.
pub(in crate::mqtt) enum Line {
    /// TCP, with or without TLS.
    Bytes(Box<dyn Stream>),
    /// A WebSocket.
    Messages(Box<WebSocketStream<Box<dyn Stream>>>),
}

/// The addresses of the broker.
pub(in crate::mqtt) async fn addresses(options: &Options) -> Result<Vec<SocketAddr>, Lost> {
    let found = names::resolve(&options.host, options.port).await;
    found.map_err(Lost::NoName)
}

/// When the attempt at the next of `left` addresses is over, where all are by `until`: each has its
/// share, so that a dead one before a living one costs seconds.
pub(in crate::mqtt) fn share(now: Instant, until: Instant, left: usize) -> Instant {
    match u32::try_from(left) {
        Ok(left) if left > 1 => now + until.saturating_duration_since(now) / (left + 1),
        _ => until,
    }
}

/// Connects by TCP, TLS and WebSocket, as `options` say, by `until`.
pub(in crate::mqtt) async fn dial(options: &Options, until: Instant) -> Result<Line, Lost> {
    let tcp = tcp(&addresses(options).await?, until).await?;
    let stream: Box<dyn Stream> = match &options.tls {
        None => Box::new(tcp),
        Some(config) => Box::new(tls(options, config, tcp).await?),
    };
    match &options.websocket {
        None => Ok(Line::Bytes(stream)),
        Some(_) => websocket(options, stream).await,
    }
}

async fn tcp(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, Lost> {
    let mut lost = Lost::TimedOut;
    for (index, address) in addresses.iter().enumerate() {
        let share = share(Instant::now(), until, addresses.len() - index);
        match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Fails only on a connection that has ended, which shows at once.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => lost = Lost::NoRoute(error.into()),
            Err(_) => lost = Lost::TimedOut,
        }
    }
    Err(lost)
}

async fn tls(
    options: &Options,
    config: &Arc<rustls::ClientConfig>,
    tcp: TcpStream,
) -> Result<impl Stream + use<>, Lost> {
    let name = ServerName::try_from(options.host.clone()).map_err(|_| {
        Lost::Tls(format!("{} is no name that a certificate can have", options.host).into())
    })?;
    let connector = TlsConnector::from(config.clone());
    connector.connect(name, tcp).await.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Lost::Tls(TlsFault(error).into()),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            Lost::Tls("the other side ended the connection in the handshake".into())
        }
        _ => Lost::NoRoute(error.into()),
    })
}

async fn websocket(options: &Options, stream: Box<dyn Stream>) -> Result<Line, Lost> {
    let refused = |cause: Cause| Lost::WebSocket(cause);
    let request = options.address().into_client_request();
    let mut request = request.map_err(|error| refused(error.into()))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    match opened {
        Ok((socket, _)) => Ok(Line::Messages(Box::new(socket))),
        Err(WsError::Http(answer)) => {
            let status = answer.status();
            Err(refused(format!("the answer to the upgrade was HTTP {status}").into()))
        }
        Err(error) => Err(refused(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::dead_address::DeadAddress;

    #[tokio::test]
    async fn a_dead_address_before_a_living_one_costs_its_share() {
        let living = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = DeadAddress::new().await;
        let addresses = [dead.v4(), living.local_addr().unwrap()];
        let until = Instant::now() + Duration::from_secs(3);
        let stream = tcp(&addresses, until).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        let until = Instant::now() + Duration::from_millis(200);
        assert!(matches!(tcp(&addresses[..1], until).await, Err(Lost::TimedOut)));
    }

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
