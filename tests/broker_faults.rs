//! A scripted broker that does what hurts rumqttc, and what the bridge makes of it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use octoprint2mqtt::mqtt::{
    Audience, Audiences, Bounds, Broker, Incoming, Kind, MAX_INCOMING, Make, Options, PacketLimit,
    PersistedEvent, Persistence, Publication, Unpersisted, Worth,
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
        self.broker_with(None)
    }

    fn broker_with(&self, persistence: Option<Persistence>) -> (Broker, mpsc::Receiver<Incoming>) {
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
        let audiences = Audiences::not_awaited();
        (Broker::start(options, bounds, filters, arrived, persistence, audiences), incoming)
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

/// What a broker was given that ends the connection on some messages.
struct Refusing {
    taken: Vec<Publish>,
    connections: usize,
}

impl Refusing {
    /// Serves connection after connection until `done`; acknowledges what it does not refuse.
    async fn serve(
        server: &Server,
        refuses: impl Fn(&Publish) -> bool,
        done: impl Fn() -> bool,
    ) -> Self {
        let mut refusing = Self { taken: Vec::new(), connections: 0 };
        let done = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = refusing.serve_for_ever(server, refuses) => {}
            ended = tokio::time::timeout(PATIENCE, done) => assert!(ended.is_ok(), "not done"),
        }
        refusing
    }

    async fn serve_for_ever(&mut self, server: &Server, refuses: impl Fn(&Publish) -> bool) {
        loop {
            let mut peer = server.greeted().await;
            self.connections += 1;
            loop {
                match peer.next().await {
                    Some(Packet::Publish(publish)) if refuses(&publish) => break,
                    Some(Packet::Publish(publish)) => {
                        self.taken.push(publish.clone());
                        peer.acknowledge(&publish).await;
                    }
                    // The uptime, which many brokers do not publish.
                    Some(Packet::Subscribe(subscribe)) => {
                        let codes = vec![SubscribeReasonCode::Failure];
                        peer.send(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await;
                    }
                    Some(Packet::PingReq) => peer.send(Packet::PingResp).await,
                    Some(_) => {}
                    None => break,
                }
            }
        }
    }

    /// The numbers of the events that were taken, each once, without those that were sent empty.
    fn events(&self) -> BTreeSet<usize> {
        let text = |publish: &Publish| std::str::from_utf8(&publish.payload).unwrap().parse().ok();
        self.taken.iter().filter(|publish| !publish.retain).filter_map(text).collect()
    }
}

/// The bridge's own state, a hundred events and one of another printer.
fn publish_a_hundred(broker: &Broker) {
    broker.publish(Publication::new(0, "state".into(), "online", Kind::State));
    for n in 0..100 {
        let topic = format!("event/{n}");
        broker.publish(Publication::new(1, topic.into(), n.to_string(), Kind::MESSAGE));
    }
    broker.publish(Publication::new(2, "other".into(), "1000", Kind::MESSAGE));
}

fn hundred_without(missing: usize) -> BTreeSet<usize> {
    (0..100).filter(|n| *n != missing).chain([1000]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_the_broker_does_not_take_is_sent_without_and_stops_no_other() {
    let server = Server::start().await;
    let (broker, _incoming) = server.broker();
    publish_a_hundred(&broker);
    let refuses = |publish: &Publish| &publish.payload[..] == b"50";
    let done = || broker.counts().rejected == 1 && broker.counts().waiting == 0;
    let refusing = Refusing::serve(&server, refuses, done).await;
    assert_eq!(refusing.events(), hundred_without(50));
    let empty: Vec<&Publish> =
        refusing.taken.iter().filter(|publish| publish.payload.is_empty()).collect();
    assert_eq!(empty.len(), 1);
    assert_eq!(empty[0].topic, "event/50");
    assert_eq!(refusing.connections, 5, "two for suspicion, two for proof, and one that holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_broker_does_not_take_is_dropped_also_from_the_disk() {
    let server = Server::start().await;
    let restored = (0..10).map(|sequence| {
        let event = PersistedEvent {
            topic: format!("event/{sequence}").into(),
            payload: sequence.to_string().into(),
            age: Duration::from_secs(5),
            stamped: false,
            worth: Worth::Print,
            audience: Audience::Subscribers,
        };
        (1, sequence, event)
    });
    let restored: Vec<_> = restored.collect();
    let kept: BTreeMap<u64, PersistedEvent> =
        restored.iter().map(|(_, sequence, event)| (*sequence, event.clone())).collect();
    let disk = Arc::new(Mutex::new(kept));
    let written = disk.clone();
    let persist = move |changes: Vec<Unpersisted>| {
        let mut disk = written.lock().unwrap();
        for change in changes {
            match change.event {
                Some(event) => disk.insert(change.sequence, event),
                None => disk.remove(&change.sequence),
            };
        }
        None
    };
    let persistence = Persistence { restored, away: None, persist: Box::new(persist) };
    let (broker, _incoming) = server.broker_with(Some(persistence));
    broker.publish(Publication::new(0, "state".into(), "online", Kind::State));
    let refuses = |publish: &Publish| publish.topic == "event/3";
    // It would come back with the next start.
    let done = || disk.lock().unwrap().is_empty();
    let refusing = Refusing::serve(&server, refuses, done).await;
    assert_eq!(refusing.events(), (0..10).filter(|n| *n != 3).collect());
    assert_eq!(refusing.connections, 7);
    assert_eq!(broker.counts().rejected, 2);
}

/// A power cut cannot come between the two events of a print's end.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_cause_are_persisted_in_one_transaction() {
    let server = Server::start().await;
    let (report, mut transactions) = mpsc::unbounded_channel();
    let persist = move |changes: Vec<Unpersisted>| {
        report.send(changes.iter().map(|change| change.sequence).collect::<Vec<_>>()).unwrap();
        None
    };
    let persistence = Persistence { restored: Vec::new(), away: None, persist: Box::new(persist) };
    let (broker, _incoming) = server.broker_with(Some(persistence));
    let with_record = |n| Publication { along: Some("{}".into()), ..event(n) };
    broker.publish_all(vec![with_record(1), with_record(2)]);
    assert_eq!(transactions.recv().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_the_broker_does_not_take_stops_no_event() {
    let server = Server::start().await;
    let (broker, _incoming) = server.broker();
    broker.publish(Publication::new(0, "state".into(), "online", Kind::State));
    broker.publish(Publication::new(1, "job".into(), "{}", Kind::State));
    broker.publish(event(1));
    let refuses = |publish: &Publish| publish.topic == "job";
    let done = || broker.counts().rejected == 2 && broker.counts().waiting == 0;
    let refusing = Refusing::serve(&server, refuses, done).await;
    assert_eq!(refusing.events(), BTreeSet::from([1]));
    assert_eq!(refusing.connections, 7, "its topic is left alone then");
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
