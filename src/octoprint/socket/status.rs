//! The status and counters of a socket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::octoprint::wire::transport::Transport;

/// The state of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketState {
    /// Neither connected nor trying to connect.
    Disconnected,
    /// Logging in and opening the transport.
    Connecting,
    /// Waiting for proof that the login was accepted.
    Authenticating,
    /// Connected and logged in.
    Connected,
    /// Waiting for the next attempt.
    Waiting,
    /// Given up until `connect` or `reconnect`; for good if the socket's task has ended.
    Failed,
}

impl SocketState {
    /// Returns the state's name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Connecting => "connecting",
            Self::Authenticating => "authenticating",
            Self::Connected => "connected",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

/// How the throttle factor is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateMode {
    /// By the measured processing times.
    Auto,
    /// By the user, to this factor.
    Manual(u32),
}

impl RateMode {
    /// Returns the factor that the user has set.
    pub fn manual_factor(self) -> Option<u32> {
        match self {
            Self::Auto => None,
            Self::Manual(factor) => Some(factor),
        }
    }
}

/// A snapshot of a socket's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: SocketState,
    /// The transport of the open connection.
    pub transport: Option<Transport>,
    /// Number of attempts to reconnect since the last stable connection.
    pub attempt: u32,
    /// Length of the current wait; set once, at its start.
    pub next_attempt_in: Option<Duration>,
    /// Why the last connection or attempt ended; `None` once connected.
    pub error: Option<String>,
    /// Whether OctoPrint closed the last connection, and its address has since refused or reset a
    /// connection or answered 502, 503 or 504. A timeout does not count. `false` once connected.
    pub gone: bool,
    /// How the throttle factor is set.
    pub rate_mode: RateMode,
    /// The throttle factor in force: OctoPrint pushes every factor × 500 ms at most.
    pub rate_factor: u32,
    /// Median of the last processing times; updated once a second at most.
    pub publish_latency: Option<Duration>,
}

impl Default for Status {
    /// Returns the status before the first attempt.
    fn default() -> Self {
        Self {
            state: SocketState::Disconnected,
            transport: None,
            attempt: 0,
            next_attempt_in: None,
            error: None,
            gone: false,
            rate_mode: RateMode::Auto,
            rate_factor: 1,
            publish_latency: None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct AtomicCounters {
    pub(super) messages: AtomicU64,
    pub(super) decode_errors: AtomicU64,
    pub(super) reconnects: AtomicU64,
}

impl AtomicCounters {
    pub(super) fn read(&self) -> Counters {
        Counters {
            messages: self.messages.load(Ordering::Relaxed),
            decode_errors: self.decode_errors.load(Ordering::Relaxed),
            reconnects: self.reconnects.load(Ordering::Relaxed),
        }
    }
}

/// The counters of a socket since its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages received and dispatched.
    pub messages: u64,
    /// Frames and parts of frames that were skipped as unreadable.
    pub decode_errors: u64,
    /// Successful reconnects.
    pub reconnects: u64,
}
