//! Parses the values of commands (pure): each function returns the command, or what is expected.

use serde_json::{Map, Value};

use super::command::{Command, CommandRequest, RateSetting, Refusal};
use crate::bridge::printer::pictures::WebcamChoice;
use crate::gcode::{MAX_LINE, MAX_LINES, lines_to_send};
use crate::heater::{Heater, Limits};
use crate::octoprint::{ConnectWith, FilePath, JobAction, Jog, PrintParams, SystemCommand};

/// Maximum length of a text on the display, in characters.
const MESSAGE: usize = 255;
/// Largest offset that OctoPrint accepts, in °C either way.
const OFFSET: f64 = 50.0;

/// The axes, in the order in which they are homed.
const AXES: [&str; 3] = ["x", "y", "z"];
/// Longest move of one command, in mm: more is a typing error.
const DISTANCE: f64 = 1000.0;
/// Highest speed, in mm/min.
const SPEED: f64 = 100_000.0;
/// Members of a connection command.
const CONNECT_WITH: [&str; 3] = ["connector", "port", "baudrate"];

pub(super) fn no_value(request: &CommandRequest, expected: impl Into<String>) -> Refusal {
    let mut found: String = request.value.to_string().chars().take(80).collect();
    if found == "\"\"" {
        found = "an empty text".to_owned();
    }
    Refusal::Value { command: request.command.clone(), found, expected: expected.into() }
}

/// A number, which may be written as a text.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

pub(super) fn rate(request: &CommandRequest, max_factor: u32) -> Result<Command, Refusal> {
    let word = match &request.value {
        Value::String(text) => text.as_str(),
        _ => "",
    };
    let named = match word {
        "auto" => Some(RateSetting::Auto),
        "hold" => Some(RateSetting::Hold),
        "faster" => Some(RateSetting::Faster),
        "slower" => Some(RateSetting::Slower),
        _ => None,
    };
    let factor = number(&request.value)
        .filter(|factor| factor.fract() == 0.0 && (1.0..=f64::from(max_factor)).contains(factor))
        // In range and whole, so the conversion is exact.
        .map(|factor| RateSetting::Factor(factor as u32));
    named.or(factor).map(Command::Rate).ok_or_else(|| {
        no_value(request, format!("auto, hold, faster, slower or a whole factor 1…{max_factor}"))
    })
}

/// The name of a maintenance counter.
pub(super) fn maintenance(request: &CommandRequest, names: &[String]) -> Result<Command, Refusal> {
    let name = request.value.as_str().filter(|name| names.iter().any(|known| known == name));
    name.map(|name| Command::Maintained(name.to_owned())).ok_or_else(|| {
        let expected = match names {
            [] => "a maintenance counter, of which the configuration has none".to_owned(),
            names => format!("one of {}", names.join(", ")),
        };
        no_value(request, expected)
    })
}

pub(super) fn power(request: &CommandRequest) -> Result<Command, Refusal> {
    let (word, force) = match &request.value {
        Value::Object(object) => {
            let known = object.keys().all(|key| matches!(key.as_str(), "action" | "force"));
            let force = object.get("force").map_or(Some(false), Value::as_bool);
            let word = object.get("action").and_then(Value::as_str).filter(|_| known);
            (word.filter(|_| force.is_some()), force.unwrap_or_default())
        }
        value => (value.as_str(), false),
    };
    match (word, force) {
        (Some("on"), false) => Ok(Command::Power { on: true, force }),
        (Some("off"), force) => Ok(Command::Power { on: false, force }),
        (Some("keep_on"), false) => Ok(Command::KeepPower),
        _ => Err(no_value(
            request,
            "on, off, keep_on, or {\"action\":\"off\",\"force\":true} to switch off during a print",
        )),
    }
}

pub(super) fn connection(request: &CommandRequest) -> Result<Command, Refusal> {
    let refused = || {
        no_value(
            request,
            "connect, disconnect, or an object such as {\"connector\":\"serial\",\"port\":\"/dev/ttyUSB0\",\"baudrate\":115200}; what else a connector needs is saved in OctoPrint",
        )
    };
    match &request.value {
        Value::String(text) if text == "connect" => Ok(Command::Connect(ConnectWith::default())),
        Value::String(text) if text == "disconnect" => Ok(Command::Disconnect),
        Value::Object(members) => connect_with(members).map(Command::Connect).ok_or_else(refused),
        _ => Err(refused()),
    }
}

/// Hides unknown members, which may be keys, before the command is answered.
pub(super) fn conceal(value: &mut Value) {
    for (name, value) in value.as_object_mut().into_iter().flatten() {
        if !CONNECT_WITH.contains(&name.as_str()) {
            *value = Value::from("(hidden)");
        }
    }
}

/// The connector and serial port of a command. It must not contain keys or codes: anyone at the
/// broker may read it.
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
    !text.is_empty() && text.len() <= MAX_LINE && !text.chars().any(char::is_control)
}

pub(super) fn gcode(request: &CommandRequest) -> Result<Command, Refusal> {
    let expected = format!(
        "G-code, up to {MAX_LINES} lines of up to {MAX_LINE} characters without control characters"
    );
    let refused = || no_value(request, expected.clone());
    let texts: Vec<&str> = match &request.value {
        Value::String(text) => vec![text],
        Value::Array(lines) => {
            lines.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(refused)?
        }
        _ => return Err(refused()),
    };
    lines_to_send(texts).map(Command::Gcode).ok_or_else(refused)
}

pub(super) fn system(request: &CommandRequest) -> Result<Command, Refusal> {
    match request.value.as_str() {
        Some("restart") => Ok(Command::System(SystemCommand::Restart)),
        Some("reboot") => Ok(Command::System(SystemCommand::Reboot)),
        Some("shutdown") => Ok(Command::System(SystemCommand::Shutdown)),
        _ => Err(no_value(request, "restart, reboot or shutdown")),
    }
}

pub(super) fn prompt(request: &CommandRequest) -> Result<Command, Refusal> {
    let choice = |value: &Value| match value {
        Value::String(text) => text.trim().to_owned(),
        // The wrapper may contain a number.
        Value::Number(index) => index.to_string(),
        _ => String::new(),
    };
    let read = match &request.value {
        Value::Object(object) => match (object.get("choice"), object.get("text")) {
            (Some(wanted), Some(Value::String(text))) if object.len() == 2 => {
                Some((choice(wanted), Some(text.clone())))
            }
            _ => None,
        },
        value => Some((choice(value), None)),
    };
    match read.filter(|(choice, _)| !choice.is_empty()) {
        None => Err(no_value(
            request,
            "the text of a choice that the printer offers, or its index from 0; or {\"choice\":…,\"text\":…} with the text of the prompt that is meant",
        )),
        Some((choice, text)) => Ok(Command::AnswerPrompt { choice, text }),
    }
}

pub(super) fn update(request: &CommandRequest) -> Result<Command, Refusal> {
    match request.value.as_str() {
        Some("octoprint") => Ok(Command::Update),
        _ => Err(no_value(request, "octoprint")),
    }
}

/// A name or path, and the object `params` beside it: either the bare text, or an object of both.
fn with_params<'a>(value: &'a Value, key: &str) -> Option<(&'a str, Map<String, Value>)> {
    let Value::Object(members) = value else { return Some((value.as_str()?, Map::new())) };
    if members.keys().any(|member| member != key && member != "params") {
        return None;
    }
    let params = match members.get("params") {
        None => Map::new(),
        Some(params) => params.as_object()?.clone(),
    };
    Some((members.get(key)?.as_str()?, params))
}

pub(super) fn control(request: &CommandRequest) -> Result<Command, Refusal> {
    let named = with_params(&request.value, "control").filter(|(name, _)| !name.trim().is_empty());
    let named =
        named.map(|(name, params)| Command::Control { name: name.trim().to_owned(), params });
    named.ok_or_else(|| {
        no_value(
            request,
            "the name of a custom control of OctoPrint, or an object such as {\"control\":\"Fan\",\"params\":{\"speed\":50}}",
        )
    })
}

pub(super) fn job(request: &CommandRequest) -> Result<Command, Refusal> {
    let refused = || {
        no_value(
            request,
            "start, pause, resume, toggle, cancel, restart or again, or an object such as {\"action\":\"start\",\"params\":{\"plate\":1}}",
        )
    };
    if request.value.is_object() {
        return match with_params(&request.value, "action") {
            Some(("start", params)) => Ok(start(params)),
            _ => Err(refused()),
        };
    }
    Ok(Command::Job(match request.value.as_str().ok_or_else(refused)? {
        "start" => JobAction::Start,
        "pause" => JobAction::Pause,
        "resume" => JobAction::Resume,
        "toggle" => JobAction::Toggle,
        "cancel" => JobAction::Cancel,
        "restart" => JobAction::Restart,
        "again" => return Ok(Command::PrintAgain(None)),
        _ => return Err(refused()),
    }))
}

fn start(params: PrintParams) -> Command {
    if params.is_empty() { Command::Job(JobAction::Start) } else { Command::StartWith(params) }
}

pub(super) fn select(request: &CommandRequest, print: bool) -> Result<Command, Refusal> {
    let named = with_params(&request.value, "file");
    let file = named.and_then(|(path, params)| Some((FilePath::parse(path)?, params)));
    file.map(|(file, params)| Command::Select { file, print, params }).ok_or_else(|| {
        no_value(request, "the storage and the path of a file, such as local/folder/part.gcode, sdcard/PART.GCO or printer/PART.GCO, or an object such as {\"file\":\"printer/a.3mf\",\"params\":{\"plate\":1}}")
    })
}

/// The text in the form that one G-code command allows: `;` would start a comment.
pub(super) fn snapshot(request: &CommandRequest) -> Result<Command, Refusal> {
    let choice = match &request.value {
        Value::String(name) if name == "default" => WebcamChoice::Default,
        Value::String(name) if name == "all" => WebcamChoice::All,
        Value::String(name) if !name.is_empty() => WebcamChoice::Named(name.clone()),
        _ => return Err(no_value(request, "default, all, or the name of a webcam")),
    };
    Ok(Command::Snapshot(choice))
}

pub(super) fn message(request: &CommandRequest) -> Result<Command, Refusal> {
    let text = match &request.value {
        Value::String(text) => text.clone(),
        // The wrapper may contain a number.
        Value::Number(number) => number.to_string(),
        _ => return Err(no_value(request, "a text")),
    };
    let shown = |c: char| match c {
        ';' => ',',
        c if c.is_control() => ' ',
        c => c,
    };
    Ok(Command::Message(text.chars().map(shown).take(MESSAGE).collect()))
}

/// Rounds to hundredths: Python writes smaller numbers with an exponent, which firmware misreads.
fn hundredths(celsius: f64) -> f64 {
    (celsius * 100.0).round() / 100.0 + 0.0
}

pub(super) fn temperature(
    request: &CommandRequest,
    heater: Heater,
    limit: f64,
) -> Result<Command, Refusal> {
    let off = request.value.as_str() == Some("off");
    let target = if off { Some(0.0) } else { number(&request.value) };
    target
        .filter(|target| (0.0..=limit).contains(target))
        .map(hundredths)
        .map(|target| Command::Temperature { heater, target })
        .ok_or_else(|| {
            no_value(request, format!("off, or 0…{limit} °C (limits in the configuration)"))
        })
}

/// All heaters together can only be switched off: no target suits both a nozzle and a bed.
pub(super) fn all(request: &CommandRequest) -> Result<Command, Refusal> {
    if request.value.as_str() == Some("off") || number(&request.value) == Some(0.0) {
        return Ok(Command::HeatersOff(Vec::new()));
    }
    Err(no_value(request, "off: all heaters can only be switched off together"))
}

pub(super) fn preset(request: &CommandRequest, limits: Limits) -> Result<Command, Refusal> {
    match request.value.as_str().map(str::trim) {
        Some("off") => Ok(Command::HeatersOff(Vec::new())),
        Some(name) if !name.is_empty() => Ok(Command::Preset { name: name.to_owned(), limits }),
        _ => Err(no_value(request, "the name of a temperature preset of OctoPrint, or off")),
    }
}

pub(super) fn offset(request: &CommandRequest, heater: Heater) -> Result<Command, Refusal> {
    number(&request.value)
        .filter(|offset| offset.abs() <= OFFSET)
        .map(hundredths)
        .map(|offset| Command::Offset { heater, offset })
        .ok_or_else(|| no_value(request, format!("-{OFFSET}…{OFFSET} °C")))
}

/// Rounds to thousandths: Python writes smaller numbers in G-code with an exponent, which firmware
/// ignores, so that 5e-05 becomes 5.
fn thousandths(value: f64) -> f64 {
    // No negative zero.
    (value * 1000.0).round() / 1000.0 + 0.0
}

/// A feed or flow rate in whole percent: OctoPrint reads `100.0` as 10000 %.
pub(super) fn factor(request: &CommandRequest) -> Result<u32, Refusal> {
    number(&request.value)
        .filter(|percent| percent.fract() == 0.0 && (10.0..=500.0).contains(percent))
        // In range and whole, so the conversion is exact.
        .map(|percent| percent as u32)
        .ok_or_else(|| no_value(request, "a whole percentage 10…500"))
}

pub(super) fn home(request: &CommandRequest) -> Result<Command, Refusal> {
    let refused = || no_value(request, "all, or axes such as x y z");
    let text = match &request.value {
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

pub(super) fn jog(request: &CommandRequest) -> Result<Command, Refusal> {
    let expected = format!(
        "an object such as {{\"x\":10,\"y\":-5,\"z\":0.2,\"speed\":3000}}, with at least one axis, up to {DISTANCE} mm, and a speed in mm/min over 0"
    );
    let refused = || no_value(request, expected.clone());
    let object = request.value.as_object().ok_or_else(refused)?;
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

pub(super) fn extrude(request: &CommandRequest) -> Result<Command, Refusal> {
    number(&request.value)
        .map(thousandths)
        .filter(|amount| *amount != 0.0 && amount.abs() <= DISTANCE)
        .map(Command::Extrude)
        .ok_or_else(|| no_value(request, format!("mm, 0.001 to {DISTANCE}; negative retracts")))
}
