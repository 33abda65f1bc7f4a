//! What subcommands share: why one fails, the runtime it runs on, and the signals that end it.

use std::error::Error;
use std::future::Future;
use std::process::ExitCode;

use crate::causes::Cause;

/// The exit code for a wrong configuration; every other failure is 1.
const WRONG_CONFIGURATION: u8 = 2;

/// Why a subcommand failed. It is no error type itself, so that every error becomes one by `?`.
#[derive(Debug)]
pub enum Failure {
    /// The configuration or an argument is wrong.
    Configuration(Box<dyn Error>),
    /// Anything else.
    Other(Box<dyn Error>),
    /// The subcommand has printed what is wrong.
    Printed,
}

/// What failed, with its cause.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct At {
    what: String,
    source: Cause,
}

impl Failure {
    /// A failure at something, because of `source`.
    pub(super) fn at(what: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Other(At { what: what.into(), source: source.into() }.into())
    }

    /// A failure that is nothing but a text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Other(text.into().into())
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::from(WRONG_CONFIGURATION),
            Self::Other(_) | Self::Printed => ExitCode::FAILURE,
        }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

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
