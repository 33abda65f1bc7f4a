//! The printer's card on the page's board.

use std::time::SystemTime;

use super::{Background, Feature, FeatureFinding, FeatureParts, Scene};
use crate::bridge::board::{Board, Card, CardHeater, CardPicture};
use crate::bridge::printer::discovery::facts::Fact;
use crate::bridge::printer::messages::event::print_type;
use crate::bridge::printer::prints::{Outcome, PrintStep};
use crate::heater::HeaterKind;
use crate::octoprint::{Event, EventKind, Message, PictureFormat, Status};
use crate::{config, timestamp};

/// Keeps the card up to date.
pub(super) struct BoardCard {
    board: Board,
    card: Card,
}

impl BoardCard {
    /// Makes it where a page is served.
    pub(super) fn make(parts: &FeatureParts<'_>) -> Option<Box<dyn Feature>> {
        let board = parts.fleet.board()?.clone();
        let card = card(parts.printer);
        board.show(card.clone());
        Some(Box::new(Self { board, card }))
    }

    fn show(&mut self, scene: &Scene<'_>) {
        let snapshot = scene.snapshot;
        self.card.file = snapshot.job_file().map(|job| job.file.path.clone());
        self.card.interval = u64::try_from(scene.push_interval.as_millis()).ok();
        let state = snapshot.state();
        // A state is a word.
        self.card.state = serde_json::to_value(state)
            .ok()
            .and_then(|word| word.as_str().map(str::to_owned))
            .unwrap_or_default();
        let is_on = state.print_is_on() == Some(true);
        self.card.completion = snapshot.completion().filter(|_| is_on);
        let left = |finish: SystemTime| finish.duration_since(scene.now.wall).ok();
        let left = snapshot.finish_time().filter(|_| is_on).and_then(left);
        self.card.time_left = left.map(|left| left.as_secs());
        let reading = |(heater, reading): (&crate::heater::Heater, _)| {
            let crate::bridge::printer::snapshot::HeaterReading { actual, target, .. } = reading;
            CardHeater { heater: heater.to_string(), actual, target }
        };
        let mut readings: Vec<_> = snapshot.readings().collect();
        readings.sort_by_key(|(heater, _)| place(heater.kind()));
        self.card.temperatures = readings.into_iter().map(reading).collect();
        if let Some(picture) = scene.published(&scene.topics.thumbnail) {
            let picture = PictureFormat::of(picture).map(|format| CardPicture {
                media_type: format.media_type(),
                bytes: picture.clone(),
            });
            self.board.show_picture(&self.card.id, picture);
        }
        if !self.card.online {
            self.hide_old();
        }
        self.board.show(self.card.clone());
    }

    /// Hides what was known last, and may be so no longer.
    fn hide_old(&mut self) {
        "offline".clone_into(&mut self.card.state);
        self.card.completion = None;
        self.card.time_left = None;
        self.card.interval = None;
        self.card.temperatures.clear();
    }

    fn note(&mut self, event: &str, at: SystemTime) {
        self.card.last_event = Some(event.to_owned());
        self.card.last_event_at = timestamp::rfc3339(at);
    }
}

/// Returns where a heater stands on the card: hotends, bed, chamber, others.
fn place(kind: HeaterKind) -> u16 {
    match kind {
        HeaterKind::Tool(number) => number.into(),
        HeaterKind::Bed => 256,
        HeaterKind::Chamber => 257,
        HeaterKind::Other => 258,
    }
}

fn card(printer: &config::Printer) -> Card {
    Card {
        id: printer.id.clone(),
        name: printer.name.clone(),
        url: printer.url.to_string(),
        added: printer.added,
        commands: printer
            .commands
            .by_name()
            .into_iter()
            .map(|(name, on)| (name.to_owned(), on))
            .collect(),
        ..Card::default()
    }
}

impl Feature for BoardCard {
    fn start(&mut self, scene: &mut Scene<'_>) {
        self.show(scene);
    }

    fn availability(&mut self, is_online: bool, scene: &mut Scene<'_>) {
        self.card.online = is_online;
        self.show(scene);
    }

    fn socket(&mut self, status: &Status, scene: &mut Scene<'_>) {
        self.card.socket = status.state.as_str().to_owned();
        self.card.error.clone_from(&status.error);
        self.show(scene);
    }

    fn event(&mut self, event: &Event<'_>, scene: &mut Scene<'_>) {
        // Starts and ends come as steps: a PrintFailed follows each PrintCancelled.
        let is_step = matches!(
            event.kind,
            EventKind::PrintStarted
                | EventKind::PrintDone
                | EventKind::PrintFailed
                | EventKind::PrintCancelled
        );
        if let Some(kind) = print_type(&event.kind).filter(|_| !is_step) {
            self.note(kind, scene.now.wall);
        }
        self.show(scene);
    }

    fn message(&mut self, _: &Message, scene: &mut Scene<'_>) {
        self.show(scene);
    }

    fn print(&mut self, step: &PrintStep, scene: &mut Scene<'_>) {
        let kind = match step.result.as_ref().map(|result| result.outcome) {
            None => "print_started",
            Some(Outcome::Done) => "print_done",
            Some(Outcome::Failed) => "print_failed",
            Some(Outcome::Cancelled) => "print_cancelled",
        };
        self.note(kind, step.at.unwrap_or(scene.now.wall));
        self.show(scene);
    }

    fn learn(&mut self, _: &Fact, scene: &mut Scene<'_>) {
        self.show(scene);
    }

    fn find(&mut self, _: &FeatureFinding, scene: &mut Scene<'_>) {
        self.show(scene);
    }

    fn flush(&mut self, scene: &mut Scene<'_>) {
        self.show(scene);
    }

    // The next task says at its start what there is.
    fn restart(&mut self, _: &Background) {}
}
