//! How the cause of some publications learns that the broker has acknowledged all of them.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

/// What became of everything that one cause had published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Every QoS 1 publication was acknowledged on the connection on which it was handed over.
    Acknowledged,
    /// Nothing was published at QoS 1, or something was superseded, dropped or lost with the
    /// connection: the time says nothing of the broker.
    Unmeasured,
}

/// Travels with each publication of one cause. When the last clone is gone, the cause is told.
#[derive(Debug, Clone)]
pub struct Receipt(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    acknowledged: AtomicBool,
    spoilt: AtomicBool,
    // A std mutex: it is taken once, in `drop`, and never held across an await.
    tell: Mutex<Option<oneshot::Sender<Settled>>>,
}

impl Receipt {
    /// A receipt and the end on which the outcome is told.
    pub fn new() -> (Self, oneshot::Receiver<Settled>) {
        let (tell, told) = oneshot::channel();
        let shared = Shared {
            acknowledged: AtomicBool::new(false),
            spoilt: AtomicBool::new(false),
            tell: Mutex::new(Some(tell)),
        };
        (Self(Arc::new(shared)), told)
    }

    /// One publication was acknowledged.
    pub(super) fn acknowledge(self) {
        self.0.acknowledged.store(true, Ordering::Relaxed);
    }

    /// One publication was not made, or not on this connection.
    pub(super) fn spoil(self) {
        self.0.spoilt.store(true, Ordering::Relaxed);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let whole = *self.acknowledged.get_mut() && !*self.spoilt.get_mut();
        let settled = if whole { Settled::Acknowledged } else { Settled::Unmeasured };
        if let Some(tell) = self.tell.get_mut().ok().and_then(Option::take) {
            // The cause may have stopped listening; then nobody misses the answer.
            let _ = tell.send(settled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_publication_settles() {
        let (receipt, mut told) = Receipt::new();
        let second = receipt.clone();
        receipt.acknowledge();
        assert!(told.try_recv().is_err());
        second.acknowledge();
        assert_eq!(told.try_recv(), Ok(Settled::Acknowledged));
    }

    #[test]
    fn one_lost_publication_spoils_the_measurement() {
        let (receipt, mut told) = Receipt::new();
        let second = receipt.clone();
        receipt.acknowledge();
        second.spoil();
        assert_eq!(told.try_recv(), Ok(Settled::Unmeasured));
    }

    #[test]
    fn nothing_published_is_unmeasured() {
        let (receipt, mut told) = Receipt::new();
        drop(receipt);
        assert_eq!(told.try_recv(), Ok(Settled::Unmeasured));
    }
}
