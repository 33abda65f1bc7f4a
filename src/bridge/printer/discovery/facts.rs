//! Asks OctoPrint's REST API for what its messages do not carry: profile, connection to the printer,
//! files and free space, system commands.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::files::Listing;
use crate::bridge::printer::snapshot::json::{Raw, member, object};
use crate::bridge::printer::snapshot::{FileId, LastPrintTimes};
use crate::bridge::watch::Watch;
use crate::causes;
use crate::heater::Heater;
use crate::homeassistant::Profile;
use crate::octoprint::{EventKind, PrinterConnection, Rest, RestError, RestErrorKind, Webcam};

/// How long changes of the files are collected before asking again: they come in bursts.
const BURST: Duration = Duration::from_secs(1);
/// The same if only the free space is read.
const SPACE_BURST: Duration = Duration::from_secs(60);
/// Maximum number of tools of a printer, which leaves room for bed and chamber.
const MAX_TOOLS: u8 = 30;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The current printer profile; `None` if this user may not see it.
    Profile(Option<PrinterProfile>),
    /// The files.
    Files(Listing),
    /// The system commands that OctoPrint supports.
    SystemCommands(Vec<String>),
    /// The last print times of a file.
    LastPrintTimes(FileId, LastPrintTimes),
    /// How OctoPrint is connected to the printer.
    Connection(PrinterConnection),
    /// The webcams that take pictures.
    Webcams(Vec<Webcam>),
}

impl Fact {
    /// Applies what the entities depend on, but for the heaters.
    pub fn apply_to(self, profile: &mut Profile) {
        match self {
            Self::Profile(Some(found)) => {
                profile.manufacturer = found.manufacturer;
                profile.model = found.model;
            }
            Self::Profile(None) | Self::LastPrintTimes(..) | Self::Connection(_) => {}
            Self::Files(files) => profile.files = files.paths,
            Self::SystemCommands(commands) => profile.system_commands = commands,
            Self::Webcams(webcams) => {
                profile.webcams = webcams.into_iter().map(|webcam| webcam.name).collect();
            }
        }
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The current printer profile.
    Profile,
    /// The files.
    Files {
        /// Whether to list all paths; otherwise only the space is read.
        all: bool,
    },
    /// The system commands.
    SystemCommands,
    /// OctoPrint's connection to the printer.
    Connection,
    /// The last print times of a file.
    LastPrintTimes(FileId),
    /// The webcams.
    Webcams,
}

impl Question {
    /// Returns what an event of this type invalidates, but for the files, which change in bursts.
    fn after(event: &EventKind) -> &'static [Self] {
        match event {
            // Connecting may select another profile.
            EventKind::Connected => &[Self::Profile, Self::Connection],
            EventKind::SettingsUpdated => &[Self::Webcams],
            EventKind::PrinterProfileAdded | EventKind::PrinterProfileModified => &[Self::Profile],
            _ => &[],
        }
    }
}

struct Answered {
    generation: u64,
    fact: Fact,
}

/// Asks questions in the background.
pub struct Questions {
    rest: Rest,
    watch: Watch,
    // Boxed, as a channel allocates room for 32 values at once, and is mostly empty.
    answers: (mpsc::Sender<Box<Answered>>, mpsc::Receiver<Box<Answered>>),
    /// Changes whenever an earlier answer about the connection to the printer becomes outdated.
    generation: u64,
    discovery: bool,
    /// Whether OctoPrint's webcams matter.
    webcams: bool,
    files_due: Option<Instant>,
}

impl Questions {
    /// Asks nothing yet. Without `discovery`, system commands and the list of files are never asked
    /// for; without `webcams`, neither are those.
    pub fn new(rest: Rest, watch: Watch, discovery: bool, webcams: bool) -> Self {
        let answers = mpsc::channel(4);
        Self { rest, watch, answers, generation: 0, discovery, webcams, files_due: None }
    }

    /// Asks `question`. A failed request yields no fact, so what was known stays.
    pub fn ask(&self, question: Question) {
        let (rest, answers, generation) =
            (self.rest.clone(), self.answers.0.clone(), self.generation);
        self.watch.spawn("question", async move {
            match answer(&question, &rest).await {
                // Fails only if the printer's task has ended.
                Ok(fact) => drop(answers.send(Box::new(Answered { generation, fact })).await),
                Err(error) => tracing::debug!(?question, "no answer: {}", causes::text(&error)),
            }
        });
    }

    /// Asks for everything on a new connection; for the system commands only if `system`.
    pub fn ask_all(&mut self, system: bool) {
        self.generation += 1;
        self.ask(Question::Profile);
        self.ask(Question::Connection);
        if self.webcams {
            self.ask(Question::Webcams);
        }
        self.ask(Question::Files { all: self.discovery });
        if self.discovery && system {
            self.ask(Question::SystemCommands);
        }
    }

    /// Asks for what may have changed with an event.
    pub fn follow(&mut self, event: &EventKind, now: Instant) {
        match event {
            EventKind::UpdatedFiles => {
                let burst = if self.discovery { BURST } else { SPACE_BURST };
                self.files_due.get_or_insert(now + burst);
            }
            EventKind::Connected | EventKind::Disconnected => self.generation += 1,
            _ => {}
        }
        let wanted = |question: &&Question| self.webcams || **question != Question::Webcams;
        let questions = Question::after(event).iter().filter(wanted);
        questions.for_each(|question| self.ask(question.clone()));
    }

    /// Returns when [`Questions::flush`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.files_due
    }

    /// Asks the questions that are due.
    pub fn flush(&mut self, now: Instant) {
        if self.files_due.take_if(|at| now >= *at).is_some() {
            self.ask(Question::Files { all: self.discovery });
        }
    }

    /// Waits for the next answer. Cancel safe.
    pub async fn answer(&mut self) -> Option<Box<Fact>> {
        loop {
            let Answered { generation, fact } = *self.answers.1.recv().await?;
            let outdated = matches!(fact, Fact::Connection(_)) && generation != self.generation;
            if !outdated {
                return Some(Box::new(fact));
            }
        }
    }
}

/// Asks `question` and waits for the answer.
///
/// # Errors
/// If the request failed.
pub async fn answer(question: &Question, rest: &Rest) -> Result<Fact, RestError> {
    let get = async |path: &str| seen(rest.get(path).await);
    Ok(match question {
        Question::Profile => {
            let body = get("api/printerprofiles").await?;
            Fact::Profile(body.and_then(|body| printer_profile(&body)))
        }
        Question::Files { all } => {
            let list = async |path: &str| seen(rest.get_as_of_2_0(path).await);
            let whole = if *all { Some(list("api/files?recursive=true").await) } else { None };
            // Of too many files, at least the space is read.
            let whole = whole.filter(|answer| !answer.as_ref().is_err_and(is_broken_off));
            let (all, body) = match whole {
                Some(answer) => (true, answer?),
                None => (false, list("api/files").await?),
            };
            Fact::Files(body.and_then(|body| Listing::read(&body, all)).unwrap_or_default())
        }
        Question::Connection => {
            let connection = seen(rest.printer_connection().await)?;
            Fact::Connection(connection.unwrap_or_default())
        }
        Question::Webcams => Fact::Webcams(seen(rest.webcams().await)?.unwrap_or_default()),
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

fn is_broken_off(error: &RestError) -> bool {
    matches!(error.kind(), RestErrorKind::BrokenOff { .. })
}

/// The answer; `None` if this user may not see it, or it does not exist.
fn seen<T>(answer: Result<T, RestError>) -> Result<Option<T>, RestError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if matches!(error.status(), Some(403 | 404)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the last print times from the answer to `GET /api/files/<origin>/<path>`.
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

/// Reads the supported commands from the answer to `GET /api/system/commands/core`.
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

/// What the bridge uses of a printer profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrinterProfile {
    /// Its id, such as `_default`.
    pub id: Option<String>,
    /// `tool0` …, `bed`, `chamber`, as far as the printer has them.
    pub heaters: Vec<Heater>,
    /// The first word of the profile's model where it has more.
    pub manufacturer: Option<String>,
    /// The rest of it.
    pub model: Option<String>,
}

/// Returns the current profile in the answer to `GET /api/printerprofiles`, if it has one.
pub fn current_profile(answer: &[u8]) -> Option<Value> {
    let mut answer: Value = serde_json::from_slice(answer).ok()?;
    let mut profiles = answer.get_mut("profiles")?.as_object_mut()?.values_mut();
    profiles.find(|profile| profile["current"] == true).map(Value::take)
}

/// Reads the current profile, see [`current_profile`].
fn printer_profile(answer: &[u8]) -> Option<PrinterProfile> {
    let profile = current_profile(answer)?;
    let tools = profile["extruder"]["count"].as_u64().unwrap_or(1);
    let tools = u8::try_from(tools).map_or(MAX_TOOLS, |tools| tools.min(MAX_TOOLS));
    let mut heaters: Vec<Heater> = (0..tools).map(Heater::tool).collect();
    heaters.extend((profile["heatedBed"] == true).then(Heater::bed));
    heaters.extend((profile["heatedChamber"] == true).then(Heater::chamber));
    // OctoPrint has one field for both: "Prusa i3 MK3S".
    let model = profile["model"].as_str().unwrap_or_default();
    let (manufacturer, model) = match model.trim().split_once(char::is_whitespace) {
        Some((manufacturer, model)) => (manufacturer, model.trim()),
        None => ("", model.trim()),
    };
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let id = profile["id"].as_str().map(str::to_owned);
    Some(PrinterProfile { id, heaters, manufacturer: given(manufacturer), model: given(model) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::octoprint::RestOptions;

    #[test]
    fn questions_depend_on_the_type_of_an_event_alone() {
        let after = Question::after(&EventKind::Connected);
        assert_eq!(after, [Question::Profile, Question::Connection]);
        for other in ["Disconnected", "ConnectivityChanged", "plugin_x_Connected", "ZChange"] {
            assert!(Question::after(&other.into()).is_empty(), "{other}");
        }
    }

    fn questions(discovery: bool) -> Questions {
        let rest = Rest::new(RestOptions::unreachable()).unwrap();
        Questions::new(rest, Watch::new().0, discovery, true)
    }

    #[tokio::test]
    async fn changes_of_files_are_collected() {
        for (discovery, burst) in [(true, BURST), (false, SPACE_BURST)] {
            let (mut questions, now) = (questions(discovery), clock::now());
            questions.follow(&EventKind::ZChange, now);
            assert_eq!(questions.due(), None);
            questions.follow(&EventKind::UpdatedFiles, now);
            questions.follow(&EventKind::UpdatedFiles, now + burst / 2);
            assert_eq!(questions.due(), Some(now + burst));
        }
    }

    #[tokio::test]
    async fn an_answer_from_before_a_disconnect_is_outdated() {
        let mut questions = questions(false);
        let answer = |generation, fact| Box::new(Answered { generation, fact });
        let connection = || Fact::Connection(PrinterConnection::default());
        let answers = questions.answers.0.clone();
        questions.follow(&EventKind::Disconnected, clock::now());
        answers.send(answer(0, connection())).await.unwrap();
        answers.send(answer(0, Fact::Profile(None))).await.unwrap();
        answers.send(answer(1, connection())).await.unwrap();
        assert_eq!(*questions.answer().await.unwrap(), Fact::Profile(None));
        assert_eq!(*questions.answer().await.unwrap(), connection());
    }

    #[test]
    fn a_malformed_command_does_not_affect_others() {
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
    fn only_known_system_commands_are_listed() {
        let body =
            br#"[{"action":"restart","name":"x"},{"action":"restart_safe"},{"action":"shutdown"}]"#;
        assert_eq!(system_commands(body), ["restart", "shutdown"]);
        assert!(system_commands(b"{}").is_empty());
    }

    #[test]
    fn heaters_follow_the_current_profile() {
        let answer = br#"{"profiles":{
            "a":{"current":false,"extruder":{"count":1},"heatedBed":true},
            "b":{"current":true,"extruder":{"count":2,"sharedNozzle":false},"heatedBed":true,
                 "heatedChamber":true,"volume":{},"model":"Prusa i3 MK3S"}}}"#;
        let profile = printer_profile(answer).unwrap();
        assert_eq!(profile.heaters, ["tool0", "tool1", "bed", "chamber"]);
        assert_eq!(profile.manufacturer.as_deref(), Some("Prusa"));
        assert_eq!(profile.model.as_deref(), Some("i3 MK3S"));
        let odd = br#"{"profiles":{"a":null,"b":{"current":true,"heatedBed":true,"model":null,
            "extruder":{"count":null},"heatedChamber":null},"c":{"current":1,"extruder":[]}}}"#;
        assert_eq!(printer_profile(odd).unwrap().heaters, ["tool0", "bed"]);
        assert_eq!(printer_profile(br#"{"profiles":{}}"#), None);
        assert_eq!(printer_profile(b"<html>"), None);
    }
}
