//! What the page is made of besides its text: style, script and icon, which are in the program.

use std::sync::LazyLock;

use hyper::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Response, StatusCode};

use super::answers::{HttpBody, respond};
use crate::topic;

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asset {
    Style,
    Script,
    Icon,
}

const STYLE: &str = include_str!("assets/style.css");
const SCRIPT: &str = include_str!("assets/page.js");
const ICON: &str = include_str!("assets/icon.svg");

/// Changes with the files: it is part of their addresses.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hashes = [STYLE, SCRIPT, ICON].map(|text| topic::hash(text.as_bytes()));
    hashes.map(|hash| format!("{hash:08x}")).concat()
});

impl Asset {
    fn content(self) -> (&'static str, &'static str) {
        match self {
            Self::Style => ("text/css; charset=utf-8", STYLE),
            Self::Script => ("text/javascript; charset=utf-8", SCRIPT),
            Self::Icon => ("image/svg+xml", ICON),
        }
    }

    /// Returns the file. A browser that names its version in the address need not ask again.
    pub(super) fn answer(self, query: Option<&str>, headers: &HeaderMap) -> Response<HttpBody> {
        let (kind, text) = self.content();
        let tag = format!("\"{}\"", *VERSION);
        let is_known =
            headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let mut response = match is_known {
            true => respond(StatusCode::NOT_MODIFIED, kind, ""),
            false => respond(StatusCode::OK, kind, text),
        };
        let is_versioned = query.and_then(|query| query.strip_prefix("v=")) == Some(&**VERSION);
        let cache = if is_versioned { "public, max-age=31536000, immutable" } else { "no-cache" };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.insert(ETAG, tag);
        }
        response
    }
}
