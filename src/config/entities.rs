//! The entities that users define: `[printers.<id>.entities.<key>]`.

use ::config::ValueKind;
use serde_json::Value;

use super::actions::action;
use super::classes;
use super::id::is_id;
use super::readings::{reading, scale};
use super::source::Section;
use super::types::Commands;
use super::values::{number, strict_text};
use crate::own_entity::{Action, Look, OwnEntity, Role};

/// Longest unit, in characters.
const LONGEST_UNIT: usize = 30;
/// Smallest step of a number in Home Assistant.
const SMALLEST_STEP: f64 = 0.001;
/// Longest option or type of an event, in characters: Home Assistant takes no longer state.
const LONGEST_OPTION: usize = 255;

const OPTION: &str = "at most 255 characters, and not the word none";
/// Most entities of a printer: all of them are in one message.
const MOST: usize = 200;

/// Keys of all entities.
const COMMON: &[&str] = &["type", "name", "icon", "category"];
/// Keys of what is read.
const READ: &[&str] = &["from", "value", "when"];
/// Keys of what has a state.
const STATE: &[&str] = &["default", "expire_after"];

/// The types, each with its own keys.
const TYPES: &[(&str, &[&[&str]])] = &[
    ("sensor", &[READ, STATE, &["scale", "reduce", "unit", "device_class", "state_class"]]),
    ("binary_sensor", &[READ, STATE, &["on_value", "device_class"]]),
    ("event", &[READ, &["events", "device_class"]]),
    ("button", &[&["press", "group", "device_class"]]),
    ("switch", &[READ, STATE, &["on", "off", "on_value", "group", "device_class"]]),
    (
        "number",
        &[READ, STATE, &["set", "min", "max", "step", "scale", "group", "unit", "device_class"]],
    ),
    ("select", &[READ, STATE, &["options", "set", "group"]]),
];

/// Reads all entities of a printer, in the order of their keys.
pub(super) fn entities(
    section: &Section<'_>,
    commands: Commands,
    warnings: &mut Vec<String>,
) -> Vec<OwnEntity> {
    let keys = section.file_keys();
    if let Some(key) = keys.get(MOST) {
        let source = section.get(key).map_or_else(String::new, |found| found.source);
        section.complain(source, key, "more than 200 entities", "200 entities at most");
    }
    keys.iter().filter_map(|key| entity(section, key, commands, warnings)).collect()
}

fn entity(
    entities: &Section<'_>,
    key: &str,
    commands: Commands,
    warnings: &mut Vec<String>,
) -> Option<OwnEntity> {
    let section = entities.section(key);
    if !section.in_file() {
        return None;
    }
    if !is_id(key) {
        let expected = "a key of at most 64 letters, of a-z, 0-9, _ and - that begins and ends with a letter or digit, without __, not beginning with bridge";
        let source = entities.file_name().to_owned();
        entities.complain(source, key, &format!("the key {key:?}"), expected);
    }
    let kind = kind(&section)?;
    let own = TYPES.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| *keys);
    let known: Vec<&str> = COMMON.iter().chain(own.iter().copied().flatten()).copied().collect();
    section.only(&known);
    let look = look(&section, kind, warnings);
    let role = role(&section, kind, key);
    let reading = reading(&section, kind, &look);
    let group = group(&section, commands);
    let entity = OwnEntity {
        key: key.to_owned(),
        name: section.text("name", "a name").unwrap_or_else(|| name(key)),
        role: role?,
        reading: reading?,
        look,
        group,
    };
    check_default(&section, &entity);
    Some(entity).filter(|_| is_id(key))
}

fn kind(section: &Section<'_>) -> Option<&'static str> {
    let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
    let expected = format!("one of {}", names.join(", "));
    if section.get("type").is_none() {
        section.missing("type", &expected);
    }
    section.optional("type", &expected, |value| {
        let text = strict_text(value)?;
        names.iter().find(|name| **name == text).copied()
    })
}

/// A name for people, of a key.
fn name(key: &str) -> String {
    let words = key.replace(['_', '-'], " ");
    let mut characters = words.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

fn role(section: &Section<'_>, kind: &str, key: &str) -> Option<Role> {
    Some(match kind {
        "sensor" => Role::Sensor,
        "binary_sensor" => Role::BinarySensor,
        "event" => Role::Event(events(section, key)),
        "button" => Role::Button(action(section, "press", false)?),
        "switch" => {
            let (on, off) = (action(section, "on", false), action(section, "off", false));
            Role::Switch { on: on?, off: off? }
        }
        "number" => {
            let set = action(section, "set", true);
            let (min, max) = (real(section, "min", 0.0), real(section, "max", 100.0));
            if min >= max {
                let source = section.get("max").or_else(|| section.get("min"));
                let source = source.map_or_else(String::new, |found| found.source);
                let found = format!("{max}, with min = {min}");
                section.complain(source, "max", &found, "a number above min");
            }
            let step = section
                .optional("step", "a number of at least 0.001", |value| {
                    number(value).filter(|step| *step >= SMALLEST_STEP)
                })
                .unwrap_or(1.0);
            let scale = scale(section);
            Role::Number { set: set?, min, max, step, scale }
        }
        _ => Role::Select(options(section)?),
    })
}

fn real(section: &Section<'_>, key: &str, default: f64) -> f64 {
    section.optional(key, "a number", number).unwrap_or(default)
}

/// The types of an event; by default its key.
fn events(section: &Section<'_>, key: &str) -> Vec<String> {
    let expected =
        "a list of the types of this event, at least one, each of at most 255 characters";
    let given = section.optional("events", expected, |value| names(value, is_event_type));
    given.unwrap_or_else(|| vec![key.to_owned()])
}

/// The options of a select: a table of actions, or a list beside `set`.
fn options(section: &Section<'_>) -> Option<Vec<(String, Action)>> {
    let expected = "a list of options, with set = {…} that says what to send; or a table, with what to send for each; options have at most 255 characters, and are not the word none";
    let Some(found) = section.get("options") else {
        section.missing("options", expected);
        return None;
    };
    if let ValueKind::Table(_) = &found.value.kind {
        if let Some(found) = section.get("set") {
            section.complain(
                found.source,
                "set",
                "set beside a table of options",
                "one of the two",
            );
        }
        let options = section.section("options");
        let read = |name: String| {
            let action = action(&options, &name, false);
            if !is_option(&name) {
                let source = found.source.clone();
                options.complain(source, &name, "no option", OPTION);
            }
            Some((name, action?))
        };
        let read: Vec<Option<(String, Action)>> =
            options.file_keys().into_iter().map(read).collect();
        if read.is_empty() {
            section.refuse("options", &found, expected);
            return None;
        }
        return read.into_iter().collect();
    }
    let names = section.optional("options", expected, |value| names(value, is_option));
    let set = action(section, "set", true)?;
    let option = |name: String| {
        let action = set.with(&Value::from(name.as_str()));
        (name, action)
    };
    Some(names?.into_iter().map(option).collect())
}

fn is_event_type(text: &str) -> bool {
    let characters = text.chars().count();
    (1..=LONGEST_OPTION).contains(&characters) && !text.chars().any(char::is_control)
}

/// Home Assistant takes the state `None` of a select for no state.
fn is_option(text: &str) -> bool {
    is_event_type(text) && !text.eq_ignore_ascii_case("none")
}

/// Reads a list of different texts, at least one.
fn names(value: &::config::Value, is_good: fn(&str) -> bool) -> Option<Vec<String>> {
    let ValueKind::Array(items) = &value.kind else { return None };
    let names: Vec<String> = items.iter().map(strict_text).collect::<Option<_>>()?;
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    let good = !names.is_empty() && sorted.len() == names.len();
    (good && names.iter().all(|name| is_good(name))).then_some(names)
}

fn look(section: &Section<'_>, kind: &str, warnings: &mut Vec<String>) -> Look {
    let read_only = matches!(kind, "sensor" | "binary_sensor" | "event");
    let categories: &[(&str, &str)] = match read_only {
        // Home Assistant refuses the other one there.
        true => &[("diagnostic", "diagnostic")],
        false => &[("config", "config"), ("diagnostic", "diagnostic")],
    };
    let known = classes::of_platform(kind);
    let look = Look {
        unit: section.optional("unit", "a unit of at most 30 characters", |value| {
            let unit = strict_text(value)?;
            (1..=LONGEST_UNIT).contains(&unit.chars().count()).then_some(unit)
        }),
        device_class: chosen(section, "device_class", &known),
        state_class: chosen(section, "state_class", classes::STATE),
        icon: section.optional("icon", "an icon such as \"mdi:fan\"", |value| {
            strict_text(value).filter(|icon| is_icon(icon))
        }),
        category: section
            .get("category")
            .map(|_| section.word("category", categories, "diagnostic").to_owned()),
    };
    if matches!(kind, "sensor" | "number") {
        warn(section, &look, warnings);
    }
    look
}

/// Reads one of the words that Home Assistant knows.
fn chosen(section: &Section<'_>, key: &str, known: &[&str]) -> Option<String> {
    let expected = format!("one of {}", known.join(", "));
    // A key that the type does not have has been refused already.
    section.get(key).filter(|_| !known.is_empty())?;
    section.optional(key, &expected, |value| {
        strict_text(value).filter(|class| known.contains(&class.as_str()))
    })
}

fn is_icon(icon: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    icon.split_once(':').is_some_and(|(set, name)| good(set) && good(name))
}

/// Refuses what Home Assistant refuses, and warns of what it only complains about: newer versions
/// know more units.
fn warn(section: &Section<'_>, look: &Look, warnings: &mut Vec<String>) {
    let Some(class) = look.device_class.as_deref().and_then(classes::of_sensor) else { return };
    let name = class.name;
    let given = [("unit", &look.unit), ("state_class", &look.state_class)];
    if classes::NOT_NUMERIC.contains(&name) {
        for (key, _) in given.iter().filter(|(_, value)| value.is_some()) {
            let source = section.get(key).map_or_else(String::new, |found| found.source);
            let found = format!("{key}, with device_class = {name:?}");
            section.complain(source, key, &found, "one of the two: this class has no number");
        }
        return;
    }
    let mut warn = |key: &str, value: &str, known: &[&str]| {
        let key = section.key(key);
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        warnings.push(format!(
            "{key} = {value:?}: Home Assistant may refuse it; with device_class = {name:?} it knows {known}"
        ));
    };
    match (&look.unit, class.units) {
        (Some(unit), Some(known)) if !known.contains(&unit.as_str()) => warn("unit", unit, known),
        (None, Some(known)) if !known.is_empty() => warn("unit", "", known),
        _ => {}
    }
    if let Some(state_class) = &look.state_class
        && !class.state_classes.contains(&state_class.as_str())
    {
        warn("state_class", state_class, class.state_classes);
    }
}

/// The group of commands of a control, `job` by default, and whether it is allowed.
fn group(section: &Section<'_>, commands: Commands) -> (&'static str, bool) {
    // Power has its own command.
    let groups = commands.by_name().into_iter().filter(|(name, _)| *name != "power");
    let groups: Vec<_> = groups.map(|group| (group.0, group)).collect();
    section.word("group", &groups, ("job", commands.job))
}

/// Refuses a default that the entity cannot have.
fn check_default(section: &Section<'_>, entity: &OwnEntity) {
    let default = entity.reading.as_ref().and_then(|reading| reading.default.as_ref());
    if let (Some(default), Some(found)) = (default, section.get("default"))
        && !entity.takes(default)
    {
        let expected = match &entity.role {
            Role::BinarySensor | Role::Switch { .. } => "true or false",
            Role::Select(_) => "one of the options",
            _ => "a number",
        };
        section.refuse("default", &found, expected);
    }
}
