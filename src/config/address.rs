//! Addresses as the user writes them (pure).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::secret::Secret;

/// The address of an OctoPrint.
#[derive(Debug, Clone)]
pub struct OctoPrintAddress {
    /// Base address without user and password; its path ends with `/`.
    pub url: Url,
    /// Value of the header `Authorization`, from user and password of the address.
    pub authorization: Option<Secret>,
}

/// What is expected as the address of an OctoPrint.
pub const OCTOPRINT_ADDRESS: &str = "the address of OctoPrint such as http://octopi.local, a sub-path is fine, and user:password@ for a proxy's Basic authentication; no query or fragment";

/// Parses the address of an OctoPrint; `None` if it is invalid, has another scheme, a query or a
/// fragment.
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
    // Both fail only for addresses that cannot have them.
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(OctoPrintAddress { url, authorization })
}

/// Returns Basic authentication (RFC 7617) with the user and password of `url`.
fn basic(url: &Url) -> Option<Secret> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut login: Vec<u8> = percent_decode_str(url.username()).collect();
    login.push(b':');
    login.extend(percent_decode_str(url.password().unwrap_or_default()));
    Some(Secret::new(format!("Basic {}", STANDARD.encode(login))))
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct BrokerAddress {
    /// IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) secure: bool,
    /// Path and query for WebSocket; `None` for plain MQTT.
    pub(super) websocket: Option<String>,
}

impl Default for BrokerAddress {
    fn default() -> Self {
        Self { host: "localhost".to_owned(), port: 1883, secure: false, websocket: None }
    }
}

/// Parses the address of a broker; `None` if it is invalid.
pub(super) fn broker_address(text: &str) -> Option<BrokerAddress> {
    let url = Url::parse(text.trim()).ok()?;
    let (secure, is_websocket, default_port) = match url.scheme() {
        "mqtt" => (false, false, 1883),
        "mqtts" => (true, false, 8883),
        "ws" => (false, true, 80),
        "wss" => (true, true, 443),
        _ => return None,
    };
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && (is_websocket || (matches!(url.path(), "" | "/") && url.query().is_none()));
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    let port = url.port().unwrap_or(default_port);
    let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
    let websocket = is_websocket.then(|| format!("{}{query}", url.path()));
    let fine = bare && !host.is_empty() && port != 0;
    fine.then_some(BrokerAddress { host, port, secure, websocket })
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

    #[test]
    fn brokers_are_reached_by_mqtt_and_by_websocket() {
        let of = |text| {
            let BrokerAddress { host, port, secure, websocket } = broker_address(text)?;
            Some((host, port, secure, websocket))
        };
        let is = |text, host: &str, port, secure, websocket: Option<&str>| {
            let expected = (host.to_owned(), port, secure, websocket.map(str::to_owned));
            assert_eq!(of(text), Some(expected), "{text}");
        };
        is("mqtt://h", "h", 1883, false, None);
        is("mqtts://[::1]/", "::1", 8883, true, None);
        is("ws://h", "h", 80, false, Some("/"));
        is("ws://h:9001/mqtt", "h", 9001, false, Some("/mqtt"));
        is("wss://h/a/b?c=d", "h", 443, true, Some("/a/b?c=d"));
        for wrong in ["mqtt://h/path", "http://h", "ws://u:p@h/", "wss://h/#x", "mqtt://h:0", "h"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
