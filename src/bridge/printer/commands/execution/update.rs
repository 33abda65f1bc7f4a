//! Makes OctoPrint update itself.

use super::{JobSnapshot, job_before};
use crate::bridge::printer::commands::answers::CommandError;
use crate::bridge::printer::snapshot::PrinterState;
use crate::octoprint::{Rest, RestError, UpdateCheck};

/// Begins the update. While printing, OctoPrint would begin it after the print, when nobody expects it.
pub(crate) async fn install(rest: &Rest) -> Result<(), CommandError> {
    let job = job_before(rest).await?;
    if is_printing(&job) {
        let error = format!(
            "the printer is {}: OctoPrint is updated only while nothing is printed",
            job.text()
        );
        return Err(CommandError::with_status(error, 409));
    }
    let check = rest.check_for_update().await.map_err(|error| check_error(&error))?;
    if let Some(why) = refusal(&check.unwrap_or_default()) {
        return Err(CommandError::with_status(why, 409));
    }
    if rest.update_octoprint().await? {
        return Ok(());
    }
    // A print has begun meanwhile, and OctoPrint would update itself after it.
    rest.cancel_queued_update().await.map_err(|error| CommandError::unconfirmed(&error))?;
    Err(CommandError::with_status("OctoPrint did not begin the update", 409))
}

fn is_printing(job: &JobSnapshot) -> bool {
    // A restart would break off a file that is being sent to the printer.
    job.state.print_is_on() == Some(true) || job.state == PrinterState::Transferring
}

fn refusal(check: &UpdateCheck) -> Option<&'static str> {
    if check.is_running {
        return Some("OctoPrint is being updated already");
    }
    if !check.is_available {
        return Some("OctoPrint knows of no newer version");
    }
    (!check.is_possible).then_some("OctoPrint cannot update itself here: its page says why")
}

fn check_error(error: &RestError) -> CommandError {
    let text = match error.status() {
        Some(404) => "OctoPrint's plugin Software Update is disabled",
        Some(403) => "this user may not see OctoPrint's updates",
        _ => return CommandError::not_sent(error),
    };
    CommandError { error: text.to_owned(), status: error.status() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_that_would_not_begin_is_refused() {
        let possible =
            UpdateCheck { is_available: true, is_possible: true, ..UpdateCheck::default() };
        assert_eq!(refusal(&possible), None);
        let running = UpdateCheck { is_running: true, ..possible.clone() };
        let no_way = UpdateCheck { is_possible: false, ..possible.clone() };
        let none = UpdateCheck { is_available: false, ..possible };
        assert!(refusal(&running).unwrap().contains("already"));
        assert!(refusal(&none).unwrap().contains("no newer"));
        assert!(refusal(&no_way).unwrap().contains("cannot update itself"));
        for (text, printing) in [
            ("Printing", true),
            ("Paused", true),
            ("Transferring file to SD", true),
            ("Operational", false),
            ("Offline", false),
        ] {
            let status = crate::octoprint::JobStatus {
                state: Some(text.to_owned()),
                ..crate::octoprint::JobStatus::default()
            };
            assert_eq!(is_printing(&JobSnapshot::of(status)), printing, "{text}");
        }
    }
}
