//! Selects files, and looks whether OctoPrint did.

use std::time::Duration;

use super::watch::{self, Sight};
use crate::bridge::printer::commands::answers::Failure;
use crate::octoprint::{FilePath, Rest, RestError};

/// How long a printer may take to open a file of its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// Selects `file`, and prints it if `print`. OctoPrint answers with success also where its
/// connector takes no such file, and where the firmware does not open it.
pub(crate) async fn select(rest: &Rest, file: &FilePath, print: bool) -> Result<(), Failure> {
    let before = watch::before(rest).await?;
    rest.select_file(file, print).await.map_err(refused)?;
    // The printer may know the file by another name; then it is a change that tells.
    let selected = |sight: &Sight| is(file, sight) || changed(&before, sight);
    match watch::until(rest, PATIENCE, selected).await? {
        (_, true) => Ok(()),
        (_, false) => Err(Failure::with_status(
            "OctoPrint answered with success, but did not select the file: the printer does not open it, or its connector takes no files of this storage",
            409,
        )),
    }
}

fn is(file: &FilePath, sight: &Sight) -> bool {
    let plain = |path: &str| path.trim_start_matches('/').to_lowercase();
    let path = sight.status.path.as_deref().or(sight.status.name.as_deref());
    path.is_some_and(|path| plain(path) == plain(file.path()))
}

fn changed(before: &Sight, now: &Sight) -> bool {
    let file = |sight: &Sight| (sight.status.origin.clone(), sight.status.path.clone());
    now.status.has_file() && file(before) != file(now)
}

/// OctoPrint says the same of a printer that prints and of one that is not connected.
fn refused(error: RestError) -> Failure {
    match error.status() {
        Some(409) => Failure::with_status(
            "OctoPrint selects no file while it prints, while it is paused, or while the printer is not connected",
            409,
        ),
        Some(404) => Failure::with_status("there is no such file", 404),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octoprint::JobStatus;

    fn sight(origin: &str, path: Option<&str>) -> Sight {
        let (origin, path) = (path.map(|_| origin.to_owned()), path.map(str::to_owned));
        Sight { status: JobStatus { origin, path, ..JobStatus::default() }, ..Sight::default() }
    }

    #[test]
    fn a_file_is_known_by_its_path_and_else_by_the_change() {
        let file = FilePath::parse("sdcard/PART.GCO").unwrap();
        assert!(is(&file, &sight("printer", Some("/part.gco"))));
        assert!(!is(&file, &sight("printer", Some("other.gco"))) && !is(&file, &sight("", None)));
        let (none, other) = (sight("", None), sight("printer", Some("part~1.gco")));
        assert!(changed(&none, &other) && !changed(&other, &other) && !changed(&other, &none));
    }
}
