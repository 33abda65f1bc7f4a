//! What the printer asks, or waits for: prompts of the firmware, a change of filament, and `M0` in a
//! file.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Background, Feature, FeatureParts, Scene};
use crate::bridge::printer::discovery::facts::Fact;
use crate::bridge::printer::messages::event::PRINT;
use crate::bridge::printer::snapshot::PrinterState;
use crate::bridge::printer::snapshot::json::{Raw, member, object};
use crate::octoprint::{
    Event, EventKind, Message, MessageKind, PROMPT_PLUGIN, Plugin, PrinterPrompt,
};
use crate::timestamp;

/// Text of a change of filament that the firmware asks nothing about.
const FILAMENT: &str = "Filament change";
/// Text of a pause in the file that has none.
const PAUSE: &str = "The print waits to be resumed";
/// Commands in a file that OctoPrint takes as a pause and does not send.
const PAUSES: [&str; 2] = ["M0", "M1"];
/// Number of later positions in the file after which a printer without a prompt waits no more: a line
/// or two are read ahead.
const GOES_ON: u8 = 3;

/// Publishes what the printer asks, and an event when it begins and ceases to.
#[derive(Default)]
pub(super) struct Prompts {
    shown: Option<ShownPrompt>,
    /// Whether a prompt may have been missed.
    unsure: bool,
    published: Option<Vec<u8>>,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq)]
struct ShownPrompt {
    prompt: PrinterPrompt,
    since: SystemTime,
    /// `None` if the firmware asks itself, and so tells when it ceases to.
    inferred: Option<FilePosition>,
    /// Whether only an answer of OctoPrint shows it: its plugin may not tell when it ceases.
    asked: bool,
}

/// Positions in the file since the printer began to wait.
#[derive(Debug, Clone, PartialEq, Default)]
struct FilePosition {
    last: Option<f64>,
    changes: u8,
}

#[derive(Serialize)]
struct PromptPayload<'a> {
    text: Option<&'a str>,
    choices: Option<&'a [String]>,
    #[serde(serialize_with = "timestamp::serialize")]
    since: Option<SystemTime>,
}

#[derive(Serialize)]
struct PromptEventPayload<'a> {
    event_type: &'static str,
    text: &'a str,
    choices: &'a [String],
    timestamp: u64,
}

impl Prompts {
    pub(super) fn make(_: &FeatureParts<'_>) -> Option<Box<dyn Feature>> {
        Some(Box::new(Self::default()))
    }

    fn show(&mut self, prompt: PrinterPrompt, inferred: bool, scene: &mut Scene<'_>) {
        if self.shown.as_ref().is_some_and(|shown| shown.prompt == prompt) {
            return;
        }
        tell("prompt_shown", &prompt, scene);
        self.set(Some(prompt), inferred, scene);
    }

    fn close(&mut self, scene: &mut Scene<'_>) {
        if let Some(shown) = self.shown.take() {
            tell("prompt_closed", &shown.prompt, scene);
            self.publish(scene);
        }
    }

    fn set(&mut self, prompt: Option<PrinterPrompt>, inferred: bool, scene: &mut Scene<'_>) {
        self.shown = prompt.map(|prompt| ShownPrompt {
            prompt,
            since: scene.now.wall,
            inferred: inferred.then(FilePosition::default),
            asked: false,
        });
        self.publish(scene);
    }

    fn publish(&mut self, scene: &mut Scene<'_>) {
        let shown = self.shown.as_ref();
        let payload = PromptPayload {
            text: shown.map(|shown| shown.prompt.text.as_str()),
            choices: shown.map(|shown| shown.prompt.choices.as_slice()),
            since: shown.map(|shown| shown.since),
        };
        // Texts always have a JSON form.
        let payload = serde_json::to_vec(&payload).unwrap_or_default();
        if self.published.as_ref() != Some(&payload) {
            scene.publish_state(&scene.topics.prompt, payload.clone());
            self.published = Some(payload);
        }
    }

    /// Shows what the printer waits for, where no prompt says it.
    fn infer(&mut self, text: &str, scene: &mut Scene<'_>) {
        if self.shown.is_none() && is_print(scene.snapshot.state()) {
            let prompt = PrinterPrompt { text: text.to_owned(), choices: Vec::new() };
            self.show(prompt, true, scene);
        }
    }

    /// Closes what was inferred once the print goes on, or is over.
    fn observe(&mut self, message: &Message, scene: &mut Scene<'_>) {
        let state = scene.snapshot.state();
        let Some(position) = self.shown.as_mut().and_then(|shown| shown.inferred.as_mut()) else {
            return;
        };
        if state == PrinterState::Printing {
            position.follow(message);
        }
        if position.changes >= GOES_ON || !is_print(state) {
            self.close(scene);
        }
    }
}

impl FilePosition {
    fn follow(&mut self, message: &Message) {
        #[derive(Deserialize, Default)]
        struct Positioned<'a> {
            #[serde(borrow, default)]
            progress: Raw<'a>,
        }
        #[derive(Deserialize, Default)]
        struct PositionInFile<'a> {
            #[serde(borrow, default)]
            filepos: Raw<'a>,
        }
        let Positioned { progress } = message.json().unwrap_or_default();
        let PositionInFile { filepos } = object(progress);
        let Some(position) = member::<f64>(filepos) else { return };
        if self.last.replace(position).is_some_and(|last| last != position) {
            self.changes += 1;
        }
    }
}

fn is_print(state: PrinterState) -> bool {
    use PrinterState::{Paused, Pausing, Printing, Resuming, Starting};
    matches!(state, Starting | Printing | Pausing | Paused | Resuming)
}

fn tell(event_type: &'static str, prompt: &PrinterPrompt, scene: &mut Scene<'_>) {
    let payload = PromptEventPayload {
        event_type,
        text: &prompt.text,
        choices: &prompt.choices,
        timestamp: timestamp::unix(scene.now.wall),
    };
    if let Ok(payload) = serde_json::to_vec(&payload) {
        scene.publish(&scene.topics.prompt_event, payload, PRINT);
    }
}

/// The text of a pause in the file, such as that of `M0 Insert the nut`.
fn pause_text(event: &Event<'_>) -> Option<String> {
    #[derive(Deserialize, Default)]
    struct Suppressed<'a> {
        #[serde(borrow, default)]
        command: Raw<'a>,
    }
    let command: String = member(object::<Suppressed<'_>>(event.payload).command)?;
    let mut words = command.split_whitespace();
    PAUSES.contains(&words.next()?).then_some(())?;
    // Parameters are no text.
    let is_parameter = |word: &&str| {
        word.strip_prefix(['P', 'S']).is_some_and(|value| value.parse::<f64>().is_ok())
    };
    let text: Vec<&str> = words.skip_while(is_parameter).collect();
    Some(if text.is_empty() { PAUSE.to_owned() } else { text.join(" ") })
}

impl Feature for Prompts {
    fn start(&mut self, scene: &mut Scene<'_>) {
        self.published = None;
        self.publish(scene);
    }

    fn event(&mut self, event: &Event<'_>, scene: &mut Scene<'_>) {
        let is_inferred = self.shown.as_ref().is_some_and(|shown| shown.inferred.is_some());
        match event.kind {
            EventKind::FilamentChange => self.infer(FILAMENT, scene),
            EventKind::CommandSuppressed => {
                if let Some(text) = pause_text(event) {
                    self.infer(&text, scene);
                }
            }
            EventKind::PrintResumed if is_inferred => self.close(scene),
            EventKind::Connected | EventKind::Disconnected => self.close(scene),
            _ => {}
        }
    }

    fn message(&mut self, message: &Message, scene: &mut Scene<'_>) {
        match message.kind() {
            MessageKind::Connected => self.unsure = true,
            MessageKind::Current | MessageKind::History => self.observe(message, scene),
            _ => {}
        }
    }

    fn plugin(&mut self, plugin: &Plugin<'_>, scene: &mut Scene<'_>) {
        let data = plugin.data.filter(|_| plugin.plugin == PROMPT_PLUGIN);
        let Some(data) = member::<Value>(data) else { return };
        self.unsure = false;
        match (data["action"].as_str(), PrinterPrompt::read(&data)) {
            (Some("show"), Some(prompt)) => self.show(prompt, false, scene),
            (Some("close"), _) => self.close(scene),
            _ => {}
        }
    }

    fn learn(&mut self, fact: &Fact, scene: &mut Scene<'_>) {
        let Fact::Prompt(prompt) = fact else { return };
        let was_asked = self.shown.as_ref().is_some_and(|shown| shown.asked);
        // Otherwise the plugin's messages are newer.
        if !std::mem::take(&mut self.unsure) {
            if was_asked && prompt.is_none() {
                self.close(scene);
            }
            return;
        }
        let shown = self.shown.as_ref();
        let is_known = shown.map(|shown| &shown.prompt) == prompt.as_ref();
        let is_inferred = shown.is_some_and(|shown| shown.inferred.is_some());
        let is_unasked = prompt.is_none() && is_inferred;
        if !is_known && !is_unasked {
            self.set(prompt.clone(), false, scene);
            self.shown.iter_mut().for_each(|shown| shown.asked = true);
        }
    }

    fn restart(&mut self, _: &Background) {
        self.unsure = true;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bridge::printer::features::stage::Stage;
    use crate::bridge::printer::features::{pass_message, plugin_of};

    struct Play {
        stage: Stage,
        feature: Prompts,
    }

    impl Play {
        fn new(state: &str) -> Self {
            let mut play = Self { stage: Stage::new(), feature: Prompts::default() };
            play.stage.run(|scene| play.feature.start(scene));
            play.current(state, 0);
            play
        }

        fn tell(&mut self, kind: &str, payload: &Value) -> Vec<(String, Value)> {
            let now = tokio::time::Instant::now();
            let text = payload.to_string();
            if kind == "current" {
                self.stage.snapshot.apply(&text, self.stage.now).unwrap();
            }
            let message = Message::new(kind, text.into(), now, self.stage.now.wall, 1).unwrap();
            let feature = &mut self.feature;
            let plugin = plugin_of(&message);
            self.stage.run(|scene| pass_message(feature, &message, plugin.as_ref(), scene))
        }

        fn current(&mut self, state: &str, filepos: u64) -> Vec<(String, Value)> {
            let flags = json!({"operational": true, "printing": state == "Printing"});
            self.tell(
                "current",
                &json!({"state": {"text": state, "flags": flags},
                "progress": {"filepos": filepos}}),
            )
        }

        fn plugin(&mut self, data: &Value) -> Vec<(String, Value)> {
            self.tell("plugin", &json!({"plugin": "action_command_prompt", "data": data}))
        }

        fn event(&mut self, kind: &str, payload: &Value) -> Vec<(String, Value)> {
            self.stage.event(&mut self.feature, kind, payload)
        }

        fn learn(&mut self, prompt: Option<PrinterPrompt>) -> Vec<(String, Value)> {
            let feature = &mut self.feature;
            self.stage.run(|scene| feature.learn(&Fact::Prompt(prompt), scene))
        }
    }

    fn shows(said: &[(String, Value)], text: &str, choices: &[&str]) {
        let [(event, told), (state, shown)] = said else { panic!("{said:?}") };
        assert_eq!((event.as_str(), state.as_str()), ("prompt_event", "prompt"));
        assert_eq!(told["event_type"], "prompt_shown");
        for said in [told, shown] {
            assert_eq!((&said["text"], &said["choices"]), (&json!(text), &json!(choices)));
        }
        assert!(shown["since"].is_string());
    }

    fn closes(said: &[(String, Value)], text: &str) {
        let [(_, told), (_, shown)] = said else { panic!("{said:?}") };
        assert_eq!((&told["event_type"], &told["text"]), (&json!("prompt_closed"), &json!(text)));
        assert_eq!(*shown, json!({"text": null, "choices": null, "since": null}));
    }

    #[tokio::test]
    async fn a_prompt_is_shown_until_it_is_closed() {
        let mut play = Play::new("Printing");
        let show = json!({"action": "show", "text": "Nozzle", "choices": ["Purge", "Go on"]});
        shows(&play.plugin(&show), "Nozzle", &["Purge", "Go on"]);
        assert!(play.plugin(&show).is_empty(), "it is shown already");
        assert!(play.event("FilamentChange", &json!(null)).is_empty(), "the prompt says it");
        // The firmware tells when it is over, whatever the print does.
        assert!(play.event("PrintResumed", &json!({})).is_empty());
        assert!((1..9).all(|position| play.current("Printing", position).is_empty()));
        closes(&play.plugin(&json!({"action": "close"})), "Nozzle");
        assert!(play.plugin(&json!({"action": "close"})).is_empty());
        assert!(play.plugin(&json!({"action": "show", "text": 5})).is_empty());
        let other = json!({"plugin": "other", "data": {"action": "show", "text": "x"}});
        assert!(play.tell("plugin", &other).is_empty());
    }

    #[tokio::test]
    async fn a_change_of_filament_lasts_until_the_print_goes_on() {
        let mut play = Play::new("Printing");
        shows(&play.event("FilamentChange", &json!(null)), FILAMENT, &[]);
        // Lines that were read ahead.
        for position in [10, 20, 30, 30, 30] {
            assert!(play.current("Printing", position).is_empty(), "{position}");
        }
        closes(&play.current("Printing", 40), FILAMENT);
        shows(&play.event("FilamentChange", &json!(null)), FILAMENT, &[]);
        closes(&play.current("Operational", 40), FILAMENT);
        assert!(play.event("FilamentChange", &json!(null)).is_empty(), "nothing is printed");
    }

    #[tokio::test]
    async fn a_pause_in_the_file_is_told_with_its_text() {
        let mut play = Play::new("Printing");
        let suppressed = |command: &str| json!({"command": command, "message": "x"});
        assert!(play.event("CommandSuppressed", &suppressed("M140 S60")).is_empty());
        let said = play.event("CommandSuppressed", &suppressed("M0 P500 Insert  the nut"));
        shows(&said, "Insert the nut", &[]);
        play.current("Paused", 5);
        closes(&play.event("PrintResumed", &json!({})), "Insert the nut");
        shows(&play.event("CommandSuppressed", &suppressed("M1 S5")), PAUSE, &[]);
        closes(&play.event("Disconnected", &json!(null)), PAUSE);
    }

    #[tokio::test]
    async fn what_was_asked_before_the_connection_is_shown_without_an_event() {
        let prompt = PrinterPrompt { text: "Nozzle".to_owned(), choices: vec!["Go on".to_owned()] };
        let mut play = Play::new("Printing");
        assert!(play.learn(Some(prompt.clone())).is_empty(), "no message can have been missed");
        play.tell("connected", &json!({}));
        let said = play.learn(Some(prompt.clone()));
        let [(topic, shown)] = said.as_slice() else { panic!("{said:?}") };
        assert_eq!((topic.as_str(), &shown["text"]), ("prompt", &json!("Nozzle")));
        play.tell("connected", &json!({}));
        assert!(play.learn(Some(prompt.clone())).is_empty(), "it asks the same still");
        play.tell("connected", &json!({}));
        let said = play.learn(None);
        assert_eq!(said[0].1["text"], json!(null), "it was answered meanwhile");
        // A message is newer than an answer that was on its way.
        play.tell("connected", &json!({}));
        play.plugin(&json!({"action": "show", "text": "Nozzle", "choices": []}));
        assert!(play.learn(None).is_empty());
        // Without messages of the plugin, the answer after the print closes it.
        let mut play = Play::new("Printing");
        play.tell("connected", &json!({}));
        play.learn(Some(prompt.clone()));
        assert!(play.learn(Some(prompt)).is_empty());
        closes(&play.learn(None), "Nozzle");
        // An answer says nothing of what was inferred.
        let mut play = Play::new("Printing");
        play.event("FilamentChange", &json!(null));
        play.tell("connected", &json!({}));
        assert!(play.learn(None).is_empty());
    }
}
