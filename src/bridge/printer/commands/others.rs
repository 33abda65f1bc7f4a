//! Commands about the push rate, the connection to the printer, G-code and the host.

use serde_json::{Map, Value};

use super::command::{Asked, Command, Rate, Refusal, no_value, number};
use crate::octoprint::{ConnectWith, SystemCommand};

/// Most lines of G-code in one command.
const LINES: usize = 100;
/// Longest line of G-code, in characters.
const LINE: usize = 255;

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

/// What a connection is asked for with.
const CONNECT_WITH: [&str; 3] = ["connector", "port", "baudrate"];

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
