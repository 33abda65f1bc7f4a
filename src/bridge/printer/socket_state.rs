//! What `B/P/socket` and `B/P/availability` say, and when (pure).

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use crate::octoprint::{RateMode, SocketState as State, Status, Transport};

/// The longest that a change of the latency alone waits.
const LATENCY_INTERVAL: Duration = Duration::from_secs(10);
/// One step of OctoPrint's throttle, in milliseconds.
const STEP_MS: u64 = 500;

#[derive(Debug, Clone, PartialEq, Serialize)]
struct SocketValues {
    state: &'static str,
    transport: Option<&'static str>,
    attempt: u32,
    next_attempt_in: Option<u64>,
    error: Option<String>,
    rate_mode: &'static str,
    rate_factor: u32,
    push_interval_ms: u64,
    publish_latency_ms: Option<f64>,
}

impl SocketValues {
    fn of(status: &Status) -> Self {
        Self {
            state: status.state.as_str(),
            transport: status.transport.map(Transport::as_str),
            attempt: status.attempt,
            next_attempt_in: status.next_attempt_in.map(|wait| wait.as_secs_f64().ceil() as u64),
            error: status.error.clone(),
            rate_mode: match status.rate_mode {
                RateMode::Auto => "auto",
                RateMode::Manual(_) => "manual",
            },
            rate_factor: status.rate_factor,
            push_interval_ms: u64::from(status.rate_factor) * STEP_MS,
            publish_latency_ms: status
                .publish_latency
                .map(|latency| (latency.as_secs_f64() * 10_000.0).round() / 10.0),
        }
    }

    fn differs_but_in_latency(&self, other: &Self) -> bool {
        Self { publish_latency_ms: None, ..self.clone() }
            != Self { publish_latency_ms: None, ..other.clone() }
    }
}

/// Decides when the socket's status is published.
#[derive(Debug, Default)]
pub struct SocketState {
    now: Option<SocketValues>,
    out: Option<(SocketValues, Instant)>,
}

impl SocketState {
    /// Takes in a status; yields the payload if it is to be published now.
    pub fn update(&mut self, status: &Status, now: Instant) -> Option<Bytes> {
        self.now = Some(SocketValues::of(status));
        self.flush(now)
    }

    /// The payload that was held back, if it is to be published now.
    pub fn flush(&mut self, now: Instant) -> Option<Bytes> {
        let values = self.now.as_ref()?;
        if let Some((out, at)) = &self.out {
            let rested = now.saturating_duration_since(*at) >= LATENCY_INTERVAL;
            if values == out || (!values.differs_but_in_latency(out) && !rested) {
                return None;
            }
        }
        let payload = serde_json::to_vec(values).ok()?;
        self.out = Some((values.clone(), now));
        Some(payload.into())
    }

    /// When [`SocketState::flush`] has something to say.
    pub fn due(&self) -> Option<Instant> {
        let (out, at) = self.out.as_ref()?;
        (self.now.as_ref() != Some(out)).then(|| *at + LATENCY_INTERVAL)
    }
}

/// Whether the printer is called online: from a `history` on, and for a while without its socket.
#[derive(Debug)]
pub struct Availability {
    offline_after: Duration,
    online: bool,
    /// When the printer is called offline, unless the socket is back before.
    offline_at: Option<Instant>,
}

impl Availability {
    /// Offline. A printer that is online is so for `offline_after` without its socket.
    pub fn new(offline_after: Duration) -> Self {
        Self { offline_after, online: false, offline_at: None }
    }

    /// Whether it is called online.
    pub fn is_online(&self) -> bool {
        self.online
    }

    /// Takes in a status. `true`: the printer is offline from now on.
    pub fn update(&mut self, status: &Status, now: Instant) -> bool {
        if status.state == State::Connected {
            self.offline_at = None;
        } else if status.gone && self.online {
            return self.leave();
        } else if self.online {
            self.offline_at.get_or_insert(now + self.offline_after);
        }
        false
    }

    /// A `history` came. `true`: the printer is online from now on.
    pub fn greet(&mut self, status: &Status) -> bool {
        // One that was still to be read when the connection was lost proves nothing any more.
        if status.state != State::Connected {
            return false;
        }
        self.offline_at = None;
        !std::mem::replace(&mut self.online, true)
    }

    /// When [`Availability::flush`] has something to say.
    pub fn due(&self) -> Option<Instant> {
        self.offline_at
    }

    /// `true`: the printer is offline from now on.
    pub fn flush(&mut self, now: Instant) -> bool {
        self.offline_at.is_some_and(|at| now >= at) && self.leave()
    }

    /// The printer is offline. `true`: it was online before.
    pub fn leave(&mut self) -> bool {
        self.offline_at = None;
        std::mem::replace(&mut self.online, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_latency_alone_waits_ten_seconds() {
        let (mut socket, start) = (SocketState::default(), Instant::now());
        let mut status = Status { state: State::Connected, ..Status::default() };
        assert!(socket.update(&status, start).is_some());
        assert!(socket.update(&status, start).is_none());
        status.publish_latency = Some(Duration::from_micros(12_340));
        assert!(socket.update(&status, start + Duration::from_secs(1)).is_none());
        assert_eq!(socket.due(), Some(start + LATENCY_INTERVAL));
        let payload = socket.flush(start + LATENCY_INTERVAL).unwrap();
        assert!(std::str::from_utf8(&payload).unwrap().contains(r#""publish_latency_ms":12.3"#));
        status.rate_factor = 4;
        let payload = socket.update(&status, start + LATENCY_INTERVAL).unwrap();
        assert!(std::str::from_utf8(&payload).unwrap().contains(r#""push_interval_ms":2000"#));
    }

    #[test]
    fn a_printer_outlives_a_short_absence_but_none_that_is_certain() {
        let start = Instant::now();
        let mut printer = Availability::new(Duration::from_secs(30));
        let status = |state, gone| Status { state, gone, ..Status::default() };
        let (connected, waiting) = (status(State::Connected, false), status(State::Waiting, false));
        assert!(!printer.update(&waiting, start) && !printer.greet(&waiting));
        assert_eq!(printer.due(), None, "offline already");
        assert!(printer.greet(&connected) && !printer.greet(&connected) && printer.is_online());
        let late = start + Duration::from_secs(5);
        assert!(!printer.update(&waiting, start) && !printer.update(&waiting, late));
        assert!(!printer.greet(&waiting), "of the connection before");
        assert_eq!(printer.due(), Some(start + Duration::from_secs(30)), "from the first on");
        assert!(!printer.update(&connected, late));
        assert_eq!(printer.due(), None, "back in time");
        assert!(!printer.update(&waiting, start));
        assert!(printer.flush(start + Duration::from_secs(30)) && !printer.is_online());
        assert!(printer.greet(&connected));
        assert!(printer.update(&status(State::Waiting, true), start), "at once");
        assert!(!printer.update(&status(State::Waiting, true), start), "once");
    }
}
