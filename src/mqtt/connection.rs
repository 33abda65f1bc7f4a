//! One connection to the broker: a new event loop, its subscription, and who is owed what.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    NetworkOptions, Outgoing as Sent, Packet, QoS, SubscribeFilter, SubscribeReasonCode,
    TlsConfiguration, Transport,
};
use tokio::sync::mpsc;

use super::broker::{Incoming, MAX_PUBLICATION};
use super::outbox::{Outgoing, Token, WINDOW};
use crate::secret::Secret;

/// Bound on the whole way to a subscribed connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A publication unacknowledged for longer means that the connection is dead.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest packet that the bridge takes in, in bytes: commands are small.
pub const MAX_INCOMING: usize = 1024 * 1024;
/// Bytes of an MQTT PUBLISH beside topic and payload, generously.
const PACKET_OVERHEAD: usize = 1024;
/// Packet ids in turn: far more than are ever in flight, so that none is met twice. rumqttc keeps
/// room of 64 bytes for each.
const PACKET_IDS: u16 = 1024;
/// A connection that ends this soon after its start hints at a second client of the same id.
const SOON: Duration = Duration::from_secs(5);
/// Filters in one SUBSCRIBE packet.
const FILTERS_A_PACKET: usize = 200;

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `Some` for TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// MQTT client id.
    pub client_id: String,
    /// Interval of pings.
    pub keep_alive: Duration,
    /// Topic and payload of the last will, which is retained.
    pub last_will: Option<(String, String)>,
    /// Largest packet that is taken in, in bytes; a larger one ends the connection.
    pub max_incoming: usize,
}

impl Options {
    /// The broker's address, for people.
    pub fn address(&self) -> String {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    fn mqtt_options(&self) -> MqttOptions {
        // rumqttc wants an IPv6 address in brackets for TCP.
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let mut options = MqttOptions::new(&self.client_id, host, self.port);
        options
            .set_keep_alive(self.keep_alive)
            .set_clean_session(true)
            .set_inflight(PACKET_IDS)
            .set_max_packet_size(self.max_incoming, MAX_PUBLICATION + PACKET_OVERHEAD);
        if let Some((username, password)) = &self.login {
            options.set_credentials(username, password.expose());
        }
        if let Some((topic, payload)) = &self.last_will {
            options.set_last_will(LastWill::new(topic, payload.as_str(), QoS::AtLeastOnce, true));
        }
        if let Some(tls) = &self.tls {
            options
                .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
        }
        options
    }
}

/// Why there is no connection, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The broker does not know the user, or the password is wrong.
    #[error("the broker refused user name or password; check mqtt.username and mqtt.password")]
    BadCredentials,
    /// The broker does not let this user in.
    #[error(
        "the broker did not authorise this client; it may want mqtt.username and mqtt.password, or its access rules leave this user out"
    )]
    NotAuthorised,
    /// The broker does not take the client id.
    #[error("the broker rejected the client id; choose another mqtt.client_id")]
    IdentifierRejected,
    /// Any other refusal in CONNACK.
    #[error("the broker refused the connection ({0:?}); it must speak MQTT 3.1.1 and be ready")]
    Refused(ConnectReturnCode),
    /// TLS failed.
    #[error(
        "TLS failed: {0}; check mqtt.tls.ca_file, the host name in mqtt.url, and that the port speaks TLS"
    )]
    Tls(String),
    /// The TCP connection was not made.
    #[error("no connection: {0}; check host and port in mqtt.url and that the broker runs")]
    NoRoute(String),
    /// No answer in time.
    #[error("no answer within 10 s; check host and port in mqtt.url and any firewall between")]
    TimedOut,
    /// A connection that was there is gone.
    #[error("connection lost: {cause}{}", if *.soon { "; so soon after the start another client may be using the same mqtt.client_id" } else { "" })]
    Closed {
        /// It ended within seconds of its start.
        soon: bool,
        /// What the library says.
        cause: String,
    },
    /// Nothing was acknowledged for too long.
    #[error("the broker acknowledged nothing for 30 s; the connection is given up")]
    Silent,
    /// What answers is no MQTT broker.
    #[error(
        "what answers is no MQTT broker ({0}); check the port in mqtt.url, and mqtt:// against mqtts://"
    )]
    NotMqtt(String),
}

impl Lost {
    /// Whether the broker said no, so that quick attempts serve nobody.
    pub(super) fn refused(&self) -> bool {
        matches!(self, Self::BadCredentials | Self::NotAuthorised | Self::IdentifierRejected)
    }

    pub(super) fn was_connected(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Silent)
    }

    fn while_connecting(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code) => match code {
                ConnectReturnCode::BadUserNamePassword => Self::BadCredentials,
                ConnectReturnCode::NotAuthorized => Self::NotAuthorised,
                ConnectReturnCode::BadClientId => Self::IdentifierRejected,
                other => Self::Refused(other),
            },
            ConnectionError::Tls(error) => Self::Tls(with_sources(&error)),
            ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => Self::TimedOut,
            ConnectionError::Io(error) => match error.kind() {
                std::io::ErrorKind::InvalidData => Self::Tls(with_sources(&error)),
                std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::UnexpectedEof => {
                    Self::NotMqtt("it closed the connection without an answer".to_owned())
                }
                _ => Self::NoRoute(with_sources(&error)),
            },
            ConnectionError::NotConnAck(_) => {
                Self::NotMqtt("it answered with another packet".into())
            }
            ConnectionError::MqttState(error) => Self::NotMqtt(with_sources(&error)),
            other => Self::NoRoute(with_sources(&other)),
        }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What one event of the connection brings.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) acknowledged: Option<Token>,
    pub(super) incoming: Option<Incoming>,
}

type Polled = Result<Event, ConnectionError>;

/// A subscribed connection.
pub(super) struct Connection {
    client: AsyncClient,
    events: mpsc::UnboundedReceiver<Polled>,
    poller: tokio::task::JoinHandle<()>,
    started: Instant,
    /// Handed to the client and not yet given a packet id: `None` for QoS 0.
    unsent: VecDeque<Option<(Token, Instant)>>,
    owed: HashMap<u16, (Token, Instant)>,
    early: Vec<Incoming>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

impl Connection {
    /// Connects and subscribes; both within ten seconds.
    pub(super) async fn open(options: &Options, filters: &BTreeSet<String>) -> Result<Self, Lost> {
        let opening = async {
            let mut connection = Self::begin(options);
            connection.expect_connack().await?;
            connection.subscribe(filters).await?;
            Ok(connection)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Lost::TimedOut),
        }
    }

    fn begin(options: &Options) -> Self {
        // Twice the window: the channel never fills, so that handing over never waits.
        let (client, mut eventloop) = AsyncClient::new(options.mqtt_options(), 2 * WINDOW);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
        eventloop.set_network_options(network);
        let (forward, events) = mpsc::unbounded_channel();
        Self {
            client,
            events,
            poller: tokio::spawn(poll(eventloop, forward)),
            started: Instant::now(),
            unsent: VecDeque::new(),
            owed: HashMap::new(),
            early: Vec::new(),
        }
    }

    async fn expect_connack(&mut self) -> Result<(), Lost> {
        match self.events.recv().await {
            Some(Ok(Event::Incoming(Packet::ConnAck(_)))) => Ok(()),
            Some(Ok(_)) | None => Err(Lost::NotMqtt("no CONNACK came first".to_owned())),
            Some(Err(error)) => Err(Lost::while_connecting(error)),
        }
    }

    pub(super) async fn subscribe(&mut self, filters: &BTreeSet<String>) -> Result<(), Lost> {
        let filters: Vec<&String> = filters.iter().collect();
        for packet in filters.chunks(FILTERS_A_PACKET) {
            let wanted = packet
                .iter()
                .map(|filter| SubscribeFilter::new((*filter).clone(), QoS::AtLeastOnce));
            self.client.subscribe_many(wanted).await.map_err(|error| self.closed(&error))?;
            let codes = loop {
                match self.events.recv().await {
                    Some(Ok(Event::Incoming(Packet::SubAck(ack)))) => break ack.return_codes,
                    // Retained commands may come before the SUBACK.
                    Some(Ok(event)) => {
                        let arrived = self.arrived(event);
                        self.early.extend(arrived.incoming);
                    }
                    Some(Err(error)) => return Err(self.closed(&error)),
                    None => return Err(self.closed(&"the event loop ended")),
                }
            };
            for (filter, _) in
                packet.iter().zip(codes).filter(|(_, code)| *code == SubscribeReasonCode::Failure)
            {
                tracing::error!(%filter, "the broker refused the subscription, so commands do not arrive; allow this user to read these topics in the broker's access rules");
            }
        }
        Ok(())
    }

    /// Messages that came before the subscription was complete.
    pub(super) fn take_early(&mut self) -> Vec<Incoming> {
        std::mem::take(&mut self.early)
    }

    /// Whether one more publication may be handed over.
    pub(super) fn has_room(&self) -> bool {
        self.unsent.len() < WINDOW
    }

    pub(super) fn publish(&mut self, outgoing: Outgoing, now: Instant) -> Result<(), Lost> {
        let Outgoing { token, topic, payload, retain } = outgoing;
        let qos = if token.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        self.unsent.push_back(token.map(|token| (token, now)));
        // Not copied; `try_publish` would. It never waits, for the channel never fills.
        match self.client.publish_bytes(&*topic, qos, retain, payload).now_or_never() {
            Some(handed) => handed.map_err(|error| self.closed(&error)),
            None => Err(self.closed(&"the event loop takes nothing more")),
        }
    }

    pub(super) async fn next(&mut self) -> Result<Arrived, Lost> {
        match self.events.recv().await {
            Some(Ok(event)) => Ok(self.arrived(event)),
            Some(Err(error)) => Err(self.closed(&error)),
            None => Err(self.closed(&"the event loop ended")),
        }
    }

    fn arrived(&mut self, event: Event) -> Arrived {
        let mut arrived = Arrived::default();
        match event {
            Event::Outgoing(Sent::Publish(id)) => {
                if let Some(Some(owed)) = self.unsent.pop_front() {
                    self.owed.insert(id, owed);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                arrived.acknowledged = self.owed.remove(&ack.pkid).map(|(token, _)| token);
            }
            Event::Incoming(Packet::Publish(publish)) => {
                arrived.incoming = Some(Incoming {
                    topic: publish.topic,
                    payload: publish.payload,
                    retained: publish.retain,
                });
            }
            _ => {}
        }
        arrived
    }

    /// Whether the connection is dead though nobody said so.
    pub(super) fn stalled(&self, now: Instant) -> Option<Lost> {
        let waiting = self.owed.values().chain(self.unsent.iter().flatten());
        let oldest = waiting.map(|(_, since)| *since).min()?;
        (now.saturating_duration_since(oldest) > ACK_TIMEOUT).then_some(Lost::Silent)
    }

    /// Says DISCONNECT, so that the broker does not send the last will, and waits for it to leave.
    pub(super) async fn disconnect(&mut self) {
        if self.client.try_disconnect().is_err() {
            return;
        }
        let gone = async { while let Some(Ok(_)) = self.events.recv().await {} };
        // A broker that does not take it within a second is left as it is.
        let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
    }

    fn closed(&self, cause: &dyn std::fmt::Display) -> Lost {
        Lost::Closed { soon: self.started.elapsed() < SOON, cause: cause.to_string() }
    }
}

/// Nothing but polls and forwards: a poll that is dropped half-way can lose a packet.
async fn poll(mut eventloop: EventLoop, forward: mpsc::UnboundedSender<Polled>) {
    loop {
        let polled = eventloop.poll().await;
        // After DISCONNECT, and after an error, the next poll would connect again.
        let last = matches!(polled, Err(_) | Ok(Event::Outgoing(Sent::Disconnect)));
        if forward.send(polled).is_err() || last {
            return;
        }
    }
}
