//! Why an HTTP exchange failed, told from the chain of causes.

use std::error::Error;
use std::io;

/// Why no usable HTTP answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::octoprint) enum NetError {
    #[error("timed out")]
    Timeout,
    #[error("the host name cannot be resolved ({0})")]
    Dns(String),
    #[error("TLS failed ({0})")]
    Tls(String),
    #[error("no route to it ({0})")]
    Unreachable(String),
    /// Refused, reset, or ended before there was an answer.
    #[error("{0}")]
    Down(String),
    /// Answered with something that is not HTTP.
    #[error("{0}")]
    Unreadable(String),
}

impl NetError {
    pub(in crate::octoprint) fn of(error: &reqwest::Error) -> Self {
        if let Some(text) = tls_text(error) {
            return Self::Tls(text);
        }
        if error.is_dns() {
            return Self::Dns(root_text(error));
        }
        match io_kind(error) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Down("connection refused".to_owned()),
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
                Self::Unreachable(root_text(error))
            }
            Some(io::ErrorKind::TimedOut) => Self::Timeout,
            Some(_) => Self::Down(root_text(error)),
            None if error.is_timeout() => Self::Timeout,
            None => {
                let text = format!("no HTTP answer: {}", root_text(error));
                if is_parse(error) { Self::Unreadable(text) } else { Self::Down(text) }
            }
        }
    }

    /// Whether a new attempt may find what this one did not: OctoPrint could not be reached.
    pub(in crate::octoprint) fn unreached(&self) -> bool {
        // Who answers with a TLS alert is there.
        !matches!(self, Self::Tls(_))
    }
}

/// The text of the innermost cause; the outer ones would repeat the address.
pub(in crate::octoprint) fn root_text(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| Error::source(*error))
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    causes(error).filter_map(|e| e.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}

fn is_parse(error: &(dyn Error + 'static)) -> bool {
    causes(error).filter_map(|e| e.downcast_ref::<hyper::Error>()).any(hyper::Error::is_parse)
}

fn tls_text(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).find_map(|error| match error.downcast_ref::<rustls::Error>() {
        // A text of the one who verifies certificates, which rustls calls unexpected.
        Some(rustls::Error::General(told)) => Some(told.clone()),
        Some(tls) => Some(tls.to_string()),
        // An I/O error hides what it wraps from the chain of causes.
        None => {
            let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
            tls_text(inner)
        }
    })
}
