//! Formats errors with their causes on one line.
//!
//! The text of an error says what failed, and includes the cause only if the sentence continues
//! after it. Print errors with [`text`].

use std::error::Error;
use std::{fmt, io};

use crate::names::NameError;

/// A cause of any kind.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Formats an error and its causes as `what: why: why`, without causes that are already in the
/// text.
pub fn text(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in chain(error).skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| Error::source(*error))
}

/// Returns what is wrong with the peer's TLS, if that caused the error.
pub(crate) fn of_tls(error: &(dyn Error + 'static)) -> Option<String> {
    chain(error).find_map(|error| match error.downcast_ref::<rustls::Error>() {
        // The bridge's own verifier puts its text here; rustls would call it unexpected.
        Some(rustls::Error::General(text)) => Some(text.clone()),
        Some(tls) => Some(tls.to_string()),
        // An I/O error hides what it wraps from the chain of causes.
        None => of_tls(wrapped(error)?),
    })
}

fn of_name<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a NameError> {
    chain(error).find_map(|error| wrapped(error)?.downcast_ref())
}

fn wrapped<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let wrapped = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(wrapped)
}

#[derive(Debug)]
pub(crate) struct TlsFault(pub(crate) io::Error);

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&of_tls(&self.0).unwrap_or_else(|| text(&self.0)))
    }
}

impl Error for TlsFault {}

/// A failed HTTP exchange. Shows only the root cause, since the layers above add nothing, and never
/// the address, which may hold a secret.
#[derive(Debug)]
pub struct HttpFault(reqwest::Error);

impl From<reqwest::Error> for HttpFault {
    fn from(error: reqwest::Error) -> Self {
        Self(error.without_url())
    }
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = of_tls(&self.0) {
            return f.write_str(&text);
        }
        if let Some(name) = of_name(&self.0) {
            return fmt::Display::fmt(name, f);
        }
        chain(&self.0).last().map_or(Ok(()), |root| fmt::Display::fmt(root, f))
    }
}

impl Error for HttpFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Layer {
        what: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn causes_follow_and_none_is_repeated() {
        let layers = |texts: &[&'static str]| {
            texts.iter().rev().fold(None, |source, what| Some(Box::new(Layer { what, source })))
        };
        for (texts, line) in [
            (&["a"][..], "a"),
            (&["a", "b", "c"], "a: b: c"),
            (
                &["no connection (refused); start it", "refused", "errno 5"],
                "no connection (refused); start it: errno 5",
            ),
        ] {
            assert_eq!(text(&*layers(texts).unwrap()), line);
        }
    }

    #[test]
    fn an_http_fault_does_not_show_the_address() {
        let bad = reqwest::Client::new().get("http://user:hidden@/x?token=hidden").build();
        let fault = HttpFault::from(bad.unwrap_err());
        for text in [format!("{fault}"), format!("{fault:?}"), text(&fault)] {
            assert!(!text.is_empty() && !text.contains("hidden"), "{text}");
        }
    }

    #[test]
    fn the_text_of_the_certificate_verifier_is_shown() {
        let refused = rustls::Error::General("it has expired".to_owned());
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, refused));
        assert_eq!(of_tls(&wrapped).as_deref(), Some("it has expired"));
        assert_eq!(TlsFault(wrapped).to_string(), "it has expired");
        assert_eq!(TlsFault(io::Error::other("reset")).to_string(), "reset");
    }
}
