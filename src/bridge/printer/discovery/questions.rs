//! When to ask OctoPrint's REST API, and for what: on a new connection, after events, now and then.

use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::mpsc;

use super::facts::{Fact, Question, QuestionScope, answer};
use crate::bridge::watch::Watch;
use crate::causes;
use crate::clock;
use crate::octoprint::{EventKind, Message, PROMPT_PLUGIN, Plugin, Rest};

/// How long changes of the files are collected before asking again: they come in bursts.
const BURST: Duration = Duration::from_secs(1);
/// The same if only the free space is read.
const SPACE_BURST: Duration = Duration::from_secs(60);
/// Interval between questions about OctoPrint's own update.
const UPDATE_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// The same after a question that is not answered.
const UPDATE_RETRY: Duration = Duration::from_secs(600);

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
    scope: QuestionScope,
    files_due: Option<Instant>,
    /// When to ask about the update again; `None` before the first time.
    update_due: Option<Instant>,
    /// The version that OctoPrint had on the last connection, and the hash of its plugins.
    version: Option<(String, String)>,
}

impl Questions {
    /// Asks nothing yet, and never what is of no use in this `scope`.
    pub fn new(rest: Rest, watch: Watch, scope: QuestionScope) -> Self {
        let answers = mpsc::channel(4);
        let (files_due, update_due, version) = (None, None, None);
        Self { rest, watch, answers, generation: 0, scope, files_due, update_due, version }
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

    /// Follows a `connected` message: another version of OctoPrint has another update, and other
    /// plugins may be without one.
    pub fn greet(&mut self, connected: &Message) {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct ServerVersion {
            version: String,
            plugin_hash: String,
        }
        let ServerVersion { version, plugin_hash } = connected.json().unwrap_or_default();
        let version = Some((version, plugin_hash));
        if version != self.version {
            (self.version, self.update_due) = (version, None);
        }
    }

    /// Follows a message of a plugin: the entities need the choices of a prompt.
    pub fn follow_plugin(&self, plugin: &Plugin<'_>) {
        if self.scope.discovery && plugin.plugin == PROMPT_PLUGIN {
            self.ask(Question::Prompt);
        }
    }

    fn ask_for_update(&mut self, now: Instant) {
        if self.update_due.is_none_or(|due| due <= now) {
            self.update_due = Some(now + UPDATE_RETRY);
            self.ask(Question::Update);
        }
    }

    /// Asks for everything on a new connection.
    pub fn ask_all(&mut self) {
        self.ask_for_update(clock::now());
        self.generation += 1;
        self.ask(Question::Files { all: self.scope.discovery });
        self.ask_useful(&Question::AT_FIRST);
    }

    fn ask_useful(&self, questions: &[Question]) {
        let useful = |question: &&Question| question.is_of_use(self.scope);
        questions.iter().filter(useful).for_each(|question| self.ask(question.clone()));
    }

    /// Asks for what may have changed with an event.
    pub fn follow(&mut self, event: &EventKind, now: Instant) {
        match event {
            EventKind::UpdatedFiles => {
                let burst = if self.scope.discovery { BURST } else { SPACE_BURST };
                self.files_due.get_or_insert(now + burst);
            }
            EventKind::Connected | EventKind::Disconnected => self.generation += 1,
            _ => {}
        }
        self.ask_useful(Question::after(event));
    }

    /// Returns when [`Questions::flush`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        [self.files_due, self.update_due].into_iter().flatten().min()
    }

    /// Asks the questions that are due.
    pub fn flush(&mut self, now: Instant) {
        if self.files_due.take_if(|at| now >= *at).is_some() {
            self.ask(Question::Files { all: self.scope.discovery });
        }
        if self.update_due.is_some() {
            self.ask_for_update(now);
        }
    }

    /// Waits for the next answer. Cancel safe.
    pub async fn answer(&mut self) -> Option<Box<Fact>> {
        loop {
            let Answered { generation, fact } = *self.answers.1.recv().await?;
            if matches!(fact, Fact::Update(_)) {
                self.update_due = Some(clock::now() + UPDATE_INTERVAL);
            }
            let outdated = matches!(fact, Fact::Connection(_)) && generation != self.generation;
            if !outdated {
                return Some(Box::new(fact));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Commands;
    use crate::octoprint::{PrinterConnection, RestOptions};

    const ALL: Commands = Commands {
        bridge: true,
        job: true,
        temperature: true,
        motion: true,
        connection: true,
        power: true,
        gcode: true,
        system: true,
    };

    fn questions(discovery: bool) -> Questions {
        let rest = Rest::new(RestOptions::unreachable()).unwrap();
        let scope = QuestionScope { groups: ALL, discovery, webcams: true, psu_control: true };
        Questions::new(rest, Watch::new().0, scope)
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

    #[tokio::test(start_paused = true)]
    async fn the_update_is_asked_for_now_and_then_and_after_another_version() {
        let mut questions = questions(false);
        let connected = |version: &str| {
            let payload = serde_json::json!({"version": version}).to_string();
            let now = tokio::time::Instant::now();
            Message::new("connected", payload.into(), now, std::time::SystemTime::now(), 1).unwrap()
        };
        let answered = Box::new(Answered { generation: 0, fact: Fact::Update(None) });
        assert_eq!(questions.due(), None);
        questions.greet(&connected("1.11.7"));
        questions.ask_all();
        let asked = clock::now();
        assert_eq!(questions.due(), Some(asked + UPDATE_RETRY), "there is no answer yet");
        questions.answers.0.clone().send(answered).await.unwrap();
        assert_eq!(*questions.answer().await.unwrap(), Fact::Update(None));
        assert_eq!(questions.due(), Some(asked + UPDATE_INTERVAL));
        questions.flush(asked + UPDATE_INTERVAL / 2);
        questions.greet(&connected("1.11.7"));
        questions.ask_all();
        assert_eq!(questions.due(), Some(asked + UPDATE_INTERVAL), "not asked again");
        questions.flush(asked + UPDATE_INTERVAL);
        assert_eq!(questions.due(), Some(asked + UPDATE_INTERVAL + UPDATE_RETRY));
        questions.greet(&connected("1.11.8"));
        assert_eq!(questions.due(), None);
        questions.ask_all();
        assert_eq!(questions.due(), Some(asked + UPDATE_RETRY));
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
}
