//! How a printer's task handles OctoPrint's events.

use super::Printer;
use super::failure_hold::FailureHold;
use super::messages::received;
use super::persisted::JsonPayload;
use super::snapshot::EventFields;
use crate::clock;
use crate::octoprint::{Event, EventKind, Message};
use crate::receipt::Receipt;

impl Printer {
    /// Handles an event, or holds a PrintFailed until it is known why.
    pub(super) fn take_event(&mut self, message: &Message, event: &Event<'_>, receipt: Receipt) {
        self.release_failure(|failure| failure.take_before(message.kind(), Some(&event.kind)));
        let fields = EventFields::read(&event.kind, event.payload);
        if FailureHold::wants(&event.kind, &fields) && !self.mapping.snapshot.is_cause_settled() {
            // The receipt ends here: the wait is no latency of the broker.
            self.failure.hold(message.clone(), clock::now());
            return;
        }
        self.handle_event(message, event, &fields, receipt);
        if !self.failure.is_empty() && self.mapping.snapshot.is_cause_settled() {
            self.release_failure(FailureHold::take);
        }
    }

    pub(super) fn release_failure(
        &mut self,
        take: impl FnOnce(&mut FailureHold) -> Option<Message>,
    ) {
        let Some(message) = take(&mut self.failure) else { return };
        // It was readable when it was held.
        let Ok(event) = message.json::<Event<'_>>() else { return };
        let fields = EventFields::read(&event.kind, event.payload);
        self.handle_event(&message, &event, &fields, Receipt::unmeasured());
    }

    fn handle_event(
        &mut self,
        message: &Message,
        event: &Event<'_>,
        fields: &EventFields<'_>,
        receipt: Receipt,
    ) {
        if event.kind == EventKind::PrintStarted {
            self.commands.print_started();
        }
        let mut publications = self.mapping.map_event(message, event, fields, &receipt);
        // The publications carry clones: the last one that is settled notifies the socket.
        drop(receipt);
        let (now, rest) = (message.received().into_std(), self.socket.rest());
        let effect = self.memory.prints.event(&event.kind, fields, now, &rest);
        effect.amend(&mut publications, &event.kind, &self.outlet.topics);
        // What is persisted of a print goes before the record in which its end is reported: after a
        // crash the end may come again, and is not lost.
        if let Some(step) = &effect.step {
            self.visit(received(message), |feature, scene| feature.print(step, scene));
        }
        if let Some(last) = publications.iter().find(|p| p.topic == self.outlet.topics.last_event) {
            self.memory.last_event.set(Some(JsonPayload(last.payload.clone())));
        }
        self.outlet.publish_all(publications);
        self.visit(received(message), |feature, scene| feature.event(event, scene));
        self.questions.follow(&event.kind, clock::now());
    }
}
