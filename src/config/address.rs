//! Addresses as users write them (pure).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::secret::Secret;

/// The address of an OctoPrint.
#[derive(Debug, Clone)]
pub struct OctoPrintAddress {
    /// The base address without user and password; its path ends with `/`.
    pub url: Url,
    /// The value of `Authorization` that user and password of the address stand for.
    pub authorization: Option<Secret>,
}

/// The address of an OctoPrint as the user writes it; `None` where it cannot be one: other schemes,
/// with query or fragment.
pub fn octoprint_address(text: &str) -> Option<OctoPrintAddress> {
    let mut url = Url::parse(text.trim()).ok()?;
    let fine = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.query().is_none()
        && url.fragment().is_none();
    if !fine {
        return None;
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    let authorization = basic(&url);
    // Both fail only for addresses that cannot have either.
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(OctoPrintAddress { url, authorization })
}

/// Basic authentication (RFC 7617) with the user and password of `url`.
fn basic(url: &Url) -> Option<Secret> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut login: Vec<u8> = percent_decode_str(url.username()).collect();
    login.push(b':');
    login.extend(percent_decode_str(url.password().unwrap_or_default()));
    Some(Secret::new(format!("Basic {}", STANDARD.encode(login))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_become_basic_authentication_and_leave_the_address() {
        let of = |text| octoprint_address(text).unwrap();
        let address = of("http://user:p%40ss@host:5000/sub");
        assert_eq!(address.url.as_str(), "http://host:5000/sub/");
        assert_eq!(address.authorization.unwrap().expose(), "Basic dXNlcjpwQHNz");
        assert_eq!(of("http://user@host").authorization.unwrap().expose(), "Basic dXNlcjo=");
        assert!(of("http://host").authorization.is_none());
        for wrong in ["ftp://host", "host", "http://host?a", "http://host#a", "http://"] {
            assert!(octoprint_address(wrong).is_none(), "{wrong}");
        }
    }
}
