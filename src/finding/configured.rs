//! Which of the OctoPrints that were found is which printer of the configuration.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use super::announced::FoundOctoPrint;
use crate::names;

/// Bounds the names that are resolved at a time.
const LOOKUPS: usize = 16;

/// A printer of the configuration.
#[derive(Debug, Clone)]
pub struct ConfiguredOctoPrint {
    /// Its id.
    pub id: String,
    /// The address of its OctoPrint.
    pub url: Url,
    /// The IP addresses of its host, as far as they are known.
    pub addresses: Vec<IpAddr>,
}

/// Returns for each found one the id of its printer, if it is one of the `configured`: it has the
/// same port and path, and either the same host name or an IP address that no other one has.
pub fn mark<'c>(
    found: &[FoundOctoPrint],
    configured: &'c [ConfiguredOctoPrint],
) -> Vec<Option<&'c str>> {
    let of = |one: &FoundOctoPrint| {
        let mut here = configured.iter().filter(|known| is_same_place(&known.url, &one.url));
        let name = host_name(&one.url);
        let is_named = |known: &&ConfiguredOctoPrint| host_name(&known.url) == name;
        if let Some(known) = here.clone().find(|known| name.is_some() && is_named(known)) {
            return Some(known.id.as_str());
        }
        let alone = addresses_alone(one, found);
        here.find(|known| alone.iter().any(|ip| known.addresses.contains(ip)))
            .map(|known| known.id.as_str())
    };
    found.iter().map(of).collect()
}

/// Returns the addresses that no other one has at the same port and path: one of Docker's networks
/// is on many hosts.
fn addresses_alone(one: &FoundOctoPrint, found: &[FoundOctoPrint]) -> Vec<IpAddr> {
    let there = found.iter().filter(|it| is_same_place(&it.url, &one.url));
    let has = |ip: &IpAddr| there.clone().filter(|it| it.addresses.contains(ip)).count();
    one.addresses.iter().copied().filter(|ip| has(ip) == 1).collect()
}

/// Whether port and path are the same.
fn is_same_place(one: &Url, other: &Url) -> bool {
    one.port_or_known_default() == other.port_or_known_default()
        && one.path().trim_end_matches('/') == other.path().trim_end_matches('/')
}

fn host_name(url: &Url) -> Option<String> {
    match url.host()? {
        Host::Domain(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
        // An IP address counts only if no other one has it.
        Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

/// Resolves the hosts of the printers; what is not known after `within` has no IP addresses.
/// `own` is the address of this machine, by which others see what is configured as `localhost`.
pub(super) async fn resolve(
    configured: &[(String, Url)],
    own: Option<IpAddr>,
    within: Duration,
) -> Vec<ConfiguredOctoPrint> {
    let deadline = Instant::now() + within;
    // Owned, since such a future is not `Send` with references.
    let known = stream::iter(configured.to_vec()).map(|(id, url)| async move {
        let mut addresses = match url.host() {
            Some(Host::Ipv4(v4)) => vec![v4.into()],
            Some(Host::Ipv6(v6)) => vec![v6.into()],
            Some(Host::Domain(name)) => {
                let found = timeout_at(deadline, names::resolve(name, 0)).await;
                let found = found.ok().and_then(Result::ok).unwrap_or_default();
                found.iter().map(|address| address.ip().to_canonical()).collect()
            }
            None => Vec::new(),
        };
        if addresses.iter().any(IpAddr::is_loopback) {
            addresses.extend(own);
        }
        ConfiguredOctoPrint { id, url, addresses }
    });
    known.buffered(LOOKUPS).collect().await
}

#[cfg(test)]
mod tests {
    use super::super::announced::{Announcement, read};
    use super::*;

    fn found(host: &str, port: u16, path: &str, addresses: &[&str]) -> FoundOctoPrint {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let (host, path) = (host.to_owned(), Some(path.to_owned()));
        read(&Announcement { host, port, path, addresses, ..Announcement::default() }).unwrap()
    }

    fn known(id: &str, url: &str, addresses: &[&str]) -> ConfiguredOctoPrint {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        ConfiguredOctoPrint { id: id.to_owned(), url: url.parse().unwrap(), addresses }
    }

    #[test]
    fn a_found_one_is_known_by_its_name_or_ip_address_with_port_and_path() {
        let found = [
            found("octopi.local.", 80, "/", &["192.168.1.20"]),
            found("octopi.local.", 5001, "/", &["192.168.1.20"]),
            found("octopi.local.", 80, "/mini", &["192.168.1.20"]),
            found("other.local.", 80, "/", &["192.168.1.21", "172.17.0.1"]),
            found("", 80, "/", &["192.168.1.22", "172.17.0.1"]),
        ];
        let marked = |url: &str, addresses: &[&str]| {
            let configured = [
                known("wrong", "http://none.local:1/", &["192.168.1.20"]),
                known("mk3", url, addresses),
            ];
            let marks = mark(&found, &configured);
            assert!(marks.iter().flatten().all(|id| *id == "mk3"));
            let at = marks.iter().enumerate().filter_map(|(at, mark)| mark.map(|_| at));
            at.collect::<Vec<usize>>()
        };
        assert_eq!(marked("http://OctoPi.local", &[]), [0]);
        assert_eq!(marked("http://octopi.local.:80/", &[]), [0]);
        assert_eq!(marked("http://octopi.local:5001/", &[]), [1]);
        assert_eq!(marked("http://octopi.local/mini", &[]), [2]);
        assert_eq!(marked("http://octopi.local/mini/", &[]), [2]);
        assert_eq!(marked("http://octopi.local:5002/", &["192.168.1.20"]), [0; 0]);
        assert_eq!(marked("http://192.168.1.20/", &["192.168.1.20"]), [0]);
        assert_eq!(marked("http://printer.lan/", &["10.0.0.1", "192.168.1.21"]), [3]);
        assert_eq!(marked("http://192.168.1.22/", &["192.168.1.22"]), [4]);
        // It is on two hosts.
        assert_eq!(marked("http://172.17.0.1/", &["172.17.0.1"]), [0; 0]);
    }

    #[tokio::test]
    async fn this_machine_is_known_by_its_address_for_others() {
        let own = "192.168.1.5".parse().unwrap();
        let of = |url: &str| ("mk3".to_owned(), url.parse::<Url>().unwrap());
        let configured = [of("http://127.0.0.1:5000"), of("http://[fd00::1]/")];
        let known = resolve(&configured, Some(own), Duration::from_secs(60)).await;
        assert_eq!(known[0].addresses, [IpAddr::from([127, 0, 0, 1]), own]);
        assert_eq!(known[1].addresses, ["fd00::1".parse::<IpAddr>().unwrap()]);
    }
}
