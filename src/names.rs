//! Host names -> addresses, for OctoPrint and broker alike. DNS is asked first; a name in `.local`
//! that it does not know is asked for by multicast (mDNS), for containers and small images have no
//! resolver that does.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;

use mdns_sd::{HostnameResolutionEvent, ScopedIp, ServiceDaemon};
use tokio::sync::{AcquireError, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// How long DNS may take over a name in `.local` before it is asked for by multicast.
const DNS_PATIENCE: Duration = Duration::from_millis(1500);
/// How long answers by multicast are waited for: the bounds on connecting are 5 s and more.
const MULTICAST_PATIENCE: Duration = Duration::from_secs(3);
/// How long an IPv4 address is waited for when another one is known: it is the one that works
/// without knowing the interface.
const IPV4_PATIENCE: Duration = Duration::from_millis(300);
/// Each question by multicast has a thread while it lasts; more than these wait their turn.
static ASKING: Semaphore = Semaphore::const_new(8);

/// The addresses of `host`, a name or an address (IPv6 without brackets); one at least.
///
/// # Errors
/// Where nobody knows the name; the text says who was asked and what to do.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if !is_local(host) {
        return dns(host, port).await;
    }
    // One that does not answer is left to itself: the lookup cannot be ended.
    match timeout(DNS_PATIENCE, dns(host, port)).await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(_)) | Err(_) => multicast(host, port).await,
    }
}

async fn dns(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

/// Whether the name is one that is asked for by multicast (RFC 6762).
fn is_local(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host.strip_suffix(".local").is_some_and(|name| !name.is_empty())
}

/// Why a name in `.local` has no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "DNS does not know {host}, and {why}; multicast does not get out of a container with a network of its own: write the IP address instead, or run it with network_mode: host"
)]
pub struct NameError {
    host: String,
    #[source]
    why: NoMulticast,
}

/// Why multicast did not help.
#[derive(Debug, thiserror::Error)]
enum NoMulticast {
    #[error("it cannot be asked for by multicast ({0})")]
    NotAsked(#[from] mdns_sd::Error),
    #[error("it cannot be asked for by multicast ({0})")]
    NoTurn(#[from] AcquireError),
    #[error("nobody answered to it by multicast (mDNS)")]
    NoAnswer,
}

async fn multicast(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    ask(host, port).await.map_err(|why| {
        io::Error::new(io::ErrorKind::NotFound, NameError { host: host.to_owned(), why })
    })
}

async fn ask(host: &str, port: u16) -> Result<Vec<SocketAddr>, NoMulticast> {
    let _turn = ASKING.acquire().await?;
    let daemon = Daemon(ServiceDaemon::new()?);
    let name = format!("{}.", host.strip_suffix('.').unwrap_or(host));
    let events = daemon.0.resolve_hostname(&name, None)?;
    let mut until = Instant::now() + MULTICAST_PATIENCE;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    while !addresses.iter().any(SocketAddr::is_ipv4) {
        match timeout_at(until, events.recv_async()).await {
            Ok(Ok(HostnameResolutionEvent::AddressesFound(_, found))) => {
                addresses.extend(found.iter().filter_map(|ip| socket_address(ip, port)));
                until = until.min(Instant::now() + IPV4_PATIENCE);
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    if addresses.is_empty() {
        return Err(NoMulticast::NoAnswer);
    }
    Ok(addresses)
}

fn socket_address(ip: &ScopedIp, port: u16) -> Option<SocketAddr> {
    match ip {
        ScopedIp::V6(v6) if v6.addr().is_unicast_link_local() => {
            let address = SocketAddrV6::new(*v6.addr(), port, 0, v6.scope_id().index);
            Some(address.into())
        }
        ip => Some(SocketAddr::new(ip.to_ip_addr(), port)),
    }
}

/// Asks by multicast, with a thread of its own, until it is dropped.
struct Daemon(ServiceDaemon);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails only where its thread has ended.
        let _ = self.0.shutdown();
    }
}

/// [`resolve`] for HTTP clients.
#[derive(Debug)]
pub(crate) struct Names;

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let addresses = resolve(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_names_are_asked_for_by_multicast() {
        for (name, local) in [
            ("octopi.local", true),
            ("OctoPi.LOCAL.", true),
            ("a.b.local", true),
            ("local", false),
            (".local", false),
            ("octopi.local.example.org", false),
            ("notlocal", false),
        ] {
            assert_eq!(is_local(name), local, "{name}");
        }
    }

    #[tokio::test]
    async fn addresses_need_no_resolver() {
        let loopback = resolve("::1", 80).await.unwrap();
        assert_eq!(loopback, ["[::1]:80".parse().unwrap()]);
        assert_eq!(resolve("127.0.0.1", 1).await.unwrap(), ["127.0.0.1:1".parse().unwrap()]);
    }
}
