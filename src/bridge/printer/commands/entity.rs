//! Commands to entities of the user's own: `entity/<key>` (pure).

use serde_json::Value;

use super::command::{Command, CommandRequest, EntityCommand, Refusal};
use super::values::{no_value, number};
use crate::own_entity::{self, Action, OwnEntity, Role};

/// The command, as it is listed among the others. Each entity has a group of its own.
pub(super) const NAME: &str = "entity/<key>";

/// Returns the key of the entity that a command is for.
pub(super) fn key(command: &str) -> Option<&str> {
    command.strip_prefix("entity/")
}

/// Checks a command for the entity `key`.
pub(super) fn check(
    request: &CommandRequest,
    key: &str,
    entities: &[OwnEntity],
) -> Result<Command, Refusal> {
    let mut controls = entities.iter().filter(|entity| entity.role.is_control());
    let Some(entity) = controls.clone().find(|entity| entity.key == key) else {
        let known: Vec<String> =
            controls.by_ref().map(|entity| format!("entity/{}", entity.key)).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Refusal::Unknown { command: request.command.clone(), known });
    };
    let (group, is_allowed) = entity.group;
    if !is_allowed {
        return Err(Refusal::NotAllowed(group));
    }
    let (value, action) = action(request, &entity.role)?;
    if !action.fits() {
        return Err(no_value(
            request,
            "a value with which a line of G-code has 255 characters at most",
        ));
    }
    let key = entity.key.clone();
    Ok(Command::Entity(Box::new(EntityCommand { key, value, action })))
}

/// Returns the state that the entity is to have, and what brings it there.
fn action(request: &CommandRequest, role: &Role) -> Result<(Value, Action), Refusal> {
    match role {
        Role::Button(press) => Ok((Value::Null, press.clone())),
        Role::Switch { on, off } => match is_on(&request.value) {
            Some(true) => Ok((Value::Bool(true), on.clone())),
            Some(false) => Ok((Value::Bool(false), off.clone())),
            None => Err(no_value(request, "ON or OFF")),
        },
        Role::Number { set, min, max, scale, .. } => number(&request.value)
            .filter(|number| (*min..=*max).contains(number))
            .map(|number| {
                // Thousandths are more than any printer needs, and hide a scale that is not exact.
                let sent = own_entity::number((number / scale * 1000.0).round() / 1000.0);
                (own_entity::number(number), set.with(&sent))
            })
            .ok_or_else(|| no_value(request, format!("a number {min}…{max}"))),
        Role::Select(options) => {
            let wanted = own_entity::text(&request.value);
            let option = options.iter().find(|(option, _)| Some(option) == wanted.as_ref());
            option.map(|(name, action)| (name.as_str().into(), action.clone())).ok_or_else(|| {
                let names: Vec<&str> = options.iter().map(|(name, _)| name.as_str()).collect();
                no_value(request, format!("one of {}", names.join(", ")))
            })
        }
        // Filtered out before.
        Role::Sensor | Role::BinarySensor | Role::Event(_) => {
            Err(no_value(request, "nothing: it can only be read"))
        }
    }
}

fn is_on(value: &Value) -> Option<bool> {
    match own_entity::text(value)?.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" => Some(true),
        "off" | "false" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::read_request;
    use super::*;

    const CONTROLS: &str = r#"
[printers.p]
url = "http://h"
api_key = "k"
commands = { motion = false }
[printers.p.entities.beep]
type = "button"
press = { gcode = "M300" }
[printers.p.entities.lift]
type = "button"
press = { gcode = ["G91", "G0 Z10"] }
group = "motion"
[printers.p.entities.light]
type = "switch"
on = { gcode = ["M355 S1"] }
off = { plugin = "octolight", method = "GET", query = { action = "turnOff" } }
[printers.p.entities.fan]
type = "number"
max = 100
scale = 0.392157
set = { gcode = ["M106 S{value}"] }
[printers.p.entities.spool]
type = "select"
options = { "1" = { gcode = ["T1"] }, PLA = { gcode = ["T0"] } }
[printers.p.entities.text]
type = "select"
options = ["short", "lllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll"]
set = { gcode = ["M117 {value}"] }
[printers.p.entities.cpu]
type = "sensor"
from = "plugin/resource_monitor"
value = "/cpu/average"
"#;

    fn checked(command: &str, payload: &str) -> Result<(Value, Action), String> {
        let config = crate::config::from_toml(CONTROLS).unwrap();
        let request = read_request(command, payload.as_bytes());
        let key = key(command).unwrap();
        match check(&request, key, &config.printers[0].entities) {
            Ok(Command::Entity(command)) => Ok((command.value, command.action)),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    fn gcode(line: &str) -> Action {
        Action::Gcode(vec![line.to_owned()])
    }

    #[test]
    fn controls_take_their_values_and_no_others() {
        assert_eq!(checked("entity/beep", "press"), Ok((Value::Null, gcode("M300"))));
        for on in ["ON", "on", "true", "1", "\"ON\"", r#"{"value":"ON","id":5}"#] {
            assert_eq!(checked("entity/light", on), Ok((json!(true), gcode("M355 S1"))), "{on}");
        }
        assert!(matches!(checked("entity/light", "OFF"), Ok((_, Action::Plugin(_)))));
        assert!(checked("entity/light", "2").unwrap_err().contains("expected ON or OFF"));
        assert_eq!(checked("entity/fan", "100"), Ok((json!(100), gcode("M106 S255"))));
        assert_eq!(checked("entity/text", "short"), Ok((json!("short"), gcode("M117 short"))));
        let refused = checked("entity/text", &"l".repeat(251)).unwrap_err();
        assert!(refused.contains("255 characters"), "{refused}");
        assert_eq!(checked("entity/fan", "0"), Ok((json!(0), gcode("M106 S0"))));
        for wrong in ["101", "-1", "NaN", "full"] {
            assert!(checked("entity/fan", wrong).unwrap_err().contains("a number 0…100"));
        }
        assert_eq!(checked("entity/spool", "PLA"), Ok((json!("PLA"), gcode("T0"))));
        assert_eq!(checked("entity/spool", "1"), Ok((json!("1"), gcode("T1"))));
        assert!(checked("entity/spool", "pla").unwrap_err().contains("one of 1, PLA"));
    }

    #[test]
    fn what_is_no_control_or_not_allowed_is_refused() {
        let unknown = checked("entity/cpu", "5").unwrap_err();
        assert!(unknown.contains("known are entity/beep, entity/fan"), "{unknown}");
        let refused = checked("entity/lift", "press").unwrap_err();
        assert!(refused.contains("commands.motion = true"), "{refused}");
    }
}
