//! Reports to the hub what the printer does, for `B/bridge/fleet`.

use super::{Background, Feature, FeatureParts, Scene};
use crate::bridge::fleet::{Duty, Occupation};
use crate::bridge::fleet_report::FleetReporter;
use crate::octoprint::{Event, Message};

/// The printer as a member of the fleet.
pub(super) struct FleetMember {
    reporter: FleetReporter,
    is_online: bool,
}

impl FleetMember {
    pub(super) fn make(parts: &FeatureParts<'_>) -> Option<Box<dyn Feature>> {
        Some(Box::new(Self { reporter: parts.fleet.clone(), is_online: false }))
    }

    fn report(&mut self, scene: &Scene<'_>) {
        let occupation = Occupation::of(self.is_online, scene.snapshot.state());
        let finish_time = scene.snapshot.finish_time();
        self.reporter.report(Duty { occupation, finish_time });
    }
}

impl Feature for FleetMember {
    fn availability(&mut self, is_online: bool, scene: &mut Scene<'_>) {
        self.is_online = is_online;
        self.report(scene);
    }

    fn event(&mut self, _: &Event<'_>, scene: &mut Scene<'_>) {
        self.report(scene);
    }

    fn message(&mut self, _: &Message, scene: &mut Scene<'_>) {
        self.report(scene);
    }

    // The next task says at its start that the printer is offline.
    fn restart(&mut self, _: &Background) {}
}
