//! When each message was sent, and how long it took to arrive.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::frames::VALUES;

/// The times of all that is on its way, of all printers.
pub struct Sent {
    start: Instant,
    /// Nanoseconds since the start, by printer and value; 0: not on its way.
    left: Vec<AtomicU64>,
    measuring: AtomicBool,
    measured: AtomicU64,
    /// In nanoseconds.
    took: Mutex<Vec<u64>>,
}

/// Latencies of one measurement.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Latency {
    /// How many left.
    pub sent: u64,
    /// How many arrived.
    pub arrived: u64,
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p95_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
    /// Milliseconds.
    pub max_ms: f64,
}

impl Sent {
    /// Nothing on its way, for so many printers.
    pub fn new(printers: usize) -> Self {
        let values = usize::try_from(VALUES).expect("a small number") * printers;
        Self {
            start: Instant::now(),
            left: (0..values).map(|_| AtomicU64::new(0)).collect(),
            measuring: AtomicBool::new(false),
            measured: AtomicU64::new(0),
            took: Mutex::default(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("less than centuries")
    }

    fn slot(&self, printer: usize, sequence: u64) -> Option<&AtomicU64> {
        let value = usize::try_from(sequence % VALUES).ok()?;
        self.left.get(printer * usize::try_from(VALUES).ok()? + value)
    }

    /// Message number `sequence` of a printer is about to leave.
    pub fn leaves(&self, printer: usize, sequence: u64) {
        if self.measuring.load(Ordering::Relaxed)
            && let Some(slot) = self.slot(printer, sequence)
        {
            self.measured.fetch_add(1, Ordering::Relaxed);
            slot.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The value has arrived at the subscriber.
    pub fn arrives(&self, printer: usize, value: u64) {
        let left = self.slot(printer, value).map_or(0, |slot| slot.swap(0, Ordering::Relaxed));
        if left != 0 {
            let took = self.now().saturating_sub(left);
            self.took.lock().expect("no panic while it is held").push(took);
        }
    }

    /// Measures what leaves in the next `span`.
    pub async fn measure(&self, span: Duration) -> Latency {
        self.took.lock().expect("no panic while it is held").clear();
        self.measured.store(0, Ordering::Relaxed);
        self.measuring.store(true, Ordering::Relaxed);
        tokio::time::sleep(span).await;
        self.measuring.store(false, Ordering::Relaxed);
        let sent = self.measured.load(Ordering::Relaxed);
        // What is late may still arrive, but not for ever.
        let deadline = Instant::now() + Duration::from_secs(2);
        while (self.arrived() as u64) < sent && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.left.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
        let mut took = std::mem::take(&mut *self.took.lock().expect("no panic while it is held"));
        took.sort_unstable();
        Latency::of(sent, &took)
    }

    fn arrived(&self) -> usize {
        self.took.lock().expect("no panic while it is held").len()
    }
}

impl Latency {
    /// Of nothing at all.
    pub fn none() -> Self {
        Self::of(0, &[])
    }

    fn of(sent: u64, sorted: &[u64]) -> Self {
        let at = |share: f64| {
            let index = (sorted.len() as f64 * share).ceil() as usize;
            sorted.get(index.saturating_sub(1)).map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
        };
        Self {
            sent,
            arrived: sorted.len() as u64,
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: at(1.0),
        }
    }
}
