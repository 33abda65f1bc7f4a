//! How a printer's task reports what the printer does.

use tokio::sync::mpsc;

use super::board::Board;
use super::fleet::Duty;

/// What is reported of one printer, which has a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetReport {
    /// It is configured: its id and its name.
    Joined(usize, String, String),
    /// What it does now.
    Works(usize, Duty),
    /// It was removed.
    Left(usize),
}

/// Reports what one printer does.
#[derive(Debug, Clone)]
pub struct FleetReporter {
    number: usize,
    // Printers report changes only, and a printer's task must not wait for the hub.
    reports: mpsc::UnboundedSender<FleetReport>,
    /// What was reported last.
    last: Duty,
    board: Option<Board>,
}

impl FleetReporter {
    /// Reports for the printer with this number.
    pub fn new(number: usize, reports: mpsc::UnboundedSender<FleetReport>) -> Self {
        Self { number, reports, last: Duty::default(), board: None }
    }

    /// The same, with the board of the page.
    pub fn shown_on(self, board: Option<Board>) -> Self {
        Self { board, ..self }
    }

    /// Returns the board of the page, where one is served.
    pub fn board(&self) -> Option<&Board> {
        self.board.as_ref()
    }

    /// Reports `duty` if it differs from the last report.
    pub fn report(&mut self, duty: Duty) {
        if duty != self.last {
            self.last = duty;
            // Fails only if the bridge has failed.
            let _ = self.reports.send(FleetReport::Works(self.number, duty));
        }
    }
}
