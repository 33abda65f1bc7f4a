//! Sockets that take turns in connecting.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

/// How long a turn lasts at most: printers that are slow, or switched off, must not hold up the
/// others. Those of a farm that are off are tried again and again.
const LONGEST: Duration = Duration::from_millis(30);

/// Lets a few of the sockets that share it connect at a time; cheap to clone.
///
/// OctoPrint greets who has logged in with all temperatures of half an hour, a hundred kilobytes.
/// A thousand sockets that connect at once, at the start or when the network is back, would need
/// more memory for these than for all else, and flood whatever is between them and OctoPrint.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

impl Turns {
    /// `at_a_time` of them.
    pub fn new(at_a_time: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_a_time)))
    }

    /// Waits for a turn, in order. It ends when it is dropped, and after [`LONGEST`].
    pub(in crate::octoprint) async fn take(&self) -> Permit {
        // The semaphore is never closed; if it were, nobody would have to wait.
        let permit = Arc::clone(&self.0).acquire_owned().await;
        // It waits and lets go, and would let go by a panic, too.
        Permit(AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(LONGEST).await;
            drop(permit);
        })))
    }
}

/// One socket's turn.
#[derive(Debug)]
pub(in crate::octoprint) struct Permit(
    #[expect(dead_code, reason = "its end is what matters")] AbortOnDropHandle<()>,
);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_at_a_time() {
        let turns = Turns::new(2);
        let start = Instant::now();
        let (first, _second) = (turns.take().await, turns.take().await);
        let mut third = pin!(turns.take());
        let waits = poll_fn(|cx| Poll::Ready(third.as_mut().poll(cx).is_pending())).await;
        assert!(waits);
        drop(first);
        let _third = third.await;
        assert_eq!(start.elapsed(), Duration::ZERO, "one that is over makes room at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_holds_nobody_up_for_long() {
        let turns = Turns::new(1);
        let _first = turns.take().await;
        assert!(timeout(LONGEST / 2, turns.take()).await.is_err());
        assert!(timeout(LONGEST, turns.take()).await.is_ok());
    }
}
