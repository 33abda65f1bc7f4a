//! What is left to do for a printer one of whose tasks has panicked.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;

use super::commands::Command;
use super::{Memory, Printer, commands as command, prints};
use crate::bridge::hub::watch::Watch;
use crate::bridge::printer::commands::answers::Failure;
use crate::clock;
use crate::metrics::Latency;
use crate::mqtt::{Incoming, Kind, Publication};
use crate::octoprint::{SocketState as State, Status};

/// How long a socket may take to let go.
const LEAVE: Duration = Duration::from_secs(2);

impl Printer {
    /// Says offline, answers the command that was in hand, and lets the socket go.
    pub async fn leave(&mut self, pause: Duration) {
        self.online = false;
        self.publish_availability();
        let status = self.socket.status().borrow().clone();
        let waiting = Status {
            state: State::Waiting,
            transport: None,
            next_attempt_in: Some(pause),
            error: Some("a task of this printer failed; see the bridge's log".to_owned()),
            ..status
        };
        if let Some(payload) = self.socket_state.update(&waiting, clock::now()) {
            self.publish_socket(payload);
        }
        if let Some(incoming) = self.in_hand.take()
            && let Some(name) = self.topics.command_name(&incoming.topic)
        {
            let failure = Failure::new(
                "the bridge failed at this command, so it is unknown whether OctoPrint obeyed",
            );
            self.answers().answer(&command::asked(name, &incoming.payload), Err(failure));
        }
        // Told or not: what holds on to it goes with the task.
        let _ = tokio::time::timeout(LEAVE, self.socket.close()).await;
    }

    /// Refuses a command while the printer's tasks are away. An emergency stop is tried all the
    /// same: it needs none of them.
    pub fn refuse(&mut self, incoming: Incoming) {
        let Some(name) = self.topics.command_name(&incoming.topic) else { return };
        // An empty one is how retained ones are cleared; that of `reconnect` is of no use now.
        if incoming.payload.is_empty() {
            return;
        }
        let asked = command::asked(name, &incoming.payload);
        let kind = Kind::Fleeting { retain: true };
        self.publish(Publication::new(self.lane, self.topics.command(name), Vec::new(), kind));
        match command::check(&asked, &self.rules) {
            Ok(stop @ Command::EmergencyStop) if !incoming.retained => {
                self.executor.submit(asked, stop, false);
            }
            _ => {
                let failure = Failure::new(
                    "a task of this printer failed and is begun anew soon; commands are not kept for later",
                );
                self.answers().answer(&asked, Err(failure));
            }
        }
    }

    /// What the next one goes on from: what a restart of the bridge would find, and the messages
    /// that were received and not looked at.
    pub fn dissolve(mut self: Box<Self>, latency: Latency) -> Memory {
        let (watch, failures) = Watch::new();
        let (tell, found) = mpsc::channel(prints::FOUND);
        let mut left = std::mem::take(&mut self.left);
        while let Ok(received) = self.messages.try_recv() {
            left.push_back(received);
        }
        // What only shows the state of an earlier connection says nothing any more.
        let lasting = |kind: &str| !matches!(kind, "connected" | "current" | "history");
        let left: VecDeque<_> =
            left.into_iter().filter(|(message, _)| lasting(message.kind())).collect();
        let Self { rate, last_event, home_assistant, prints, .. } = *self;
        let prints = prints.again(tell, watch.clone());
        let home_assistant = home_assistant.map(|home_assistant| home_assistant.again());
        Memory { rate, last_event, home_assistant, prints, found, latency, left, watch, failures }
    }
}
