//! Counters and histograms in Prometheus' text format, independent of the web server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use crate::mqtt::Broker;
use crate::octoprint::{Socket, SocketState};
use crate::ordered;

/// Upper bounds of the publish latency, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0];

type Label = Vec<(&'static str, String)>;

/// Publish latencies by printer. The printers are configured, so the label values are bounded.
#[derive(Debug, Clone)]
pub struct Latencies(Family<Label, Histogram, fn() -> Histogram>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(BUCKETS)))
    }
}

impl Latencies {
    /// Returns the latencies of `printer`.
    pub fn of(&self, printer: &str) -> Latency {
        Latency(self.0.get_or_create(&label(printer)).clone())
    }

    /// Removes those of `printer`.
    pub fn remove(&self, printer: &str) {
        self.0.remove(&label(printer));
    }
}

/// Publish latencies of one printer.
#[derive(Debug, Clone)]
pub struct Latency(Histogram);

impl Latency {
    /// Records the time from receiving a message to the last acknowledgement of its publications.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

/// Number of waiting publications of each printer; updated before the metrics are read.
#[derive(Debug, Clone, Default)]
pub struct Queues(Arc<Mutex<Vec<Queue>>>);

/// A printer's id, and how many of its publications wait.
pub type Queue = (Arc<str>, usize);

impl Queues {
    /// Sets the numbers.
    pub fn set(&self, printers: Vec<Queue>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = printers;
    }

    fn get(&self) -> Vec<Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The sockets of all printers by their ids; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sockets(Arc<Mutex<BTreeMap<Arc<str>, Socket>>>);

/// A printer's id and its socket.
pub type Named = (Arc<str>, Socket);

impl Sockets {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Socket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all sockets, in the order of their printers' ids.
    pub fn all(&self) -> Vec<Named> {
        self.lock().iter().map(|(id, socket)| (id.clone(), socket.clone())).collect()
    }

    /// Returns the socket of one printer.
    pub fn get(&self, printer: &str) -> Option<Socket> {
        self.lock().get(printer).cloned()
    }

    /// Sets the socket of one printer.
    pub fn set(&self, printer: &str, socket: Socket) {
        self.lock().insert(printer.into(), socket);
    }

    /// Removes the socket of one printer.
    pub fn remove(&self, printer: &str) {
        self.lock().remove(printer);
    }
}

/// Registers all metrics of a bridge.
pub fn registry(
    broker: Broker,
    sockets: Sockets,
    latencies: &Latencies,
    queues: Queues,
) -> Registry {
    let mut registry = Registry::with_prefix("octoprint2mqtt");
    registry.register(
        "publish_latency_seconds",
        "Time from receiving a message to the broker's acknowledgement of its last publication",
        latencies.0.clone(),
    );
    registry.register_collector(Box::new(Bridge { broker, sockets, queues }));
    registry
}

#[derive(Debug)]
struct Bridge {
    queues: Queues,
    broker: Broker,
    sockets: Sockets,
}

fn label(printer: &str) -> Label {
    vec![("printer", printer.to_owned())]
}

impl Collector for Bridge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.broker.counts();
        let status = self.broker.status();
        let (connected, connections) = {
            let status = status.borrow();
            (i64::from(status.connected), status.connections)
        };
        let mut single = |name: &str, help: &str, metric: &dyn OneMetric| {
            metric.encode_as(encoder.encode_descriptor(name, help, None, metric.kind())?)
        };
        single(
            "build_info",
            concat!("Version ", env!("CARGO_PKG_VERSION")),
            &ConstGauge::new(1_i64),
        )?;
        single("broker_connected", "Whether the broker is connected", &ConstGauge::new(connected))?;
        let count = ConstCounter::new;
        single(
            "broker_connections",
            "Connections to the broker since the start",
            &count(connections),
        )?;
        single("publications", "Publications handed to the outbox", &count(counts.published))?;
        single("acknowledgements", "Publications acknowledged", &count(counts.acknowledged))?;
        single("drops", "Publications dropped", &count(counts.dropped))?;
        single("oversize", "Messages too large for the broker", &count(counts.oversize))?;
        single("rejects", "Messages the broker rejected", &count(counts.rejected))?;
        let waiting = i64::try_from(counts.waiting).unwrap_or(i64::MAX);
        single(
            "waiting",
            "Publications that are waiting or unacknowledged",
            &ConstGauge::new(waiting),
        )?;
        let sockets = self.sockets.all();
        let each = |value: fn(&Socket) -> u64| -> BTreeMap<&str, u64> {
            ordered::map(sockets.iter().map(|(id, socket)| (&**id, value(socket))))
        };
        let mut family = |name: &str, help: &str, gauge: bool, values: BTreeMap<&str, u64>| {
            let kind = if gauge { MetricType::Gauge } else { MetricType::Counter };
            let mut encoder = encoder.encode_descriptor(name, help, None, kind)?;
            for (printer, value) in values {
                let label = label(printer);
                let encoder = encoder.encode_family(&label)?;
                match gauge {
                    true => {
                        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
                            .encode(encoder)?;
                    }
                    false => ConstCounter::new(value).encode(encoder)?,
                }
            }
            Ok::<(), std::fmt::Error>(())
        };
        let queues = self.queues.get();
        let waiting = ordered::map(queues.iter().map(|(id, waiting)| (&**id, *waiting as u64)));
        family("printer_waiting", "Publications of a printer that are waiting", true, waiting)?;
        let connected =
            |socket: &Socket| u64::from(socket.status().borrow().state == SocketState::Connected);
        family("printer_connected", "Whether OctoPrint is connected", true, each(connected))?;
        family("messages", "Messages received", false, each(|s| s.counters().messages))?;
        family(
            "decode_errors",
            "Malformed messages skipped",
            false,
            each(|s| s.counters().decode_errors),
        )?;
        family("reconnects", "Reconnects to OctoPrint", false, each(|s| s.counters().reconnects))?;
        family(
            "throttle_factor",
            "Push interval in steps of 500 ms",
            true,
            each(|s| u64::from(s.rate().1)),
        )
    }
}

trait OneMetric {
    fn kind(&self) -> MetricType;
    fn encode_as(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error>;
}

impl<M: EncodeMetric + TypedMetric> OneMetric for M {
    fn kind(&self) -> MetricType {
        M::TYPE
    }

    fn encode_as(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.encode(encoder)
    }
}
