//! Watches tasks for panics: an unnoticed one would leave a printer online for ever.
//!
//! A printer's tasks are restarted after a delay ([`RestartBackoff`]); the failure of any other
//! task ends the program, which its service manager restarts.

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

/// Run time after which earlier failures no longer count.
const STABLE: Duration = Duration::from_secs(10 * 60);
const MAX_DELAY: Duration = Duration::from_secs(5 * 60);

/// Delays before the restarts of one printer's tasks: 1, 2, 4 … 300 s.
#[derive(Debug, Default)]
pub struct RestartBackoff {
    failures: u32,
}

impl RestartBackoff {
    /// Returns the delay after tasks that ran for `ran`.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            self.failures = 0;
        }
        let delay = Duration::from_secs(1 << self.failures.min(16)).min(MAX_DELAY);
        self.failures = self.failures.saturating_add(1);
        delay
    }
}

/// The payload of a panic. The panic hook has already printed its message to stderr.
pub struct Panicked(Box<dyn Any + Send>);

impl Panicked {
    /// Resumes the panic.
    pub fn resume(self) -> ! {
        resume_unwind(self.0)
    }
}

/// Runs `task`, and returns a panic instead of unwinding; what it borrows may be inconsistent then.
///
/// # Errors
/// [`Panicked`] if it panicked.
pub fn caught<F: Future>(task: F) -> impl Future<Output = Result<F::Output, Panicked>> {
    // No `async`: such a future would hold the task twice, for each of a thousand printers.
    AssertUnwindSafe(task).catch_unwind().map(|ended| ended.map_err(Panicked))
}

/// The names of tasks that failed.
pub type Failures = mpsc::UnboundedReceiver<&'static str>;

/// Reports tasks that panic; cheap to clone.
#[derive(Debug, Clone)]
pub struct Watch(mpsc::UnboundedSender<&'static str>);

impl Watch {
    /// Returns a watch, and the receiver of its reports.
    pub fn new() -> (Self, Failures) {
        let (reports, failures) = mpsc::unbounded_channel();
        (Self(reports), failures)
    }

    /// Wraps `task` so that a panic is reported.
    pub fn over<T: Future<Output = ()> + Send>(
        &self,
        name: &'static str,
        task: T,
    ) -> impl Future<Output = ()> + Send + use<T> {
        let reports = self.0.clone();
        caught(task).map(move |ended| {
            if ended.is_err() {
                // Fails only if the receiver is gone, and then the task was no longer needed.
                let _ = reports.send(name);
            }
        })
    }

    /// Spawns `task` in the current span, and reports a panic.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.over(name, task).in_current_span());
    }
}

/// The failures of one printer's tasks.
#[derive(Debug, Clone, Copy)]
struct FailedTask {
    restarts: u64,
    task: &'static str,
    at: Instant,
    next: Instant,
}

/// The failures and restarts of all printers' tasks; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Restarts(Arc<Mutex<BTreeMap<String, FailedTask>>>);

impl Restarts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, FailedTask>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `task` of `printer` failed and is restarted after `delay`.
    pub fn note(&self, printer: &str, task: &'static str, delay: Duration) {
        let at = Instant::now();
        let failed = FailedTask { restarts: self.of(printer) + 1, task, at, next: at + delay };
        self.lock().insert(printer.to_owned(), failed);
    }

    /// Forgets a printer that was removed.
    pub fn forget(&self, printer: &str) {
        self.lock().remove(printer);
    }

    /// Returns how often the tasks of `printer` were restarted.
    pub fn of(&self, printer: &str) -> u64 {
        self.lock().get(printer).map_or(0, |failed| failed.restarts)
    }

    /// Returns recent failures by printer: restarts, failed task, seconds until the next restart.
    pub fn recent(&self) -> Map<String, Value> {
        let now = Instant::now();
        let is_recent = |failed: &FailedTask| now < failed.next.max(failed.at + STABLE);
        let report = |failed: &FailedTask| {
            let next = failed.next.saturating_duration_since(now);
            let next = (!next.is_zero()).then(|| next.as_secs_f64().ceil() as u64);
            json!({"restarts": failed.restarts, "failed": failed.task, "next_attempt_in": next})
        };
        let printers = self.lock();
        let printers = printers.iter().filter(|(_, failed)| is_recent(failed));
        ordered::map(printers.map(|(printer, failed)| (printer.clone(), report(failed))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_five_minutes_and_are_reset_after_ten_good_minutes() {
        let mut backoff = RestartBackoff::default();
        let mut took = |ran: u64| backoff.after(Duration::from_secs(ran)).as_secs();
        let first: Vec<u64> = (0..12).map(|_| took(599)).collect();
        assert_eq!(first, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!([took(600), took(0)], [1, 2]);
        let mut always = RestartBackoff { failures: u32::MAX };
        assert_eq!(always.after(Duration::ZERO), MAX_DELAY);
    }

    #[tokio::test]
    async fn a_panic_is_reported_and_an_end_is_not() {
        let (watch, mut failures) = Watch::new();
        watch.spawn("good", async {});
        watch.spawn("bad", async { panic!("a test") });
        drop(watch);
        assert_eq!(failures.recv().await, Some("bad"));
        assert_eq!(failures.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_listed_until_the_printer_ran_for_ten_minutes() {
        let restarts = Restarts::default();
        restarts.note("mk3", "printer", Duration::from_secs(1));
        restarts.note("mk3", "push socket", Duration::from_secs(2));
        let expected = json!({"restarts": 2, "failed": "push socket", "next_attempt_in": 2});
        assert_eq!(Value::from(restarts.recent()), json!({ "mk3": expected }));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(restarts.recent()["mk3"]["next_attempt_in"].is_null());
        tokio::time::advance(STABLE).await;
        assert!(restarts.recent().is_empty());
        assert_eq!((restarts.of("mk3"), restarts.of("mini")), (2, 0));
    }
}
