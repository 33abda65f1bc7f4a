//! Whether the page is served, and to whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::Http;

/// Address of Home Assistant's supervisor, in the network of its add-ons.
pub const SUPERVISOR: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 32, 2));

/// Whether the page is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageChoice {
    /// It is.
    Served,
    /// It is not wanted.
    Off,
    /// It is wanted, but would be open to others without a password.
    Unsafe(SocketAddr),
}

/// What the page needs.
#[derive(Debug, Clone)]
pub struct PageOptions {
    /// Its part of the configuration.
    pub http: Http,
    /// Address from which Home Assistant's ingress comes; `None`: this is no add-on.
    pub ingress: Option<IpAddr>,
}

impl PageOptions {
    /// Whether the page is served: on loopback, with a password, or to the ingress.
    pub fn choice(&self) -> PageChoice {
        if !self.http.page {
            PageChoice::Off
        } else if self.is_open() || self.ingress.is_some() {
            PageChoice::Served
        } else {
            PageChoice::Unsafe(self.http.listen)
        }
    }

    /// Whether others than the ingress are answered.
    pub(super) fn is_open(&self) -> bool {
        self.http.password.is_some() || self.http.listen.ip().to_canonical().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use crate::secret::Secret;

    use super::*;

    fn options(listen: &str, password: Option<&str>, page: bool) -> PageOptions {
        let http = Http {
            listen: listen.parse().unwrap(),
            page,
            password: password.map(Secret::new),
            hosts: Vec::new(),
            read_only: None,
        };
        PageOptions { http, ingress: None }
    }

    #[test]
    fn the_page_is_served_where_that_is_safe() {
        for (listen, password, page, expected) in [
            ("127.0.0.1:80", None, true, PageChoice::Served),
            ("[::1]:80", None, true, PageChoice::Served),
            ("[::ffff:127.0.0.1]:80", None, true, PageChoice::Served),
            ("127.0.0.1:80", None, false, PageChoice::Off),
            ("0.0.0.0:80", Some("p"), true, PageChoice::Served),
            ("0.0.0.0:80", Some("p"), false, PageChoice::Off),
            ("0.0.0.0:80", None, true, PageChoice::Unsafe("0.0.0.0:80".parse().unwrap())),
            ("[::]:80", None, true, PageChoice::Unsafe("[::]:80".parse().unwrap())),
            ("192.168.1.2:80", None, false, PageChoice::Off),
        ] {
            assert_eq!(options(listen, password, page).choice(), expected, "{listen} {password:?}");
        }
        let addon = PageOptions { ingress: Some(SUPERVISOR), ..options("0.0.0.0:80", None, true) };
        assert_eq!(addon.choice(), PageChoice::Served);
        assert!(!addon.is_open());
    }
}
