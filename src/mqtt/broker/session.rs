//! MQTT over a link: rumqttc's packets and protocol state, and when bytes are read and written.
//!
//! rumqttc's own event loop makes a system call for each packet and knows fewer kinds of links. Here
//! everything that waits goes out at once.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::{
    Connect, ConnectReturnCode, Disconnect, Event, LastWill, Login, MqttState, Packet, PingReq,
    QoS, Request, StateError, mqttbytes,
};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::api::Options;
use super::link::BrokerLink;

/// Number of packet ids: more than twice as many as are ever in flight. One that is still in use is
/// waited for. rumqttc allocates 64 bytes for each.
const PACKET_IDS: u16 = 256;
/// Room for packets other than PUBLISH, in bytes: a SUBSCRIBE with eight filters takes a few
/// thousand.
const OTHER_PACKETS: usize = 64 * 1024;
/// Free room of the read buffer, in bytes, below which it grows.
const READ_ROOM: usize = 1024;
/// Size of the buffers, in bytes: most packets are small. They grow as needed.
const BUFFER: usize = 8 * 1024;
/// Bytes that wait to be sent above which nothing is added: what waits here cannot be replaced by
/// newer state any more.
const FULL: usize = 64 * 1024;

/// Why a session did not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// CONNACK refuses.
    #[error("the broker refused the connection ({0:?})")]
    Refused(ConnectReturnCode),
    /// Another packet came first.
    #[error("it answered with another packet")]
    NotConnAck,
    /// The other side does not follow the protocol, is silent, or has closed the connection.
    #[error(transparent)]
    Protocol(#[from] StateError),
    /// The link is broken.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl SessionError {
    /// Whether the other side closed or reset the connection.
    pub(super) fn is_by_peer(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match self {
            Self::Protocol(error) => matches!(error, StateError::ConnectionAborted),
            Self::Io(error) => matches!(
                error.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
            ),
            Self::Refused(_) | Self::NotConnAck => false,
        }
    }
}

pub(super) struct Session {
    link: BrokerLink,
    state: MqttState,
    input: BytesMut,
    /// What waits to be sent.
    output: BytesMut,
    unflushed: bool,
    ping: Interval,
    max_incoming: usize,
    max_outgoing: usize,
}

impl Session {
    /// Sends CONNECT over `link`, and waits for a CONNACK that accepts it.
    pub(super) async fn open(link: BrokerLink, options: &Options) -> Result<Self, SessionError> {
        let mut ping = interval(options.keep_alive.max(Duration::from_secs(1)));
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let mut session = Self {
            link,
            state: MqttState::new(PACKET_IDS, false),
            input: BytesMut::with_capacity(BUFFER),
            output: BytesMut::with_capacity(BUFFER),
            unflushed: false,
            ping,
            max_incoming: options.max_incoming,
            max_outgoing: options.limit.bytes() + OTHER_PACKETS,
        };
        session.write(&Packet::Connect(connect(options)))?;
        match session.first_packet().await? {
            Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => Ok(session),
            Packet::ConnAck(answer) => Err(SessionError::Refused(answer.code)),
            _ => Err(SessionError::NotConnAck),
        }
    }

    async fn first_packet(&mut self) -> Result<Packet, SessionError> {
        loop {
            if let Some(packet) = self.packet()? {
                return Ok(packet);
            }
            poll_fn(|cx| self.poll_link(cx)).await?;
        }
    }

    /// Takes a request. [`Session::next`] sends it, together with all others that wait.
    pub(super) fn request(&mut self, request: Request) -> Result<(), SessionError> {
        match self.state.handle_outgoing_packet(request)? {
            Some(packet) => self.write(&packet),
            None => Ok(()),
        }
    }

    /// Whether nothing more should be requested now: too much waits to be sent, or a packet id is
    /// still in use.
    pub(super) fn is_full(&self) -> bool {
        self.output.len() > FULL || self.state.collision.is_some()
    }

    /// Returns what is known without waiting.
    pub(super) fn ready(&mut self) -> Result<Option<Event>, SessionError> {
        loop {
            if let Some(event) = self.state.events.pop_front() {
                return Ok(Some(event));
            }
            let Some(packet) = self.packet()? else { return Ok(None) };
            if let Some(answer) = self.state.handle_incoming_packet(packet)? {
                self.write(&answer)?;
            }
        }
    }

    /// Sends what waits, and returns what happens next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Event, SessionError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, SessionError>> {
        loop {
            // If this fails, what the broker sent before it closed the connection still counts.
            let _ = self.poll_send(cx);
            if let Some(event) = self.ready()? {
                return Poll::Ready(Ok(event));
            }
            if self.ping.poll_tick(cx).is_ready() {
                self.shrink(BUFFER);
                self.request(Request::PingReq(PingReq))?;
                continue;
            }
            ready!(self.poll_link(cx))?;
        }
    }

    /// Sends what waits, and reads what has arrived; ready once something has.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        let sent = self.poll_send(cx);
        if self.input.capacity() - self.input.len() < READ_ROOM {
            self.input.reserve(BUFFER);
        }
        match self.link.poll_receive(cx, &mut self.input) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(StateError::ConnectionAborted.into())),
            Poll::Ready(received) => Poll::Ready(received.map(drop).map_err(Into::into)),
            Poll::Pending => match sent {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                _ => Poll::Pending,
            },
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        ready!(self.link.poll_send(cx, &mut self.output))?;
        self.unflushed = false;
        // A picture may have needed megabytes.
        self.shrink(FULL);
        Poll::Ready(Ok(()))
    }

    /// Sends DISCONNECT, so that the broker does not publish the last will, and waits until the
    /// broker has closed its side.
    pub(super) async fn disconnect(&mut self) {
        if self.request(Request::Disconnect(Disconnect)).is_err() {
            return;
        }
        let closed = poll_fn(|cx| {
            ready!(self.poll_send(cx))?;
            self.link.poll_close(cx)
        });
        if closed.await.is_err() {
            return;
        }
        while poll_fn(|cx| self.link.poll_receive(cx, &mut self.input)).await.is_ok_and(|n| n > 0) {
            self.input.clear();
        }
    }

    /// Takes the next packet that has arrived whole.
    fn packet(&mut self) -> Result<Option<Packet>, SessionError> {
        match Packet::read(&mut self.input, self.max_incoming) {
            Ok(packet) => Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(missing)) => {
                self.input.reserve(missing);
                Ok(None)
            }
            Err(error) => Err(StateError::Deserialization(error).into()),
        }
    }

    /// Gives back what a burst needed, if nothing waits and it is more than `most` bytes.
    fn shrink(&mut self, most: usize) {
        if self.output.is_empty() && self.output.capacity() > most {
            self.output = BytesMut::with_capacity(BUFFER);
        }
    }

    fn write(&mut self, packet: &Packet) -> Result<(), SessionError> {
        packet.write(&mut self.output, self.max_outgoing).map_err(StateError::Deserialization)?;
        self.unflushed = true;
        Ok(())
    }
}

fn connect(options: &Options) -> Connect {
    let mut connect = Connect::new(&options.client_id);
    connect.keep_alive = u16::try_from(options.keep_alive.as_secs()).unwrap_or(u16::MAX);
    connect.clean_session = true;
    connect.login =
        options.login.as_ref().map(|(name, password)| Login::new(name, password.expose()));
    connect.last_will = options
        .last_will
        .as_ref()
        .map(|(topic, payload)| LastWill::new(topic, payload.as_str(), QoS::AtLeastOnce, true));
    connect
}

#[cfg(test)]
mod tests;
