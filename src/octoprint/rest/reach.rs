//! Whether OctoPrint could be reached lately: what every exchange with it leaves behind.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::CallError;
use super::net_error::NetError;
use crate::causes;

/// For how long a failed attempt tells that OctoPrint cannot be reached.
const LATELY: Duration = Duration::from_secs(2);

/// The last exchange that did not reach OctoPrint, unless one did since. All clients of one
/// OctoPrint share it: its own calls, the socket's, the knocks.
#[derive(Debug, Default)]
pub(in crate::octoprint) struct Reach(Mutex<Option<Missed>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Missed {
    at: Instant,
    reason: String,
    /// Its address refused, reset, or answered in its place.
    gone: bool,
}

impl Reach {
    /// An HTTP answer came.
    pub(in crate::octoprint) fn answered(&self, status: u16, now: Instant) {
        let missed = not_up(status).then(|| Missed {
            at: now,
            reason: format!("HTTP status {status}"),
            gone: is_proxy(status),
        });
        *self.lock() = missed;
    }

    /// No HTTP answer came.
    pub(in crate::octoprint) fn unanswered(&self, error: &CallError, now: Instant) {
        let cause = match error {
            CallError::NotSent(cause) => cause,
            // Slow, but there: it has taken the call.
            CallError::Unanswered(NetError::Timeout) | CallError::Body { .. } => return,
            CallError::Unanswered(cause) => cause,
        };
        let gone = matches!(cause, NetError::Down(_));
        *self.lock() = Some(Missed { at: now, reason: causes::text(cause), gone });
    }

    /// Why OctoPrint cannot be reached, where an attempt of the last two seconds found that.
    pub(in crate::octoprint) fn missed_lately(&self, now: Instant) -> Option<String> {
        let missed = self.lock();
        let lately = |missed: &&Missed| now.saturating_duration_since(missed.at) < LATELY;
        missed.as_ref().filter(lately).map(|missed| missed.reason.clone())
    }

    /// Whether OctoPrint has been found gone since `since`: nothing listens at its address, or a
    /// proxy there says that it is not up. Silence is no such finding.
    pub(in crate::octoprint) fn gone_since(&self, since: Instant) -> bool {
        self.lock().as_ref().is_some_and(|missed| missed.gone && missed.at >= since)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Missed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a status says that OctoPrint is not up: OctoPrint's stand-in server, which is there
/// while it starts, answers 501, and proxies answer the others.
pub(in crate::octoprint) fn not_up(status: u16) -> bool {
    status == 501 || is_proxy(status)
}

/// Whether a status is a proxy's, which has no OctoPrint to ask.
pub(in crate::octoprint) fn is_proxy(status: u16) -> bool {
    matches!(status, 502..=504)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octoprint::rest::net_error::shared;

    fn down() -> CallError {
        CallError::NotSent(NetError::Down(shared("connection refused")))
    }

    #[test]
    fn a_miss_tells_for_two_seconds_or_until_there_is_an_answer() {
        let (reach, start) = (Reach::default(), Instant::now());
        assert_eq!(reach.missed_lately(start), None);
        reach.unanswered(&down(), start);
        let later = start + Duration::from_millis(1999);
        assert_eq!(reach.missed_lately(later).as_deref(), Some("connection refused"));
        assert_eq!(reach.missed_lately(start + LATELY), None);
        reach.unanswered(&down(), start);
        reach.answered(409, start);
        assert_eq!(reach.missed_lately(start), None, "409 is OctoPrint's own answer");
        reach.answered(503, start);
        assert_eq!(reach.missed_lately(start).as_deref(), Some("HTTP status 503"));
    }

    #[test]
    fn who_is_slow_is_there_and_who_is_silent_is_not_known_to_be_gone() {
        let (reach, start) = (Reach::default(), Instant::now());
        reach.unanswered(&CallError::Unanswered(NetError::Timeout), start);
        assert_eq!(reach.missed_lately(start), None);
        reach.unanswered(&CallError::NotSent(NetError::Timeout), start);
        assert!(reach.missed_lately(start).is_some() && !reach.gone_since(start));
        let unreadable = NetError::Unreadable(shared("invalid HTTP version parsed"));
        reach.unanswered(&CallError::Unanswered(unreadable), start);
        assert!(!reach.gone_since(start));
        reach.answered(501, start);
        assert!(!reach.gone_since(start), "it is starting");
        for status in [502, 503, 504] {
            reach.answered(status, start);
            assert!(reach.gone_since(start));
        }
        reach.unanswered(&down(), start);
        assert!(reach.gone_since(start) && !reach.gone_since(start + LATELY));
    }
}
