//! Errors with what caused them, for one line.
//!
//! The text of an error says what failed, and has the cause in it only where the sentence goes on
//! after that. Who prints an error prints [`told`].

use std::error::Error;
use std::{fmt, io};

use crate::names::NameError;

/// A cause of any kind.
pub type Cause = Box<dyn Error + Send + Sync>;

/// An error and its causes: `what: why: why`. A cause whose text is there already is left out.
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

/// An error, its cause, the cause of that, and so on.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| Error::source(*error))
}

/// What is wrong with the other side's TLS, where an error comes of that.
pub(crate) fn of_tls(error: &(dyn Error + 'static)) -> Option<String> {
    chain(error).find_map(|error| match error.downcast_ref::<rustls::Error>() {
        // A text of the one who verifies certificates, which rustls calls unexpected.
        Some(rustls::Error::General(told)) => Some(told.clone()),
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

/// A failed handshake of TLS.
#[derive(Debug)]
pub(crate) struct TlsFault(pub(crate) io::Error);

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&of_tls(&self.0).unwrap_or_else(|| text(&self.0)))
    }
}

impl Error for TlsFault {}

/// A failed HTTP exchange. It says what is at the bottom of it: the layers above that say no more
/// than that something failed. It does not have the address, in which a secret may be.
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
    fn causes_follow_and_none_is_told_twice() {
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
    fn an_address_is_not_told_with_what_failed_there() {
        let bad = reqwest::Client::new().get("http://user:hidden@/x?token=hidden").build();
        let fault = HttpFault::from(bad.unwrap_err());
        for text in [format!("{fault}"), format!("{fault:?}"), text(&fault)] {
            assert!(!text.is_empty() && !text.contains("hidden"), "{text}");
        }
    }

    #[test]
    fn a_certificate_that_is_refused_is_told_in_the_words_of_who_refused_it() {
        let refused = rustls::Error::General("it has expired".to_owned());
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, refused));
        assert_eq!(of_tls(&wrapped).as_deref(), Some("it has expired"));
        assert_eq!(TlsFault(wrapped).to_string(), "it has expired");
        assert_eq!(TlsFault(io::Error::other("reset")).to_string(), "reset");
    }
}
