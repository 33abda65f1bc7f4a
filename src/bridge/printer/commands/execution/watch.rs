//! Looks at the job until it is as it should be.

use std::time::Duration;

use crate::bridge::printer::commands::answers::Failure;
use crate::bridge::printer::snapshot::PrinterState;
use crate::clock;
use crate::octoprint::{JobStatus, Rest};

/// How often the job is looked at.
const EVERY: Duration = Duration::from_millis(250);

/// The printer's state and the selected file at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sight {
    pub(super) state: PrinterState,
    pub(super) status: JobStatus,
}

impl Sight {
    fn of(status: JobStatus) -> Self {
        let state = status.state.as_deref().map(PrinterState::of_text_alone);
        Self { state: state.unwrap_or_default(), status }
    }

    /// The printer's state in OctoPrint's words.
    pub(super) fn text(&self) -> &str {
        self.status.state.as_deref().unwrap_or("in an unknown state")
    }
}

/// The job before a command: without it the command is not sent.
pub(super) async fn before(rest: &Rest) -> Result<Sight, Failure> {
    rest.job_status().await.map(Sight::of).map_err(|error| Failure::unasked(&error))
}

/// The job after a command that OctoPrint took.
async fn after(rest: &Rest) -> Result<Sight, Failure> {
    rest.job_status().await.map(Sight::of).map_err(|error| Failure::unseen(&error))
}

/// Looks at the job until it `is` as it should be, for so long at most. Yields the last sight, and
/// whether it was that.
pub(super) async fn until(
    rest: &Rest,
    patience: Duration,
    mut is: impl FnMut(&Sight) -> bool,
) -> Result<(Sight, bool), Failure> {
    let deadline = clock::now() + patience;
    loop {
        let sight = after(rest).await?;
        let done = is(&sight);
        if done || clock::now() >= deadline {
            return Ok((sight, done));
        }
        tokio::time::sleep(EVERY).await;
    }
}
