//! Asks OctoPrint for what its messages do not tell: profile, files, system commands.

use serde::Deserialize;
use tokio::sync::mpsc;

use super::hub::watch::Watch;
use super::profile::{self, PrinterProfile};
use crate::homeassistant::MOST_FILES;
use crate::octoprint::{Rest, RestError};

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The printer profile in force; `None`: this user may not see it.
    Profile(Option<PrinterProfile>),
    /// Paths of all files that can be printed, such as `local/part.gcode`; `None` where they are
    /// too many or cannot be seen.
    Files(Option<Vec<String>>),
    /// The system commands that OctoPrint is able to.
    SystemCommands(Vec<String>),
}

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The printer profile.
    Profile,
    /// The files.
    Files,
    /// The system commands.
    SystemCommands,
}

/// Asks, side by side with all else; the answer goes to `answers`. No answer at all is no fact:
/// what was known before stays.
pub fn ask(question: Question, rest: Rest, answers: mpsc::Sender<Box<Fact>>, watch: &Watch) {
    watch.spawn("question", async move {
        match answer(question, &rest).await {
            // Fails only when the printer's task has ended.
            Ok(fact) => drop(answers.send(Box::new(fact)).await),
            Err(error) => tracing::debug!(?question, "not known: {error}"),
        }
    });
}

/// Asks and waits for the answer.
///
/// # Errors
/// Where no answer came, or one that cannot be read.
pub async fn answer(question: Question, rest: &Rest) -> Result<Fact, RestError> {
    let path = match question {
        Question::Profile => "api/printerprofiles",
        Question::Files => "api/files?recursive=true",
        Question::SystemCommands => "api/system/commands/core",
    };
    let body = match rest.get(path).await {
        Ok(body) => Some(body),
        Err(RestError::Status { status: 403 | 404, .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(match (question, body) {
        (Question::Profile, body) => Fact::Profile(body.and_then(|body| profile::in_force(&body))),
        (Question::Files, body) => Fact::Files(body.and_then(|body| files(&body))),
        (Question::SystemCommands, body) => {
            Fact::SystemCommands(body.map(|body| system_commands(&body)).unwrap_or_default())
        }
    })
}

#[derive(Deserialize)]
struct Files {
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    origin: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    children: Vec<Entry>,
}

/// The paths in the answer to `GET /api/files?recursive=true`, sorted; `None` where they are more
/// than [`MOST_FILES`].
fn files(body: &[u8]) -> Option<Vec<String>> {
    let answer: Files = serde_json::from_slice(body).ok()?;
    let (mut paths, mut entries) = (Vec::new(), answer.files);
    while let Some(entry) = entries.pop() {
        if entry.r#type == "machinecode" {
            paths.push(format!("{}/{}", entry.origin, entry.path));
        }
        entries.extend(entry.children);
    }
    paths.sort();
    paths.dedup();
    (paths.len() <= MOST_FILES).then_some(paths)
}

fn system_commands(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Command {
        action: String,
    }
    let commands: Vec<Command> = serde_json::from_slice(body).unwrap_or_default();
    let known =
        |command: &Command| matches!(command.action.as_str(), "restart" | "reboot" | "shutdown");
    commands.into_iter().filter(known).map(|command| command.action).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_folders_and_nothing_else() {
        let body = br#"{"files":[
            {"type":"folder","origin":"local","path":"a","children":[
                {"type":"machinecode","origin":"local","path":"a/two.gcode"},
                {"type":"folder","origin":"local","path":"a/b","children":[]}]},
            {"type":"machinecode","origin":"sdcard","path":"ONE.GCO"},
            {"type":"model","origin":"local","path":"part.stl"}],"free":1}"#;
        assert_eq!(files(body).unwrap(), ["local/a/two.gcode", "sdcard/ONE.GCO"]);
        let entry = |n| format!(r#"{{"type":"machinecode","origin":"local","path":"{n}"}}"#);
        let many: Vec<String> = (0..=MOST_FILES).map(entry).collect();
        assert_eq!(files(format!("{{\"files\":[{}]}}", many.join(",")).as_bytes()), None);
        assert_eq!(files(b"<html>"), None);
    }

    #[test]
    fn known_system_commands() {
        let body =
            br#"[{"action":"restart","name":"x"},{"action":"restart_safe"},{"action":"shutdown"}]"#;
        assert_eq!(system_commands(body), ["restart", "shutdown"]);
        assert!(system_commands(b"{}").is_empty());
    }
}
