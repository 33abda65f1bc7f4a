//! Which requests the page answers at all: by the names of hosts, by origin, and from where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::{Method, StatusCode};

const INGRESS_PATH: HeaderName = HeaderName::from_static("x-ingress-path");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Decides which requests are answered.
#[derive(Debug, Clone)]
pub(super) struct PageGuard {
    /// Names by which browsers may reach the page, in lower case.
    pub(super) hosts: Vec<String>,
    /// Address of the supervisor, where this is an add-on.
    pub(super) ingress: Option<IpAddr>,
    /// Whether others than the supervisor are answered.
    pub(super) is_open: bool,
}

/// From where a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallerKind {
    /// From a browser, directly or through a proxy.
    Browser,
    /// From Home Assistant's ingress, where the user has logged in.
    Ingress,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum GuardError {
    #[error(
        "the page is for Home Assistant's ingress alone; set http.password to open it to others"
    )]
    NotIngress,
    #[error(
        "the page is not served by this name, so that no other site can pose as it; use an IP address or localhost, or add the name to http.hosts"
    )]
    Host,
    #[error("the request lacks its Origin, which browsers send; it is refused")]
    NoOrigin,
    #[error(
        "the request comes from another site, and is refused; a proxy in front of the page must pass on the header Host with its port (nginx: proxy_set_header Host $http_host)"
    )]
    Origin,
}

impl GuardError {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::NotIngress | Self::NoOrigin | Self::Origin => StatusCode::FORBIDDEN,
        }
    }
}

impl PageGuard {
    /// Checks a request; `is_visit`: it opens the page, which a link on another site may do.
    pub(super) fn check(
        &self,
        peer: IpAddr,
        method: &Method,
        headers: &HeaderMap,
        is_visit: bool,
    ) -> Result<CallerKind, GuardError> {
        let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
        let is_change = method == Method::POST;
        let is_own = match site {
            None | Some(b"same-origin") => true,
            Some(b"none") => !is_change,
            Some(_) => is_visit && !is_change,
        };
        if !is_own {
            return Err(GuardError::Origin);
        }
        if self.ingress == Some(peer) && headers.contains_key(INGRESS_PATH) {
            return Ok(CallerKind::Ingress);
        }
        if !self.is_open {
            return Err(GuardError::NotIngress);
        }
        let host = single(headers, &HOST).ok_or(GuardError::Host)?;
        if !self.allows(host) {
            return Err(GuardError::Host);
        }
        if is_change {
            let origin = single(headers, &ORIGIN).ok_or(GuardError::NoOrigin)?;
            let of = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
            if !of.is_some_and(|of| of.eq_ignore_ascii_case(host)) {
                return Err(GuardError::Origin);
            }
        }
        Ok(CallerKind::Browser)
    }

    /// Whether the page is served by this name, which may have a port.
    fn allows(&self, host: &str) -> bool {
        if let Some(rest) = host.strip_prefix('[') {
            let Some((address, port)) = rest.split_once(']') else { return false };
            let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_number);
            return is_port && address.parse::<Ipv6Addr>().is_ok();
        }
        let name = match host.split_once(':') {
            Some((name, port)) if is_number(port) => name,
            Some(_) => return false,
            None => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        name == "localhost" || name.parse::<Ipv4Addr>().is_ok() || self.hosts.contains(&name)
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the value of a header that a request has once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 9));
    const SUPERVISOR: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 32, 2));

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    fn guard() -> PageGuard {
        PageGuard { hosts: vec!["pi.lan".to_owned()], ingress: None, is_open: true }
    }

    #[test]
    fn the_host_is_an_address_localhost_or_one_of_the_configured() {
        for (host, is_allowed) in [
            ("127.0.0.1:8099", true),
            ("192.168.1.2", true),
            ("[::1]:8099", true),
            ("[fe80::1]", true),
            ("localhost", true),
            ("LocalHost.:80", true),
            ("pi.lan:8099", true),
            ("PI.LAN", true),
            ("evil.example", false),
            ("pi.lan.evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.nip.io", false),
            ("127.0.0.1:80@evil.example", false),
            ("2130706433", false),
            ("[::1", false),
            ("[::1]evil", false),
            ("[evil]", false),
            ("::1", false),
            ("", false),
        ] {
            let got = guard().check(PEER, &Method::GET, &headers(&[("host", host)]), true);
            let expected = if is_allowed { Ok(CallerKind::Browser) } else { Err(GuardError::Host) };
            assert_eq!(got, expected, "{host:?}");
        }
        let none = guard().check(PEER, &Method::GET, &headers(&[]), true);
        assert_eq!(none, Err(GuardError::Host));
        let mut twice = headers(&[("host", "localhost")]);
        twice.append(HOST, HeaderValue::from_static("evil.example"));
        assert_eq!(guard().check(PEER, &Method::GET, &twice, true), Err(GuardError::Host));
    }

    #[test]
    fn a_change_needs_the_origin_of_the_page() {
        let host = ("host", "pi.lan:8099");
        for (origin, expected) in [
            ("http://pi.lan:8099", Ok(CallerKind::Browser)),
            ("https://PI.lan:8099", Ok(CallerKind::Browser)),
            ("http://pi.lan", Err(GuardError::Origin)),
            ("http://pi.lan:80", Err(GuardError::Origin)),
            ("http://evil.example", Err(GuardError::Origin)),
            ("file://pi.lan:8099", Err(GuardError::Origin)),
            ("pi.lan:8099", Err(GuardError::Origin)),
            ("null", Err(GuardError::Origin)),
        ] {
            let headers = headers(&[host, ("origin", origin)]);
            let got = guard().check(PEER, &Method::POST, &headers, false);
            assert_eq!(got, expected, "{origin}");
        }
        let none = guard().check(PEER, &Method::POST, &headers(&[host]), false);
        assert_eq!(none, Err(GuardError::NoOrigin));
        // A page of another site has no business here, whatever else it sends.
        for (site, change, visit, read) in [
            ("same-origin", true, true, true),
            ("none", false, true, true),
            ("same-site", false, true, false),
            ("cross-site", false, true, false),
        ] {
            let headers =
                headers(&[host, ("origin", "http://pi.lan:8099"), ("sec-fetch-site", site)]);
            let check = |method, visit| guard().check(PEER, &method, &headers, visit).is_ok();
            let got =
                (check(Method::POST, true), check(Method::GET, true), check(Method::GET, false));
            assert_eq!(got, (change, visit, read), "{site}");
        }
    }

    #[test]
    fn ingress_is_known_by_address_and_prefix_together() {
        let ingress = [("x-ingress-path", "/api/hassio_ingress/x"), ("host", "home.example")];
        let open = PageGuard { ingress: Some(SUPERVISOR), ..guard() };
        let closed = PageGuard { is_open: false, ..open.clone() };
        for guard in [&open, &closed] {
            for method in [Method::GET, Method::POST] {
                let got = guard.check(SUPERVISOR, &method, &headers(&ingress), false);
                assert_eq!(got, Ok(CallerKind::Ingress));
            }
            // Another may send that header, too.
            assert!(guard.check(PEER, &Method::GET, &headers(&ingress), false).is_err());
            assert!(guard.check(SUPERVISOR, &Method::GET, &headers(&ingress[1..]), false).is_err());
        }
        let local = headers(&[("host", "localhost")]);
        assert_eq!(open.check(PEER, &Method::GET, &local, true), Ok(CallerKind::Browser));
        let refused = closed.check(PEER, &Method::GET, &local, true);
        assert_eq!(refused, Err(GuardError::NotIngress));
        // Where this is no add-on, nobody is the supervisor.
        let got = guard().check(SUPERVISOR, &Method::GET, &headers(&ingress), true);
        assert_eq!(got, Err(GuardError::Host));
    }
}
