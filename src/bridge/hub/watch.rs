//! Watches tasks: a panic that nobody sees leaves a printer online for ever.
//!
//! A printer's tasks are begun anew after a pause ([`Pauses`]); the failure of any other ends the
//! program, which whoever started it starts again.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument;

use crate::ordered;

/// A task that ran this long is begun anew as if it had never failed.
const HELD: Duration = Duration::from_secs(10 * 60);
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// Growing pauses between the failures of one printer's tasks: 1, 2, 4 … 300 s (pure).
#[derive(Debug, Default)]
pub struct Pauses {
    failures: u32,
}

impl Pauses {
    /// The pause after tasks that ran for `ran`.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= HELD {
            self.failures = 0;
        }
        let pause = Duration::from_secs(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

/// What a task panicked with. The panic itself is on stderr, where the panic hook puts it.
pub struct Panicked(Box<dyn Any + Send>);

impl Panicked {
    /// Goes on panicking.
    pub fn resume(self) -> ! {
        resume_unwind(self.0)
    }
}

/// Runs `task`, and yields a panic instead of unwinding. What the task borrows may be half changed
/// then: only what does not depend on that may be looked at.
///
/// # Errors
/// [`Panicked`] where it panicked.
pub fn caught<F: Future>(task: F) -> impl Future<Output = Result<F::Output, Panicked>> {
    // No `async`: such a future would hold the task twice, for each of a thousand printers.
    AssertUnwindSafe(task).catch_unwind().map(|ended| ended.map_err(Panicked))
}

/// The names of tasks that failed.
pub type Failures = mpsc::UnboundedReceiver<&'static str>;

/// Tells of tasks that panic; cheap to clone.
#[derive(Debug, Clone)]
pub struct Watch(mpsc::UnboundedSender<&'static str>);

impl Watch {
    /// A watch, and where it tells.
    pub fn new() -> (Self, Failures) {
        let (tell, told) = mpsc::unbounded_channel();
        (Self(tell), told)
    }

    /// `task`, which tells where it panics.
    pub fn over<T: Future<Output = ()> + Send>(
        &self,
        name: &'static str,
        task: T,
    ) -> impl Future<Output = ()> + Send + use<T> {
        let tell = self.0.clone();
        caught(task).map(move |ended| {
            if ended.is_err() {
                // Fails only when whoever watched has ended, and with it what the task was for.
                let _ = tell.send(name);
            }
        })
    }

    /// Spawns `task` in the current span, and tells where it panics.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.over(name, task).in_current_span());
    }
}

/// One printer's failures.
#[derive(Debug, Clone, Copy)]
struct FailedTask {
    times: u64,
    task: &'static str,
    at: Instant,
    next: Instant,
}

/// The failures of all printers' tasks; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Restarts(Arc<Mutex<BTreeMap<String, FailedTask>>>);

impl Restarts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, FailedTask>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `task` of `printer` failed, and that it is begun anew after `pause`.
    pub fn note(&self, printer: &str, task: &'static str, pause: Duration) {
        let at = Instant::now();
        let times = self.of(printer) + 1;
        self.lock().insert(printer.to_owned(), FailedTask { times, task, at, next: at + pause });
    }

    /// How often the tasks of `printer` were begun anew.
    pub fn of(&self, printer: &str) -> u64 {
        self.lock().get(printer).map_or(0, |failed| failed.times)
    }

    /// The printers whose tasks failed lately, for people: how often, what, and when they are
    /// begun anew, in seconds.
    pub fn lately(&self) -> Map<String, Value> {
        let now = Instant::now();
        let lately = |failed: &FailedTask| now < failed.next.max(failed.at + HELD);
        let told = |failed: &FailedTask| {
            let next = failed.next.saturating_duration_since(now);
            let next = (!next.is_zero()).then(|| next.as_secs_f64().ceil() as u64);
            json!({"restarts": failed.times, "failed": failed.task, "next_attempt_in": next})
        };
        let printers = self.lock();
        let printers = printers.iter().filter(|(_, failed)| lately(failed));
        ordered::map(printers.map(|(printer, failed)| (printer.clone(), told(failed))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_five_minutes_and_start_anew_after_ten_good_minutes() {
        let mut pauses = Pauses::default();
        let mut took = |ran: u64| pauses.after(Duration::from_secs(ran)).as_secs();
        let first: Vec<u64> = (0..12).map(|_| took(599)).collect();
        assert_eq!(first, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!([took(600), took(0)], [1, 2]);
        let mut always = Pauses { failures: u32::MAX };
        assert_eq!(always.after(Duration::ZERO), LONGEST);
    }

    #[tokio::test]
    async fn a_panic_is_told_and_an_end_is_not() {
        let (watch, mut failures) = Watch::new();
        watch.spawn("good", async {});
        watch.spawn("bad", async { panic!("a test") });
        drop(watch);
        assert_eq!(failures.recv().await, Some("bad"));
        assert_eq!(failures.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_named_until_the_printer_ran_for_ten_minutes() {
        let restarts = Restarts::default();
        restarts.note("mk3", "printer", Duration::from_secs(1));
        restarts.note("mk3", "push socket", Duration::from_secs(2));
        let told = json!({"restarts": 2, "failed": "push socket", "next_attempt_in": 2});
        assert_eq!(Value::from(restarts.lately()), json!({ "mk3": told }));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(restarts.lately()["mk3"]["next_attempt_in"].is_null());
        tokio::time::advance(HELD).await;
        assert!(restarts.lately().is_empty());
        assert_eq!((restarts.of("mk3"), restarts.of("mini")), (2, 0));
    }
}
