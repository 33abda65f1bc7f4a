//! A dashboard for all printers, of Home Assistant's built-in cards, or better ones (pure).
//!
//! It is made from the discovery messages: what a printer does not have, because a group of commands
//! is off or the printer has no bed, has no card.

mod cards;
mod entities;
mod overview;
mod printer_view;
mod slug;
mod slug_table;
mod yaml;

use serde_json::json;

use self::entities::{Device, Doubt, EntityIds, Member};

/// Number of printers up to which each has a tab.
const MAX_TABS: usize = 8;

/// What a dashboard is made of.
#[derive(Debug, Default)]
pub struct DashboardParts {
    /// The discovery messages of the bridges, several if they share the printers.
    pub bridges: Vec<Vec<u8>>,
    /// The printers' ids and discovery messages.
    pub printers: Vec<(String, Vec<u8>)>,
    /// Whether Home Assistant has the card `mini-graph-card`, which is none of its own.
    pub has_mini_graph_card: bool,
}

/// Returns the dashboard as YAML, for Home Assistant's raw configuration editor.
pub fn dashboard(parts: &DashboardParts) -> String {
    let mut ids = EntityIds::new();
    // In the order in which the bridge announces them.
    let bridges: Vec<Device> = parts.bridges.iter().map(|message| ids.device(message)).collect();
    let member =
        |(id, message): &(String, Vec<u8>)| Member { id: id.clone(), device: ids.device(message) };
    let printers: Vec<Member> = parts.printers.iter().map(member).collect();
    let is_subview = printers.len() > MAX_TABS;
    let views = std::iter::once(overview::view(&bridges, &printers)).chain(
        printers
            .iter()
            .map(|printer| printer_view::view(printer, is_subview, parts.has_mini_graph_card)),
    );
    let dashboard = json!({"title": "3D printers", "views": views.collect::<Vec<_>>()});
    let mut text = HOW_TO.to_owned();
    for Member { id, device } in &printers {
        if let Some(doubt) = device.doubt {
            text += &format!("#\n# Check the entity ids of printers.{id}: {}.\n", reason(doubt));
        }
    }
    text + &yaml::document(&dashboard)
}

const HOW_TO: &str = "\
# A dashboard for all printers, made by `octoprint2mqtt dashboard`.
#
# In Home Assistant: Settings, Dashboards, Add dashboard, New dashboard from scratch; open it, Edit,
# the three dots, Raw configuration editor, and paste this.
";

fn reason(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::Characters => {
            "what Home Assistant makes of the characters of its name is not known here"
        }
        Doubt::Twin => {
            "another device has this name, and Home Assistant numbers them as it discovers them"
        }
    }
}

#[cfg(test)]
mod tests;
