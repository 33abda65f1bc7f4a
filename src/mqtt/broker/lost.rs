//! Why there is no connection to the broker (pure).

use std::io;
use std::time::Duration;

use rumqttc::{ConnectReturnCode, ConnectionError, StateError, mqttbytes};

use crate::causes::{Cause, text};

/// A connection that ends this soon after its start hints at a second client of the same id.
const SOON: Duration = Duration::from_secs(5);

/// Why there is no connection, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The broker does not know the user, or the password is wrong.
    #[error(
        "the broker refused user name or password{}; check mqtt.username and mqtt.password", sent(*.characters)
    )]
    BadCredentials {
        /// Of the password that was sent.
        characters: Option<usize>,
    },
    /// The broker does not let this user in.
    #[error(
        "the broker did not authorise this client{}; it may want mqtt.username and mqtt.password, or others than these, or its access rules leave this user out", sent(*.characters)
    )]
    NotAuthorised {
        /// Of the password that was sent.
        characters: Option<usize>,
    },
    /// The broker does not take the client id.
    #[error("the broker rejected the client id; choose another mqtt.client_id")]
    IdentifierRejected,
    /// Any other refusal in CONNACK.
    #[error("the broker refused the connection ({0:?}); it must speak MQTT 3.1.1 and be ready")]
    Refused(ConnectReturnCode),
    /// TLS failed.
    #[error(
        "TLS failed: {}; check mqtt.tls.ca_file, the host name in mqtt.url, and that the port speaks TLS", text(&**.0)
    )]
    Tls(#[source] Cause),
    /// There is no MQTT over WebSocket.
    #[error(
        "no MQTT over WebSocket: {}; check host, port and path in mqtt.url, and that this listener of the broker speaks WebSocket", text(&**.0)
    )]
    WebSocket(#[source] Cause),
    /// The broker's name has no address.
    #[error(
        "no connection: the name cannot be resolved: {}; check host and port in mqtt.url and that the broker runs", text(.0)
    )]
    NoName(#[source] io::Error),
    /// The TCP connection was not made.
    #[error(
        "no connection: {}; check host and port in mqtt.url and that the broker runs", text(&**.0)
    )]
    NoRoute(#[source] Cause),
    /// No answer in time.
    #[error("no answer within 10 s; check host and port in mqtt.url and any firewall between")]
    TimedOut,
    /// A connection that was there is gone.
    #[error("connection lost")]
    Closed {
        /// It ended within seconds of its CONNACK.
        soon: bool,
        /// The broker closed or reset it: no time limit of ours, nothing that the network said.
        by_peer: bool,
        /// What the library says.
        source: Cause,
    },
    /// The connection ended when the broker was asked for how long it runs.
    #[error(
        "connection lost: {}, at the subscription of $SYS/broker/uptime; it is not asked for again", text(&**.0)
    )]
    NoUptime(#[source] Cause),
    /// What is retained was not read to its end.
    #[error(
        "the broker did not send all that is retained; check whether it is overloaded, and the way to it"
    )]
    NotReadBack,
    /// Nothing was acknowledged for too long.
    #[error("the broker acknowledged nothing for 30 s; the connection is given up")]
    Silent,
    /// What answers is no MQTT broker.
    #[error(
        "what answers is no MQTT broker ({}); check the port in mqtt.url, and mqtt:// against mqtts://", text(&**.0)
    )]
    NotMqtt(#[source] Cause),
}

impl Lost {
    /// Whether the broker said no, so that quick attempts serve nobody.
    pub(in crate::mqtt) fn refused(&self) -> bool {
        match self {
            Self::BadCredentials { .. } | Self::NotAuthorised { .. } | Self::IdentifierRejected => {
                true
            }
            // A broker that is starting is not ready yet.
            Self::Refused(code) => *code != ConnectReturnCode::ServiceUnavailable,
            _ => false,
        }
    }

    /// Whether the broker does not want this client, or no attempt can succeed: it said no, or it
    /// ended the connection within seconds.
    pub(in crate::mqtt) fn is_unwanted(&self) -> bool {
        self.refused() || matches!(self, Self::Closed { soon: true, .. } | Self::Tls(_))
    }

    /// Whether there was a connection.
    pub(in crate::mqtt) fn was_connected(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::NoUptime(_) | Self::Silent)
    }

    /// Of a connection that was there for so long.
    pub(in crate::mqtt) fn closed(lived: Duration, by_peer: bool, cause: impl Into<Cause>) -> Self {
        Self::Closed { soon: lived < SOON, by_peer, source: cause.into() }
    }

    /// Of an attempt that led to no CONNACK. `characters` are those of the password that was sent.
    pub(in crate::mqtt) fn while_connecting(
        error: ConnectionError,
        characters: Option<usize>,
    ) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code) => match code {
                ConnectReturnCode::BadUserNamePassword => Self::BadCredentials { characters },
                ConnectReturnCode::NotAuthorized => Self::NotAuthorised { characters },
                ConnectReturnCode::BadClientId => Self::IdentifierRejected,
                other => Self::Refused(other),
            },
            ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => Self::TimedOut,
            ConnectionError::Io(error) => match error.kind() {
                io::ErrorKind::InvalidData => Self::Tls(error.into()),
                io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof => {
                    Self::NotMqtt("it closed the connection without an answer".into())
                }
                _ => Self::NoRoute(error.into()),
            },
            ConnectionError::NotConnAck(_) => {
                Self::NotMqtt("it answered with another packet".into())
            }
            ConnectionError::MqttState(error) => Self::NotMqtt(error.into()),
            other @ ConnectionError::RequestsDone => Self::NoRoute(other.into()),
        }
    }
}

/// Quotes and white space that crept into a password show in its length, and the password does not.
fn sent(characters: Option<usize>) -> String {
    characters.map_or_else(String::new, |n| format!(" (a password of {n} characters was sent)"))
}

/// Whether the broker closed or reset the connection.
pub(in crate::mqtt) fn ended_by_peer(error: &ConnectionError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let io = match error {
        ConnectionError::MqttState(StateError::ConnectionAborted) => return true,
        ConnectionError::MqttState(
            StateError::Io(io) | StateError::Deserialization(mqttbytes::Error::Io(io)),
        )
        | ConnectionError::Io(io) => io,
        _ => return false,
    };
    matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_how_many_characters_the_password_had() {
        for code in [ConnectReturnCode::BadUserNamePassword, ConnectReturnCode::NotAuthorized] {
            let told = |characters| {
                let refused = ConnectionError::ConnectionRefused(code);
                Lost::while_connecting(refused, characters).to_string()
            };
            assert!(told(Some(8)).contains("(a password of 8 characters was sent)"));
            assert!(!told(None).contains("sent"));
        }
    }
}
