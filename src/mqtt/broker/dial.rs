//! How the broker is reached: name, TCP, TLS, WebSocket, and rumqttc's event loop on top of them.
//!
//! rumqttc connects by itself where TCP is all there is. Its TLS knows neither IPv6 addresses nor
//! addresses resolved elsewhere, and its WebSocket brings a second implementation. So for those the
//! bridge dials, and rumqttc connects to a socket in this process whose bytes are relayed.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tracing::Instrument;

use super::api::{Options, bracketed};
use super::lost::Lost;
use crate::causes::{Cause, TlsFault};
use crate::mqtt::outbox::WINDOW;
use crate::names;

/// Size of a WebSocket's read buffer, in bytes: packets are small, and the buffer grows as needed.
const READ_BUFFER: usize = 8 * 1024;
/// Largest payload of one WebSocket message sent, in bytes.
const CHUNK: usize = 8 * 1024;
/// Timeout for everything up to a subscribed connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(in crate::mqtt) trait ByteStream:
    tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send
{
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> ByteStream for T {}

/// A connection to the broker that can carry MQTT.
pub(in crate::mqtt) enum BrokerLink {
    /// TCP, with or without TLS.
    Bytes(Box<dyn ByteStream>),
    /// A WebSocket.
    Messages(Box<WebSocketStream<Box<dyn ByteStream>>>),
}

pub(in crate::mqtt) async fn addresses(options: &Options) -> Result<Vec<SocketAddr>, Lost> {
    let found = names::resolve(&options.host, options.port).await;
    found.map_err(Lost::NoName)
}

/// Returns the deadline for the next of `left` addresses if all must be tried by `until`: each gets
/// a share, so that a dead address before a live one costs only seconds.
pub(in crate::mqtt) fn share(now: Instant, until: Instant, left: usize) -> Instant {
    match u32::try_from(left) {
        Ok(left) if left > 1 => now + until.saturating_duration_since(now) / (left + 1),
        _ => until,
    }
}

/// Connects over TCP, TLS and WebSocket as configured, by `until`.
pub(in crate::mqtt) async fn dial(options: &Options, until: Instant) -> Result<BrokerLink, Lost> {
    let tcp = tcp(&addresses(options).await?, until).await?;
    let stream: Box<dyn ByteStream> = match &options.tls {
        None => Box::new(tcp),
        Some(config) => Box::new(tls(options, config, tcp).await?),
    };
    match &options.websocket {
        None => Ok(BrokerLink::Bytes(stream)),
        Some(_) => websocket(options, stream).await,
    }
}

async fn tcp(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, Lost> {
    let mut lost = Lost::TimedOut;
    for (index, address) in addresses.iter().enumerate() {
        let share = share(Instant::now(), until, addresses.len() - index);
        match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Fails only if the connection has ended, which shows at once.
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

pub(super) type Polled = Result<Event, ConnectionError>;

pub(super) enum Way {
    /// By itself, at this address.
    Direct(SocketAddr),
    /// Through a link that the bridge has dialled.
    Tunnel(Tunnel),
}

impl Way {
    /// Starts an event loop in a task of its own; its channel closes if the task panics.
    pub(super) fn start(
        &self,
        options: &Options,
    ) -> (AsyncClient, mpsc::UnboundedReceiver<Polled>, JoinHandle<()>) {
        // Twice the window: the channel never fills, so publishing never waits.
        let (client, mut eventloop) = AsyncClient::new(self.mqtt_options(options), 2 * WINDOW);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
        eventloop.set_network_options(network);
        let (forward, events) = mpsc::unbounded_channel();
        let cause = match self {
            Self::Direct(_) => None,
            Self::Tunnel(tunnel) => Some(tunnel.cause.clone()),
        };
        let poller = tokio::spawn(poll(eventloop, forward, cause).in_current_span());
        (client, events, poller)
    }

    fn mqtt_options(&self, options: &Options) -> MqttOptions {
        match self {
            Self::Direct(SocketAddr::V6(address)) if address.scope_id() != 0 => {
                let host = format!("[{}%{}]", address.ip(), address.scope_id());
                options.mqtt_options((host, address.port()), false)
            }
            Self::Direct(address) => {
                let host = bracketed(&address.ip().to_string());
                options.mqtt_options((host, address.port()), false)
            }
            Self::Tunnel(tunnel) => options.mqtt_options((tunnel.path.clone(), 0), true),
        }
    }

    /// Waits until everything has been relayed and the broker has closed its side.
    pub(super) async fn ended(&mut self) {
        if let Self::Tunnel(tunnel) = self {
            // A task that panicked has ended too.
            let _ = (&mut tunnel.task).await;
        }
    }
}

/// Polls and forwards, nothing else: a poll that is dropped half-way can lose a packet. `cause`
/// holds the error of a tunnel, of which rumqttc sees only that it closed.
async fn poll(
    mut eventloop: EventLoop,
    forward: mpsc::UnboundedSender<Polled>,
    cause: Option<TunnelError>,
) {
    loop {
        let mut polled = eventloop.poll().await;
        if polled.is_err()
            && let Some(error) = cause.as_ref().and_then(TunnelError::take)
        {
            polled = Err(ConnectionError::Io(error));
        }
        // After DISCONNECT or an error, the next poll would reconnect.
        let last = matches!(polled, Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect)));
        if forward.send(polled).is_err() || last {
            return;
        }
    }
}

/// The error that ended a link, if its peer did not close it properly.
#[derive(Debug, Clone, Default)]
struct TunnelError(Arc<Mutex<Option<io::Error>>>);

impl TunnelError {
    fn take(&self) -> Option<io::Error> {
        self.0.lock().ok()?.take()
    }

    fn set(&self, error: io::Error) {
        if let Ok(mut cause) = self.0.lock() {
            *cause = Some(error);
        }
    }
}

/// A local socket relayed to a link to the broker; dropping this ends both.
#[derive(Debug)]
pub(super) struct Tunnel {
    path: String,
    cause: TunnelError,
    task: JoinHandle<()>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tunnel {
    pub(super) fn start(link: BrokerLink) -> io::Result<Self> {
        let path = socket_path();
        let listener = UnixListener::bind(&path)?;
        let cause = TunnelError::default();
        let (file, shared) = (path.clone(), cause.clone());
        let task = tokio::spawn(async move {
            match accept(listener, &file).await {
                Ok(local) => relay(local, link, &shared).await,
                Err(error) => shared.set(error),
            }
        });
        Ok(Self { path, cause, task })
    }
}

/// A path in Linux's abstract namespace: container images may have no writable file system.
#[cfg(target_os = "linux")]
fn socket_path() -> String {
    format!("\0octoprint2mqtt-{:032x}", fastrand::u128(..))
}

#[cfg(not(target_os = "linux"))]
fn socket_path() -> String {
    let name = format!("octoprint2mqtt-{:032x}", fastrand::u128(..));
    std::env::temp_dir().join(name).display().to_string()
}

/// Accepts the connection of this process; others on the machine may try to connect as well.
async fn accept(listener: UnixListener, path: &str) -> io::Result<UnixStream> {
    let own = i32::try_from(std::process::id()).ok();
    let accepted = loop {
        let (stream, _) = listener.accept().await?;
        if stream.peer_cred()?.pid() == own {
            break stream;
        }
    };
    if !path.starts_with('\0') {
        // A file that stays does no harm.
        let _ = std::fs::remove_file(path);
    }
    Ok(accepted)
}

/// Relays until both sides have ended. The cause of a failure is set before `local` is closed.
async fn relay(mut local: UnixStream, link: BrokerLink, cause: &TunnelError) {
    let relayed = match link {
        BrokerLink::Bytes(mut remote) => {
            copy_bidirectional(&mut local, &mut remote).await.map(drop)
        }
        BrokerLink::Messages(socket) => relay_messages(&mut local, *socket).await,
    };
    if let Err(error) = relayed {
        cause.set(error);
    }
}

async fn relay_messages(
    local: &mut UnixStream,
    socket: WebSocketStream<Box<dyn ByteStream>>,
) -> io::Result<()> {
    let (mut from_local, mut to_local) = local.split();
    let (mut to_broker, mut from_broker) = socket.split();
    let outward = async {
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = from_local.read(&mut chunk).await?;
            if length == 0 {
                return to_broker.close().await.map_err(io_error);
            }
            let message = Message::Binary(Bytes::copy_from_slice(&chunk[..length]));
            to_broker.send(message).await.map_err(io_error)?;
        }
    };
    let inward = async {
        while let Some(message) = from_broker.next().await {
            match message {
                Ok(Message::Binary(bytes)) => to_local.write_all(&bytes).await?,
                // MQTT uses no text messages, and tungstenite answers pings itself.
                Ok(_) => {}
                Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => break,
                Err(error) => return Err(io_error(error)),
            }
        }
        to_local.shutdown().await
    };
    tokio::select! {
        ended = inward => ended,
        Err(error) = outward => Err(error),
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
