//! Height and tool (pure).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::change::{Published, StateChange, StateTopic};
use super::json::{Present, Raw, member, number, object};
use super::printer_state::PrinterState;
use crate::octoprint::EventKind;

/// Heights that can be, in mm.
const MILLIMETRES: (f64, f64) = (-100_000.0, 100_000.0);

#[derive(Debug, Default)]
pub(super) struct Position {
    z: Option<f64>,
    tool: Option<i64>,
    /// Whether the state has the tool, as since OctoPrint 2.0, which also keeps a height over the
    /// end of a connection.
    is_new: bool,
    /// The height as it was at the end of the last connection: none of this one.
    stale: Option<f64>,
    /// What an event said of the height, for connectors that tell it in no other way.
    from_event: Option<f64>,
    published: Published,
}

#[derive(Serialize)]
struct PositionPayload {
    z: Option<f64>,
    tool: Option<i64>,
}

impl Position {
    /// Folds in what a message has of it.
    pub(super) fn apply(
        &mut self,
        current_z: Raw<'_>,
        current_tool: Present<'_>,
        state: PrinterState,
    ) -> Option<StateChange> {
        self.is_new = current_tool.is_present();
        if let Some(raw) = current_tool.raw() {
            self.tool = member(Some(raw)).filter(is_tool);
        }
        let height = number(current_z, MILLIMETRES);
        self.z = if self.is_new { self.new_height(height, state) } else { height };
        self.change()
    }

    fn new_height(&mut self, height: Option<f64>, state: PrinterState) -> Option<f64> {
        if state.is_closed() || state == PrinterState::Connecting {
            (self.stale, self.from_event) = (height, None);
            return None;
        }
        if height != self.stale {
            self.stale = None;
        }
        height.filter(|_| self.stale.is_none()).or(self.from_event)
    }

    /// Folds in an event.
    pub(super) fn event(
        &mut self,
        kind: &EventKind,
        payload: Option<&RawValue>,
    ) -> Option<StateChange> {
        #[derive(Deserialize, Default)]
        struct New<'a> {
            #[serde(borrow, default)]
            new: Raw<'a>,
        }
        match kind {
            EventKind::ToolChange if !self.is_new => {
                self.tool = member(object::<New<'_>>(payload).new).filter(is_tool);
            }
            EventKind::ZChange => {
                self.stale = None;
                self.from_event = number(object::<New<'_>>(payload).new, MILLIMETRES);
            }
            // The firmware starts with its own tool, whatever was chosen before.
            EventKind::Connected | EventKind::PrinterReset => {
                self.tool = self.tool.filter(|_| self.is_new);
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
