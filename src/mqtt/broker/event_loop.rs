//! rumqttc's event loop, and how it reaches the broker: by itself, or through a line that it cannot
//! make itself. Then it connects to a socket in this process, and what passes there goes to the
//! broker.
//!
//! rumqttc's own TLS knows no IPv6 address and no address that was looked up by somebody else, and
//! its WebSocket brings a second implementation of it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tracing::Instrument;

use super::dial::{Line, Stream};
use super::options::{Options, bracketed};
use crate::mqtt::outbox::queue::WINDOW;

/// Bound on the whole way to a subscribed connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes in one WebSocket message of ours.
const CHUNK: usize = 8 * 1024;

/// What a poll of the event loop yields.
pub(super) type Polled = Result<Event, ConnectionError>;

/// How rumqttc reaches the broker.
pub(super) enum Way {
    /// By itself, at this address.
    Direct(SocketAddr),
    /// Through a line that the bridge has made.
    Tunnel(Tunnel),
}

impl Way {
    /// Starts an event loop in a task of its own. Where that panics, what it yields ends.
    pub(super) fn start(
        &self,
        options: &Options,
    ) -> (AsyncClient, mpsc::UnboundedReceiver<Polled>, JoinHandle<()>) {
        // Twice the window: the channel never fills, so that handing over never waits.
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

    /// Waits until everything has passed and the broker has closed its side.
    pub(super) async fn ended(&mut self) {
        if let Self::Tunnel(tunnel) = self {
            // A task that panicked has ended too.
            let _ = (&mut tunnel.task).await;
        }
    }
}

/// Nothing but polls and forwards: a poll that is dropped half-way can lose a packet.
/// `cause` knows why a tunnel ended, of which rumqttc only sees that it did.
async fn poll(
    mut eventloop: EventLoop,
    forward: mpsc::UnboundedSender<Polled>,
    cause: Option<Cause>,
) {
    loop {
        let mut polled = eventloop.poll().await;
        if polled.is_err()
            && let Some(error) = cause.as_ref().and_then(Cause::take)
        {
            polled = Err(ConnectionError::Io(error));
        }
        // After DISCONNECT, and after an error, the next poll would connect again.
        let last = matches!(polled, Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect)));
        if forward.send(polled).is_err() || last {
            return;
        }
    }
}

/// Why a line ended, where it was not its peer's regular end.
#[derive(Debug, Clone, Default)]
struct Cause(Arc<Mutex<Option<io::Error>>>);

impl Cause {
    /// Takes it, once.
    fn take(&self) -> Option<io::Error> {
        self.0.lock().ok()?.take()
    }

    fn set(&self, error: io::Error) {
        if let Ok(mut cause) = self.0.lock() {
            *cause = Some(error);
        }
    }
}

/// A socket in this process, and what passes between it and a line to the broker. Ends with this.
#[derive(Debug)]
pub(super) struct Tunnel {
    path: String,
    cause: Cause,
    task: JoinHandle<()>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tunnel {
    /// Listens, for one connection of this process.
    pub(super) fn start(line: Line) -> io::Result<Self> {
        let path = socket_path();
        let listener = UnixListener::bind(&path)?;
        let cause = Cause::default();
        let (file, told) = (path.clone(), cause.clone());
        let task = tokio::spawn(async move {
            let passed = match accept(listener, &file).await {
                Ok(local) => pass(local, line, &told).await,
                Err(error) => Err(error),
            };
            if let Err(error) = passed {
                told.set(error);
            }
        });
        Ok(Self { path, cause, task })
    }
}

/// In Linux's abstract namespace, so that no file system is needed: images have none to write to.
#[cfg(target_os = "linux")]
fn socket_path() -> String {
    format!("\0octoprint2mqtt-{:032x}", fastrand::u128(..))
}

#[cfg(not(target_os = "linux"))]
fn socket_path() -> String {
    let name = format!("octoprint2mqtt-{:032x}", fastrand::u128(..));
    std::env::temp_dir().join(name).display().to_string()
}

/// The connection of this process: others on the machine may try as well.
async fn accept(listener: UnixListener, path: &str) -> io::Result<UnixStream> {
    let own = i32::try_from(std::process::id()).ok();
    let accepted = loop {
        let (stream, _) = listener.accept().await?;
        if stream.peer_cred()?.pid() == own {
            break stream;
        }
    };
    if !path.starts_with('\0') {
        // It has served its purpose; a file that stays does no harm.
        let _ = std::fs::remove_file(path);
    }
    Ok(accepted)
}

/// Until both sides have ended. The cause of a failure is there before the local side learns of it.
async fn pass(mut local: UnixStream, line: Line, cause: &Cause) -> io::Result<()> {
    let passed = match line {
        Line::Bytes(mut remote) => copy_bidirectional(&mut local, &mut remote).await.map(drop),
        Line::Messages(socket) => pass_messages(&mut local, *socket).await,
    };
    if let Err(error) = passed {
        cause.set(error);
    }
    drop(local);
    Ok(())
}

async fn pass_messages(
    local: &mut UnixStream,
    socket: WebSocketStream<Box<dyn Stream>>,
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
                // MQTT's text is none, and tungstenite answers pings itself.
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
