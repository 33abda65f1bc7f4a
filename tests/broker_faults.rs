//! A scripted broker that does what hurts rumqttc, and what the bridge makes of it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use octoprint2mqtt::mqtt::{
    Audiences, Bounds, Broker, Incoming, Kind, MAX_INCOMING, Make, Options, PacketLimit,
    Publication,
};
use rumqttc::{
    ConnAck, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, SubscribeReasonCode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const MOST: usize = 64 * 1024 * 1024;
/// Largest packet that the bridge sends.
const LIMIT: usize = 1_900_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection of the bridge.
struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    /// The next packet; `None` where the bridge has left.
    async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Ok(packet) = Packet::read(&mut self.buffer, MOST) {
                return Some(packet);
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, MOST).unwrap();
        let _ = self.stream.write_all(&bytes).await;
    }

    /// Lets the bridge in, and answers its subscription.
    async fn greet(&mut self, code: SubscribeReasonCode) {
        loop {
            match self.next().await {
                Some(Packet::Connect(_)) => {
                    let accepted = ConnAck::new(ConnectReturnCode::Success, false);
                    self.send(Packet::ConnAck(accepted)).await;
                }
                Some(Packet::Subscribe(subscribe)) => {
                    let codes = vec![code; subscribe.filters.len()];
                    self.send(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await;
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next publication that is not acknowledged yet; pings are answered.
    async fn publish(&mut self) -> Option<Publish> {
        loop {
            match self.next().await? {
                Packet::Publish(publish) => return Some(publish),
                Packet::PingReq => self.send(Packet::PingResp).await,
                Packet::Disconnect => return None,
                _ => {}
            }
        }
    }

    async fn acknowledge(&mut self, publish: &Publish) {
        self.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
    }
}

struct Server {
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, accepted: Arc::default() }
    }

    async fn accept(&self) -> Peer {
        let (stream, _) =
            tokio::time::timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Peer { stream, buffer: BytesMut::new() }
    }

    async fn greeted(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.greet(SubscribeReasonCode::Success(QoS::AtLeastOnce)).await;
        peer
    }

    fn broker(&self) -> (Broker, mpsc::Receiver<Incoming>) {
        let options = Options {
            host: "127.0.0.1".to_owned(),
            port: self.listener.local_addr().unwrap().port(),
            tls: None,
            websocket: None,
            login: None,
            client_id: "bridge".to_owned(),
            keep_alive: Duration::from_secs(20),
            last_will: Some(("state".to_owned(), "offline".to_owned())),
            max_incoming: MAX_INCOMING,
            limit: PacketLimit::new(LIMIT),
        };
        let bounds = Bounds { max_events: 100_000, max_bytes: 1 << 30 };
        let (arrived, incoming) = mpsc::channel(100);
        let filters = BTreeSet::from(["set/#".to_owned()]);
        (Broker::start(options, bounds, filters, arrived, None, Audiences::not_awaited()), incoming)
    }
}

fn event(n: usize) -> Publication {
    let kind = Kind::MESSAGE;
    Publication::new(1, "event".into(), n.to_string(), kind)
}

/// Takes and acknowledges events until the last one is there.
async fn take_all(peer: &mut Peer, last: usize) -> Vec<usize> {
    let mut taken = Vec::new();
    while taken.last() != Some(&last) {
        let publish = tokio::time::timeout(PATIENCE, peer.publish()).await.unwrap().unwrap();
        taken.push(std::str::from_utf8(&publish.payload).unwrap().parse().unwrap());
        peer.acknowledge(&publish).await;
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_queued_and_unacknowledged_is_sent_again_in_order() {
    let server = Server::start().await;
    let (broker, _incoming) = server.broker();
    (0..500).for_each(|n| broker.publish(event(n)));
    let mut peer = server.greeted().await;
    for _ in 0..30 {
        peer.publish().await.unwrap();
    }
    // Gone with 100 in flight, and none of them acknowledged.
    drop(peer);
    let mut peer = server.greeted().await;
    assert_eq!(take_all(&mut peer, 499).await, (0..500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_id_that_stays_taken_wedges_nothing() {
    let server = Server::start().await;
    let (broker, _incoming) = server.broker();
    let count = 10_000;
    (0..count).for_each(|n| broker.publish(event(n)));
    let mut peer = server.greeted().await;
    // The first one is never acknowledged, and the ids of the others come round to its own.
    let first = peer.publish().await.unwrap();
    assert_eq!(&first.payload[..], b"0");
    let quiet = Duration::from_secs(2);
    let mut taken = 0;
    while let Ok(Some(publish)) = tokio::time::timeout(quiet, peer.publish()).await {
        peer.acknowledge(&publish).await;
        taken += 1;
        if taken == count - 1 {
            break;
        }
    }
    drop(peer);
    // Whatever became of that connection, the next one has the rest.
    broker.publish(event(count));
    let mut peer = server.greeted().await;
    let rest = take_all(&mut peer, count).await;
    assert_eq!(rest[0], 0, "what was never acknowledged comes first");
    assert!(rest.is_sorted() && rest.len() + taken >= count, "{} and {taken}", rest.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_publication_costs_itself_alone() {
    let server = Server::start().await;
    let (broker, _incoming) = server.broker();
    let mut peer = server.greeted().await;
    broker.publish(event(1));
    let kind = Kind::MESSAGE;
    broker.publish(Publication::new(1, "event".into(), vec![b'x'; LIMIT - 12], kind));
    // What is made only when it is handed over is measured then.
    let make = Make::new(|| vec![b'x'; LIMIT].into());
    broker.publish(Publication::made(1, "state".into(), make));
    broker.publish(event(2));
    assert_eq!(take_all(&mut peer, 2).await, [1, 2]);
    // The largest that is sent: 13 bytes are the topic and what MQTT adds.
    broker.publish(Publication::new(1, "event".into(), vec![b'x'; LIMIT - 13], kind));
    let largest = peer.publish().await.unwrap();
    assert_eq!(largest.payload.len(), LIMIT - 13);
    peer.acknowledge(&largest).await;
    assert_eq!(server.accepted.load(Ordering::Relaxed), 1, "on the same connection");
    assert_eq!(broker.counts().oversize, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_message_is_a_new_connection_and_nothing_is_lost() {
    let server = Server::start().await;
    let (broker, mut incoming) = server.broker();
    let mut peer = server.greeted().await;
    broker.publish(event(1));
    peer.publish().await.unwrap();
    let large = Publish::new("set/x", QoS::AtMostOnce, vec![b'x'; MAX_INCOMING + 1]);
    peer.send(Packet::Publish(large)).await;
    let mut peer = server.greeted().await;
    assert_eq!(take_all(&mut peer, 1).await, [1]);
    let small = Publish::new("set/x", QoS::AtMostOnce, "fine");
    peer.send(Packet::Publish(small)).await;
    assert_eq!(&incoming.recv().await.unwrap().payload[..], b"fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_up_at_once_is_not_stormed() {
    let server = Server::start().await;
    let (_broker, _incoming) = server.broker();
    let watched = Duration::from_secs(4);
    let storm = async {
        loop {
            drop(server.accept().await);
        }
    };
    let _ = tokio::time::timeout(watched, storm).await;
    let attempts = server.accepted.load(Ordering::Relaxed);
    // Pauses of about half a second, one, two: without them it would be thousands.
    assert!((2..=6).contains(&attempts), "{attempts} attempts in {watched:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_goodbye_there_is_no_new_connection() {
    let server = Server::start().await;
    let (broker, _incoming) = server.broker();
    let mut peer = server.greeted().await;
    broker.publish(event(1));
    // From then on both sides know that they are connected.
    take_all(&mut peer, 1).await;
    broker.publish(Publication::new(0, "state".into(), "offline", Kind::State));
    let closing = tokio::spawn(async move { broker.close(Duration::from_secs(5)).await });
    let last = peer.publish().await.unwrap();
    assert_eq!((&last.payload[..], last.retain), (&b"offline"[..], true));
    peer.acknowledge(&last).await;
    assert!(matches!(peer.next().await, Some(Packet::Disconnect)), "so the will is not sent");
    drop(peer);
    assert!(closing.await.unwrap(), "everything was acknowledged");
    let again = tokio::time::timeout(Duration::from_secs(2), server.listener.accept()).await;
    assert!(again.is_err(), "rumqttc's next poll would connect again");
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// On one thread, so that the log is this test's own.
#[tokio::test]
async fn a_refused_subscription_is_said_and_publishing_goes_on() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Server::start().await;
    let (broker, _incoming) = server.broker();
    let mut peer = server.accept().await;
    peer.greet(SubscribeReasonCode::Failure).await;
    broker.publish(event(1));
    assert_eq!(take_all(&mut peer, 1).await, [1]);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("set/#") && log.contains("access rules"), "{log}");
}

#[test]
fn without_any_trusted_certificate_tls_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let text = "[mqtt]\nurl = \"mqtts://127.0.0.1:1\"\n[printers.mk3]\nurl = \"http://127.0.0.1:1\"\napi_key = \"k\"\n";
    std::fs::write(&path, text).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_octoprint2mqtt"))
        .arg("--config")
        .arg(path)
        .arg("check")
        .env("SSL_CERT_FILE", "/nowhere")
        .env("SSL_CERT_DIR", "/nowhere")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("ca-certificates") && !text.contains("panicked"), "{text}");
}
