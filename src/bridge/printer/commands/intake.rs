//! The way of a command: topic and payload -> parsed -> admitted -> executed -> answered.

use tokio::sync::mpsc;

use super::admission::{Admission, Admitted};
use super::answers::{Answers, Failure};
use super::command::Command;
use super::executor::{Executor, Factor};
use super::{Rules, asked, check, empty_is_a_command};
use crate::bridge::hub::watch::Watch;
use crate::bridge::printer::snapshot::Snapshot;
use crate::clock;
use crate::mqtt::{Broker, Incoming, Kind, Publication};
use crate::octoprint::{Socket, SocketState};
use crate::topics::{PrinterTopics, Topic};

/// Takes the commands of one printer from the broker.
pub struct Intake {
    topics: PrinterTopics,
    socket: Socket,
    admission: Admission,
    executor: Executor,
    answers: Answers,
    /// The command that is being looked at.
    in_hand: Option<Incoming>,
    /// Empty `reconnect` messages that the bridge's own clearing will send back.
    echoes: u32,
}

impl Intake {
    /// Starts what runs the commands; `watch` watches it. Yields also the feed and flow rates that
    /// OctoPrint takes.
    pub fn start(
        rules: Rules,
        lane: usize,
        topics: PrinterTopics,
        broker: Broker,
        socket: Socket,
        watch: Watch,
    ) -> (Self, mpsc::UnboundedReceiver<Factor>) {
        let (obeyed, factors) = mpsc::unbounded_channel();
        let (topic, last) = (topics.result.clone(), topics.last_command.clone());
        let answers = Answers { lane, topic, last, broker };
        let intake = Self {
            topics,
            admission: Admission::new(rules, clock::now()),
            executor: Executor::start(socket.clone(), answers.clone(), obeyed, watch),
            socket,
            answers,
            in_hand: None,
            echoes: 0,
        };
        (intake, factors)
    }

    /// Whether the printer's system commands are allowed.
    pub fn allows_system(&self) -> bool {
        self.admission.rules.groups.system
    }

    /// Runs a command, or answers why it does not run. `snapshot` is the printer as it is known.
    pub fn take(&mut self, incoming: Incoming, snapshot: &Snapshot) {
        let incoming = self.in_hand.insert(incoming).clone();
        #[cfg(test)]
        assert!(!incoming.topic.ends_with("/set/panic"), "a test");
        self.run(&incoming, snapshot);
        self.in_hand = None;
    }

    fn run(&mut self, incoming: &Incoming, snapshot: &Snapshot) {
        let Some(name) = self.topics.command_name(&incoming.topic) else { return };
        let reconnect = empty_is_a_command(name);
        let asked = asked(name, &incoming.payload);
        if !incoming.payload.is_empty() {
            self.clear(incoming, reconnect);
        } else if !reconnect {
            return;
        } else if self.echoes > 0 {
            self.echoes -= 1;
            return;
        }
        if incoming.retained {
            let refusal = "a retained command is refused, for it may be an old one; it is cleared from the broker; publish commands without the retain flag";
            self.answers.answer(&asked, &Err(Failure::new(refusal)));
            return;
        }
        let connected = self.socket.status().borrow().state == SocketState::Connected;
        match self.admission.admit(&asked, snapshot, connected, clock::now()) {
            Ok(Admitted { command, known }) => self.executor.submit(asked, command, known),
            Err(failure) => self.answers.answer(&asked, &Err(failure)),
        }
    }

    /// Clears the command from the broker: whether it was published retained cannot be told.
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

    /// The connection to the broker is lost: what was owed on it never comes back.
    pub fn forget_echoes(&mut self) {
        self.echoes = 0;
    }

    /// Answers the command at which the printer's task panicked, if there was one.
    pub fn fail(&mut self) {
        if let Some(incoming) = self.in_hand.take()
            && let Some(name) = self.topics.command_name(&incoming.topic)
        {
            let failure = Failure::new(
                "the bridge failed at this command, so it is unknown whether OctoPrint obeyed",
            );
            self.answers.answer(&asked(name, &incoming.payload), &Err(failure));
        }
    }

    /// Refuses a command while the printer's tasks are away. An emergency stop is tried all the
    /// same: it needs none of them.
    pub fn refuse(&self, incoming: &Incoming) {
        let Some(name) = self.topics.command_name(&incoming.topic) else { return };
        // An empty one is how retained ones are cleared; that of `reconnect` is of no use now.
        if incoming.payload.is_empty() {
            return;
        }
        let asked = asked(name, &incoming.payload);
        self.publish_empty(self.topics.command(name));
        match check(&asked, &self.admission.rules) {
            Ok(stop @ Command::EmergencyStop) if !incoming.retained => {
                self.executor.submit(asked, stop, false);
            }
            _ => {
                let failure = Failure::new(
                    "a task of this printer failed and is begun anew soon; commands are not kept for later",
                );
                self.answers.answer(&asked, &Err(failure));
            }
        }
    }
}
