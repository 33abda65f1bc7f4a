//! Why nothing answered, as far as it can be known.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use tokio::net::UdpSocket;

use super::announced::is_dockers;

/// The multicast group and port of mDNS (RFC 6762).
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);
/// Files by which Docker and Podman mark a container.
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// Returns the address of this machine from which multicast goes out; `None` without a network.
pub(super) async fn own_address() -> Option<IpAddr> {
    // Connecting sends nothing: it asks for the route.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
    socket.connect(GROUP).await.ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// Says why nothing was found, and what to do. `own` is [`own_address`].
pub(super) fn note(own: Option<IpAddr>) -> &'static str {
    explain(CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists()), own)
}

fn explain(is_container: bool, own: Option<IpAddr>) -> &'static str {
    match own {
        None => {
            "nothing answered: this machine has no network that carries multicast. Give the address of OctoPrint, such as http://192.168.1.20"
        }
        Some(IpAddr::V4(ip)) if is_container && is_of_container(ip) => {
            "nothing answered: this is a container with a network of its own, which multicast does not reach. Run it with network_mode: host, or give the address of OctoPrint, such as http://192.168.1.20"
        }
        Some(_) if is_container => {
            "nothing answered: OctoPrint's plugin Discovery may be off, or this container has a network of its own, which multicast does not reach. Run it with network_mode: host, or give the address of OctoPrint, such as http://192.168.1.20"
        }
        Some(_) => {
            "nothing answered: OctoPrint's plugin Discovery may be off, or OctoPrint is in another network, which multicast does not reach. Give its address, such as http://192.168.1.20"
        }
    }
}

/// Whether an address of a container is one of Docker's or Podman's networks, rather than of the
/// host's.
fn is_of_container(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    is_dockers(ip) || (first, second) == (10, 88)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_with_a_network_of_its_own_is_told_to_use_the_hosts() {
        let of = |is_container, ip: [u8; 4]| explain(is_container, Some(ip.into()));
        for ip in [[172, 17, 0, 2], [172, 31, 255, 1], [10, 88, 0, 3]] {
            assert!(of(true, ip).contains("this is a container"), "{ip:?}");
            assert!(of(true, ip).contains("network_mode: host"), "{ip:?}");
            assert!(of(false, ip).contains("Discovery"), "{ip:?}");
            assert!(!of(false, ip).contains("container"), "{ip:?}");
        }
        for ip in [[192, 168, 1, 5], [172, 15, 0, 1], [172, 32, 0, 1], [10, 0, 0, 1]] {
            assert!(of(true, ip).contains("Discovery"), "{ip:?}");
            assert!(of(true, ip).contains("network_mode: host"), "{ip:?}");
        }
        assert!(explain(true, None).contains("no network"));
    }
}
