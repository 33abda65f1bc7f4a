//! Reports to the hub what the printer does, for `B/bridge/fleet`.

use super::{Background, Feature, FeatureParts, Scene};
use crate::bridge::fleet::{Duty, Occupation};
use crate::bridge::fleet_report::FleetReporter;
use crate::bridge::printer::snapshot::PrinterState;
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
        let occupation = occupation(self.is_online, scene.snapshot.state());
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

/// Returns what a printer in `state` does; `is_online` says whether its OctoPrint is.
fn occupation(is_online: bool, state: PrinterState) -> Occupation {
    if !is_online {
        return Occupation::Offline;
    }
    match state {
        PrinterState::Starting
        | PrinterState::Printing
        | PrinterState::Pausing
        | PrinterState::Resuming
        | PrinterState::Cancelling
        | PrinterState::Finishing => Occupation::Printing,
        PrinterState::Paused => Occupation::Paused,
        PrinterState::Operational | PrinterState::Transferring => Occupation::Idle,
        PrinterState::Offline | PrinterState::Connecting | PrinterState::Unknown => {
            Occupation::Offline
        }
        PrinterState::Error => Occupation::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printer_without_octoprint_is_offline_whatever_it_did() {
        use PrinterState::{
            Connecting, Error, Operational, Paused, Printing, Transferring, Unknown,
        };
        for state in [Printing, Paused, Operational, Error, Unknown] {
            assert_eq!(occupation(false, state), Occupation::Offline);
        }
        for (state, occupation) in [
            (Printing, Occupation::Printing),
            (PrinterState::Cancelling, Occupation::Printing),
            (Paused, Occupation::Paused),
            (Operational, Occupation::Idle),
            (Transferring, Occupation::Idle),
            (PrinterState::Offline, Occupation::Offline),
            (Connecting, Occupation::Offline),
            (Unknown, Occupation::Offline),
            (Error, Occupation::Error),
        ] {
            assert_eq!(super::occupation(true, state), occupation, "{state:?}");
        }
    }
}
