//! Commands about the job and the printer's display.

use super::command::{Asked, Command, Refusal, no_value};
use crate::octoprint::{FilePath, JobAction};

/// Longest text on the display, in characters.
const MESSAGE: usize = 255;

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
        serde_json::Value::String(text) => text.clone(),
        // In the wrapper a number may come as one.
        serde_json::Value::Number(number) => number.to_string(),
        _ => return Err(no_value(asked, "a text")),
    };
    let shown = |c: char| match c {
        ';' => ',',
        c if c.is_control() => ' ',
        c => c,
    };
    Ok(Command::Message(text.chars().map(shown).take(MESSAGE).collect()))
}
