//! What the controls of a user send: lines of G-code, or a call of a plugin.

use ::config::ValueKind;
use serde_json::Value;

use super::scalars::{is_plugin, json, scalar};
use super::source::Section;
use super::values::strict_text;
use crate::gcode::{MAX_LINE, MAX_LINES, lines_to_send};
use crate::octoprint::{PluginCall, PluginMethod};
use crate::own_entity::{Action, PLACE, text};

/// Longest path below a plugin, in bytes.
const MAX_PATH: usize = 200;

const EXPECTED: &str =
    "{ gcode = [\"…\"] }, or { plugin = \"…\" } with body, query, path and method";

const METHODS: &[(&str, PluginMethod)] = &[
    ("GET", PluginMethod::Get),
    ("POST", PluginMethod::Post),
    ("PUT", PluginMethod::Put),
    ("PATCH", PluginMethod::Patch),
    ("DELETE", PluginMethod::Delete),
];

/// Reads the action `key` of an entity, which must have one. `has_value`: whether the entity has a
/// value, which then must have a place in the action.
pub(super) fn action(entity: &Section<'_>, key: &str, has_value: bool) -> Option<Action> {
    let section = entity.section(key);
    if !section.in_file() {
        // What is no table has been refused already.
        if entity.of_file(key).is_none() {
            entity.missing(key, &format!("what to send: {EXPECTED}"));
        }
        return None;
    }
    let found = |key: &str| section.get(key).map(|found| found.source);
    let action = match (found("gcode"), found("plugin")) {
        (Some(_), None) => gcode(&section),
        (None, Some(_)) => plugin(&section),
        (Some(source), Some(_)) => {
            section.complain(source, "gcode", "gcode beside plugin", "one of the two");
            None
        }
        (None, None) => {
            section.missing("gcode", EXPECTED);
            None
        }
    }?;
    if action.has_place() != has_value {
        let (found, expected) = match has_value {
            true => (format!("no {PLACE}"), format!("{PLACE} where the value goes")),
            false => (PLACE.to_owned(), "an action without it: there is no value".to_owned()),
        };
        entity.complain(entity.file_name().to_owned(), key, &found, &expected);
        return None;
    }
    Some(action)
}

fn gcode(section: &Section<'_>) -> Option<Action> {
    section.only(&["gcode"]);
    let expected = format!(
        "a list of lines of G-code, 1 to {MAX_LINES}, each of at most {MAX_LINE} characters without control characters"
    );
    section.optional("gcode", &expected, |value| {
        let texts = match &value.kind {
            ValueKind::Array(lines) => lines.iter().map(strict_text).collect::<Option<Vec<_>>>()?,
            _ => vec![strict_text(value)?],
        };
        lines_to_send(texts.iter().map(String::as_str)).map(Action::Gcode)
    })
}

fn plugin(section: &Section<'_>) -> Option<Action> {
    section.only(&["plugin", "method", "path", "query", "body"]);
    let plugin = section.optional("plugin", "the id of a plugin, such as \"enclosure\"", |value| {
        strict_text(value).filter(|id| is_plugin(id))
    });
    let method = section.word("method", METHODS, PluginMethod::Post);
    let expected = format!(
        "a path below plugin/<id>/, of at most {MAX_PATH} bytes, without .., empty parts and control characters"
    );
    let path = section.optional("path", &expected, |value| {
        let path = strict_text(value)?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        is_path(path).then(|| path.to_owned())
    });
    let query = section
        .optional("query", "a table of texts, numbers, true and false", |value| {
            let ValueKind::Table(table) = &value.kind else { return None };
            let pair = |(name, value)| Some((String::clone(name), text(&scalar(value)?)?));
            let mut query: Vec<(String, String)> = table.iter().map(pair).collect::<Option<_>>()?;
            query.sort();
            Some(query)
        })
        .unwrap_or_default();
    let body = section.optional("body", "a table, the JSON that the plugin expects", |value| {
        json(value).filter(Value::is_object)
    });
    if method == PluginMethod::Get
        && let Some(found) = section.get("body")
    {
        section.complain(found.source, "body", "a body, with GET", "query, or another method");
    }
    Some(Action::Plugin(PluginCall { plugin: plugin?, method, path, query, body }))
}

fn is_path(path: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control)
    };
    path.len() <= MAX_PATH && path.split('/').all(good)
}
