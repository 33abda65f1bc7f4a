//! The signals that end the bridge.

use std::future::Future;

/// Resolves at the first SIGTERM or SIGINT.
///
/// # Errors
/// Where the system does not let signals be watched.
#[cfg(unix)]
pub fn stop() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Resolves at the first Ctrl-C.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub fn stop() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without Ctrl-C the program can still be ended from outside.
        let _ = tokio::signal::ctrl_c().await;
    })
}
