//! The clock that the bridge waits by.

use std::time::Instant;

/// Returns the current instant of tokio's clock. It differs from the system's in simulated time,
/// where a task that measures with one clock and sleeps with the other would spin.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Sleeps until `at`; returns at once if there is no such time.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}
