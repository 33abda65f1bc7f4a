//! What a control sends (pure).

use serde_json::Value;

use super::scalar::text;
use crate::gcode::MAX_LINE;
use crate::octoprint::PluginCall;

/// Stands for the value of a number or a select.
pub const PLACE: &str = "{value}";

/// What a control sends to OctoPrint.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Lines of G-code for the printer.
    Gcode(Vec<String>),
    /// A call of a plugin.
    Plugin(PluginCall),
}

impl Action {
    /// Returns the action with `value` in each place for it.
    pub fn with(&self, value: &Value) -> Self {
        // A value is a scalar, which always has a text.
        let text = text(value).unwrap_or_default();
        let filled = |template: &String| template.replace(PLACE, &text);
        match self {
            Self::Gcode(lines) => Self::Gcode(lines.iter().map(filled).collect()),
            Self::Plugin(call) => Self::Plugin(PluginCall {
                plugin: call.plugin.clone(),
                method: call.method,
                path: call.path.as_ref().map(filled),
                query: call.query.iter().map(|(key, text)| (key.clone(), filled(text))).collect(),
                body: call.body.as_ref().map(|body| filled_body(body, value, &text)),
            }),
        }
    }

    /// Whether the printer can take it: a value may make a line too long.
    pub fn fits(&self) -> bool {
        match self {
            Self::Gcode(lines) => lines.iter().all(|line| line.chars().count() <= MAX_LINE),
            Self::Plugin(_) => true,
        }
    }

    /// Whether it has a place for a value.
    pub fn has_place(&self) -> bool {
        match self {
            Self::Gcode(lines) => lines.iter().any(|line| line.contains(PLACE)),
            Self::Plugin(PluginCall { path, query, body, .. }) => {
                path.as_ref().is_some_and(|path| path.contains(PLACE))
                    || query.iter().any(|(_, text)| text.contains(PLACE))
                    || body.as_ref().is_some_and(has_place)
            }
        }
    }
}

/// A text that is only the place becomes the value itself: a number stays a number.
fn filled_body(body: &Value, value: &Value, text: &str) -> Value {
    match body {
        Value::String(template) if template == PLACE => value.clone(),
        Value::String(template) => template.replace(PLACE, text).into(),
        Value::Array(elements) => {
            elements.iter().map(|element| filled_body(element, value, text)).collect()
        }
        Value::Object(members) => {
            let filled = |(name, member): (&String, &Value)| {
                (name.clone(), filled_body(member, value, text))
            };
            members.iter().map(filled).collect()
        }
        other => other.clone(),
    }
}

fn has_place(body: &Value) -> bool {
    match body {
        Value::String(text) => text.contains(PLACE),
        Value::Array(elements) => elements.iter().any(has_place),
        Value::Object(members) => members.values().any(has_place),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::octoprint::PluginMethod;

    fn call(body: Value) -> Action {
        Action::Plugin(PluginCall {
            plugin: "enclosure".to_owned(),
            method: PluginMethod::Patch,
            path: Some("pwm/{value}".to_owned()),
            query: vec![("level".to_owned(), "x{value}".to_owned())],
            body: Some(body),
        })
    }

    #[test]
    fn values_are_filled_in() {
        let gcode = Action::Gcode(vec!["M106 P0 S{value}".to_owned(), "M400".to_owned()]);
        let filled = |value: f64| gcode.with(&super::super::scalar::number(value));
        assert_eq!(filled(127.5), Action::Gcode(vec!["M106 P0 S127.5".into(), "M400".into()]));
        assert_eq!(filled(0.000_05), Action::Gcode(vec!["M106 P0 S0.00005".into(), "M400".into()]));
        let template = json!({"duty": "{value}", "text": "to {value} %", "list": ["{value}", 1]});
        let Action::Plugin(filled) = call(template).with(&json!(40)) else { panic!("a call") };
        assert_eq!(filled.body, Some(json!({"duty": 40, "text": "to 40 %", "list": [40, 1]})));
        assert_eq!(filled.path.as_deref(), Some("pwm/40"));
        assert_eq!(filled.query, [("level".to_owned(), "x40".to_owned())]);
    }

    #[test]
    fn places_are_found_wherever_they_are() {
        assert!(Action::Gcode(vec!["A".into(), "M1 S{value}".into()]).has_place());
        assert!(!Action::Gcode(vec!["M355 S1".into()]).has_place());
        let Action::Plugin(mut bare) = call(json!({"a": [{"b": "{value}"}]})) else { panic!() };
        (bare.path, bare.query) = (None, Vec::new());
        assert!(Action::Plugin(bare.clone()).has_place());
        bare.body = Some(json!({"a": 1}));
        assert!(!Action::Plugin(bare).has_place());
    }
}
