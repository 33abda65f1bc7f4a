//! How the cause of some work learns that all of it is done: a message, of what it had published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

/// The work for one cause is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The number of the cause.
    pub serial: u64,
    /// How long it took from the cause to the last acknowledgement; `None` where there was none, or
    /// something was superseded, dropped or lost: the time says nothing of who acknowledges.
    pub took: Option<Duration>,
}

/// Travels with all work for one cause. When the last clone is gone, the cause is told.
#[derive(Debug, Clone)]
pub struct Receipt(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    serial: u64,
    begun: Instant,
    /// Nanoseconds until the last acknowledgement; 0 before the first.
    took: AtomicU64,
    spoilt: AtomicBool,
    tell: mpsc::UnboundedSender<Settled>,
}

impl Receipt {
    /// A receipt for the cause number `serial`, which was there at `begun`. `tell` is told.
    pub fn new(serial: u64, begun: Instant, tell: mpsc::UnboundedSender<Settled>) -> Self {
        let (took, spoilt) = (AtomicU64::new(0), AtomicBool::new(false));
        Self(Arc::new(Shared { serial, begun, took, spoilt, tell }))
    }

    /// One part of the work is done, now.
    pub fn acknowledge(self) {
        let took = u64::try_from(self.0.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.took.fetch_max(took.max(1), Ordering::Relaxed);
    }

    /// One part of the work was not done, or not in a way that can be measured.
    pub fn spoil(self) {
        self.0.spoilt.store(true, Ordering::Relaxed);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let took = *self.took.get_mut();
        let measured = took > 0 && !*self.spoilt.get_mut();
        let took = measured.then(|| Duration::from_nanos(took));
        // Fails where the cause has stopped listening: then nobody misses it.
        let _ = self.tell.send(Settled { serial: self.serial, took });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard() -> (Receipt, mpsc::UnboundedReceiver<Settled>) {
        let (tell, told) = mpsc::unbounded_channel();
        (Receipt::new(7, Instant::now(), tell), told)
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_clone_settles_and_the_last_acknowledgement_counts() {
        let (receipt, mut told) = heard();
        let (second, unmeasured) = (receipt.clone(), receipt.clone());
        receipt.acknowledge();
        tokio::time::advance(Duration::from_secs(2)).await;
        second.acknowledge();
        assert!(told.try_recv().is_err());
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(unmeasured);
        let took = Some(Duration::from_secs(2));
        assert_eq!(told.try_recv(), Ok(Settled { serial: 7, took }));
    }

    #[test]
    fn one_lost_part_spoils_the_measurement() {
        let (receipt, mut told) = heard();
        receipt.clone().acknowledge();
        receipt.spoil();
        assert_eq!(told.try_recv().unwrap().took, None);
    }

    #[test]
    fn nothing_done_is_not_measured() {
        let (receipt, mut told) = heard();
        drop(receipt);
        assert_eq!(told.try_recv().unwrap().took, None);
    }
}
