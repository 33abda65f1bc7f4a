//! Carries out commands that OctoPrint may answer with success and not obey: they are confirmed by
//! observing the job.

pub(super) mod again;
pub(super) mod connection;
pub(super) mod controls;
pub(super) mod job;
pub(super) mod moves;
pub(super) mod params;
pub(super) mod power;
pub(super) mod presets;
pub(super) mod prompts;
pub(super) mod start;
pub(super) mod update;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::answers::CommandError;
use crate::bridge::printer::pictures::{self, WebcamChoice, WebcamPicture};
use crate::bridge::printer::snapshot::PrinterState;
use crate::causes;
use crate::clock;
use crate::config;
use crate::octoprint::{JobStatus, Rest};

/// Error of the commands that an emergency stop drops.
const DROPPED: &str = "dropped by an emergency stop";
/// Interval between observations of the job.
const INTERVAL: Duration = Duration::from_millis(250);

/// Takes pictures; the webcams are asked for anew.
pub(super) async fn take_pictures(
    rest: &Rest,
    camera: &config::Camera,
    choice: &WebcamChoice,
) -> Result<Vec<WebcamPicture>, CommandError> {
    if !camera.enabled {
        let off = "pictures are switched off; set camera.enabled = true for this printer";
        return Err(CommandError::new(off));
    }
    let taken = pictures::take(rest, camera, choice, None).await;
    taken.map_err(|error| CommandError::new(causes::text(&error)))
}

/// Detects an emergency stop since a command was queued.
pub(super) struct StopGuard {
    stops: Arc<AtomicU64>,
    before: u64,
}

impl StopGuard {
    /// `stops` counts the emergency stops; there were `before` when the command was queued.
    pub(super) fn new(stops: Arc<AtomicU64>, before: u64) -> Self {
        Self { stops, before }
    }

    /// Fails after an emergency stop: nothing more must be done then.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        match self.stops.load(Ordering::Relaxed) == self.before {
            true => Ok(()),
            false => Err(CommandError::new(DROPPED)),
        }
    }
}

/// The printer's state and the selected file at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
struct JobSnapshot {
    state: PrinterState,
    status: JobStatus,
}

impl JobSnapshot {
    fn of(status: JobStatus) -> Self {
        let state = status.state.as_deref().map(PrinterState::of_text_alone);
        Self { state: state.unwrap_or_default(), status }
    }

    /// The printer's state in OctoPrint's words.
    fn text(&self) -> &str {
        self.status.state.as_deref().unwrap_or("in an unknown state")
    }
}

/// The error of a command that OctoPrint took and did not carry out.
fn ignored(state: &str) -> CommandError {
    let error = format!("OctoPrint answered with success, but the printer is still {state}");
    CommandError::with_status(error, 409)
}

/// The job before a command. If this fails, the command is not sent.
async fn job_before(rest: &Rest) -> Result<JobSnapshot, CommandError> {
    rest.job_status().await.map(JobSnapshot::of).map_err(|error| CommandError::not_sent(&error))
}

/// Observes the job after a command until `condition` holds, or `timeout` has passed. Returns the
/// last observation, and whether the condition held.
async fn wait_until(
    rest: &Rest,
    timeout: Duration,
    mut condition: impl FnMut(&JobSnapshot) -> bool,
) -> Result<(JobSnapshot, bool), CommandError> {
    let deadline = clock::now() + timeout;
    loop {
        let status = rest.job_status().await.map_err(|error| CommandError::unconfirmed(&error))?;
        let job = JobSnapshot::of(status);
        let holds = condition(&job);
        if holds || clock::now() >= deadline {
            return Ok((job, holds));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests;
