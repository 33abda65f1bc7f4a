//! Why there is no connection to the broker, and the pause before the next attempt.

use std::io;
use std::time::Duration;

use rumqttc::ConnectReturnCode;

use super::session::SessionError;
use crate::causes::{Cause, text};
use crate::mqtt::outbox::quarantine::EndCause;

/// Lifetime below which a connection hints at a second client with the same id.
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
    /// The broker does not authorise this user.
    #[error(
        "the broker did not authorise this client{}; it may want mqtt.username and mqtt.password, or others than these, or its access rules leave this user out", sent(*.characters)
    )]
    NotAuthorised {
        /// Of the password that was sent.
        characters: Option<usize>,
    },
    /// The broker rejects the client id.
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
    /// An established connection ended.
    #[error("connection lost")]
    Closed {
        /// It ended within seconds of its CONNACK.
        soon: bool,
        /// The broker closed or reset it, rather than a timeout here or the network.
        by_peer: bool,
        /// The library's error.
        source: Cause,
    },
    /// The connection ended when the broker was asked for its uptime.
    #[error(
        "connection lost: {}, at the subscription of $SYS/broker/uptime; it is not asked for again", text(&**.0)
    )]
    NoUptime(#[source] Cause),
    /// Not all retained messages arrived.
    #[error(
        "the broker did not send all that is retained; check whether it is overloaded, and the way to it"
    )]
    NotReadBack,
    /// Nothing was acknowledged for too long.
    #[error("the broker acknowledged nothing for 30 s; the connection is given up")]
    Silent,
    /// The peer is not an MQTT broker.
    #[error(
        "the other side is not an MQTT broker ({}); check the port in mqtt.url, and mqtt:// against mqtts://", text(&**.0)
    )]
    NotMqtt(#[source] Cause),
}

impl Lost {
    /// Whether the broker refused, so that retrying quickly does not help.
    pub(in crate::mqtt) fn refused(&self) -> bool {
        match self {
            Self::BadCredentials { .. } | Self::NotAuthorised { .. } | Self::IdentifierRejected => {
                true
            }
            // The broker is still starting.
            Self::Refused(code) => *code != ConnectReturnCode::ServiceUnavailable,
            _ => false,
        }
    }

    /// Whether the broker does not want this client: it refused, or it ended the connection within
    /// seconds.
    pub(in crate::mqtt) fn is_unwanted(&self) -> bool {
        self.refused() || matches!(self, Self::Closed { soon: true, .. })
    }

    pub(in crate::mqtt) fn was_connected(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::NoUptime(_) | Self::Silent)
    }

    pub(in crate::mqtt) fn end_cause(&self) -> EndCause {
        match self {
            Self::Closed { by_peer: true, soon, .. } => EndCause::ByBroker { soon: *soon },
            lost if lost.was_connected() => EndCause::Otherwise,
            _ => EndCause::Unreachable,
        }
    }

    /// The end of a connection that lasted for `lived`.
    pub(in crate::mqtt) fn closed(lived: Duration, by_peer: bool, cause: impl Into<Cause>) -> Self {
        Self::Closed { soon: lived < SOON, by_peer, source: cause.into() }
    }

    /// A failed attempt to connect. `characters` is the length of the password that was sent.
    pub(super) fn while_connecting(error: SessionError, characters: Option<usize>) -> Self {
        if error.is_by_peer() {
            return Self::NotMqtt("it closed the connection without an answer".into());
        }
        match error {
            SessionError::Refused(code) => match code {
                ConnectReturnCode::BadUserNamePassword => Self::BadCredentials { characters },
                ConnectReturnCode::NotAuthorized => Self::NotAuthorised { characters },
                ConnectReturnCode::BadClientId => Self::IdentifierRejected,
                other => Self::Refused(other),
            },
            // A TLS alert that comes after the handshake.
            SessionError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Tls(error.into())
            }
            SessionError::Io(error) => Self::NoRoute(error.into()),
            other @ (SessionError::NotConnAck | SessionError::Protocol(_)) => {
                Self::NotMqtt(other.into())
            }
        }
    }
}

/// The length reveals quotes and white space that crept into a password, but not the password.
fn sent(characters: Option<usize>) -> String {
    characters.map_or_else(String::new, |n| format!(" (a password of {n} characters was sent)"))
}

/// The first pause; each next one is twice as long.
const FIRST: Duration = Duration::from_millis(500);
/// Longest pause while the broker is unreachable: it may be back any moment.
const AWAY: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(30);
/// Number of pauses that a refusal skips: it does not go away within seconds.
const REFUSED: u32 = 3;

/// Pauses of 0.5, 1, 2, 2 … seconds while the broker cannot be reached. If it refuses, or ends
/// connections soon after their start, they grow to 30 s: two bridges with the same client id end
/// each other's. A connection that lasts resets them. Jitter keeps many bridges from reconnecting
/// to a restarted broker at once.
#[derive(Debug, Default)]
pub(in crate::mqtt) struct Retry {
    /// Consecutive attempts that found no broker.
    away: u32,
    /// Refusals and short connections since the last one that lasted.
    unwanted: u32,
}

impl Retry {
    pub(in crate::mqtt) fn new() -> Self {
        Self::default()
    }

    /// Returns the pause after `lost`. `explained`: one of the bridge's own messages is thought to
    /// have ended the connection, so another client is not.
    pub(in crate::mqtt) fn after(&mut self, lost: &Lost, explained: bool) -> Duration {
        self.step(lost, explained).mul_f64(0.75 + fastrand::f64() / 4.0)
    }

    fn step(&mut self, lost: &Lost, explained: bool) -> Duration {
        if lost.is_unwanted() && !explained {
            self.away = 0;
            self.unwanted = if lost.refused() { self.unwanted.max(REFUSED) } else { self.unwanted };
            return grown(&mut self.unwanted, LONGEST);
        }
        if lost.was_connected() {
            self.away = 0;
            self.unwanted = if explained { self.unwanted } else { 0 };
        }
        grown(&mut self.away, AWAY)
    }
}

fn grown(count: &mut u32, longest: Duration) -> Duration {
    let pause = FIRST.saturating_mul(1 << (*count).min(10)).min(longest);
    *count = count.saturating_add(1);
    pause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_how_many_characters_the_password_had() {
        for code in [ConnectReturnCode::BadUserNamePassword, ConnectReturnCode::NotAuthorized] {
            let text = |characters| {
                let refused = SessionError::Refused(code);
                Lost::while_connecting(refused, characters).to_string()
            };
            assert!(text(Some(8)).contains("(a password of 8 characters was sent)"));
            assert!(!text(None).contains("sent"));
        }
    }

    fn closed(soon: bool) -> Lost {
        Lost::Closed { soon, by_peer: true, source: "reset".into() }
    }

    fn steps(retry: &mut Retry, lost: &Lost, count: usize) -> Vec<u64> {
        (0..count).map(|_| u64::try_from(retry.step(lost, false).as_millis()).unwrap()).collect()
    }

    #[test]
    fn a_broker_that_is_away_is_back_within_two_seconds() {
        let away = [
            Lost::NoRoute("refused".into()),
            Lost::TimedOut,
            Lost::NotMqtt("it closed the connection without an answer".into()),
            // A proxy in front of a broker that is away.
            Lost::Tls("the other side ended the connection in the handshake".into()),
            Lost::WebSocket("the answer to the upgrade was HTTP 502".into()),
            Lost::Refused(ConnectReturnCode::ServiceUnavailable),
        ];
        for lost in away {
            let mut retry = Retry::new();
            assert_eq!(steps(&mut retry, &lost, 6), [500, 1000, 2000, 2000, 2000, 2000], "{lost}");
            // After a connection that lasted they start again, even if it ended in silence.
            for held in [closed(false), Lost::Silent] {
                assert_eq!(steps(&mut retry, &held, 1), [500], "{lost}");
                assert_eq!(steps(&mut retry, &lost, 2), [1000, 2000], "{lost}");
            }
        }
    }

    #[test]
    fn refusals_and_connections_that_end_soon_are_tried_less_and_less_often() {
        let mut retry = Retry::new();
        let grown = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
        assert_eq!(steps(&mut retry, &closed(true), 8), grown);
        // Attempts in between that find no broker neither grow nor reset them.
        let away = Lost::NoRoute("refused".into());
        assert_eq!(steps(&mut retry, &away, 4), [500, 1000, 2000, 2000]);
        assert_eq!(steps(&mut retry, &closed(true), 1), [30_000]);
        assert_eq!(steps(&mut retry, &closed(false), 1), [500]);
        assert_eq!(steps(&mut retry, &closed(true), 2), [500, 1000]);
        let refusals = [
            Lost::BadCredentials { characters: None },
            Lost::NotAuthorised { characters: None },
            Lost::IdentifierRejected,
            Lost::Refused(ConnectReturnCode::RefusedProtocolVersion),
        ];
        for lost in refusals {
            let mut retry = Retry::new();
            assert_eq!(steps(&mut retry, &lost, 5), [4000, 8000, 16_000, 30_000, 30_000], "{lost}");
        }
    }

    #[test]
    fn a_connection_ended_by_a_message_is_soon_retried() {
        let mut retry = Retry::new();
        assert_eq!(steps(&mut retry, &closed(true), 4).last(), Some(&4000));
        for _ in 0..5 {
            assert_eq!(retry.step(&closed(true), true), FIRST);
        }
        assert_eq!(steps(&mut retry, &closed(true), 1), [8000]);
    }

    #[test]
    fn the_jitter_shortens_by_a_quarter_at_most() {
        for _ in 0..1000 {
            let pause = Retry::new().after(&Lost::TimedOut, false);
            assert!(pause <= FIRST && pause >= FIRST.mul_f64(0.75), "{pause:?}");
        }
    }
}
