//! An HTTP answer, and what it says of itself (pure).

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, PROXY_AUTHENTICATE, WWW_AUTHENTICATE};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// How much of a page is looked through for its title.
const HEAD: usize = 4096;

/// An HTTP answer, read whole.
pub(in crate::octoprint) struct Answer {
    pub(in crate::octoprint) status: StatusCode,
    /// Where a redirect leads, fit to be shown.
    pub(in crate::octoprint) location: Option<String>,
    /// The login that it asks for, fit to be shown. OctoPrint asks for none in this way: it is that
    /// of a proxy.
    pub(in crate::octoprint) challenge: Option<String>,
    /// Mended where it is JSON as Python writes it.
    pub(in crate::octoprint) body: Bytes,
}

impl Answer {
    /// OctoPrint's `{"error": text}`, fit for one line.
    pub(in crate::octoprint) fn error_text(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Body {
            error: String,
        }
        serde_json::from_slice::<Body>(&self.body).ok().map(|body| shown(&body.error))
    }

    /// Whether it has the form of OctoPrint's answers.
    pub(in crate::octoprint) fn is_object(&self) -> bool {
        serde_json::from_slice::<HashMap<String, IgnoredAny>>(&self.body).is_ok()
    }

    /// What an answer says of itself, fit for one line: OctoPrint's error, the title of a page, the
    /// text that it is, or the name of its status.
    pub(in crate::octoprint) fn seen(&self) -> String {
        self.error_text()
            .or_else(|| self.title())
            .or_else(|| self.plain_text())
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| self.status.canonical_reason().unwrap_or("error").to_owned())
    }

    /// The title of a page.
    pub(in crate::octoprint) fn title(&self) -> Option<String> {
        let head = self.head();
        // As ASCII: the places in the text stay the same.
        let (_, after) = head.split_at_checked(head.to_ascii_lowercase().find("<title")?)?;
        let (_, title) = after.split_once('>')?;
        Some(shown(title.split('<').next()?)).filter(|title| !title.is_empty())
    }

    fn plain_text(&self) -> Option<String> {
        let head = self.head();
        (!head.trim_start().starts_with(['<', '{', '['])).then(|| shown(&head))
    }

    fn head(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body[..self.body.len().min(HEAD)])
    }
}

/// The first login that the headers of an answer ask for.
pub(in crate::octoprint) fn challenge(headers: &HeaderMap) -> Option<String> {
    let header =
        [WWW_AUTHENTICATE, PROXY_AUTHENTICATE].iter().find_map(|name| headers.get(name))?;
    let text = shown(&String::from_utf8_lossy(header.as_bytes()));
    Some(text).filter(|text| !text.is_empty())
}

/// A text from outside, fit for one log line.
pub(in crate::octoprint) fn shown(text: &str) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    if text.chars().nth(200).is_some() {
        line.push('…');
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_fits_a_line() {
        assert_eq!(shown("a\nb\u{7}"), "a b");
        assert_eq!(shown(&"ä".repeat(300)).chars().count(), 201);
    }

    #[test]
    fn an_answer_tells_what_it_is() {
        let seen = |body: &'static str| {
            let (status, body) =
                (StatusCode::INTERNAL_SERVER_ERROR, Bytes::from_static(body.as_bytes()));
            Answer { status, location: None, challenge: None, body }.seen()
        };
        for (body, text) in [
            ("<html><head><TITLE lang=en>500 Oh no</title></head>", "500 Oh no"),
            ("out of\nmemory", "out of memory"),
            (r#"{"error":"no disk"}"#, "no disk"),
            ("", "Internal Server Error"),
            ("<html>", "Internal Server Error"),
            ("<title></title>", "Internal Server Error"),
            ("<title", "Internal Server Error"),
            (r#"{"detail":1}"#, "Internal Server Error"),
        ] {
            assert_eq!(seen(body), text, "{body}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(challenge(&headers), None);
        headers.insert(WWW_AUTHENTICATE, "Basic realm=\"pi\"".parse().unwrap());
        assert_eq!(challenge(&headers).as_deref(), Some("Basic realm=\"pi\""));
    }
}
