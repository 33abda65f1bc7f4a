//! Runs OctoPrint's custom controls. They are asked for each time: those of a Klipper printer change
//! with its configuration, and a parameter must suit the control of this moment.

use serde_json::{Map, Value};

use crate::bridge::printer::commands::answers::CommandError;
use crate::octoprint::{CustomControl, Rest, RestError};

/// Most names that a refusal lists.
const LISTED: usize = 20;

/// Runs the control that `name` means with `params`, and the defaults of all others.
pub(crate) async fn run(
    rest: &Rest,
    name: &str,
    params: &Map<String, Value>,
) -> Result<(), CommandError> {
    let controls = rest.custom_controls().await.map_err(|error| match error.status() {
        Some(403) => CommandError::with_status(
            "this user may not control the printer, so OctoPrint shows no custom controls",
            403,
        ),
        _ => CommandError::not_sent(&error),
    })?;
    let control = find(&controls, name)?;
    let parameters = control
        .fill(params)
        .map_err(|error| CommandError::new(format!("{name:?} cannot be run: {error}")))?;
    rest.run_control(control, parameters).await.map_err(run_error)
}

fn find<'a>(controls: &'a [CustomControl], name: &str) -> Result<&'a CustomControl, CommandError> {
    if let Some(control) = controls.iter().find(|control| control.path == name) {
        return Ok(control);
    }
    let namesakes: Vec<_> = controls.iter().filter(|control| control.name == name).collect();
    match namesakes.as_slice() {
        [control] => Ok(control),
        [] => {
            Err(CommandError::new(format!("OctoPrint has no such control; {}", listed(controls))))
        }
        several => {
            let paths: Vec<&str> = several.iter().map(|control| control.path.as_str()).collect();
            let error =
                format!("OctoPrint has several controls of that name: {}", paths.join(", "));
            Err(CommandError::new(error))
        }
    }
}

fn listed(controls: &[CustomControl]) -> String {
    if controls.is_empty() {
        return "it has none that sends G-code".to_owned();
    }
    let names: Vec<&str> =
        controls.iter().take(LISTED).map(|control| control.address(controls)).collect();
    let more = if controls.len() > LISTED { " and more" } else { "" };
    format!("it has {}{more}", names.join(", "))
}

fn run_error(error: RestError) -> CommandError {
    match error.status() {
        Some(500) => CommandError::with_status(
            "OctoPrint could not put the parameters into the control's G-code: look at the control in OctoPrint's settings",
            500,
        ),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_control_is_found_by_path_or_by_a_name_of_its_own() {
        let fan =
            |name: &str| json!({"name": name, "children": [{"name": "Off", "command": "M107"}]});
        let controls = CustomControl::read_all(&json!({"controls": [
            fan("Part"), fan("Case"), fan("Case"), {"name": "Mesh", "command": "G29"},
        ]}));
        let path = |name: &str| find(&controls, name).map(|control| control.path.clone());
        assert_eq!(path("Mesh").unwrap(), "Mesh");
        assert_eq!(path("Case/Off (2)").unwrap(), "Case/Off (2)");
        for (name, telling) in [
            ("Off", "several controls of that name: Part/Off, Case/Off, Case/Off (2)"),
            ("mesh", "no such control; it has Part/Off, Case/Off, Case/Off (2), Mesh"),
        ] {
            let error = path(name).unwrap_err().error;
            assert!(error.contains(telling), "{error}");
        }
        assert!(find(&[], "Mesh").unwrap_err().error.contains("it has none"));
    }
}
