//! Subscribing, against a peer that is scripted packet by packet.

use std::sync::Arc;

use bytes::BytesMut;
use rumqttc::{ConnAck, ConnectReturnCode, PubAck, Publish, SubAck, Subscribe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::dead_address::DeadAddress;
use crate::mqtt::broker::api::MAX_INCOMING;
use crate::mqtt::publication::PacketLimit;

/// The broker's side of one connection.
pub(in crate::mqtt) struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    /// Accepts the bridge's connection.
    pub(in crate::mqtt) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Self { stream, buffer: BytesMut::new() };
        assert!(matches!(peer.next().await, Packet::Connect(_)));
        peer.send(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))).await;
        peer
    }

    pub(in crate::mqtt) async fn next(&mut self) -> Packet {
        loop {
            if let Ok(packet) = Packet::read(&mut self.buffer, 1 << 20) {
                return packet;
            }
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "gone");
        }
    }

    pub(in crate::mqtt) async fn subscribe(&mut self) -> Subscribe {
        match self.next().await {
            Packet::Subscribe(subscribe) => subscribe,
            other => panic!("{other:?}"),
        }
    }

    pub(in crate::mqtt) async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, 1 << 20).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    pub(in crate::mqtt) async fn answer(
        &mut self,
        subscribe: &Subscribe,
        code: SubscribeReasonCode,
    ) {
        let codes = vec![code; subscribe.filters.len()];
        self.send(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await;
    }

    pub(in crate::mqtt) async fn retained(&mut self, topic: &str, payload: &str) {
        let mut publish = Publish::new(topic, QoS::AtMostOnce, payload);
        publish.retain = true;
        self.send(Packet::Publish(publish)).await;
    }
}

pub(in crate::mqtt) async fn listen() -> (TcpListener, Options) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = Options {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        tls: None,
        websocket: None,
        login: None,
        client_id: "bridge".to_owned(),
        keep_alive: Duration::from_secs(20),
        last_will: None,
        max_incoming: MAX_INCOMING,
        limit: PacketLimit::new(1_000),
    };
    (listener, options)
}

pub(in crate::mqtt) const GRANTED: SubscribeReasonCode =
    SubscribeReasonCode::Success(QoS::AtLeastOnce);

/// Opens a connection to a peer that grants the subscription of `set/#`, and passes the one of the
/// uptime to `answer`.
async fn opened(
    answer: impl AsyncFnOnce(&mut Peer, Subscribe),
) -> (Result<Connection, Lost>, Option<Peer>) {
    let (listener, options) = listen().await;
    let filters = BTreeSet::from(["set/#".to_owned()]);
    let serving = async {
        let mut peer = Peer::accept(&listener).await;
        let subscribe = peer.subscribe().await;
        peer.answer(&subscribe, GRANTED).await;
        let asked = peer.subscribe().await;
        assert_eq!(asked.filters.len(), 1, "in a packet of its own");
        assert_eq!(asked.filters[0].path, "$SYS/broker/uptime");
        answer(&mut peer, asked).await;
        peer
    };
    let opening = Connection::open(&options, &filters, true);
    tokio::pin!(opening, serving);
    tokio::select! {
        opened = &mut opening => (opened, None),
        peer = &mut serving => (opening.await, Some(peer)),
    }
}

#[tokio::test]
async fn filters_go_out_in_groups_of_eight_before_any_is_answered() {
    let (listener, options) = listen().await;
    let filters: BTreeSet<String> = (0..1_000).map(|n| format!("o/p{n}/set/#")).collect();
    let serving = async {
        let mut peer = Peer::accept(&listener).await;
        let mut packets = Vec::new();
        for _ in 0..125 {
            packets.push(peer.subscribe().await);
        }
        // A retained command arrives first, and the answers in reverse order.
        peer.retained("o/p0/set/job", "cancel").await;
        for packet in packets.iter().rev() {
            peer.answer(packet, GRANTED).await;
        }
        (peer, packets)
    };
    let (opened, (_peer, packets)) =
        tokio::join!(Connection::open(&options, &filters, false), serving);
    let mut connection = opened.unwrap();
    assert!(packets.iter().all(|packet| packet.filters.len() <= 8));
    let asked = packets.into_iter().flat_map(|packet| packet.filters);
    assert_eq!(asked.map(|filter| filter.path).collect::<BTreeSet<_>>(), filters);
    assert_eq!(connection.take_early()[0].topic, "o/p0/set/job");
    assert_eq!(connection.uptime(), Uptime::Unknown);
}

#[tokio::test]
async fn the_uptime_is_read_and_unsubscribed() {
    let (opened, peer) = opened(async |peer, asked| {
        peer.answer(&asked, GRANTED).await;
        peer.retained("$SYS/broker/uptime", "123 seconds").await;
    })
    .await;
    let (mut connection, mut peer) = (opened.unwrap(), peer.unwrap());
    while matches!(connection.uptime(), Uptime::Awaited { .. }) {
        let arrived = connection.next().await.unwrap();
        assert!(arrived.incoming.is_none(), "it is nobody's command");
    }
    assert_eq!(connection.uptime(), Uptime::Known(Duration::from_secs(123)));
    let sending = async { while connection.next().await.is_ok() {} };
    tokio::select! {
        packet = peer.next() => assert!(matches!(packet, Packet::Unsubscribe(_))),
        () = sending => panic!("the connection is gone"),
    }
}

#[tokio::test]
async fn a_missing_uptime_is_awaited_for_a_second_at_most() {
    let (opened, peer) = opened(async |peer, asked| peer.answer(&asked, GRANTED).await).await;
    let (mut connection, mut peer) = (opened.unwrap(), peer.unwrap());
    // Other messages are not held up meanwhile.
    peer.retained("set/job", "cancel").await;
    let mut incoming = Vec::new();
    while matches!(connection.uptime(), Uptime::Awaited { .. }) {
        incoming.extend(connection.next().await.unwrap().incoming);
    }
    assert_eq!(connection.uptime(), Uptime::Unknown);
    assert_eq!(incoming.len(), 1);
}

#[tokio::test]
async fn a_refused_uptime_is_unknown_at_once() {
    let (opened, _peer) =
        opened(async |peer, asked| peer.answer(&asked, SubscribeReasonCode::Failure).await).await;
    assert_eq!(opened.unwrap().uptime(), Uptime::Unknown);
}

#[tokio::test]
async fn a_subscription_of_the_uptime_that_is_never_answered_costs_a_second() {
    let (opened, peer) = opened(async |_, _| {}).await;
    let mut connection = opened.unwrap();
    assert_eq!(connection.uptime(), Uptime::Unknown);
    // A late answer breaks nothing.
    let mut peer = peer.unwrap();
    let late = Subscribe::new("$SYS/broker/uptime", QoS::AtMostOnce);
    peer.answer(&Subscribe { pkid: 2, ..late }, GRANTED).await;
    peer.retained("$SYS/broker/uptime", "5 seconds").await;
    peer.retained("set/job", "cancel").await;
    let incoming = loop {
        if let Some(incoming) = connection.next().await.unwrap().incoming {
            break incoming;
        }
    };
    assert_eq!(incoming.topic, "set/job");
    assert_eq!(connection.uptime(), Uptime::Unknown);
}

#[tokio::test]
async fn a_broker_that_ends_the_connection_at_the_uptime_is_named() {
    let (opened, _) = opened(async |peer, _| peer.stream.shutdown().await.unwrap()).await;
    assert!(matches!(opened.err(), Some(Lost::NoUptime(_))));
}

#[tokio::test]
async fn an_end_by_the_broker_is_distinguished_from_others() {
    let (listener, options) = listen().await;
    let none = BTreeSet::new();
    let (opened, peer) =
        tokio::join!(Connection::open(&options, &none, false), Peer::accept(&listener));
    let mut connection = opened.unwrap();
    drop(peer);
    let lost = connection.next().await.unwrap_err();
    assert!(matches!(lost, Lost::Closed { soon: true, by_peer: true, .. }), "{lost:?}");
    // An error found by the bridge is not the broker's doing.
    let (opened, peer) =
        tokio::join!(Connection::open(&options, &none, false), Peer::accept(&listener));
    let (mut connection, mut peer) = (opened.unwrap(), peer);
    peer.send(Packet::PubAck(PubAck::new(7))).await;
    let lost = loop {
        if let Err(lost) = connection.next().await {
            break lost;
        }
    };
    assert!(matches!(lost, Lost::Closed { by_peer: false, .. }), "{lost:?}");
}

#[test]
fn an_uptime_is_a_number_of_seconds() {
    assert_eq!(Uptime::read(b"123 seconds"), Uptime::Known(Duration::from_secs(123)));
    assert_eq!(Uptime::read(b"1 second"), Uptime::Known(Duration::from_secs(1)));
    for unreadable in ["", "seconds", "-3 seconds", "123", "3 days", "1.5 seconds"] {
        assert_eq!(Uptime::read(unreadable.as_bytes()), Uptime::Unknown, "{unreadable}");
    }
    assert_eq!(Uptime::read(&[0xff]), Uptime::Unknown);
}

#[tokio::test]
async fn a_dead_address_of_the_broker_costs_seconds() {
    let (listener, options) = listen().await;
    let dead = DeadAddress::new().await;
    let addresses = [dead.v4(), listener.local_addr().unwrap()];
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    let connecting = Connection::connect_to(&options, &addresses, until);
    let (connected, _peer) = tokio::join!(connecting, Peer::accept(&listener));
    assert!(connected.is_ok());
    let until = tokio::time::Instant::now() + Duration::from_millis(200);
    let alone = Connection::connect_to(&options, &addresses[..1], until).await;
    assert!(matches!(alone.err(), Some(Lost::TimedOut)));
}

#[tokio::test]
async fn the_answer_of_a_broker_that_hangs_up_at_once_is_read() {
    let (listener, options) = listen().await;
    let none = BTreeSet::new();
    let refusing = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = BytesMut::new();
        let refusal = Packet::ConnAck(ConnAck::new(ConnectReturnCode::NotAuthorized, false));
        refusal.write(&mut bytes, 1 << 20).unwrap();
        // Before it has read CONNECT.
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    };
    let (opened, _stream) = tokio::join!(Connection::open(&options, &none, false), refusing);
    assert!(matches!(opened.err(), Some(Lost::NotAuthorised { .. })));
}

/// A certificate for 127.0.0.1: its directory, a client that trusts it, and a server that uses it.
fn certificate() -> (tempfile::TempDir, Arc<rustls::ClientConfig>, tokio_rustls::TlsAcceptor) {
    use rustls::pki_types::pem::PemObject;
    let dir = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -subj /CN=x -addext subjectAltName=IP:127.0.0.1".split(' '))
        .current_dir(dir.path())
        .stderr(std::process::Stdio::null())
        .status();
    assert!(made.expect("openssl is installed").success());
    let tls = crate::config::Tls {
        ca_file: Some(dir.path().join("cert")),
        ..crate::config::Tls::default()
    };
    let client = crate::tls::client_config(&tls, true).unwrap();
    let chain = rustls::pki_types::CertificateDer::pem_file_iter(dir.path().join("cert")).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(dir.path().join("key")).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key)
    .unwrap();
    (dir, client, tokio_rustls::TlsAcceptor::from(Arc::new(server)))
}

/// Accepts a client over TLS, answers its CONNECT, and returns the stream.
async fn accept_tls(
    listener: &TcpListener,
    acceptor: &tokio_rustls::TlsAcceptor,
) -> tokio_rustls::server::TlsStream<TcpStream> {
    let (tcp, _) = listener.accept().await.unwrap();
    let mut stream = acceptor.accept(tcp).await.unwrap();
    let mut buffer = BytesMut::new();
    while Packet::read(&mut buffer, 1 << 20).is_err() {
        assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0);
    }
    let mut bytes = BytesMut::new();
    let connack = Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false));
    connack.write(&mut bytes, 1 << 20).unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

#[tokio::test]
async fn an_end_by_the_broker_is_recognised_behind_tls() {
    let (_dir, client, acceptor) = certificate();
    let (listener, mut options) = listen().await;
    options.tls = Some(client);
    let none = BTreeSet::new();
    for reset in [true, false] {
        let opening = Connection::open(&options, &none, false);
        let (opened, mut stream) = tokio::join!(opening, accept_tls(&listener, &acceptor));
        let mut connection = opened.unwrap();
        if reset {
            stream.get_ref().0.set_zero_linger().unwrap();
        } else {
            stream.shutdown().await.unwrap();
        }
        drop(stream);
        let Err(Lost::Closed { by_peer, source, .. }) = connection.next().await else {
            panic!("the connection is gone");
        };
        assert!(by_peer, "reset {reset}: {source}");
    }
}

#[tokio::test]
async fn disconnect_reaches_the_broker_behind_tls_before_the_program_may_end() {
    let (_dir, client, acceptor) = certificate();
    let (listener, mut options) = listen().await;
    options.tls = Some(client);
    let none = BTreeSet::new();
    let opening = Connection::open(&options, &none, false);
    let (opened, mut stream) = tokio::join!(opening, accept_tls(&listener, &acceptor));
    let mut connection = opened.unwrap();
    let reading = async {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        stream.shutdown().await.unwrap();
        rest
    };
    let leaving = async {
        connection.disconnect().await;
        drop(connection);
    };
    let (rest, ()) = tokio::join!(reading, leaving);
    assert_eq!(rest, [0xe0, 0], "DISCONNECT");
}
