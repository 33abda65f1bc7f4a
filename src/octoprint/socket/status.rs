//! What a socket shows of itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::octoprint::wire::transport::Transport;

/// What a socket is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketState {
    /// Not connected and not trying to be.
    Disconnected,
    /// Logging in and opening the transport.
    Connecting,
    /// Waiting for the proof that the login was accepted.
    Authenticating,
    /// Connected and logged in.
    Connected,
    /// Waiting for the next attempt.
    Waiting,
    /// Given up, until `connect` or `reconnect`; for good where the socket's task has ended.
    Failed,
}

impl SocketState {
    /// The state's name in lower case.
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

/// Who sets the throttle factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateMode {
    /// The measured processing times.
    Auto,
    /// The user: this factor holds.
    Manual(u32),
}

impl RateMode {
    /// The factor that the user has set; `None` where the latency decides.
    pub fn manual_factor(self) -> Option<u32> {
        match self {
            Self::Auto => None,
            Self::Manual(factor) => Some(factor),
        }
    }
}

/// A socket's status at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: SocketState,
    /// The transport of the open connection.
    pub transport: Option<Transport>,
    /// Attempts to reconnect since the last connection that stable.
    pub attempt: u32,
    /// How long the present wait is; set once, when it begins.
    pub next_attempt_in: Option<Duration>,
    /// Why the last connection or attempt ended; `None` once connected.
    pub error: Option<String>,
    /// OctoPrint closed the last connection, and since then its address has refused one, reset
    /// one, or answered 502, 503 or 504. `false` where it is silent; once connected, it is not gone.
    pub gone: bool,
    /// Who sets the throttle factor.
    pub rate_mode: RateMode,
    /// The throttle factor in force: OctoPrint pushes every factor × 500 ms at most.
    pub rate_factor: u32,
    /// The median of the last measured processing times; renewed once a second at most.
    pub publish_latency: Option<Duration>,
}

impl Default for Status {
    /// Before the first attempt.
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

/// What a socket's task and its handlers count, and its handles read.
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

/// What a socket has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages received and dispatched.
    pub messages: u64,
    /// Frames and parts of frames that could not be read and were skipped.
    pub decode_errors: u64,
    /// How often it was connected again after it had been connected.
    pub reconnects: u64,
}
