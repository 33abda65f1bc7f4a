//! Entities for what this OctoPrint and its printer offer: custom controls, temperature
//! presets, an SD card, updates, what the printer asks (pure).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::component::{Component, EntityContext};
use super::controls::{AS_TEXT, CONNECTED, button};
use super::device::ControlButton;
use crate::topic::hash;

/// Longest name of an entity, in characters.
const LONGEST_NAME: usize = 120;

pub(super) fn components(context: &EntityContext<'_>) -> Vec<Component> {
    let mut components = Vec::new();
    if context.printer.groups.gcode {
        components.extend(controls(context));
    }
    if context.printer.groups.temperature {
        components.extend(presets(context));
    }
    if context.printer.groups.job && !context.printer.profile.prompt_choices.is_empty() {
        components.push(answer(context));
    }
    if context.printer.profile.updates {
        components.push(update(context));
    }
    if context.printer.groups.job && context.printer.profile.sd_card {
        components.push(
            button(context, "refresh_sd", "Refresh SD card", "sd", "refresh_sd", "refresh")
                .available(context.while_state("state == 'operational'"))
                .config(),
        );
    }
    components
}

/// Template for the members that are known: Home Assistant refuses null for a version.
const KNOWN: &str = "{% set known = namespace(all={}) %}{% for name, value in value_json.items() if value is not none %}{% set known.all = dict(known.all, **{name: value}) %}{% endfor %}{{ known.all | tojson }}";

/// OctoPrint's own update. Without a command, Home Assistant offers no installation.
fn update(context: &EntityContext<'_>) -> Component {
    let update = Component::new("update", "update", "OctoPrint")
        .with("device_class", "firmware")
        .with("state_topic", &*context.topics.update)
        .with("value_template", KNOWN);
    if !context.printer.groups.system {
        return update.diagnostic();
    }
    let command = context.topics.command("update");
    update.command(&*command).with("payload_install", "octoprint").config()
}

/// The answer to what the printer asks. Its options are those of the last prompt that had some; an
/// answer that does not suit the present one is refused.
fn answer(context: &EntityContext<'_>) -> Component {
    let mut available = context.while_state(CONNECTED);
    if let Value::Array(conditions) = &mut available {
        conditions.push(json!({
            "topic": context.topics.prompt,
            "value_template": "{{ 'online' if value_json.choices else 'offline' }}",
        }));
    }
    Component::new("select", "prompt_answer", "Prompt answer")
        .icon("message-reply-text")
        .command(&*context.topics.command("prompt"))
        .with("command_template", AS_TEXT)
        // Nothing is chosen as long as the printer asks.
        .state(&context.topics.prompt, "none")
        .with("options", json!(context.printer.profile.prompt_choices))
        .available(available)
}

/// A button for each custom control. Home Assistant does not ask before it presses, so one that asks
/// in OctoPrint has to be enabled by the user first.
fn controls(context: &EntityContext<'_>) -> Vec<Component> {
    let of = |control: &ControlButton| {
        let key = format!("control_{}", slug(&control.name));
        let payload = json!({"value": control.name}).to_string();
        let name = name(&control.name);
        let button = button(context, &key, &name, "gesture-tap-button", "control", &payload)
            .available(context.while_state(CONNECTED));
        if control.asks { button.with("enabled_by_default", false) } else { button }
    };
    unique(context.printer.profile.controls.iter().map(|control| (&*control.name, of(control))))
}

/// A button for each temperature preset.
fn presets(context: &EntityContext<'_>) -> Vec<Component> {
    let of = |preset: &str| {
        let key = format!("preheat_{}", slug(preset));
        let payload = json!({"value": preset}).to_string();
        let name = name(&format!("Preheat {preset}"));
        button(context, &key, &name, "fire", "preset", &payload)
            .available(context.while_state(CONNECTED))
    };
    unique(context.printer.profile.presets.iter().map(|preset| (preset.as_str(), of(preset))))
}

/// Names are the user's: of several equal ones the first has the entity.
fn unique<'a>(named: impl Iterator<Item = (&'a str, Component)>) -> Vec<Component> {
    let mut components = BTreeMap::new();
    for (name, component) in named {
        components.entry(name).or_insert(component);
    }
    components.into_values().collect()
}

/// A name from OctoPrint, on one line and not too long for Home Assistant.
fn name(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.chars().take(LONGEST_NAME).collect()
}

/// Returns a name as part of a component's key, which allows letters, digits, `_` and `-`. It differs
/// for each name: a hash is added where characters are lost.
fn slug(name: &str) -> String {
    let slug: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(LONGEST_NAME)
        .collect();
    if slug.replace('_', " ") == name {
        slug
    } else {
        format!("{slug}_{:08x}", hash(name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_name_has_a_key_of_its_own() {
        assert_eq!(slug("Bed mesh"), "Bed_mesh");
        let names = ["a b", "a_b", "a-b", "a/b", "A b", "ä b", "", " ", "_", "a  b"];
        let keys: BTreeSet<String> = names.iter().map(|name| slug(name)).collect();
        assert_eq!(keys.len(), names.len(), "{keys:?}");
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(keys.iter().all(|key| key.chars().all(good)), "{keys:?}");
    }
}
