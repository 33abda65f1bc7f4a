//! A host with a dead IPv6 address before a living IPv4 one: the way of many houses.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::dead_address::DeadAddress;
use crate::octoprint::rest::client::Rest;
use crate::octoprint::rest::login::Credentials;
use crate::octoprint::wire::large::Sizes;
use crate::octoprint::wire::transport::{Transport, open_websocket, open_xhr};
use crate::simulator::{Simulator, SimulatorOptions};

/// As the configuration has it when nothing is set there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const SIZES: Sizes = Sizes { large: 1 << 20, max: 1 << 24 };

/// A client of an OctoPrint at these addresses, the first one preferred. `patience` is the time for
/// a connection.
fn http(addresses: &[SocketAddr], patience: Duration) -> Http {
    crate::tls::install_provider();
    let tls = crate::tls::client_config(&crate::config::Tls::default(), false).unwrap();
    // Without a port in it, that of the address counts.
    let base = "http://octopi.example/".parse().unwrap();
    let http = Http::new(base, &tls, &[], None, patience).unwrap();
    let resolver = Resolver::knowing(addresses.to_vec());
    http.another(Cookies::default(), |builder| builder.dns_resolver(resolver)).unwrap()
}

/// Answers every call with 200 and the beginning of a SockJS stream.
async fn serve(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no\n").await.unwrap();
    }
}

async fn get(http: &Http) -> Result<Answer, CallError> {
    http.answer("api/version", http.request(Method::GET, "api/version").unwrap()).await
}

#[tokio::test]
async fn a_dead_address_before_a_living_one_keeps_nobody_from_calls_and_streams() {
    let dead = DeadAddress::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let living = listener.local_addr().unwrap();
    tokio::spawn(serve(listener));
    let alone = get(&http(&[dead.v6()], Duration::from_secs(1))).await;
    assert!(matches!(alone, Err(CallError::NotSent(_))), "it is dead");

    let both = http(&[dead.v6(), living], CONNECT_TIMEOUT);
    assert_eq!(get(&both).await.ok().unwrap().status, 200);
    let key = Credentials::ApiKey(Secret::new("KEY"));
    let rest = Rest::new(both, key, Duration::ZERO);
    let link = open_xhr(&rest, CONNECT_TIMEOUT, SIZES).await.unwrap();
    assert_eq!(link.transport(), Transport::XhrStreaming);
}

#[tokio::test]
async fn a_dead_address_before_a_living_one_keeps_nobody_from_a_websocket() {
    let dead = DeadAddress::new().await;
    let octoprint = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let living = SocketAddr::from(([127, 0, 0, 1], octoprint.port()));
    let both = http(&[dead.v6(), living], CONNECT_TIMEOUT);
    let link = open_websocket(&both, CONNECT_TIMEOUT, SIZES).await.unwrap();
    assert_eq!(link.transport(), Transport::WebSocket);
}
