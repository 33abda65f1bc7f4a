//! Parameters of a print, which OctoPrint passes on to the connector since 2.0.

use crate::bridge::printer::commands::answers::CommandError;
use crate::octoprint::{PrintParams, Rest};

/// The first version of OctoPrint that takes parameters.
const SINCE: u32 = 2;

/// Refuses parameters that OctoPrint would ignore.
pub(super) async fn check(rest: &Rest, params: &PrintParams) -> Result<(), CommandError> {
    if params.is_empty() {
        return Ok(());
    }
    let version = rest.server_version().await.map_err(|error| CommandError::not_sent(&error))?;
    if are_taken_by(&version) {
        return Ok(());
    }
    let error =
        format!("OctoPrint {version} takes no parameters for a print; 2.0 is the first that does");
    Err(CommandError::new(error))
}

fn are_taken_by(version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= SINCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_for_2_0() {
        for (version, taken) in
            [("2.0.0rc7", true), ("10.1", true), ("1.11.8", false), ("x", false)]
        {
            assert_eq!(are_taken_by(version), taken, "{version}");
        }
    }
}
