//! The cookies of one login.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;

/// The cookies of one OctoPrint by name; OctoPrint adds a suffix to the names.
///
/// A client talks to one base address and follows no redirects, so the domain and path of a cookie
/// do not matter.
#[derive(Default)]
pub(in crate::octoprint) struct Cookies(Mutex<BTreeMap<String, String>>);

impl Cookies {
    pub(in crate::octoprint) fn csrf_token(&self) -> Option<String> {
        let cookies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let token = cookies.iter().find(|(name, _)| name.starts_with("csrf_token"));
        token.map(|(_, value)| value.clone())
    }

    pub(in crate::octoprint) fn copy(&self) -> Self {
        Self(Mutex::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }

    pub(in crate::octoprint) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(in crate::octoprint) fn header(&self) -> Option<HeaderValue> {
        let cookies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cookies.is_empty() {
            return None;
        }
        let pairs: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut header = HeaderValue::from_str(&pairs.join("; ")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    pub(in crate::octoprint) fn set(&self, header: &HeaderValue) {
        let Some((name, value, attributes)) = header.to_str().ok().and_then(parts) else {
            return;
        };
        let mut cookies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if value.is_empty() || expired(attributes) {
            cookies.remove(name);
        } else {
            cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookies(***)")
    }
}

fn parts(header: &str) -> Option<(&str, &str, &str)> {
    let (pair, attributes) = header.split_once(';').unwrap_or((header, ""));
    let (name, value) = pair.split_once('=')?;
    Some((name.trim(), value.trim(), attributes))
}

/// Whether the attributes delete the cookie: a max-age of zero, or an expiry at the epoch.
fn expired(attributes: &str) -> bool {
    attributes.split(';').map(str::trim).any(|attribute| {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        match name.to_ascii_lowercase().as_str() {
            "max-age" => value.parse::<i64>().is_ok_and(|age| age <= 0),
            "expires" => value.contains("1970"),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(headers: &[&'static str]) -> Cookies {
        let cookies = Cookies::default();
        headers.iter().for_each(|header| cookies.set(&HeaderValue::from_static(header)));
        cookies
    }

    #[test]
    fn names_are_taken_as_received() {
        let jar = cookies(&[
            "csrf_token_P5000=abc.def; Path=/; SameSite=Lax",
            "session_P5000=s1; HttpOnly",
            "session_P5000=s2; HttpOnly",
            "remember_token_P5000=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "garbage",
        ]);
        assert_eq!(jar.csrf_token().as_deref(), Some("abc.def"));
        let header = jar.header().unwrap();
        assert_eq!(header, "csrf_token_P5000=abc.def; session_P5000=s2");
        assert!(!format!("{header:?} {jar:?}").contains("abc"));
        jar.clear();
        assert_eq!(jar.header(), None);
    }

    #[test]
    fn deleted_cookies_are_gone() {
        let jar = cookies(&["csrf_token=a", "csrf_token=a; Max-Age=0"]);
        assert_eq!(jar.csrf_token(), None);
    }
}
