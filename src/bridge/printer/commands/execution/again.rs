//! Prints a file again.

use super::job::{self, refusal};
use super::start::{BeforeStart, PrintStarts};
use super::{JobSnapshot, job_before};
use crate::bridge::printer::commands::answers::CommandError;
use crate::bridge::printer::snapshot::PrinterState;
use crate::octoprint::{FilePath, JobAction, PrintParams, Rest};

/// Prints `file` again, or the selected one, and waits until the print has begun.
pub(crate) async fn print(
    rest: &Rest,
    file: Option<&FilePath>,
    starts: &PrintStarts,
) -> Result<(), CommandError> {
    let before = job_before(rest).await?;
    match again(file, &before)? {
        Again::Start => job::start(rest, &BeforeStart::new(starts, before)).await,
        Again::Select(file) => job::select(rest, file, true, &PrintParams::new(), starts).await,
    }
}

/// How to print a file again.
#[derive(Debug, PartialEq)]
enum Again<'a> {
    /// It is selected.
    Start,
    /// Another one is selected, or none.
    Select(&'a FilePath),
}

fn again<'a>(file: Option<&'a FilePath>, before: &JobSnapshot) -> Result<Again<'a>, CommandError> {
    if before.state != PrinterState::Operational {
        let error =
            format!("the printer is {}: it prints again once it is operational", before.text());
        return Err(CommandError::with_status(error, 409));
    }
    match file {
        Some(file) if !is_selected(file, before) => Ok(Again::Select(file)),
        Some(_) => Ok(Again::Start),
        None => match refusal(JobAction::Start, before) {
            Some(why) => {
                let error = format!("no print is known that could be repeated, and {why}");
                Err(CommandError::with_status(error, 409))
            }
            None => Ok(Again::Start),
        },
    }
}

/// Whether exactly this file is selected: another storage may have one of the same path.
fn is_selected(file: &FilePath, job: &JobSnapshot) -> bool {
    let path = job.status.path.as_deref().map(|path| path.trim_start_matches('/'));
    job.status.origin.as_deref() == Some(file.storage()) && path == Some(file.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octoprint::JobStatus;

    fn idle(origin: &str, path: Option<&str>) -> JobSnapshot {
        let (origin, path) = (path.map(|_| origin.to_owned()), path.map(str::to_owned));
        let status = JobStatus { origin, path, ..JobStatus::default() };
        JobSnapshot { state: PrinterState::Operational, status }
    }

    #[test]
    fn the_last_print_is_repeated_whatever_is_selected() {
        let file = FilePath::parse("local/d/part.gcode").unwrap();
        let selecting = |path| idle("local", path);
        assert_eq!(again(Some(&file), &selecting(Some("d/part.gcode"))).unwrap(), Again::Start);
        for other in [
            selecting(Some("b.gcode")),
            selecting(Some("d/PART.gcode")),
            selecting(None),
            idle("sdcard", Some("d/part.gcode")),
        ] {
            let how = again(Some(&file), &other).unwrap();
            assert_eq!(how, Again::Select(&file), "{:?}", other.status);
        }
        assert_eq!(again(None, &selecting(Some("b.gcode"))).unwrap(), Again::Start);
        let refused = again(None, &selecting(None)).unwrap_err();
        assert!(refused.error.contains("no file is selected"), "{}", refused.error);
        let busy = JobSnapshot { state: PrinterState::Paused, ..selecting(Some("b.gcode")) };
        assert_eq!(again(Some(&file), &busy).unwrap_err().status, Some(409));
    }
}
