//! A command topic and its payload -> a checked command (pure).

use serde::Serialize;
use serde_json::Value;

use crate::config::{Commands, Limits};
use crate::octoprint::JobAction;

/// A command that passed every check that needs no printer.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Drop the socket and connect at once.
    Reconnect,
    /// Steer the rate at which OctoPrint pushes.
    Rate(Rate),
    /// Steer the job.
    Job(JobAction),
    /// M112, at once.
    EmergencyStop,
    /// Set a heater's target.
    Temperature {
        /// `tool<n>`, `bed` or `chamber`.
        heater: String,
        /// °C; 0 is off.
        target: f64,
    },
}

/// What `rate` can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Follow the publish latency.
    Auto,
    /// A factor that holds, in steps of 500 ms.
    Factor(u32),
    /// One step faster, then hold.
    Faster,
    /// One step slower, then hold.
    Slower,
    /// Hold the present factor.
    Hold,
}

impl Command {
    /// Whether it waits for nothing, not even for a command that came before.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Self::Reconnect | Self::Rate(_) | Self::EmergencyStop)
    }

    /// Whether OctoPrint must be there to obey.
    pub fn needs_octoprint(&self) -> bool {
        !matches!(self, Self::Reconnect | Self::Rate(_))
    }
}

/// What a command arrived as, for its answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    /// The part of the topic after `set/`.
    pub command: String,
    /// The value, as it was understood.
    pub value: Value,
    /// The `id` of the wrapper, null without one.
    pub id: Value,
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such command.
    #[error("unknown command {0:?}")]
    Unknown(String),
    /// Its group is switched off.
    #[error(
        "commands of the group \"{0}\" are not allowed; set commands.{0} = true for this printer to allow them"
    )]
    NotAllowed(&'static str),
    /// The value is no good.
    #[error("{found} is no value for {command}; expected {expected}")]
    Value {
        /// The command.
        command: String,
        /// The value as JSON, cut.
        found: String,
        /// What it takes.
        expected: String,
    },
}

/// What a printer accepts.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Which groups of commands are obeyed.
    pub groups: Commands,
    /// Highest targets, °C.
    pub limits: Limits,
    /// Largest factor for `rate`.
    pub max_rate_factor: u32,
}

/// Takes the wrapper off a payload: `{"value":…,"id":…}`; a payload that is no JSON is a text.
pub fn asked(command: &str, payload: &[u8]) -> Asked {
    let text = String::from_utf8_lossy(payload);
    let value =
        serde_json::from_str(text.trim()).unwrap_or_else(|_| Value::from(text.trim().to_owned()));
    let command = command.to_owned();
    match value {
        Value::Object(mut object) if object.contains_key("value") => {
            let id = object.remove("id").unwrap_or(Value::Null);
            let value = object.remove("value").unwrap_or(Value::Null);
            Asked { command, value, id }
        }
        value => Asked { command, value, id: Value::Null },
    }
}

/// Whether an empty payload is a command: for all others it is how a retained one is cleared.
pub fn empty_is_a_command(command: &str) -> bool {
    command == "reconnect"
}

/// Checks a command against what the printer accepts.
pub fn check(asked: &Asked, rules: &Rules) -> Result<Command, Refusal> {
    let (name, heater) = match asked.command.split_once('/') {
        Some((name, heater)) => (name, Some(heater)),
        None => (asked.command.as_str(), None),
    };
    let groups = &rules.groups;
    match (name, heater) {
        ("reconnect", None) => allowed(groups.bridge, "bridge").map(|()| Command::Reconnect),
        ("rate", None) => {
            allowed(groups.bridge, "bridge")?;
            rate(asked, rules.max_rate_factor).map(Command::Rate)
        }
        ("job", None) => allowed(groups.job, "job").and_then(|()| job(asked)).map(Command::Job),
        ("emergency_stop", None) => allowed(groups.job, "job").map(|()| Command::EmergencyStop),
        ("temperature", Some(heater)) => {
            allowed(groups.temperature, "temperature")?;
            temperature(asked, heater, &rules.limits)
        }
        _ => Err(Refusal::Unknown(asked.command.clone())),
    }
}

fn allowed(allowed: bool, group: &'static str) -> Result<(), Refusal> {
    if allowed { Ok(()) } else { Err(Refusal::NotAllowed(group)) }
}

fn no_value(asked: &Asked, expected: impl Into<String>) -> Refusal {
    let mut found: String = asked.value.to_string().chars().take(80).collect();
    if found == "\"\"" {
        found = "an empty text".to_owned();
    }
    Refusal::Value { command: asked.command.clone(), found, expected: expected.into() }
}

fn rate(asked: &Asked, max_factor: u32) -> Result<Rate, Refusal> {
    let word = match &asked.value {
        Value::String(text) => text.as_str(),
        _ => "",
    };
    match word {
        "auto" => return Ok(Rate::Auto),
        "hold" => return Ok(Rate::Hold),
        "faster" => return Ok(Rate::Faster),
        "slower" => return Ok(Rate::Slower),
        _ => {}
    }
    number(&asked.value)
        .filter(|factor| factor.fract() == 0.0 && (1.0..=f64::from(max_factor)).contains(factor))
        // In range and whole, so the conversion is exact.
        .map(|factor| Rate::Factor(factor as u32))
        .ok_or_else(|| {
            no_value(asked, format!("auto, hold, faster, slower or a whole factor 1…{max_factor}"))
        })
}

fn job(asked: &Asked) -> Result<JobAction, Refusal> {
    let refused = || no_value(asked, "start, pause, resume, toggle, cancel or restart");
    match asked.value.as_str().ok_or_else(refused)? {
        "start" => Ok(JobAction::Start),
        "pause" => Ok(JobAction::Pause),
        "resume" => Ok(JobAction::Resume),
        "toggle" => Ok(JobAction::Toggle),
        "cancel" => Ok(JobAction::Cancel),
        "restart" => Ok(JobAction::Restart),
        _ => Err(refused()),
    }
}

fn temperature(asked: &Asked, heater: &str, limits: &Limits) -> Result<Command, Refusal> {
    let limit = match heater {
        "bed" => limits.bed,
        "chamber" => limits.chamber,
        _ if is_tool(heater) => limits.tool,
        _ => return Err(Refusal::Unknown(asked.command.clone())),
    };
    let off = asked.value.as_str() == Some("off");
    let target = if off { Some(0.0) } else { number(&asked.value) };
    target
        .filter(|target| (0.0..=limit).contains(target))
        .map(|target| Command::Temperature { heater: heater.to_owned(), target })
        .ok_or_else(|| {
            no_value(asked, format!("off, or 0…{limit} °C (limits in the configuration)"))
        })
}

/// `tool0`, `tool1` …: the only heaters beside bed and chamber that OctoPrint can set.
fn is_tool(heater: &str) -> bool {
    heater.strip_prefix("tool").is_some_and(|index| {
        (1..=2).contains(&index.len()) && index.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A number, also where it is written as a text.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> Rules {
        Rules {
            groups: Commands {
                bridge: true,
                job: true,
                temperature: true,
                motion: true,
                connection: true,
                gcode: false,
                system: false,
            },
            limits: Limits { tool: 300.0, bed: 120.0, chamber: 80.0 },
            max_rate_factor: 20,
        }
    }

    fn parsed(command: &str, payload: &str) -> Result<Command, Refusal> {
        check(&asked(command, payload.as_bytes()), &rules())
    }

    #[test]
    fn values_come_bare_as_text_or_wrapped() {
        let bed = |target| Ok(Command::Temperature { heater: "bed".to_owned(), target });
        assert_eq!(parsed("temperature/bed", "60"), bed(60.0));
        assert_eq!(parsed("temperature/bed", " 60.5 "), bed(60.5));
        assert_eq!(parsed("temperature/bed", "\"60\""), bed(60.0));
        assert_eq!(parsed("temperature/bed", "off"), bed(0.0));
        assert_eq!(parsed("temperature/bed", r#"{"value":"off","id":7}"#), bed(0.0));
        assert_eq!(asked("job", br#"{"value":"pause","id":"x"}"#).id, Value::from("x"));
        assert_eq!(parsed("rate", "4"), Ok(Command::Rate(Rate::Factor(4))));
        assert_eq!(parsed("rate", "\"faster\""), Ok(Command::Rate(Rate::Faster)));
        assert_eq!(parsed("job", "pause"), Ok(Command::Job(JobAction::Pause)));
        assert_eq!(parsed("reconnect", ""), Ok(Command::Reconnect));
        assert_eq!(parsed("emergency_stop", "now"), Ok(Command::EmergencyStop));
    }

    #[test]
    fn what_is_out_of_range_or_unknown_is_refused() {
        for (command, payload) in [
            ("temperature/bed", "120.1"),
            ("temperature/bed", "-1"),
            ("temperature/bed", "NaN"),
            ("temperature/bed", "inf"),
            ("temperature/bed", "true"),
            ("temperature/bed", "[60]"),
            ("temperature/tool", "60"),
            ("temperature/toolx", "60"),
            ("temperature/tool0/x", "60"),
            ("temperature", "60"),
            ("temperature/A", "60"),
            ("rate", "0"),
            ("rate", "21"),
            ("rate", "1.5"),
            ("rate", ""),
            ("job", "Pause"),
            ("job", "1"),
            ("job/x", "pause"),
            ("format_disk", "1"),
        ] {
            assert!(parsed(command, payload).is_err(), "{command} {payload}");
        }
    }

    #[test]
    fn a_group_that_is_off_is_refused_by_name() {
        let mut rules = rules();
        rules.groups.job = false;
        for command in ["job", "emergency_stop"] {
            let refused = check(&asked(command, b"pause"), &rules);
            assert_eq!(refused, Err(Refusal::NotAllowed("job")));
        }
    }

    proptest! {
        #[test]
        fn no_payload_panics_and_no_target_passes_its_limit(
            command in "(job|rate|temperature/(bed|tool[0-9]|chamber|.{0,6})|.{0,12})",
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            if let Ok(Command::Temperature { target, .. }) =
                check(&asked(&command, &payload), &rules())
            {
                prop_assert!((0.0..=300.0).contains(&target));
            }
        }
    }
}
