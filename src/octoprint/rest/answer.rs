//! An HTTP answer and its one-line summary (pure).

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, PROXY_AUTHENTICATE, WWW_AUTHENTICATE};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// How much of a page is searched for its title, in bytes.
const HEAD: usize = 4096;

pub(in crate::octoprint) struct Answer {
    pub(in crate::octoprint) status: StatusCode,
    /// Target of a redirect, without secrets.
    pub(in crate::octoprint) location: Option<String>,
    /// The login challenge, on one line. OctoPrint never sends one, so it comes from a proxy.
    pub(in crate::octoprint) challenge: Option<String>,
    /// The body, with Python's JSON extensions replaced.
    pub(in crate::octoprint) body: Bytes,
}

impl Answer {
    /// Returns the text of OctoPrint's `{"error": text}` on one line.
    pub(in crate::octoprint) fn error_text(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct ErrorBody {
            error: String,
        }
        serde_json::from_slice::<ErrorBody>(&self.body).ok().map(|body| one_line(&body.error))
    }

    /// Whether the body is a JSON object, as OctoPrint's are.
    pub(in crate::octoprint) fn is_object(&self) -> bool {
        serde_json::from_slice::<HashMap<String, IgnoredAny>>(&self.body).is_ok()
    }

    /// Describes the answer on one line: OctoPrint's error, the page's title, the plain text, or
    /// the reason phrase of the status.
    pub(in crate::octoprint) fn summary(&self) -> String {
        self.error_text()
            .or_else(|| self.title())
            .or_else(|| self.plain_text())
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| self.status.canonical_reason().unwrap_or("error").to_owned())
    }

    pub(in crate::octoprint) fn title(&self) -> Option<String> {
        let head = self.head();
        // ASCII case folding leaves byte offsets unchanged.
        let (_, after) = head.split_at_checked(head.to_ascii_lowercase().find("<title")?)?;
        let (_, title) = after.split_once('>')?;
        Some(one_line(title.split('<').next()?)).filter(|title| !title.is_empty())
    }

    fn plain_text(&self) -> Option<String> {
        let head = self.head();
        (!head.trim_start().starts_with(['<', '{', '['])).then(|| one_line(&head))
    }

    fn head(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body[..self.body.len().min(HEAD)])
    }
}

/// Returns the first login challenge in the headers of an answer.
pub(in crate::octoprint) fn challenge(headers: &HeaderMap) -> Option<String> {
    let header =
        [WWW_AUTHENTICATE, PROXY_AUTHENTICATE].iter().find_map(|name| headers.get(name))?;
    let text = one_line(&String::from_utf8_lossy(header.as_bytes()));
    Some(text).filter(|text| !text.is_empty())
}

/// Makes external text safe for one log line: no control characters, 200 characters at most.
pub(in crate::octoprint) fn one_line(text: &str) -> String {
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
    fn external_text_becomes_one_line() {
        assert_eq!(one_line("a\nb\u{7}"), "a b");
        assert_eq!(one_line(&"ä".repeat(300)).chars().count(), 201);
    }

    #[test]
    fn a_summary_names_error_title_text_or_status() {
        let summary = |body: &'static str| {
            let (status, body) =
                (StatusCode::INTERNAL_SERVER_ERROR, Bytes::from_static(body.as_bytes()));
            Answer { status, location: None, challenge: None, body }.summary()
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
            assert_eq!(summary(body), text, "{body}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(challenge(&headers), None);
        headers.insert(WWW_AUTHENTICATE, "Basic realm=\"pi\"".parse().unwrap());
        assert_eq!(challenge(&headers).as_deref(), Some("Basic realm=\"pi\""));
    }
}
