//! What the subcommands share: their error, their runtime, the signals that end them, and HTTP.

use std::error::Error;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use tokio::sync::mpsc;

use crate::causes::{self, Cause, HttpFault};
use crate::config::Tls;
use crate::tls::{self, TlsError};

/// The exit code for a wrong configuration; every other failure is 1.
const WRONG_CONFIGURATION: u8 = 2;

/// Why a subcommand failed. It does not implement `Error`, so that `?` converts every error to it.
#[derive(Debug)]
pub enum CommandFailure {
    /// The configuration or an argument is wrong.
    Configuration(Box<dyn Error>),
    /// Anything else.
    Other(Box<dyn Error>),
    /// The subcommand has printed what is wrong.
    Printed,
}

#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct FailedAt {
    what: String,
    source: Cause,
}

impl CommandFailure {
    pub(super) fn at(what: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Other(FailedAt { what: what.into(), source: source.into() }.into())
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Other(text.into().into())
    }

    /// Returns the error with its causes; `None` if it is already printed.
    pub(super) fn text_of_error(&self) -> Option<String> {
        match self {
            Self::Configuration(error) | Self::Other(error) => Some(causes::text(&**error)),
            Self::Printed => None,
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::from(WRONG_CONFIGURATION),
            Self::Other(_) | Self::Printed => ExitCode::FAILURE,
        }
    }
}

impl<E: Error + 'static> From<E> for CommandFailure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Runs `future` on a runtime of its own, which ends with it.
pub(super) fn block_on<T, E: From<std::io::Error>>(
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    // One thread: a message takes microseconds, a thousand printers use a sixth of a core, and
    // threads that wake each other would cost more than they gain.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(future);
    // A blocking name lookup that hangs must not delay the end.
    runtime.shutdown_background();
    ended
}

/// Resolves at the first SIGTERM or SIGINT.
///
/// # Errors
/// If signals cannot be watched.
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

/// Returns requests to read the configuration again: SIGHUP.
///
/// # Errors
/// If the signal cannot be caught.
pub(super) fn hangups() -> std::io::Result<mpsc::Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    let (tell, hangups) = mpsc::channel(1);
    tokio::spawn(
        async move { while hangup.recv().await.is_some() && tell.send(()).await.is_ok() {} },
    );
    Ok(hangups)
}

/// Resolves at the first Ctrl-C.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub fn stop() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // If this fails, the program can still be killed.
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// Why an HTTP request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The request failed.
    #[error(transparent)]
    Http(#[from] HttpFault),
}

impl From<reqwest::Error> for Unanswered {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.into())
    }
}

/// Gets a plain HTTP `url` within the host, of the bridge itself or of a supervisor, with an
/// optional bearer token. Ignores the environment's proxy.
///
/// # Errors
/// [`Unanswered`] if there is no answer.
pub(super) async fn http_get(
    url: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<(StatusCode, Bytes), Unanswered> {
    // The trust does not matter without TLS.
    let tls = tls::client_config(&Tls::default(), false)?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .no_proxy()
        .timeout(timeout)
        .build()?;
    let mut request = client.get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?;
    let status = answer.status();
    let body = answer.bytes().await?;
    Ok((status, body))
}
