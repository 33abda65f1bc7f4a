//! The commands to one printer: which of them run.

use super::answers::Failure;
use super::rate_limit;
use crate::bridge::printer::{Printer, commands as command};
use crate::clock;
use crate::mqtt::{Incoming, Kind, Publication};
use crate::octoprint::SocketState as State;

impl Printer {
    pub(in crate::bridge::printer) fn take_command(&mut self, incoming: Incoming) {
        let Some(name) = self.topics.command_name(&incoming.topic).map(str::to_owned) else {
            return;
        };
        let reconnect = command::empty_is_a_command(&name);
        if incoming.payload.is_empty() {
            if !reconnect {
                return;
            }
            if self.echoes > 0 {
                self.echoes -= 1;
                return;
            }
        }
        let asked = command::asked(&name, &incoming.payload);
        if !incoming.payload.is_empty() {
            self.clear(&incoming, reconnect);
        }
        if incoming.retained {
            let refusal = "a retained command is refused, for it may be an old one; it is cleared from the broker; publish commands without the retain flag";
            self.answers().answer(&asked, Err(Failure::new(refusal)));
            return;
        }
        match self.checked(&asked) {
            Ok((command, known)) => self.executor.submit(asked, command, known),
            Err(failure) => self.answers().answer(&asked, Err(failure)),
        }
    }

    /// The command, and whether the printer is known to have the heaters that it is about: without
    /// a socket what is known may be old, and OctoPrint is to be asked.
    fn checked(&mut self, asked: &command::Asked) -> Result<(command::Command, bool), Failure> {
        let mut command = command::check(asked, &self.rules)
            .map_err(|refusal| Failure::new(refusal.to_string()))?;
        if !command.is_urgent() && !self.commands.allows(clock::now()) {
            return Err(Failure::new(rate_limit::REFUSAL));
        }
        let connected = self.socket.status().borrow().state == State::Connected;
        if let command::Command::HeatersOff(heaters) = &mut command {
            if connected {
                *heaters = self.mapping.snapshot.heaters();
                heaters.retain(|heater| command::heat::can_be_set(heater));
            }
            let known = !heaters.is_empty();
            return Ok((command, known));
        }
        // With a profile of one extruder OctoPrint lets any tool set the only hotend.
        let checked = command.heater().filter(|h| !matches!(*h, "tool0" | "bed" | "chamber"));
        let Some(heater) = checked else { return Ok((command, true)) };
        if !connected {
            return Ok((command, false));
        }
        match self.mapping.snapshot.is_heater(heater) {
            true => Ok((command, true)),
            false => Err(Failure::no_heater(heater)),
        }
    }

    /// Clears the command from the broker: whether it was published retained cannot be told.
    fn clear(&mut self, incoming: &Incoming, reconnect: bool) {
        let Some(topic) = incoming.own_topic() else { return };
        if reconnect && self.broker.status().borrow().connected {
            self.echoes += 1;
        }
        self.publish(Publication::new(
            self.lane,
            topic,
            Vec::new(),
            Kind::Fleeting { retain: true },
        ));
    }
}
