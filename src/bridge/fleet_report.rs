//! How a printer's task reports what the printer does.

use tokio::sync::mpsc;

use super::fleet::Duty;

/// Index of a printer in the configuration, and what it does now.
pub type Report = (usize, Duty);

/// Reports what one printer does.
#[derive(Debug, Clone)]
pub struct FleetReporter {
    index: usize,
    // Printers report changes only, and a printer's task must not wait for the hub.
    reports: mpsc::UnboundedSender<Report>,
    /// What was reported last.
    last: Duty,
}

impl FleetReporter {
    /// Reports for the printer at `index` of the configuration.
    pub fn new(index: usize, reports: mpsc::UnboundedSender<Report>) -> Self {
        Self { index, reports, last: Duty::default() }
    }

    /// Reports `duty` if it differs from the last report.
    pub fn report(&mut self, duty: Duty) {
        if duty != self.last {
            self.last = duty;
            // Fails only if the bridge has failed.
            let _ = self.reports.send((self.index, duty));
        }
    }
}
