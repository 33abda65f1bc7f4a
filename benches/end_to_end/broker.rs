//! A real Mosquitto, and a subscriber.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS, SubscribeFilter,
};
use tokio::sync::oneshot;

use crate::frames;
use crate::sent::Sent;

/// The base topic of all measurements.
pub const BASE: &str = "bench";

/// A process that does not outlive its measurement.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running Mosquitto.
pub struct Mosquitto {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Mosquitto {
    /// Starts one and waits until it listens.
    pub fn start() -> Self {
        let port = free_port();
        let dir = tempfile::tempdir().expect("a directory for the broker");
        let path = dir.path().join("mosquitto.conf");
        // Without Nagle's algorithm: it would be measured instead of who publishes. Nothing is
        // dropped for a subscriber that is slow for a moment.
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n\
             max_queued_messages 0\nlog_type error\n"
        );
        std::fs::write(&path, config).expect("the broker's configuration is written");
        let found = ["mosquitto", "/usr/sbin/mosquitto"].iter().find_map(|program| {
            let mut command = Command::new(program);
            command.arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().ok()
        });
        let process = Process(found.expect("mosquitto is installed"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { port, _process: process, _dir: dir }
    }

    /// The address, as the bridge takes it.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// A client of the broker as the bridge has one: the same window of 100, no Nagle.
pub fn client(port: u16, id: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    let window = u16::try_from(octoprint2mqtt::mqtt::WINDOW).expect("a small window");
    options.set_inflight(window).set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut events) = AsyncClient::new(options, octoprint2mqtt::mqtt::WINDOW);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    (client, events)
}

/// What a subscriber counts.
#[derive(Default)]
pub struct Arrived {
    /// Messages of any topic below the base topic.
    pub messages: AtomicU64,
    /// When the first discovery message of a printer came, in nanoseconds since `started`.
    pub discovery: AtomicU64,
}

/// A subscriber in a thread of its own.
pub struct Subscriber {
    /// What arrived.
    pub arrived: Arc<Arrived>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed there.
            let _ = thread.join();
        }
    }
}

impl Subscriber {
    /// Subscribes the topics `below` each printer's own, and discovery, at QoS 0, and waits until
    /// that is acknowledged. What comes on `tracked` is measured.
    pub async fn start(
        port: u16,
        below: &str,
        tracked: &'static str,
        sent: Arc<Sent>,
        started: Instant,
    ) -> Self {
        let arrived = Arc::new(Arrived::default());
        let (ready, subscribed) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let filters = [format!("{BASE}/+/{below}"), "homeassistant/device/+/config".to_owned()];
        let listener = Listener { tracked, sent, arrived: arrived.clone(), started };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                tokio::select! {
                    () = listener.run(port, filters, ready) => {}
                    _ = stopped => {}
                }
            });
        });
        subscribed.await.expect("the broker takes the subscription");
        Self { arrived, stop: Some(stop), thread: Some(thread) }
    }
}

struct Listener {
    tracked: &'static str,
    sent: Arc<Sent>,
    arrived: Arc<Arrived>,
    started: Instant,
}

impl Listener {
    async fn run(self, port: u16, filters: [String; 2], ready: oneshot::Sender<()>) {
        let mut ready = Some(ready);
        let (client, mut events) = client(port, "subscriber");
        let wanted = filters.map(|filter| SubscribeFilter::new(filter, QoS::AtMostOnce));
        client.try_subscribe_many(wanted).expect("the first request fits");
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    // Who started this waits for it.
                    let _ = ready.take().map(|ready| ready.send(()));
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    self.take(&publish.topic, &publish.payload);
                }
                Ok(_) => {}
                // The broker ends before its subscriber.
                Err(_) => return,
            }
        }
    }

    fn take(&self, topic: &str, payload: &[u8]) {
        let Some(rest) = topic.strip_prefix(BASE).and_then(|rest| rest.strip_prefix("/p")) else {
            if topic.contains("_p") {
                self.discovered();
            }
            return;
        };
        self.arrived.messages.fetch_add(1, Ordering::Relaxed);
        if let Some((printer, topic)) = rest.split_once('/')
            && topic == self.tracked
            && let (Ok(printer), Some(value)) = (printer.parse(), frames::value_of(payload))
        {
            self.sent.arrives(printer, value);
        }
    }

    fn discovered(&self) {
        let now = u64::try_from(self.started.elapsed().as_nanos()).expect("less than centuries");
        let first = |known: u64| (known == 0).then_some(now);
        // Refused where one came before.
        let _ = self.arrived.discovery.fetch_update(Ordering::Relaxed, Ordering::Relaxed, first);
    }
}
