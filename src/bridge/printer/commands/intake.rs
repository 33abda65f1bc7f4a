//! Takes commands from the broker: topic and payload -> parsed -> admitted -> executed -> answered.

use tokio::sync::mpsc;

use super::admission::{Admission, Admitted};
use super::answers::{Answers, CommandError};
use super::command::Command;
use super::executor::{Effect, Equipment, Executor};
use super::{Rules, check, empty_is_a_command, read_request};
use crate::bridge::printer::snapshot::Snapshot;
use crate::bridge::watch::Watch;
use crate::clock;
use crate::mqtt::{Broker, Incoming, Kind, Publication};
use crate::octoprint::{FilePath, Socket, SocketState};
use crate::topics::{PrinterTopics, Topic};

/// Takes the commands of one printer from the broker.
pub struct Intake {
    topics: PrinterTopics,
    socket: Socket,
    admission: Admission,
    executor: Executor,
    answers: Answers,
    /// The command that is being processed.
    current: Option<Incoming>,
    /// Number of empty `reconnect` messages that the bridge published and will receive back.
    echoes: u32,
}

impl Intake {
    /// Starts the executor, watched by `watch`. Returns also a channel of what commands
    /// have done.
    pub fn start(
        rules: Rules,
        lane: usize,
        topics: PrinterTopics,
        broker: Broker,
        equipment: Equipment,
        watch: Watch,
    ) -> (Self, mpsc::UnboundedReceiver<Effect>) {
        let (accepted, effects) = mpsc::unbounded_channel();
        let (topic, last) = (topics.result.clone(), topics.last_command.clone());
        let answers = Answers { lane, topic, last, broker };
        let intake = Self {
            topics,
            admission: Admission::new(rules, clock::now()),
            socket: equipment.socket.clone(),
            executor: Executor::start(equipment, answers.clone(), accepted, watch),
            answers,
            current: None,
            echoes: 0,
        };
        (intake, effects)
    }

    /// Notes that OctoPrint has reported the start of a print.
    pub fn print_started(&self) {
        self.executor.print_started();
    }

    /// Runs a command, or answers why it is refused. `snapshot` is the known state of the printer, and
    /// `last` the last printed file.
    pub fn take(&mut self, incoming: Incoming, snapshot: &Snapshot, last: Option<FilePath>) {
        let incoming = self.current.insert(incoming).clone();
        #[cfg(test)]
        assert!(!incoming.topic.ends_with("/set/panic"), "a test");
        self.run(&incoming, snapshot, last);
        self.current = None;
    }

    fn run(&mut self, incoming: &Incoming, snapshot: &Snapshot, last: Option<FilePath>) {
        let Some(name) = self.topics.command_name(&incoming.topic) else { return };
        let reconnect = empty_is_a_command(name);
        let request = read_request(name, &incoming.payload);
        if !incoming.payload.is_empty() {
            self.clear(incoming, reconnect);
        } else if !reconnect {
            return;
        } else if self.echoes > 0 {
            self.echoes -= 1;
            return;
        }
        if incoming.retained {
            let refusal = "a retained command is refused, because it may be an old one, and is cleared from the broker; publish commands without the retain flag";
            self.answers.answer(&request, &Err(CommandError::new(refusal)));
            return;
        }
        let connected = self.socket.status().borrow().state == SocketState::Connected;
        match self.admission.admit(&request, snapshot, connected, clock::now()) {
            Ok(Admitted { command: Command::PrintAgain(_), known }) => {
                self.executor.submit(request, Command::PrintAgain(last), known);
            }
            Ok(Admitted { command, known }) => self.executor.submit(request, command, known),
            Err(failure) => self.answers.answer(&request, &Err(failure)),
        }
    }

    /// Clears the command from the broker: a live message does not show whether it is retained there.
    fn clear(&mut self, incoming: &Incoming, reconnect: bool) {
        let Some(topic) = incoming.own_topic() else { return };
        if reconnect && self.answers.broker.status().borrow().connected {
            self.echoes += 1;
        }
        self.publish_empty(topic);
    }

    fn publish_empty(&self, topic: Topic) {
        let kind = Kind::Fleeting { retain: true };
        self.answers.broker.publish(Publication::new(self.answers.lane, topic, Vec::new(), kind));
    }

    /// Resets the echoes when the connection to the broker is lost: they never arrive then.
    pub fn forget_echoes(&mut self) {
        self.echoes = 0;
    }

    /// Answers the command during which the printer's task panicked, if there was one.
    pub fn fail(&mut self) {
        if let Some(incoming) = self.current.take()
            && let Some(name) = self.topics.command_name(&incoming.topic)
        {
            let failure = CommandError::new(
                "the bridge failed at this command, so it is unknown whether OctoPrint obeyed",
            );
            self.answers.answer(&read_request(name, &incoming.payload), &Err(failure));
        }
    }

    /// Refuses a command while the printer's tasks are down. An emergency stop is tried anyway: it
    /// does not need them.
    pub fn refuse(&self, incoming: &Incoming) {
        let Some(name) = self.topics.command_name(&incoming.topic) else { return };
        // An empty payload clears a retained command. An empty `reconnect` is of no use now.
        if incoming.payload.is_empty() {
            return;
        }
        let request = read_request(name, &incoming.payload);
        self.publish_empty(self.topics.command(name));
        match check(&request, &self.admission.rules) {
            Ok(stop @ Command::EmergencyStop) if !incoming.retained => {
                self.executor.submit(request, stop, false);
            }
            _ => {
                let failure = CommandError::new(
                    "a task of this printer failed and will be restarted soon; commands are not queued meanwhile",
                );
                self.answers.answer(&request, &Err(failure));
            }
        }
    }
}
