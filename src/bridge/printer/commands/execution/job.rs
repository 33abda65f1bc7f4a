//! Controls the job and selects files, and checks whether OctoPrint obeyed: it answers some calls with
//! success and does nothing, and which ones depends on its version.

use std::time::Duration;

use super::start::{BeforeStart, PrintStarts};
use super::{JobSnapshot, StopGuard, ignored, job_before, params, wait_until};
use crate::bridge::printer::commands::answers::CommandError;
use crate::bridge::printer::snapshot::PrinterState;
use crate::octoprint::{FilePath, JobAction, PrintParams, Rest, RestError};

/// Time that a printer may take to obey: some finish the current line first, or are behind another
/// server.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which a restart has had no effect: one that OctoPrint supports shows at once.
const RESTART_TIMEOUT: Duration = Duration::from_secs(1);

/// Carries out `action`, until an emergency stop.
pub(crate) async fn run(
    rest: &Rest,
    action: JobAction,
    stop_guard: &StopGuard,
    starts: &PrintStarts,
) -> Result<(), CommandError> {
    let before = job_before(rest).await?;
    if let Some(why) = refusal(action, &before) {
        return Err(CommandError::with_status(why, 409));
    }
    match (decide(action, before.state), before.state) {
        (JobAction::Start, _) => start(rest, &BeforeStart::new(starts, before)).await,
        (JobAction::Restart, PrinterState::Paused) => {
            restart(rest, stop_guard, starts, before).await
        }
        (JobAction::Resume, PrinterState::Pausing) => resume_once_paused(rest, stop_guard).await,
        (action, _) => obeyed(rest, action).await,
    }
}

/// Why OctoPrint would answer with success and do nothing.
pub(super) fn refusal(action: JobAction, before: &JobSnapshot) -> Option<&'static str> {
    use PrinterState::{Cancelling, Finishing, Transferring};
    match (action, before.state) {
        (JobAction::Start, Transferring) => {
            Some("a file is being sent to the printer, so nothing can be started")
        }
        (JobAction::Start, _) if !before.status.has_file() => {
            Some("no file is selected, so there is nothing to start")
        }
        (JobAction::Pause | JobAction::Resume | JobAction::Toggle, state) => match state {
            Cancelling => Some("the print is being cancelled"),
            Finishing => Some("the print is about to end"),
            Transferring => Some("a file is being sent to the printer, which cannot be paused"),
            _ => None,
        },
        _ => None,
    }
}

/// Replaces a toggle by what it means now. OctoPrint 2.0 treats a paused print as printing, and pauses
/// it again.
fn decide(action: JobAction, state: PrinterState) -> JobAction {
    use PrinterState::{Paused, Pausing, Printing, Resuming, Starting};
    match (action, state) {
        (JobAction::Toggle, Paused | Pausing) => JobAction::Resume,
        (JobAction::Toggle, Starting | Printing | Resuming) => JobAction::Pause,
        // OctoPrint's answer has the reason.
        (action, _) => action,
    }
}

/// Whether `state` shows that `action` has not been carried out.
fn is_undone(action: JobAction, state: PrinterState) -> bool {
    use PrinterState::{Paused, Pausing, Printing, Resuming, Starting};
    match action {
        JobAction::Pause => matches!(state, Starting | Printing | Resuming),
        JobAction::Resume => matches!(state, Paused),
        JobAction::Cancel => matches!(state, Starting | Printing | Pausing | Paused | Resuming),
        // A start is confirmed in another way; a toggle of an unknown state has no target.
        JobAction::Start | JobAction::Toggle | JobAction::Restart => false,
    }
}

async fn obeyed(rest: &Rest, action: JobAction) -> Result<(), CommandError> {
    rest.job(action).await?;
    if !matches!(action, JobAction::Pause | JobAction::Resume | JobAction::Cancel) {
        return Ok(());
    }
    let done = |job: &JobSnapshot| !is_undone(action, job.state);
    match wait_until(rest, TIMEOUT, done).await? {
        (_, true) => Ok(()),
        (job, false) => Err(ignored(job.text())),
    }
}

/// Starts the selected file, and waits until its print has begun.
pub(super) async fn start(rest: &Rest, before: &BeforeStart<'_>) -> Result<(), CommandError> {
    rest.job(JobAction::Start).await?;
    before.confirm(rest).await
}

/// Starts the selected file with `params`, and waits until its print has begun.
pub(crate) async fn start_with(
    rest: &Rest,
    params: &PrintParams,
    starts: &PrintStarts,
) -> Result<(), CommandError> {
    params::check(rest, params).await?;
    let before = job_before(rest).await?;
    if let Some(why) = refusal(JobAction::Start, &before) {
        return Err(CommandError::with_status(why, 409));
    }
    let before = BeforeStart::new(starts, before);
    rest.start_with(params).await?;
    before.confirm(rest).await
}

/// OctoPrint resumes only a paused print, and silently ignores a resume while it is pausing.
async fn resume_once_paused(rest: &Rest, stop_guard: &StopGuard) -> Result<(), CommandError> {
    let paused = |job: &JobSnapshot| job.state != PrinterState::Pausing;
    let (job, paused) = wait_until(rest, TIMEOUT, paused).await?;
    stop_guard.check()?;
    if !paused {
        let error = format!("the printer is still {}, and can be resumed only then", job.text());
        return Err(CommandError::with_status(error, 409));
    }
    obeyed(rest, JobAction::Resume).await
}

/// Restarts a paused print: with OctoPrint's own restart or, if that has no effect, by cancel and
/// start.
async fn restart(
    rest: &Rest,
    stop_guard: &StopGuard,
    starts: &PrintStarts,
    before: JobSnapshot,
) -> Result<(), CommandError> {
    let before = BeforeStart::new(starts, before);
    rest.job(JobAction::Restart).await?;
    let restarted = |job: &JobSnapshot| job.state != PrinterState::Paused;
    if let (_, true) = wait_until(rest, RESTART_TIMEOUT, restarted).await? {
        return before.confirm(rest).await;
    }
    stop_guard.check()?;
    obeyed(rest, JobAction::Cancel).await?;
    let ready = |job: &JobSnapshot| job.state == PrinterState::Operational && job.status.has_file();
    let (job, ready) = wait_until(rest, TIMEOUT, ready).await?;
    // A print that was stopped must not be started.
    stop_guard.check()?;
    if !ready {
        let error = format!(
            "the print was cancelled to restart it, but the printer is {}: start it by hand",
            job.text()
        );
        return Err(CommandError::with_status(error, 409));
    }
    start(rest, &BeforeStart::new(starts, job)).await
}

/// Time that a printer may take to open a file on its own storage.
const SELECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Selects `file`, and prints it if `print`. OctoPrint answers with success even if its connector does
/// not support such files, or the firmware does not open this one.
pub(crate) async fn select(
    rest: &Rest,
    file: &FilePath,
    print: bool,
    params: &PrintParams,
    starts: &PrintStarts,
) -> Result<(), CommandError> {
    params::check(rest, params).await?;
    let before = job_before(rest).await?;
    let before_start = BeforeStart::new(starts, before.clone());
    rest.select_file(file, print, params).await.map_err(|error| select_error(error, file))?;
    // The printer may report the file under another name; any change counts then.
    let selected = |job: &JobSnapshot| {
        is_selected(file, job) || has_changed(&before, job) || print && before_start.has_begun(job)
    };
    match wait_until(rest, SELECT_TIMEOUT, selected).await? {
        (_, true) if print => before_start.confirm(rest).await,
        (_, true) => Ok(()),
        (_, false) => Err(CommandError::with_status(
            "OctoPrint answered with success, but did not select the file: the printer does not open it, or its connector takes no files of this storage",
            409,
        )),
    }
}

fn is_selected(file: &FilePath, job: &JobSnapshot) -> bool {
    let plain = |path: &str| path.trim_start_matches('/').to_lowercase();
    let path = job.status.path.as_deref().or(job.status.name.as_deref());
    path.is_some_and(|path| plain(path) == plain(file.path()))
}

fn has_changed(before: &JobSnapshot, now: &JobSnapshot) -> bool {
    let file = |job: &JobSnapshot| (job.status.origin.clone(), job.status.path.clone());
    now.status.has_file() && file(before) != file(now)
}

/// OctoPrint's answer does not distinguish a printer that is printing from one that is offline.
fn select_error(error: RestError, file: &FilePath) -> CommandError {
    match error.status() {
        Some(409) => CommandError::with_status(
            "OctoPrint selects no file while it prints, while it is paused, or while the printer is not connected",
            409,
        ),
        Some(404) => {
            let storage = file.storage();
            CommandError::with_status(
                format!("there is no such file in the storage {storage}"),
                404,
            )
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octoprint::JobStatus;

    const ALL: [JobAction; 6] = [
        JobAction::Start,
        JobAction::Pause,
        JobAction::Resume,
        JobAction::Toggle,
        JobAction::Cancel,
        JobAction::Restart,
    ];

    #[test]
    fn a_toggle_is_decided_by_the_state() {
        use PrinterState::{Operational, Paused, Pausing, Printing, Resuming, Unknown};
        for (state, means) in [
            (Paused, JobAction::Resume),
            (Pausing, JobAction::Resume),
            (Printing, JobAction::Pause),
            (Resuming, JobAction::Pause),
            (Operational, JobAction::Toggle),
            (Unknown, JobAction::Toggle),
        ] {
            assert_eq!(decide(JobAction::Toggle, state), means, "{state:?}");
        }
        for action in ALL.into_iter().filter(|action| *action != JobAction::Toggle) {
            assert_eq!(decide(action, Paused), action);
        }
    }

    #[test]
    fn actions_that_octoprint_would_ignore_are_refused() {
        let job = |state, file: Option<&str>| JobSnapshot {
            state,
            status: JobStatus { path: file.map(str::to_owned), ..JobStatus::default() },
        };
        let file = Some("a.gcode");
        let refused = |action, job| refusal(action, &job).is_some();
        assert!(refused(JobAction::Start, job(PrinterState::Operational, None)));
        assert!(!refused(JobAction::Start, job(PrinterState::Operational, file)));
        for state in [PrinterState::Cancelling, PrinterState::Finishing, PrinterState::Transferring]
        {
            for action in [JobAction::Pause, JobAction::Resume, JobAction::Toggle] {
                assert!(refused(action, job(state, file)), "{action:?} {state:?}");
            }
            assert!(!refused(JobAction::Cancel, job(state, file)), "{state:?}");
        }
        for state in [PrinterState::Printing, PrinterState::Paused, PrinterState::Unknown] {
            assert!(ALL.into_iter().all(|action| !refused(action, job(state, file))), "{state:?}");
        }
    }

    #[test]
    fn an_end_of_the_print_ends_the_wait() {
        for action in ALL {
            for over in [PrinterState::Operational, PrinterState::Offline, PrinterState::Unknown] {
                assert!(!is_undone(action, over), "{action:?} {over:?}");
            }
        }
        assert!(is_undone(JobAction::Resume, PrinterState::Paused));
        assert!(is_undone(JobAction::Pause, PrinterState::Printing));
        assert!(is_undone(JobAction::Cancel, PrinterState::Paused));
    }

    fn selecting(origin: &str, path: Option<&str>) -> JobSnapshot {
        let (origin, path) = (path.map(|_| origin.to_owned()), path.map(str::to_owned));
        JobSnapshot {
            status: JobStatus { origin, path, ..JobStatus::default() },
            ..JobSnapshot::default()
        }
    }

    #[test]
    fn a_selection_is_confirmed_by_the_path_or_a_change() {
        let file = FilePath::parse("sdcard/PART.GCO").unwrap();
        assert!(is_selected(&file, &selecting("printer", Some("/part.gco"))));
        assert!(
            !is_selected(&file, &selecting("printer", Some("other.gco")))
                && !is_selected(&file, &selecting("", None))
        );
        let (none, other) = (selecting("", None), selecting("printer", Some("part~1.gco")));
        assert!(
            has_changed(&none, &other)
                && !has_changed(&other, &other)
                && !has_changed(&other, &none)
        );
    }
}
