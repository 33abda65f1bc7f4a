//! Receipts: how a message learns that everything it caused to be published is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

/// All work for one cause is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Number of the cause.
    pub serial: u64,
    /// Time from the cause to the last acknowledgement; `None` without one, or if anything was
    /// superseded, dropped or lost, so that the time says nothing about the acknowledging side.
    pub took: Option<Duration>,
}

/// Travels with all work for one cause. [`Settled`] is sent when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Receipt(Arc<ReceiptState>);

#[derive(Debug)]
struct ReceiptState {
    serial: u64,
    started: Instant,
    /// Nanoseconds until the last acknowledgement; 0 before the first.
    took: AtomicU64,
    spoilt: AtomicBool,
    settled: mpsc::UnboundedSender<Settled>,
}

impl Receipt {
    /// Creates a receipt for cause number `serial`, received at `started`, that reports to
    /// `settled`.
    pub fn new(serial: u64, started: Instant, settled: mpsc::UnboundedSender<Settled>) -> Self {
        let (took, spoilt) = (AtomicU64::new(0), AtomicBool::new(false));
        Self(Arc::new(ReceiptState { serial, started, took, spoilt, settled }))
    }

    /// Creates a receipt for a cause whose time says nothing; nobody is notified.
    pub fn unmeasured() -> Self {
        Self::new(0, Instant::now(), mpsc::unbounded_channel().0)
    }

    /// Part of the work was done now.
    pub fn acknowledge(self) {
        let took = u64::try_from(self.0.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.took.fetch_max(took.max(1), Ordering::Relaxed);
    }

    /// Part of the work was not done, or not in a measurable way.
    pub fn spoil(self) {
        self.0.spoilt.store(true, Ordering::Relaxed);
    }
}

impl Drop for ReceiptState {
    fn drop(&mut self) {
        let took = *self.took.get_mut();
        let measured = took > 0 && !*self.spoilt.get_mut();
        let took = measured.then(|| Duration::from_nanos(took));
        // Fails if the cause no longer listens.
        let _ = self.settled.send(Settled { serial: self.serial, took });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> (Receipt, mpsc::UnboundedReceiver<Settled>) {
        let (sender, settled) = mpsc::unbounded_channel();
        (Receipt::new(7, Instant::now(), sender), settled)
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_clone_settles_and_the_last_acknowledgement_counts() {
        let (receipt, mut settled) = receipt();
        let (second, unmeasured) = (receipt.clone(), receipt.clone());
        receipt.acknowledge();
        tokio::time::advance(Duration::from_secs(2)).await;
        second.acknowledge();
        assert!(settled.try_recv().is_err());
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(unmeasured);
        let took = Some(Duration::from_secs(2));
        assert_eq!(settled.try_recv(), Ok(Settled { serial: 7, took }));
    }

    #[test]
    fn one_lost_part_spoils_the_measurement() {
        let (receipt, mut settled) = receipt();
        receipt.clone().acknowledge();
        receipt.spoil();
        assert_eq!(settled.try_recv().unwrap().took, None);
    }

    #[test]
    fn nothing_done_is_not_measured() {
        let (receipt, mut settled) = receipt();
        drop(receipt);
        assert_eq!(settled.try_recv().unwrap().took, None);
    }
}
