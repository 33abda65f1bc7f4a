//! Sockets that take turns in connecting.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// In such a time as many begin as may at once: a connection that is made in it needs no more, and
/// printers that are slow, or switched off, must not hold up the others.
const WINDOW: Duration = Duration::from_millis(30);

/// Spreads the beginnings of the sockets that share it; cheap to clone.
///
/// OctoPrint greets who has logged in with all temperatures of half an hour, a hundred kilobytes.
/// A thousand sockets that connect at once, at the start or when the network is back, would need
/// more memory for these than for all else, and flood whatever is between them and OctoPrint.
#[derive(Debug, Clone)]
pub struct Turns {
    /// When the next one would begin, were they evenly spread.
    next: Arc<Mutex<Instant>>,
    gap: Duration,
}

impl Turns {
    /// `at_once` of them in 30 ms; 0 counts as 1.
    pub fn new(at_once: usize) -> Self {
        let gap = WINDOW / u32::try_from(at_once).unwrap_or(u32::MAX).max(1);
        Self { next: Arc::new(Mutex::new(Instant::now())), gap }
    }

    /// Waits for a turn, in order. Who stops waiting takes none.
    pub(super) async fn take(&self) {
        let mut next = self.next.lock().await;
        let ahead = WINDOW - self.gap;
        sleep_until(next.checked_sub(ahead).unwrap_or(*next)).await;
        *next = (*next).max(Instant::now()) + self.gap;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_at_once_and_then_as_many_in_each_window() {
        let (turns, start) = (Turns::new(8), Instant::now());
        for _ in 0..8 {
            turns.take().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..80 {
            turns.take().await;
        }
        let took = start.elapsed();
        assert!(took >= 10 * WINDOW && took < 11 * WINDOW, "{took:?}");
        tokio::time::advance(Duration::from_secs(3600)).await;
        let later = Instant::now();
        for _ in 0..9 {
            turns.take().await;
        }
        assert!(later.elapsed() > Duration::ZERO, "a long rest saves nothing up");
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_takes_no_turn() {
        let turns = Turns::new(1);
        turns.take().await;
        for _ in 0..5 {
            assert!(timeout(WINDOW / 30, turns.take()).await.is_err());
        }
        assert!(timeout(WINDOW, turns.take()).await.is_ok());
    }
}
