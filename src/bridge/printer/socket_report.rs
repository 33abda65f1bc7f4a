//! The publications of `B/P/socket` and `B/P/availability` (pure).

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use crate::octoprint::{RateMode, SocketState, Status, Transport};

/// Minimum interval between payloads that differ in the latency alone.
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
pub struct SocketReport {
    current: Option<SocketValues>,
    published: Option<(SocketValues, Instant)>,
}

impl SocketReport {
    /// Applies a status. Returns the payload, if it is due now.
    pub fn update(&mut self, status: &Status, now: Instant) -> Option<Bytes> {
        self.current = Some(SocketValues::of(status));
        self.flush(now)
    }

    /// Applies that the printer's tasks restart after `delay`, with `status` from before.
    pub fn restarting(&mut self, status: &Status, delay: Duration, now: Instant) -> Option<Bytes> {
        let waiting = Status {
            state: SocketState::Waiting,
            transport: None,
            next_attempt_in: Some(delay),
            error: Some("a task of this printer failed; see the bridge's log".to_owned()),
            ..*status
        };
        self.update(&waiting, now)
    }

    /// Returns the payload that was held back, if it is due now.
    pub fn flush(&mut self, now: Instant) -> Option<Bytes> {
        let values = self.current.as_ref()?;
        if let Some((published, at)) = &self.published {
            let elapsed = now.saturating_duration_since(*at) >= LATENCY_INTERVAL;
            if values == published || (!values.differs_but_in_latency(published) && !elapsed) {
                return None;
            }
        }
        let payload = serde_json::to_vec(values).ok()?;
        self.published = Some((values.clone(), now));
        Some(payload.into())
    }

    /// Returns the interval at which OctoPrint pushes.
    pub fn push_interval(&self) -> Duration {
        let milliseconds = self.current.as_ref().map_or(STEP_MS, |status| status.push_interval_ms);
        Duration::from_millis(milliseconds)
    }

    /// Returns when [`SocketReport::flush`] may return a payload.
    pub fn due(&self) -> Option<Instant> {
        let (published, at) = self.published.as_ref()?;
        (self.current.as_ref() != Some(published)).then(|| *at + LATENCY_INTERVAL)
    }
}

/// Whether the printer is online: from a `history` on, until its socket was down for a while.
#[derive(Debug)]
pub struct Availability {
    offline_after: Duration,
    online: bool,
    /// When the printer becomes offline, unless the socket reconnects before.
    offline_at: Option<Instant>,
}

impl Availability {
    /// An offline printer, which, once online, stays so for `offline_after` without its socket.
    pub fn new(offline_after: Duration) -> Self {
        Self { offline_after, online: false, offline_at: None }
    }

    /// Whether the printer is online.
    pub fn is_online(&self) -> bool {
        self.online
    }

    /// Applies a status. Returns whether the printer becomes offline.
    pub fn update(&mut self, status: &Status, now: Instant) -> bool {
        if status.state == SocketState::Connected {
            self.offline_at = None;
        } else if status.gone && self.online {
            return self.leave();
        } else if self.online {
            self.offline_at.get_or_insert(now + self.offline_after);
        }
        false
    }

    /// Notes a `history`. Returns whether the printer becomes online.
    pub fn history_received(&mut self, status: &Status) -> bool {
        // One that was still queued when the connection was lost proves nothing.
        if status.state != SocketState::Connected {
            return false;
        }
        self.offline_at = None;
        !std::mem::replace(&mut self.online, true)
    }

    /// Returns when [`Availability::flush`] may return `true`.
    pub fn due(&self) -> Option<Instant> {
        self.offline_at
    }

    /// Checks the time. Returns whether the printer becomes offline.
    pub fn flush(&mut self, now: Instant) -> bool {
        self.offline_at.is_some_and(|at| now >= at) && self.leave()
    }

    /// Sets the printer offline. Returns whether it was online.
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
        let (mut socket, start) = (SocketReport::default(), Instant::now());
        let mut status = Status { state: SocketState::Connected, ..Status::default() };
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
    fn a_printer_stays_online_for_a_short_disconnection_unless_the_server_is_gone() {
        let start = Instant::now();
        let mut printer = Availability::new(Duration::from_secs(30));
        let status = |state, gone| Status { state, gone, ..Status::default() };
        let (connected, waiting) =
            (status(SocketState::Connected, false), status(SocketState::Waiting, false));
        assert!(!printer.update(&waiting, start) && !printer.history_received(&waiting));
        assert_eq!(printer.due(), None, "offline already");
        assert!(
            printer.history_received(&connected)
                && !printer.history_received(&connected)
                && printer.is_online()
        );
        let late = start + Duration::from_secs(5);
        assert!(!printer.update(&waiting, start) && !printer.update(&waiting, late));
        assert!(!printer.history_received(&waiting), "it is of an earlier connection");
        assert_eq!(printer.due(), Some(start + Duration::from_secs(30)), "since the first one");
        assert!(!printer.update(&connected, late));
        assert_eq!(printer.due(), None, "back in time");
        assert!(!printer.update(&waiting, start));
        assert!(printer.flush(start + Duration::from_secs(30)) && !printer.is_online());
        assert!(printer.history_received(&connected));
        assert!(printer.update(&status(SocketState::Waiting, true), start), "at once");
        assert!(!printer.update(&status(SocketState::Waiting, true), start), "once");
    }
}
