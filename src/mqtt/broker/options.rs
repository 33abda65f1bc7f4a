//! How to connect to the broker.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{LastWill, MqttOptions, QoS, Transport};

use crate::mqtt::packet::PacketLimit;
use crate::secret::Secret;

/// Largest packet that the bridge takes in, in bytes: commands are small.
pub const MAX_INCOMING: usize = 1024 * 1024;
/// The library ends the connection at a larger packet than it was told. That never happens to a
/// PUBLISH, and other packets are not bounded: one of eight filters has a few thousand bytes.
const OTHER_PACKETS: usize = 64 * 1024;
/// Packet ids in turn: far more than are ever in flight, so that none is met twice.
pub const PACKET_IDS: u16 = 1024;
/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `Some` for TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// `Some` for MQTT over WebSocket: the path, which begins with `/`.
    pub websocket: Option<String>,
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
    /// How many packet ids there are; rumqttc keeps room of 64 bytes for each.
    pub packet_ids: u16,
    /// Larger packets are never sent.
    pub limit: PacketLimit,
}

impl Options {
    /// The broker's address, for people.
    pub fn address(&self) -> String {
        let scheme = match (&self.websocket, &self.tls) {
            (None, None) => "mqtt",
            (None, Some(_)) => "mqtts",
            (Some(_), None) => "ws",
            (Some(_), Some(_)) => "wss",
        };
        let (host, path) = (bracketed(&self.host), self.websocket.as_deref().unwrap_or_default());
        format!("{scheme}://{host}:{}{path}", self.port)
    }

    /// Whether rumqttc can connect by itself: nothing but TCP.
    pub(super) fn is_plain(&self) -> bool {
        self.tls.is_none() && self.websocket.is_none()
    }

    /// For a broker at this host and port; in a tunnel, `host` is the path of its socket.
    pub(super) fn mqtt_options(&self, (host, port): (String, u16), in_tunnel: bool) -> MqttOptions {
        let mut options = MqttOptions::new(&self.client_id, host, port);
        if in_tunnel {
            options.set_transport(Transport::unix());
        }
        options
            .set_keep_alive(self.keep_alive)
            .set_clean_session(true)
            .set_inflight(self.packet_ids)
            .set_max_packet_size(self.max_incoming, self.limit.bytes() + OTHER_PACKETS);
        if let Some((username, password)) = &self.login {
            options.set_credentials(username, password.expose());
        }
        if let Some((topic, payload)) = &self.last_will {
            options.set_last_will(LastWill::new(topic, payload.as_str(), QoS::AtLeastOnce, true));
        }
        options
    }
}

/// rumqttc wants an IPv6 address in brackets.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
