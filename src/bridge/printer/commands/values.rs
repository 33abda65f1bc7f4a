//! Reads the values of commands (pure): each function yields the command, or says what is expected.

use serde_json::{Map, Value};

use super::command::{Asked, Command, Rate, Refusal};
use crate::heater::Heater;
use crate::octoprint::{ConnectWith, FilePath, JobAction, Jog, SystemCommand};

/// Most lines of G-code in one command.
const LINES: usize = 100;
/// Longest line of G-code, in characters.
const LINE: usize = 255;
/// Longest text on the display, in characters.
const MESSAGE: usize = 255;
/// What OctoPrint takes as an offset, in °C either way.
const OFFSET: f64 = 50.0;

/// The axes, in the order in which they are homed.
const AXES: [&str; 3] = ["x", "y", "z"];
/// Farthest move of one command, in mm: more is a slip of the finger.
const DISTANCE: f64 = 1000.0;
/// Highest speed, in mm/min.
const SPEED: f64 = 100_000.0;
/// What a connection is asked for with.
const CONNECT_WITH: [&str; 3] = ["connector", "port", "baudrate"];

fn no_value(asked: &Asked, expected: impl Into<String>) -> Refusal {
    let mut found: String = asked.value.to_string().chars().take(80).collect();
    if found == "\"\"" {
        found = "an empty text".to_owned();
    }
    Refusal::Value { command: asked.command.clone(), found, expected: expected.into() }
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

pub(super) fn rate(asked: &Asked, max_factor: u32) -> Result<Command, Refusal> {
    let word = match &asked.value {
        Value::String(text) => text.as_str(),
        _ => "",
    };
    let named = match word {
        "auto" => Some(Rate::Auto),
        "hold" => Some(Rate::Hold),
        "faster" => Some(Rate::Faster),
        "slower" => Some(Rate::Slower),
        _ => None,
    };
    let factor = number(&asked.value)
        .filter(|factor| factor.fract() == 0.0 && (1.0..=f64::from(max_factor)).contains(factor))
        // In range and whole, so the conversion is exact.
        .map(|factor| Rate::Factor(factor as u32));
    named.or(factor).map(Command::Rate).ok_or_else(|| {
        no_value(asked, format!("auto, hold, faster, slower or a whole factor 1…{max_factor}"))
    })
}

pub(super) fn connection(asked: &Asked) -> Result<Command, Refusal> {
    let refused = || {
        no_value(
            asked,
            "connect, disconnect, or an object such as {\"connector\":\"serial\",\"port\":\"/dev/ttyUSB0\",\"baudrate\":115200}; what else a connector needs is saved in OctoPrint",
        )
    };
    match &asked.value {
        Value::String(text) if text == "connect" => Ok(Command::Connect(ConnectWith::default())),
        Value::String(text) if text == "disconnect" => Ok(Command::Disconnect),
        Value::Object(members) => connect_with(members).map(Command::Connect).ok_or_else(refused),
        _ => Err(refused()),
    }
}

/// Hides what does not belong into the command, which may be a key, before it is answered.
pub(super) fn conceal(value: &mut Value) {
    for (name, value) in value.as_object_mut().into_iter().flatten() {
        if !CONNECT_WITH.contains(&name.as_str()) {
            *value = Value::from("(hidden)");
        }
    }
}

/// The connector and the serial port that a command names. Keys and codes are no part of commands,
/// which anyone at the broker may read.
fn connect_with(members: &Map<String, Value>) -> Option<ConnectWith> {
    if members.is_empty() || members.keys().any(|key| !CONNECT_WITH.contains(&key.as_str())) {
        return None;
    }
    let text = |key: &str| match members.get(key) {
        None => Some(None),
        Some(Value::String(text)) if is_name(text) => Some(Some(text.clone())),
        Some(_) => None,
    };
    let baudrate = match members.get("baudrate") {
        None => None,
        Some(value) => {
            let baud = number(value).filter(|n| n.fract() == 0.0 && (0.0..=1e7).contains(n))?;
            // In range and whole, so the conversion is exact.
            Some(baud as u32)
        }
    };
    let (connector, port) = (text("connector")?, text("port")?);
    Some(ConnectWith { connector, port, baudrate })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= LINE && !text.chars().any(char::is_control)
}

pub(super) fn gcode(asked: &Asked) -> Result<Command, Refusal> {
    let expected = format!(
        "G-code, up to {LINES} lines of up to {LINE} characters without control characters"
    );
    let refused = || no_value(asked, expected.clone());
    let texts: Vec<&str> = match &asked.value {
        Value::String(text) => vec![text],
        Value::Array(lines) => {
            lines.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(refused)?
        }
        _ => return Err(refused()),
    };
    let lines: Vec<String> = texts
        .iter()
        .flat_map(|text| text.split(['\n', '\r']))
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    let fits = |line: &String| {
        line.chars().count() <= LINE && !line.chars().any(|c| c.is_control() && c != '\t')
    };
    if lines.is_empty() || lines.len() > LINES || !lines.iter().all(fits) {
        return Err(refused());
    }
    Ok(Command::Gcode(lines))
}

pub(super) fn system(asked: &Asked) -> Result<Command, Refusal> {
    match asked.value.as_str() {
        Some("restart") => Ok(Command::System(SystemCommand::Restart)),
        Some("reboot") => Ok(Command::System(SystemCommand::Reboot)),
        Some("shutdown") => Ok(Command::System(SystemCommand::Shutdown)),
        _ => Err(no_value(asked, "restart, reboot or shutdown")),
    }
}

pub(super) fn job(asked: &Asked) -> Result<Command, Refusal> {
    let refused = || no_value(asked, "start, pause, resume, toggle, cancel or restart");
    Ok(Command::Job(match asked.value.as_str().ok_or_else(refused)? {
        "start" => JobAction::Start,
        "pause" => JobAction::Pause,
        "resume" => JobAction::Resume,
        "toggle" => JobAction::Toggle,
        "cancel" => JobAction::Cancel,
        "restart" => JobAction::Restart,
        _ => return Err(refused()),
    }))
}

pub(super) fn select(asked: &Asked, print: bool) -> Result<Command, Refusal> {
    let path = asked.value.as_str().and_then(FilePath::parse);
    path.map(|file| Command::Select { file, print }).ok_or_else(|| {
        no_value(asked, "the path of a file such as local/folder/part.gcode, sdcard/PART.GCO or printer/PART.GCO")
    })
}

/// The text as one G-code command can carry it: `;` would begin a comment.
pub(super) fn message(asked: &Asked) -> Result<Command, Refusal> {
    let text = match &asked.value {
        Value::String(text) => text.clone(),
        // In the wrapper a number may come as one.
        Value::Number(number) => number.to_string(),
        _ => return Err(no_value(asked, "a text")),
    };
    let shown = |c: char| match c {
        ';' => ',',
        c if c.is_control() => ' ',
        c => c,
    };
    Ok(Command::Message(text.chars().map(shown).take(MESSAGE).collect()))
}

/// In hundredths: Python writes smaller numbers with an exponent, which firmware misreads.
fn hundredths(celsius: f64) -> f64 {
    (celsius * 100.0).round() / 100.0 + 0.0
}

pub(super) fn temperature(asked: &Asked, heater: Heater, limit: f64) -> Result<Command, Refusal> {
    let off = asked.value.as_str() == Some("off");
    let target = if off { Some(0.0) } else { number(&asked.value) };
    target
        .filter(|target| (0.0..=limit).contains(target))
        .map(hundredths)
        .map(|target| Command::Temperature { heater, target })
        .ok_or_else(|| {
            no_value(asked, format!("off, or 0…{limit} °C (limits in the configuration)"))
        })
}

/// Every heater at once can only be switched off: no target fits a nozzle and a bed.
pub(super) fn all(asked: &Asked) -> Result<Command, Refusal> {
    if asked.value.as_str() == Some("off") || number(&asked.value) == Some(0.0) {
        return Ok(Command::HeatersOff(Vec::new()));
    }
    Err(no_value(asked, "off: all heaters can only be switched off together"))
}

pub(super) fn offset(asked: &Asked, heater: Heater) -> Result<Command, Refusal> {
    number(&asked.value)
        .filter(|offset| offset.abs() <= OFFSET)
        .map(hundredths)
        .map(|offset| Command::Offset { heater, offset })
        .ok_or_else(|| no_value(asked, format!("-{OFFSET}…{OFFSET} °C")))
}

/// What OctoPrint is sent as a number in G-code: in thousandths. Python writes smaller ones with an
/// exponent, which firmware reads as the number before it: 5e-05 as 5.
fn thousandths(value: f64) -> f64 {
    // No negative zero.
    (value * 1000.0).round() / 1000.0 + 0.0
}

/// A feed or flow rate in whole percent: OctoPrint reads `100.0` as 10000 %.
pub(super) fn factor(asked: &Asked) -> Result<u32, Refusal> {
    number(&asked.value)
        .filter(|percent| percent.fract() == 0.0 && (10.0..=500.0).contains(percent))
        // In range and whole, so the conversion is exact.
        .map(|percent| percent as u32)
        .ok_or_else(|| no_value(asked, "a whole percentage 10…500"))
}

pub(super) fn home(asked: &Asked) -> Result<Command, Refusal> {
    let refused = || no_value(asked, "all, or axes such as x y z");
    let text = match &asked.value {
        Value::String(text) => text.to_ascii_lowercase(),
        Value::Array(axes) => {
            let axes: Option<Vec<&str>> = axes.iter().map(Value::as_str).collect();
            axes.ok_or_else(refused)?.join(" ").to_ascii_lowercase()
        }
        _ => return Err(refused()),
    };
    if text.trim() == "all" {
        return Ok(Command::Home(AXES.to_vec()));
    }
    let mut wanted = text.split([' ', ',']).filter(|axis| !axis.is_empty()).peekable();
    // Without an axis OctoPrint would home all of them.
    if wanted.peek().is_none() || wanted.clone().any(|axis| !AXES.contains(&axis)) {
        return Err(refused());
    }
    let wanted: Vec<&str> = wanted.collect();
    Ok(Command::Home(AXES.into_iter().filter(|axis| wanted.contains(axis)).collect()))
}

pub(super) fn jog(asked: &Asked) -> Result<Command, Refusal> {
    let expected = format!(
        "an object such as {{\"x\":10,\"y\":-5,\"z\":0.2,\"speed\":3000}}, with at least one axis, up to {DISTANCE} mm, and a speed in mm/min over 0"
    );
    let refused = || no_value(asked, expected.clone());
    let object = asked.value.as_object().ok_or_else(refused)?;
    let mut jog = Jog::default();
    for (key, value) in object {
        let value = thousandths(number(value).ok_or_else(refused)?);
        let (place, fits) = match key.as_str() {
            "x" => (&mut jog.x, value.abs() <= DISTANCE),
            "y" => (&mut jog.y, value.abs() <= DISTANCE),
            "z" => (&mut jog.z, value.abs() <= DISTANCE),
            "speed" => (&mut jog.speed, value > 0.0 && value <= SPEED),
            _ => return Err(refused()),
        };
        if !fits {
            return Err(refused());
        }
        *place = Some(value);
    }
    if jog.x.or(jog.y).or(jog.z).is_none() {
        return Err(refused());
    }
    Ok(Command::Jog(jog))
}

pub(super) fn extrude(asked: &Asked) -> Result<Command, Refusal> {
    number(&asked.value)
        .map(thousandths)
        .filter(|amount| *amount != 0.0 && amount.abs() <= DISTANCE)
        .map(Command::Extrude)
        .ok_or_else(|| no_value(asked, format!("mm, 0.001 to {DISTANCE}; negative retracts")))
}
