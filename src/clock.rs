//! The clock that the bridge waits by.

use std::time::Instant;

/// Returns the current instant of tokio's clock. It differs from the system's in simulated time,
/// where a task that measures with one clock and sleeps with the other would spin.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
