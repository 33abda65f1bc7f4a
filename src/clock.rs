//! The time by which the bridge waits.

use std::time::Instant;

/// The instant by the clock that tokio's timers follow. It is the system's but in simulated time,
/// where a task that measured by another clock than it sleeps by would wake too early for ever.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Sleeps until `at`; returns at once if there is no such time.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}
