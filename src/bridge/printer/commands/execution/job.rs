//! Steers the job, and looks whether OctoPrint did what it was told: some calls it answers with
//! success and does nothing, and which they are differs from version to version.

use std::time::Duration;

use super::halt::Halt;
use super::watch::{self, Sight};
use crate::bridge::printer::commands::answers::Failure;
use crate::bridge::printer::snapshot::PrinterState;
use crate::octoprint::{JobAction, Rest};

/// How long a printer may take to do what it is told: some do it only after the line in hand, or
/// when a server between has told them.
const PATIENCE: Duration = Duration::from_secs(10);
/// A restart that OctoPrint is able to is seen at once.
const RESTARTED: Duration = Duration::from_secs(1);

/// Carries out `action`; no more of it once an emergency stop came.
pub(crate) async fn run(rest: &Rest, action: JobAction, halt: &Halt) -> Result<(), Failure> {
    let before = watch::before(rest).await?;
    if let Some(why) = refusal(action, &before) {
        return Err(Failure::with_status(why, 409));
    }
    match decide(action, before.state) {
        JobAction::Restart if before.state == PrinterState::Paused => restart(rest, halt).await,
        JobAction::Resume if before.state == PrinterState::Pausing => {
            resume_once_paused(rest, halt).await
        }
        action => obeyed(rest, action).await,
    }
}

/// What OctoPrint would answer with success, and not do.
fn refusal(action: JobAction, before: &Sight) -> Option<&'static str> {
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

/// What a toggle means now. OctoPrint 2.0 takes a paused print for one that is printing, and pauses
/// it again.
fn decide(action: JobAction, state: PrinterState) -> JobAction {
    use PrinterState::{Paused, Pausing, Printing, Resuming, Starting};
    match (action, state) {
        (JobAction::Toggle, Paused | Pausing) => JobAction::Resume,
        (JobAction::Toggle, Starting | Printing | Resuming) => JobAction::Pause,
        // OctoPrint says why not.
        (action, _) => action,
    }
}

/// Whether `state` is one in which `action` has not been done.
fn is_undone(action: JobAction, state: PrinterState) -> bool {
    use PrinterState::{Paused, Pausing, Printing, Resuming, Starting};
    match action {
        JobAction::Pause => matches!(state, Starting | Printing | Resuming),
        JobAction::Resume => matches!(state, Paused),
        JobAction::Cancel => matches!(state, Starting | Printing | Pausing | Paused | Resuming),
        // A print that was started may be over already; a toggle of an unknown state says nothing.
        JobAction::Start | JobAction::Toggle | JobAction::Restart => false,
    }
}

async fn obeyed(rest: &Rest, action: JobAction) -> Result<(), Failure> {
    rest.job(action).await?;
    if !matches!(action, JobAction::Pause | JobAction::Resume | JobAction::Cancel) {
        return Ok(());
    }
    let done = |sight: &Sight| !is_undone(action, sight.state);
    match watch::until(rest, PATIENCE, done).await? {
        (_, true) => Ok(()),
        (sight, false) => Err(ignored(sight.text())),
    }
}

fn ignored(state: &str) -> Failure {
    let error = format!("OctoPrint answered with success, but the printer is still {state}");
    Failure::with_status(error, 409)
}

/// OctoPrint resumes only what is paused, and says nothing of what is about to be.
async fn resume_once_paused(rest: &Rest, halt: &Halt) -> Result<(), Failure> {
    let paused = |sight: &Sight| sight.state != PrinterState::Pausing;
    let (sight, paused) = watch::until(rest, PATIENCE, paused).await?;
    halt.check()?;
    if !paused {
        let error = format!("the printer is still {}, and can be resumed only then", sight.text());
        return Err(Failure::with_status(error, 409));
    }
    obeyed(rest, JobAction::Resume).await
}

/// Starts a paused print anew: as OctoPrint does it, or, where it does nothing, by cancel and start.
async fn restart(rest: &Rest, halt: &Halt) -> Result<(), Failure> {
    rest.job(JobAction::Restart).await?;
    let begun = |sight: &Sight| sight.state != PrinterState::Paused;
    if let (_, true) = watch::until(rest, RESTARTED, begun).await? {
        return Ok(());
    }
    halt.check()?;
    obeyed(rest, JobAction::Cancel).await?;
    let ready = |sight: &Sight| sight.state == PrinterState::Operational && sight.status.has_file();
    let (sight, ready) = watch::until(rest, PATIENCE, ready).await?;
    // The print that is started must not be one that was stopped.
    halt.check()?;
    if !ready {
        let error = format!(
            "the print was cancelled to start it anew, but the printer is {}: start it by hand",
            sight.text()
        );
        return Err(Failure::with_status(error, 409));
    }
    Ok(rest.job(JobAction::Start).await?)
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
    fn what_octoprint_would_not_do_is_refused() {
        let sight = |state, file: Option<&str>| Sight {
            state,
            status: JobStatus { path: file.map(str::to_owned), ..JobStatus::default() },
        };
        let file = Some("a.gcode");
        let refused = |action, sight| refusal(action, &sight).is_some();
        assert!(refused(JobAction::Start, sight(PrinterState::Operational, None)));
        assert!(!refused(JobAction::Start, sight(PrinterState::Operational, file)));
        for state in [PrinterState::Cancelling, PrinterState::Finishing, PrinterState::Transferring]
        {
            for action in [JobAction::Pause, JobAction::Resume, JobAction::Toggle] {
                assert!(refused(action, sight(state, file)), "{action:?} {state:?}");
            }
            assert!(!refused(JobAction::Cancel, sight(state, file)), "{state:?}");
        }
        for state in [PrinterState::Printing, PrinterState::Paused, PrinterState::Unknown] {
            assert!(
                ALL.into_iter().all(|action| !refused(action, sight(state, file))),
                "{state:?}"
            );
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
}
