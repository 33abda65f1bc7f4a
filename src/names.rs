//! Resolves host names, for OctoPrint and the broker. DNS is asked first; a name in `.local` that
//! it does not know is resolved by multicast (mDNS), which the resolvers of containers and small
//! images do not support.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;

use mdns_sd::{HostnameResolutionEvent, Receiver, ScopedIp, ServiceDaemon, ServiceEvent};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

/// Timeout of DNS for a name in `.local`, before multicast is tried.
const DNS_TIMEOUT: Duration = Duration::from_millis(1500);
/// Timeout of multicast; the timeouts of connecting are 5 s and more.
const MULTICAST_TIMEOUT: Duration = Duration::from_secs(3);
/// Time to wait for an IPv4 address once an IPv6 address is known: it works without knowing the
/// network interface.
const IPV4_TIMEOUT: Duration = Duration::from_millis(300);
/// The UDP port of mDNS.
pub(crate) const MULTICAST_PORT: u16 = 5353;
/// Bounds the multicast queries at a time, each of which has a thread.
static QUERIES: Semaphore = Semaphore::const_new(8);

/// Resolves `host`, a name or an address (IPv6 without brackets), to at least one address.
///
/// # Errors
/// If the name cannot be resolved; the text says how it was tried and what to do.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if !is_local(host) {
        return dns(host, port).await;
    }
    // The lookup cannot be cancelled; after the timeout it goes on by itself.
    match timeout(DNS_TIMEOUT, dns(host, port)).await {
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

/// Whether the name is resolved by multicast (RFC 6762).
fn is_local(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host.strip_suffix(".local").is_some_and(|name| !name.is_empty())
}

/// A name in `.local` could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error(
    "DNS does not know {host}, and {why}; multicast does not get out of a container with a network of its own: write the IP address instead, or run it with network_mode: host"
)]
pub struct NameError {
    host: String,
    #[source]
    why: NoMulticast,
}

#[derive(Debug, thiserror::Error)]
enum NoMulticast {
    #[error("the multicast query could not be sent ({0})")]
    NotAsked(#[from] MulticastError),
    #[error("no device answered to it by multicast (mDNS)")]
    NoAnswer,
}

async fn multicast(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    ask(host, port).await.map_err(|why| {
        io::Error::new(io::ErrorKind::NotFound, NameError { host: host.to_owned(), why })
    })
}

async fn ask(host: &str, port: u16) -> Result<Vec<SocketAddr>, NoMulticast> {
    let querier = Querier::start(MULTICAST_PORT).await?;
    let name = format!("{}.", host.strip_suffix('.').unwrap_or(host));
    let events = querier.daemon.resolve_hostname(&name, None).map_err(MulticastError::from)?;
    let mut until = Instant::now() + MULTICAST_TIMEOUT;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    while !addresses.iter().any(SocketAddr::is_ipv4) {
        match timeout_at(until, events.recv_async()).await {
            Ok(Ok(HostnameResolutionEvent::AddressesFound(_, found))) => {
                addresses.extend(found.iter().filter_map(|ip| socket_address(ip, port)));
                until = until.min(Instant::now() + IPV4_TIMEOUT);
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

/// Why there is no multicast query.
#[derive(Debug, thiserror::Error)]
pub enum MulticastError {
    /// The thread of the query, or its sockets.
    #[error(transparent)]
    Daemon(#[from] mdns_sd::Error),
    /// The turn of the query.
    #[error(transparent)]
    Turn(#[from] AcquireError),
}

/// A multicast query and its thread, which ends when this is dropped. Only a few exist at a time.
pub(crate) struct Querier {
    daemon: ServiceDaemon,
    _turn: SemaphorePermit<'static>,
}

impl Querier {
    /// Waits for its turn. The `port` is [`MULTICAST_PORT`], except in tests.
    pub(crate) async fn start(port: u16) -> Result<Self, MulticastError> {
        let turn = QUERIES.acquire().await?;
        Ok(Self { daemon: ServiceDaemon::new_with_port(port)?, _turn: turn })
    }

    /// Asks for the services of a type, such as `_octoprint._tcp.local.`.
    pub(crate) fn browse(&self, service: &str) -> Result<Receiver<ServiceEvent>, MulticastError> {
        Ok(self.daemon.browse(service)?)
    }
}

impl Drop for Querier {
    fn drop(&mut self) {
        // Fails only if its thread has ended.
        let _ = self.daemon.shutdown();
    }
}

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
    fn names_in_local_are_resolved_by_multicast() {
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
