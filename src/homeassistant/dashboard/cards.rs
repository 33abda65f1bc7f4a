//! Cards that several views have (pure).

use serde_json::{Value, json};

use super::entities::{Device, Entity};

/// States of a printer with a print. Home Assistant compares them with the state sensor's.
pub(super) const WITH_PRINT: &[&str] =
    &["starting", "printing", "pausing", "paused", "resuming", "cancelling", "finishing"];

/// A card with further members.
pub(super) fn with(mut card: Value, members: Value) -> Value {
    if let (Value::Object(card), Value::Object(members)) = (&mut card, members) {
        card.extend(members);
    }
    card
}

/// A tile with a name; `columns` of the twelve of a section.
pub(super) fn tile(entity: &Entity, name: &str, columns: u8) -> Value {
    json!({"type": "tile", "entity": entity.id, "name": name, "grid_options": {"columns": columns}})
}

/// Shows a card only while `entity` has one of `states`.
pub(super) fn while_in(card: Value, entity: &str, states: &[&str]) -> Value {
    with(card, json!({"visibility": [{"condition": "state", "entity": entity, "state": states}]}))
}

/// Shows a card while a print is on, as far as the printer has a state.
pub(super) fn while_printing(card: Value, device: &Device) -> Value {
    match device.id("state") {
        Some(state) => while_in(card, state, WITH_PRINT),
        None => card,
    }
}

/// A section of a view; `None` without cards but for the heading.
pub(super) fn section(heading: Value, cards: Vec<Value>) -> Option<Value> {
    if cards.is_empty() {
        return None;
    }
    let cards: Vec<Value> = std::iter::once(heading).chain(cards).collect();
    Some(json!({"type": "grid", "cards": cards}))
}
