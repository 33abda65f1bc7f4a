//! Asks OctoPrint for what its messages do not tell: profile, files and how long one took to print,
//! system commands.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::profile::{self, PrinterProfile};
use crate::bridge::hub::watch::Watch;
use crate::bridge::printer::snapshot::json::{Raw, member, object};
use crate::bridge::printer::snapshot::{FileId, LastPrintTimes};
use crate::causes;
use crate::homeassistant::MOST_FILES;
use crate::octoprint::{EventKind, Rest, RestError};

/// For how long changes of the files are collected.
const BURST: Duration = Duration::from_secs(1);

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The printer profile in force; `None`: this user may not see it.
    Profile(Option<PrinterProfile>),
    /// Paths of all files that can be printed, such as `local/part.gcode`; `None` where they are
    /// too many or cannot be seen.
    Files(Option<Vec<String>>),
    /// The system commands that OctoPrint is able to.
    SystemCommands(Vec<String>),
    /// How long this file took to print last time.
    LastPrintTimes(FileId, LastPrintTimes),
}

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The printer profile.
    Profile,
    /// The files.
    Files,
    /// The system commands.
    SystemCommands,
    /// How long a file took to print last time.
    LastPrintTimes(FileId),
}

impl Question {
    /// What an event of this type leaves unknown.
    fn after(event: &EventKind) -> Option<Self> {
        use EventKind::{Connected, PrinterProfileAdded, PrinterProfileModified, UpdatedFiles};
        match event {
            // Connecting may select another profile.
            Connected | PrinterProfileAdded | PrinterProfileModified => Some(Self::Profile),
            UpdatedFiles => Some(Self::Files),
            _ => None,
        }
    }
}

/// Asks OctoPrint side by side with all else.
pub struct Questions {
    rest: Rest,
    watch: Watch,
    // Boxed, as others here: a channel makes room for 32 at once, and mostly there is none.
    answers: (mpsc::Sender<Box<Fact>>, mpsc::Receiver<Box<Fact>>),
    /// Whether anybody wants to know of files and system commands.
    discovery: bool,
    /// When the files are asked for: changes come in bursts.
    files_due: Option<Instant>,
}

impl Questions {
    /// Nothing is asked yet. Without `discovery`, only the profile is.
    pub fn new(rest: Rest, watch: Watch, discovery: bool) -> Self {
        Self { rest, watch, answers: mpsc::channel(4), discovery, files_due: None }
    }

    /// Asks; no answer at all is no fact: what was known before stays.
    pub fn ask(&self, question: Question) {
        let (rest, answers) = (self.rest.clone(), self.answers.0.clone());
        self.watch.spawn("question", async move {
            match answer(&question, &rest).await {
                // Fails only when the printer's task has ended.
                Ok(fact) => drop(answers.send(Box::new(fact)).await),
                Err(error) => tracing::debug!(?question, "not known: {}", causes::text(&error)),
            }
        });
    }

    /// OctoPrint is connected: asks for everything; for the commands of `system` if allowed.
    pub fn begin(&self, system: bool) {
        self.ask(Question::Profile);
        if self.discovery {
            self.ask(Question::Files);
            if system {
                self.ask(Question::SystemCommands);
            }
        }
    }

    /// Asks for what an event leaves unknown.
    pub fn follow(&mut self, event: &EventKind, now: Instant) {
        match Question::after(event) {
            Some(Question::Files) if self.discovery => {
                self.files_due.get_or_insert(now + BURST);
            }
            Some(Question::Files) | None => {}
            Some(question) => self.ask(question),
        }
    }

    /// When [`Questions::flush`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.files_due
    }

    /// Asks for what is due.
    pub fn flush(&mut self, now: Instant) {
        if self.files_due.take_if(|at| now >= *at).is_some() {
            self.ask(Question::Files);
        }
    }

    /// The next answer. May be dropped and called again without losing anything.
    pub async fn answer(&mut self) -> Option<Box<Fact>> {
        self.answers.1.recv().await
    }
}

/// Asks and waits for the answer.
///
/// # Errors
/// Where no answer came, or one that cannot be read.
pub async fn answer(question: &Question, rest: &Rest) -> Result<Fact, RestError> {
    let get = async |path: &str| seen(rest.get(path).await);
    Ok(match question {
        Question::Profile => {
            let body = get("api/printerprofiles").await?;
            Fact::Profile(body.and_then(|body| profile::in_force(&body)))
        }
        Question::Files => {
            let body = get("api/files?recursive=true").await?;
            Fact::Files(body.and_then(|body| files(&body)))
        }
        Question::SystemCommands => {
            let body = get("api/system/commands/core").await?;
            Fact::SystemCommands(body.map(|body| system_commands(&body)).unwrap_or_default())
        }
        Question::LastPrintTimes(file) => {
            let body = match file.call() {
                Some(path) => seen(rest.file_info(&path).await)?,
                None => None,
            };
            let times = body.map(|body| last_print_times(&body)).unwrap_or_default();
            Fact::LastPrintTimes(file.clone(), times)
        }
    })
}

/// An answer; `None` where this user may not see it, or there is no such thing.
fn seen(answer: Result<Bytes, RestError>) -> Result<Option<Bytes>, RestError> {
    match answer {
        Ok(body) => Ok(Some(body)),
        Err(error) if matches!(error.status(), Some(403 | 404)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Deserialize)]
struct Files<'a> {
    #[serde(borrow)]
    files: Vec<&'a RawValue>,
}

/// Each member by itself: one that is odd costs its file and not the list.
#[derive(Deserialize, Default)]
struct FileEntry<'a> {
    #[serde(borrow, default)]
    r#type: Raw<'a>,
    #[serde(borrow, default)]
    origin: Raw<'a>,
    #[serde(borrow, default)]
    path: Raw<'a>,
    #[serde(borrow, default)]
    children: Raw<'a>,
}

/// The paths in the answer to `GET /api/files?recursive=true`, sorted; `None` where they are more
/// than [`MOST_FILES`].
fn files(body: &[u8]) -> Option<Vec<String>> {
    let answer: Files<'_> = serde_json::from_slice(body).ok()?;
    let (mut paths, mut entries) = (Vec::new(), answer.files);
    while let Some(entry) = entries.pop() {
        let FileEntry { r#type, origin, path, children } = object(Some(entry));
        let is_printable = member::<Cow<'_, str>>(r#type).is_some_and(|kind| kind == "machinecode");
        let place = member::<Cow<'_, str>>(origin).zip(member::<Cow<'_, str>>(path));
        if let (true, Some((origin, path))) = (is_printable, place) {
            paths.push(format!("{origin}/{path}"));
        }
        entries.extend(member::<Vec<&RawValue>>(children).into_iter().flatten());
    }
    paths.sort();
    paths.dedup();
    (paths.len() <= MOST_FILES).then_some(paths)
}

/// Of the answer to `GET /api/files/<origin>/<path>`.
fn last_print_times(body: &[u8]) -> LastPrintTimes {
    #[derive(Deserialize, Default)]
    struct FileInfo<'a> {
        #[serde(borrow, default)]
        statistics: Raw<'a>,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase")]
    struct Statistics<'a> {
        #[serde(borrow, default)]
        last_print_time: Raw<'a>,
    }
    let info: FileInfo<'_> = serde_json::from_slice(body).unwrap_or_default();
    let statistics: Statistics<'_> = object(info.statistics);
    member(statistics.last_print_time).unwrap_or_default()
}

fn system_commands(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize, Default)]
    struct CoreCommand<'a> {
        #[serde(borrow, default)]
        action: Raw<'a>,
    }
    let commands: Vec<&RawValue> = serde_json::from_slice(body).unwrap_or_default();
    let action =
        |raw: &&'_ RawValue| member::<String>(object::<CoreCommand<'_>>(Some(*raw)).action);
    let known = |action: &String| matches!(action.as_str(), "restart" | "reboot" | "shutdown");
    commands.iter().filter_map(action).filter(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_by_their_type_alone() {
        assert_eq!(Question::after(&EventKind::Connected), Some(Question::Profile));
        assert_eq!(Question::after(&EventKind::UpdatedFiles), Some(Question::Files));
        for other in ["Disconnected", "ConnectivityChanged", "plugin_x_Connected", "ZChange"] {
            assert_eq!(Question::after(&other.into()), None, "{other}");
        }
    }

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
    fn an_odd_entry_costs_no_other() {
        let body = br#"{"files":[null,5,{"type":"machinecode","origin":null,"path":"x"},
            {"type":"machinecode","origin":"local","path":["a","b"]},{"type":"folder","children":7},
            {"type":"machinecode","origin":"local","path":"b\ufffd.gcode","size":null},
            {"type":"machinecode","origin":"local","path":"good.gcode"}]}"#;
        assert_eq!(files(body).unwrap(), ["local/b\u{fffd}.gcode", "local/good.gcode"]);
        assert_eq!(system_commands(br#"[null,{"action":5},{"action":"reboot"}]"#), ["reboot"]);
    }

    #[test]
    fn the_last_print_time_is_in_the_statistics_of_a_file() {
        let body = br#"{"prints":{"success":2},"statistics":{"averagePrintTime":{"_default":8.0},
            "lastPrintTime":{"_default":7.9,"other":3}}}"#;
        let expected = [("_default".to_owned(), 7.9), ("other".to_owned(), 3.0)];
        assert_eq!(last_print_times(body), expected.into());
        for none in [&b"{}"[..], b"<html>", br#"{"statistics":{"lastPrintTime":5}}"#] {
            assert!(last_print_times(none).is_empty());
        }
    }

    #[test]
    fn known_system_commands() {
        let body =
            br#"[{"action":"restart","name":"x"},{"action":"restart_safe"},{"action":"shutdown"}]"#;
        assert_eq!(system_commands(body), ["restart", "shutdown"]);
        assert!(system_commands(b"{}").is_empty());
    }
}
