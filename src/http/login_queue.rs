//! Slows down logins after a wrong one, whoever sent it: behind Docker's address translation all
//! clients have one address. Nobody is locked out.

use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};

use crate::clock;

/// Interval between logins after a wrong one.
const INTERVAL: Duration = Duration::from_secs(2);
/// Most logins that wait for their turn.
const PLACES: usize = 8;

/// The logins that wait for their turn.
#[derive(Debug)]
pub(super) struct LoginQueue {
    /// When the next login may be checked. Its holder has its turn; others wait in order.
    next: Mutex<Option<Instant>>,
    places: Semaphore,
}

/// Too many logins wait; the time after which all of these will have had their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueIsFull(pub(super) Duration);

impl Default for LoginQueue {
    fn default() -> Self {
        Self { next: Mutex::const_new(None), places: Semaphore::const_new(PLACES) }
    }
}

impl LoginQueue {
    /// Waits for its turn, and checks a login. Who stops waiting gives up the place.
    pub(super) async fn login(&self, check: impl FnOnce() -> bool) -> Result<bool, QueueIsFull> {
        // Places are never closed.
        let Ok(_place) = self.places.try_acquire() else {
            return Err(QueueIsFull(INTERVAL * PLACES as u32));
        };
        let mut next = self.next.lock().await;
        let is_slow = next.is_some_and(|next| clock::now() < next);
        clock::sleep_until(*next).await;
        let is_right = check();
        *next = (is_slow || !is_right).then(|| clock::now() + INTERVAL);
        Ok(is_right)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn logins_are_not_slowed_down_until_one_was_wrong() {
        let (queue, start) = (LoginQueue::default(), clock::now());
        for _ in 0..100 {
            assert_eq!(queue.login(|| true).await, Ok(true));
        }
        assert_eq!(queue.login(|| false).await, Ok(false));
        assert_eq!(clock::now(), start);
        for _ in 0..3 {
            assert_eq!(queue.login(|| false).await, Ok(false));
        }
        assert_eq!(clock::now() - start, INTERVAL * 3);
        // The right one waits too, and so does the next.
        assert_eq!(queue.login(|| true).await, Ok(true));
        assert_eq!(queue.login(|| true).await, Ok(true));
        assert_eq!(clock::now() - start, INTERVAL * 5);
        tokio::time::sleep(INTERVAL).await;
        assert_eq!(queue.login(|| true).await, Ok(true));
        assert_eq!(clock::now() - start, INTERVAL * 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_wrong_logins_at_once_lock_nobody_out() {
        let (queue, start) = (Arc::new(LoginQueue::default()), clock::now());
        let mut wrong = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let queue = Arc::clone(&queue);
            wrong.spawn(async move { queue.login(|| false).await });
        }
        // Whoever is refused comes back, as the answer says.
        let mut tries = 0;
        let is_right = loop {
            tries += 1;
            match queue.login(|| true).await {
                Ok(is_right) => break is_right,
                Err(QueueIsFull(wait)) => tokio::time::sleep(wait).await,
            }
        };
        assert!(is_right && tries <= 2, "{tries}");
        assert!(clock::now() - start <= INTERVAL * (PLACES as u32 * 2));
        let answers = wrong.join_all().await;
        let checked = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!((PLACES..=PLACES + 1).contains(&checked), "{checked}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_gives_up_the_place() {
        let queue = Arc::new(LoginQueue::default());
        assert_eq!(queue.login(|| false).await, Ok(false));
        for _ in 0..PLACES * 3 {
            let left = tokio::time::timeout(INTERVAL / 100, queue.login(|| true)).await;
            assert!(left.is_err(), "it waits");
        }
        assert_eq!(queue.login(|| true).await, Ok(true));
    }
}
