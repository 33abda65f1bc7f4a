//! Asks OctoPrint's REST API for what its messages do not carry: profile, connection to the printer,
//! files and free space, system commands, custom controls, presets, updates, prompts.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::files::Listing;
use super::printer_profile::{PrinterProfile, printer_profile};
use crate::bridge::printer::snapshot::json::{Raw, member, object};
use crate::bridge::printer::snapshot::{FileId, LastPrintTimes, Snapshot, StateChange};
use crate::config::{self, Commands};
use crate::homeassistant::{ControlButton, MOST_CONTROLS, MOST_PRESETS, Profile};
use crate::octoprint::{
    CustomControl, EventKind, PrinterConnection, PrinterPrompt, Rest, RestError, RestErrorKind,
    UpdateCheck, Webcam,
};

/// Most choices of a prompt that are options.
const MOST_CHOICES: usize = 50;

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
    /// The custom controls that can be pressed.
    Controls(Vec<ControlButton>),
    /// Names of the temperature presets.
    Presets(Vec<String>),
    /// Whether OctoPrint supports the printer's SD card.
    SdCard(bool),
    /// What OctoPrint knows of its own update; `None` if it does not tell.
    Update(Option<UpdateCheck>),
    /// What the printer asks.
    Prompt(Option<PrinterPrompt>),
    /// Whether PSU Control has switched the power on; `None` without it.
    Power(Option<bool>),
}

impl Fact {
    /// Adds it to the printer's state.
    pub fn apply_to_state(&self, snapshot: &mut Snapshot) -> Option<StateChange> {
        match self {
            Self::Profile(profile) => {
                let profile = profile.as_ref();
                snapshot.set_profile_heaters(profile.map(|profile| profile.heaters.clone()));
                snapshot.set_profile(profile.and_then(|profile| profile.id.clone()))
            }
            Self::LastPrintTimes(file, times) => {
                snapshot.set_last_print_times(file.clone(), times.clone())
            }
            Self::Files(files) => snapshot.set_storages(&files.storages),
            Self::Connection(connection) => snapshot.set_connection(connection.clone()),
            Self::SystemCommands(_) | Self::Webcams(_) | Self::Controls(_) | Self::Presets(_) => {
                None
            }
            Self::SdCard(_) | Self::Update(_) | Self::Prompt(_) | Self::Power(_) => None,
        }
    }

    /// Adds it to what the entities depend on, but for the heaters.
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
            Self::Controls(controls) => profile.controls = controls,
            Self::Presets(presets) => profile.presets = presets,
            Self::SdCard(supported) => profile.sd_card = supported,
            Self::Update(check) => profile.updates = check.is_some(),
            Self::Power(on) => profile.psu_control = on.is_some(),
            Self::Prompt(prompt) => {
                let mut choices = prompt.map(|prompt| prompt.choices).unwrap_or_default();
                let mut seen = HashSet::new();
                choices.retain(|choice| !choice.is_empty() && seen.insert(choice.clone()));
                if !choices.is_empty() {
                    choices.truncate(MOST_CHOICES);
                    profile.prompt_choices = choices;
                }
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
    /// The custom controls.
    Controls,
    /// The temperature presets.
    Presets,
    /// Whether there is support for an SD card.
    SdCard,
    /// OctoPrint's own update.
    Update,
    /// What the printer asks.
    Prompt,
    /// Whether PSU Control has switched the power on.
    Power,
}

/// What answers are of use for.
#[derive(Debug, Clone, Copy)]
pub struct QuestionScope {
    /// The commands that are allowed.
    pub groups: Commands,
    /// Whether entities are published.
    pub discovery: bool,
    /// Whether OctoPrint's webcams are used.
    pub webcams: bool,
    /// Whether PSU Control switches the power.
    pub psu_control: bool,
}

impl QuestionScope {
    /// That of a printer, with or without `discovery`.
    pub fn of(printer: &config::Printer, discovery: bool) -> Self {
        Self {
            groups: printer.commands,
            discovery,
            webcams: printer.camera.uses_webcams(),
            psu_control: printer.power.is_none(),
        }
    }
}

impl Question {
    /// All that is asked for on each new connection, but for the files and the update.
    pub(super) const AT_FIRST: [Self; 9] = [
        Self::Profile,
        Self::Connection,
        Self::SystemCommands,
        Self::Webcams,
        Self::Controls,
        Self::Presets,
        Self::SdCard,
        Self::Prompt,
        Self::Power,
    ];

    /// Returns all questions about what the entities depend on.
    pub fn of_entities(scope: QuestionScope) -> impl Iterator<Item = Self> {
        let useful = Self::AT_FIRST.into_iter().filter(move |question| question.is_of_use(scope));
        useful.chain([Self::Files { all: true }, Self::Update])
    }

    /// Whether the answer is of use.
    pub(super) fn is_of_use(&self, scope: QuestionScope) -> bool {
        let QuestionScope { groups, discovery, webcams, psu_control } = scope;
        match self {
            Self::SystemCommands => discovery && groups.system,
            Self::Webcams => webcams,
            Self::Power => psu_control,
            Self::Controls => discovery && groups.gcode,
            Self::Presets => discovery && groups.temperature,
            Self::SdCard => discovery && groups.job,
            Self::Profile | Self::Files { .. } | Self::Connection | Self::LastPrintTimes(_) => true,
            Self::Update | Self::Prompt => true,
        }
    }

    /// Returns what an event of this type invalidates, but for the files, which change in bursts.
    pub(super) fn after(event: &EventKind) -> &'static [Self] {
        match event {
            // Connecting may select another profile, and Klipper's macros are known from then on.
            EventKind::Connected => &[Self::Profile, Self::Connection, Self::Controls],
            EventKind::PrinterControlsChanged => &[Self::Controls],
            EventKind::SettingsUpdated => {
                &[Self::Controls, Self::Presets, Self::SdCard, Self::Webcams]
            }
            // OctoPrint does not tell of the end of a prompt that it does not show itself.
            EventKind::PrintResumed
            | EventKind::PrintDone
            | EventKind::PrintFailed
            | EventKind::PrintCancelled => &[Self::Prompt],
            EventKind::PrinterProfileAdded | EventKind::PrinterProfileModified => &[Self::Profile],
            _ => &[],
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
        Question::Controls => {
            let controls = seen(rest.custom_controls().await)?;
            Fact::Controls(buttons(&controls.unwrap_or_default()))
        }
        Question::Presets => {
            let presets = seen(rest.temperature_presets().await)?.unwrap_or_default();
            // The command takes `off` for the heaters.
            let names = presets.into_iter().map(|preset| preset.name).filter(|name| name != "off");
            Fact::Presets(names.take(MOST_PRESETS).collect())
        }
        Question::SdCard => Fact::SdCard(seen(rest.is_card_ready().await)?.is_some()),
        Question::Prompt => Fact::Prompt(seen(rest.printer_prompt().await)?.flatten()),
        Question::Power => Fact::Power(without_plugin(rest.psu_state().await)?),
        Question::Update => Fact::Update(seen(rest.check_for_update().await)?.flatten()),
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

/// The answer of a plugin; `None` also if OctoPrint does not have it.
fn without_plugin<T>(answer: Result<Option<T>, RestError>) -> Result<Option<T>, RestError> {
    match seen(answer) {
        Err(error) if error.status() == Some(400) => Ok(None),
        answer => Ok(answer?.flatten()),
    }
}

/// The controls that need nothing but a press.
fn buttons(controls: &[CustomControl]) -> Vec<ControlButton> {
    let button = |control: &CustomControl| {
        control.fill(&serde_json::Map::new()).ok()?;
        Some(ControlButton { name: control.address(controls).to_owned(), asks: control.asks })
    };
    controls.iter().filter_map(button).take(MOST_CONTROLS).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_depend_on_the_type_of_an_event_alone() {
        let after = Question::after(&EventKind::Connected);
        assert_eq!(after, [Question::Profile, Question::Connection, Question::Controls]);
        for other in ["Disconnected", "ConnectivityChanged", "plugin_x_Connected", "ZChange"] {
            assert!(Question::after(&other.into()).is_empty(), "{other}");
        }
    }

    #[test]
    fn only_what_is_of_use_is_asked_for() {
        let scope = |on, discovery| QuestionScope {
            groups: groups(on),
            discovery,
            webcams: on,
            psu_control: on,
        };
        for question in Question::AT_FIRST {
            assert!(question.is_of_use(scope(true, true)), "{question:?}");
        }
        assert!(Question::Webcams.is_of_use(scope(true, false)));
        assert!(!Question::Webcams.is_of_use(scope(false, true)));
        for scope in [scope(true, false), scope(false, true)] {
            use Question::{Controls, Presets, SdCard, SystemCommands};
            for question in [SystemCommands, Controls, Presets, SdCard] {
                assert!(!question.is_of_use(scope), "{question:?}");
            }
            assert!(Question::Connection.is_of_use(scope));
        }
    }

    #[test]
    fn a_button_needs_nothing_but_a_press() {
        let controls = CustomControl::read_all(&serde_json::json!({"controls": [
            {"name": "Mesh", "command": "G29", "confirm": "Sure?"},
            {"name": "Fan", "command": "M106 S%(speed)s", "input": [{"parameter": "speed"}]},
            {"name": "Case", "children": [{"name": "Mesh", "command": "X"}]},
        ]}));
        let button = |name: &str, asks| ControlButton { name: name.to_owned(), asks };
        // The first one's path is its name.
        assert_eq!(buttons(&controls), [button("Mesh", true), button("Case/Mesh", false)]);
    }

    fn groups(all: bool) -> Commands {
        Commands {
            bridge: all,
            job: all,
            temperature: all,
            motion: all,
            connection: all,
            power: all,
            gcode: all,
            system: all,
        }
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
}
