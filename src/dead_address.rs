//! For tests: an address that neither accepts nor refuses connections.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// Such an address, until it is dropped.
pub(crate) struct DeadAddress {
    listener: TcpListener,
    _held: Vec<TcpStream>,
}

impl DeadAddress {
    pub(crate) async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // Once its queue is full, the kernel does not answer.
        let mut held = Vec::new();
        while let Ok(stream) =
            timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            held.push(stream.unwrap());
        }
        Self { listener, _held: held }
    }

    pub(crate) fn v4(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The same as a mapped IPv6 address, which works even if IPv6 is not configured.
    pub(crate) fn v6(&self) -> SocketAddr {
        let port = self.v4().port();
        SocketAddr::new(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), port)
    }
}
