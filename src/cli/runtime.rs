//! The runtime of a subcommand.

use std::future::Future;

use super::failure::Failure;

/// Runs `future` on a runtime of its own, which ends with it.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    // One thread: the work of a message is microseconds, a thousand printers keep a sixth of a core
    // busy, and threads that wake each other would cost more than they gain.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(future);
    // A task that hangs in a blocking lookup of a name must not hold up the end.
    runtime.shutdown_background();
    ended
}
