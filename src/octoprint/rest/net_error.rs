//! Why an HTTP exchange failed, told from the chain of causes.

use std::error::Error;
use std::io;
use std::sync::Arc;

use crate::causes::{Cause, HttpFault, chain, of_tls};

/// A cause of any kind, in errors that are passed on more than once.
pub(in crate::octoprint) type SharedCause = Arc<dyn Error + Send + Sync>;

/// Makes a cause one that is shared.
pub(in crate::octoprint) fn shared(cause: impl Into<Cause>) -> SharedCause {
    cause.into().into()
}

/// Why no usable HTTP answer came.
#[derive(Debug, thiserror::Error)]
pub(in crate::octoprint) enum NetError {
    #[error("timed out")]
    Timeout,
    #[error("the host name cannot be resolved ({0})")]
    Dns(#[source] SharedCause),
    #[error("TLS failed ({0})")]
    Tls(#[source] SharedCause),
    #[error("no route to it ({0})")]
    Unreachable(#[source] SharedCause),
    /// Refused, reset, or ended before there was an answer.
    #[error("{0}")]
    Down(#[source] SharedCause),
    /// Answered with something that is not HTTP.
    #[error("{0}")]
    Unreadable(#[source] SharedCause),
}

#[derive(Debug, thiserror::Error)]
#[error("no HTTP answer: {0}")]
struct NoHttpAnswer(#[source] HttpFault);

impl NetError {
    pub(in crate::octoprint) fn of(error: reqwest::Error) -> Self {
        let fault = |error: reqwest::Error| shared(HttpFault::from(error));
        if of_tls(&error).is_some() {
            return Self::Tls(fault(error));
        }
        if error.is_dns() {
            return Self::Dns(fault(error));
        }
        match io_kind(&error) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Down(shared("connection refused")),
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
                Self::Unreachable(fault(error))
            }
            Some(io::ErrorKind::TimedOut) => Self::Timeout,
            Some(_) => Self::Down(fault(error)),
            None if error.is_timeout() => Self::Timeout,
            None if is_parse(&error) => Self::Unreadable(shared(NoHttpAnswer(error.into()))),
            None => Self::Down(shared(NoHttpAnswer(error.into()))),
        }
    }

    /// Whether a new attempt may find what this one did not: OctoPrint could not be reached.
    pub(in crate::octoprint) fn unreached(&self) -> bool {
        // Who answers with a TLS alert is there.
        !matches!(self, Self::Tls(_))
    }
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    chain(error).filter_map(|e| e.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}

fn is_parse(error: &(dyn Error + 'static)) -> bool {
    chain(error).filter_map(|e| e.downcast_ref::<hyper::Error>()).any(hyper::Error::is_parse)
}
