//! Confirms that a print has begun: OctoPrint also answers with success if it starts none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{JobSnapshot, wait_until};
use crate::bridge::printer::commands::answers::CommandError;
use crate::bridge::printer::snapshot::PrinterState;
use crate::octoprint::Rest;

/// Time that OctoPrint may take to begin a print: some connectors wait for their printer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Counts the starts of prints that OctoPrint's socket has reported; cheap to clone. A print of some
/// lines is over before the first observation of the job, and leaves no other trace if the one before
/// it was as short.
#[derive(Debug, Clone, Default)]
pub(crate) struct PrintStarts(Arc<AtomicU64>);

impl PrintStarts {
    /// Counts one more.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What there was before a start, for a comparison with what is there after it.
pub(super) struct BeforeStart<'a> {
    starts: &'a PrintStarts,
    count: u64,
    job: JobSnapshot,
}

impl<'a> BeforeStart<'a> {
    pub(super) fn new(starts: &'a PrintStarts, job: JobSnapshot) -> Self {
        Self { starts, count: starts.count(), job }
    }

    /// Whether a print has begun since; it may be over.
    pub(super) fn has_begun(&self, now: &JobSnapshot) -> bool {
        let (was, is) = (&self.job.status.progress, &now.status.progress);
        now.state.print_is_on() == Some(true)
            || self.starts.count() != self.count
            || (!is["printTime"].is_null() && was != is)
    }

    /// Waits until a print has begun. Fails if there is none in time, or the connection to the printer
    /// is closed.
    pub(super) async fn confirm(&self, rest: &Rest) -> Result<(), CommandError> {
        let settled = |job: &JobSnapshot| self.has_begun(job) || job.state.is_closed();
        let (job, _) = wait_until(rest, TIMEOUT, settled).await?;
        // A file that is still being sent to the printer is printed after that.
        if self.has_begun(&job) || job.state == PrinterState::Transferring {
            return Ok(());
        }
        let why = job.status.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let error = format!(
            "OctoPrint answered with success, but no print has begun, and the printer is {}{why}",
            job.text()
        );
        Err(CommandError::with_status(error, 409))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::octoprint::JobStatus;

    fn job(state: PrinterState, progress: Value) -> JobSnapshot {
        JobSnapshot { state, status: JobStatus { progress, ..JobStatus::default() } }
    }

    #[test]
    fn a_print_leaves_traces_even_if_it_is_over() {
        use PrinterState::{Operational, Paused, Printing, Starting, Transferring};
        let fresh = || json!({"completion": null, "printTime": null});
        let over = |time: u64| json!({"completion": 100.0, "printTime": time});
        let starts = PrintStarts::default();
        let before = BeforeStart::new(&starts, job(Operational, over(3)));
        for (state, progress, begun) in [
            (Operational, over(3), false),
            // As it is after a selection.
            (Operational, fresh(), false),
            (Operational, json!({"completion": 0.0, "printTime": null}), false),
            (Transferring, fresh(), false),
            (Operational, over(4), true),
            (Starting, fresh(), true),
            (Printing, over(3), true),
            (Paused, over(3), true),
        ] {
            let shown = format!("{state:?} {progress}");
            assert_eq!(before.has_begun(&job(state, progress)), begun, "{shown}");
        }
        starts.add();
        assert!(before.has_begun(&job(Operational, over(3))), "as long as the one before it");
        assert!(
            !BeforeStart::new(&starts, job(Operational, fresh()))
                .has_begun(&job(Operational, fresh()))
        );
    }
}
