//! What a hostile OctoPrint pushes: SockJS frames, sound ones and others.

use std::sync::OnceLock;

use super::dice::Dice;

/// JSON values as Python may write them, and what breaks readers.
const LEAVES: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "21.3",
    "100.4",
    "1e12",
    "-300",
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "-Infinity",
    "18446744073709551616",
    "123456789012345678901234567890.5",
    "\"\"",
    "\"text\"",
    "\"\\udcff.gcode\"",
    "\"\\ud83d\\ude00\"",
    "\"\\u0000\"",
    "\"Operational\"",
    "\"Printing\"",
    "\"Offline after error\"",
    "[]",
    "{}",
    "\"a/b+c#d\"",
    "0.1e-400",
];

/// The keys that OctoPrint uses, so that what is read is reached.
const KEYS: &[&str] = &[
    "state",
    "text",
    "flags",
    "printing",
    "operational",
    "job",
    "file",
    "name",
    "path",
    "progress",
    "completion",
    "printTime",
    "printTimeLeft",
    "temps",
    "time",
    "tool0",
    "bed",
    "actual",
    "target",
    "offsets",
    "currentZ",
    "markings",
    "serverTime",
    "resends",
    "type",
    "payload",
    "plugin",
    "data",
    "reason",
    "version",
    "\\udc00",
    "",
];

const KINDS: &[&str] = &[
    "current",
    "history",
    "event",
    "plugin",
    "timelapse",
    "connected",
    "slicingProgress",
    "renderProgress",
    "reauthRequired",
    "future",
    "",
    "a/+#",
];

const EVENTS: &[&str] = &[
    "PrintStarted",
    "PrintDone",
    "PrintFailed",
    "PrintCancelled",
    "PrintPaused",
    "Connected",
    "Disconnected",
    "Error",
    "ZChange",
    "PrinterStateChanged",
    "FileSelected",
    "Upload",
    "",
    "a/+#",
];

/// Recorded frames of a real OctoPrint.
const RECORDED: &str = include_str!("../captures/frames_sockjs_websocket.jsonl");

pub const CONNECTED: &str = r#"a[{"connected":{"version":"1.11.8"}}]"#;
pub const HISTORY: &str =
    r#"a[{"history":{"state":{"text":"Operational","flags":{"operational":true}},"temps":[]}}]"#;

/// The greeting, mostly a sound one.
pub fn connected(dice: &mut Dice) -> String {
    match dice.below(8) {
        0..5 => CONNECTED.to_owned(),
        5 => r#"a[{"connected":{"version":"1.7.3"}}]"#.to_owned(),
        6 => format!(r#"a[{{"connected":{}}}]"#, json(dice, 2)),
        _ => format!(r#"a[{{"connected":{{"version":{}}}}}]"#, json(dice, 0)),
    }
}

/// Something that asks for a new login.
pub fn reauth(dice: &mut Dice) -> String {
    let reason = dice.pick(&["stale", "modified", "logout", "removed", "NEW"]);
    match dice.below(8) {
        0 => format!(r#"a[{{"reauthRequired":{}}}]"#, json(dice, 2)),
        _ => format!(r#"a[{{"reauthRequired":{{"reason":"{reason}"}}}}]"#),
    }
}

/// A frame, sound or not.
pub fn frame(dice: &mut Dice) -> Vec<u8> {
    match dice.below(16) {
        0 => b"h".to_vec(),
        1 => HISTORY.into(),
        2 => format!("a[{}]", message(dice)).into(),
        3 => {
            let payload = json(dice, 3);
            let event = dice.pick(EVENTS);
            format!(r#"a[{{"event":{{"type":"{event}","payload":{payload}}}}}]"#).into()
        }
        4 => format!(r#"a[{{"current":{}}}]"#, json(dice, 5)).into(),
        5 => format!(r#"a[{{"history":{}}}]"#, json(dice, 4)).into(),
        6 => format!("m{}", message(dice)).into(),
        7 => format!("a[{},{},{}]", message(dice), json(dice, 1), message(dice)).into(),
        8 => reauth(dice).into(),
        9 => {
            let inner = message(dice).replace('\\', "\\\\").replace('"', "\\\"");
            format!("a[\"{inner}\"]").into()
        }
        10 => {
            let letter = u8::try_from(dice.below(256)).unwrap_or_default();
            [&[letter][..], message(dice).as_bytes()].concat()
        }
        11 => format!(r#"a[{{"history":{}}}]"#, "[".repeat(dice.below(20_000))).into(),
        12 => {
            let text = "x".repeat(dice.below(400_000));
            format!(r#"a[{{"history":{{"logs":["{text}"]}}}}]"#).into()
        }
        _ => mutated(dice),
    }
}

/// A frame that says nothing of the printer or its prints, sound or not.
pub fn noise(dice: &mut Dice) -> Vec<u8> {
    let payload = json(dice, 3);
    match dice.below(10) {
        0 => b"h".to_vec(),
        1 => format!(r#"a[{{"plugin":{{"plugin":"noise","data":{payload}}}}}]"#).into(),
        2 => format!(r#"a[{{"event":{{"type":"plugin_noise","payload":{payload}}}}}]"#).into(),
        3 => format!(r#"a[{{"event":{{"type":"ZChange","payload":{payload}}}}}]"#).into(),
        4 => format!(r#"a[{{"timelapse":{payload}}}]"#).into(),
        5 => format!(r#"a[{{"future":{payload}}},{payload}]"#).into(),
        6 => format!(r#"a[{{"current":{{"temps":{payload},"offsets":{payload}}}}}]"#).into(),
        7 => format!(r#"a[{{"current":{payload}"#).into(),
        8 => reauth(dice).into(),
        _ => format!(r#"a[{{"event":{payload}}}]"#).into(),
    }
}

fn message(dice: &mut Dice) -> String {
    let kind = *dice.pick(KINDS);
    format!(r#"{{"{kind}":{}}}"#, json(dice, 3))
}

fn json(dice: &mut Dice, depth: usize) -> String {
    match dice.below(if depth == 0 { 1 } else { 4 }) {
        0 => (*dice.pick(LEAVES)).to_owned(),
        1 => {
            let items: Vec<String> = (0..dice.below(4)).map(|_| json(dice, depth - 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let member = |_| {
                let key = *dice.pick(KEYS);
                format!("\"{key}\":{}", json(dice, depth - 1))
            };
            let members: Vec<String> = (0..3).map(member).collect();
            format!("{{{}}}", members.join(", "))
        }
    }
}

/// The recorded frames; long ones say little more.
fn recorded() -> &'static [String] {
    static FRAMES: OnceLock<Vec<String>> = OnceLock::new();
    FRAMES.get_or_init(|| {
        let lines = RECORDED.lines().filter(|line| line.len() < 4000);
        let frames = lines.filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line["frame"].as_str().map(ToOwned::to_owned)
        });
        frames.collect()
    })
}

/// A recorded frame with bytes changed, cut, doubled.
fn mutated(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = dice.pick(recorded()).clone().into_bytes();
    for _ in 0..dice.below(4) {
        let at = dice.below(bytes.len().max(1)).min(bytes.len());
        match dice.below(4) {
            0 if at < bytes.len() => bytes[at] = u8::try_from(dice.below(256)).unwrap_or_default(),
            1 => bytes.truncate(at),
            2 => {
                let leaf = dice.pick(LEAVES).as_bytes().to_vec();
                bytes.splice(at..at, leaf);
            }
            _ => {
                let to = (at + dice.below(40)).min(bytes.len());
                let copy = bytes[at..to].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
    bytes
}
