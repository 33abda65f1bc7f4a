//! The nozzle's height and the current tool (pure).

use serde::Serialize;

use super::event_fields::EventFields;
use super::json::{LastPayload, Present, Raw, StateChange, StateTopic, member, number};
use super::printer_state::PrinterState;
use crate::octoprint::EventKind;

/// Valid heights, in mm.
const HEIGHTS: (f64, f64) = (-100_000.0, 100_000.0);

#[derive(Debug, Default)]
pub(super) struct Position {
    z: Option<f64>,
    tool: Option<i64>,
    /// Whether messages have the tool, as since OctoPrint 2.0, which also reports the last height
    /// of a closed connection.
    has_tool: bool,
    /// The last height of the previous connection, which is ignored until it changes.
    stale: Option<f64>,
    /// The height of the last `ZChange`, for connectors that report it in no other way.
    from_event: Option<f64>,
    published: LastPayload,
}

#[derive(Serialize)]
struct PositionPayload {
    z: Option<f64>,
    tool: Option<i64>,
}

impl Position {
    /// Folds in `currentZ` and `currentTool`.
    pub(super) fn apply(
        &mut self,
        current_z: Raw<'_>,
        current_tool: Present<'_>,
        state: PrinterState,
    ) -> Option<StateChange> {
        self.has_tool = current_tool.is_present();
        if let Some(raw) = current_tool.raw() {
            self.tool = member(Some(raw)).filter(is_tool);
        }
        let height = number(current_z, HEIGHTS);
        self.z = if self.has_tool { self.height_since_2_0(height, state) } else { height };
        self.change()
    }

    fn height_since_2_0(&mut self, height: Option<f64>, state: PrinterState) -> Option<f64> {
        if state.is_closed() || state == PrinterState::Connecting {
            (self.stale, self.from_event) = (height, None);
            return None;
        }
        if height != self.stale {
            self.stale = None;
        }
        height.filter(|_| self.stale.is_none()).or(self.from_event)
    }

    pub(super) fn event(
        &mut self,
        kind: &EventKind,
        fields: &EventFields<'_>,
    ) -> Option<StateChange> {
        match kind {
            EventKind::ToolChange if !self.has_tool => {
                self.tool = member(fields.new).filter(is_tool);
            }
            EventKind::ZChange => {
                self.stale = None;
                self.from_event = number(fields.new, HEIGHTS);
            }
            // The firmware starts with its default tool.
            EventKind::Connected | EventKind::PrinterReset => {
                self.tool = self.tool.filter(|_| self.has_tool);
                self.from_event = None;
            }
            _ => return None,
        }
        self.change()
    }

    pub(super) fn change(&mut self) -> Option<StateChange> {
        let payload = PositionPayload { z: self.z, tool: self.tool };
        self.published.change(StateTopic::Position, &payload)
    }
}

fn is_tool(tool: &i64) -> bool {
    (0..=255).contains(tool)
}
