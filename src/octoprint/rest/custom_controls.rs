//! OctoPrint's custom controls: buttons of its page that send G-code, some of them with parameters.
//!
//! They come from OctoPrint's settings, from plugins, and since 2.0 from the printer: Klipper's macros.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{API_VERSION, Rest};
use super::error::RestError;
use super::http::success;

const LIST: &str = "api/printer/command/custom";
const RUN: &str = "api/printer/command";
/// Range of a slider without bounds.
const SLIDER: (f64, f64) = (0.0, 255.0);
/// Maximum length of a text as a parameter, in characters.
const MAX_TEXT: usize = 255;

/// A custom control that sends G-code.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomControl {
    /// The names of its containers and its own, with slashes between. Of several with the same names,
    /// the second one ends in ` (2)`, and so on.
    pub path: String,
    /// Its own name.
    pub name: String,
    /// The parameters that it takes.
    pub inputs: Vec<ControlInput>,
    /// Whether OctoPrint's page asks before it sends anything.
    pub asks: bool,
    sends: ControlSends,
}

/// One parameter of a custom control.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlInput {
    /// Its name in the G-code.
    pub parameter: String,
    /// Its default, if it has one.
    pub default: Option<Value>,
    /// The least and the greatest number, of a slider.
    pub range: Option<(f64, f64)>,
}

#[derive(Debug, Clone, PartialEq)]
enum ControlSends {
    /// Lines of G-code, into which OctoPrint puts the parameters.
    Lines(Vec<String>),
    /// One of OctoPrint's G-code scripts.
    Script { name: String, context: Value },
}

/// Why parameters do not suit a control.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParameterError {
    /// There is no parameter of this name.
    #[error("there is no parameter {name:?}; {known}")]
    Unknown {
        /// The name that was given.
        name: String,
        /// A text with the names that exist.
        known: String,
    },
    /// A parameter without default was not given.
    #[error("the parameter {0:?} has no default, so it must be given")]
    Missing(String),
    /// A number is needed.
    #[error("the parameter {0:?} is a number")]
    NotANumber(String),
    /// The number is beyond the bounds of the slider.
    #[error("the parameter {name:?} is {least}…{greatest}")]
    OutOfRange {
        /// The parameter.
        name: String,
        /// The least number.
        least: f64,
        /// The greatest number.
        greatest: f64,
    },
    /// The value cannot be part of a line of G-code.
    #[error(
        "the parameter {0:?} is a number, true, false or a text of up to 255 characters without line ends"
    )]
    NotAText(String),
}

impl CustomControl {
    /// Reads the answer to `GET /api/printer/command/custom`. A control that only shows something, or
    /// runs JavaScript of OctoPrint's page, is left out, and so is one that cannot be read.
    pub fn read_all(answer: &Value) -> Vec<Self> {
        let mut controls = Vec::new();
        read_into(&mut controls, &answer["controls"], "");
        controls
    }

    /// Returns the shortest name that means this one of `all`: its own, or its path if others have
    /// that name, too.
    pub fn address(&self, all: &[Self]) -> &str {
        let namesakes = all.iter().filter(|other| other.name == self.name).count();
        if namesakes > 1 { &self.path } else { &self.name }
    }

    /// Returns the value of each parameter: the given one, or its default.
    ///
    /// # Errors
    /// [`ParameterError`] for the first that is unknown, missing or out of its bounds.
    pub fn fill(&self, given: &Map<String, Value>) -> Result<Map<String, Value>, ParameterError> {
        let is_known = |name: &str| self.inputs.iter().any(|input| input.parameter == name);
        if let Some(name) = given.keys().find(|name| !is_known(name)) {
            return Err(ParameterError::Unknown { name: name.clone(), known: self.known() });
        }
        let fill = |input: &ControlInput| {
            let value = match given.get(&input.parameter) {
                Some(value) => input.check(value)?,
                None => input.default.clone().ok_or_else(|| input.missing())?,
            };
            Ok((input.parameter.clone(), value))
        };
        self.inputs.iter().map(fill).collect()
    }

    fn known(&self) -> String {
        let names: Vec<&str> = self.inputs.iter().map(|input| input.parameter.as_str()).collect();
        match names.is_empty() {
            true => "the control takes none".to_owned(),
            false => format!("the control takes {}", names.join(", ")),
        }
    }

    /// The body of the call that runs the control with these parameters.
    fn body(&self, parameters: &Map<String, Value>) -> Value {
        match &self.sends {
            // OctoPrint replaces nothing in lines without parameters.
            ControlSends::Lines(lines) => json!({"commands": lines, "parameters": parameters}),
            ControlSends::Script { name, context } => {
                json!({"script": name, "context": context, "parameters": parameters})
            }
        }
    }
}

impl ControlInput {
    fn read(input: &Value) -> Option<Self> {
        let parameter = input["parameter"].as_str()?.to_owned();
        let range = input["slider"].as_object().map(|slider| {
            let bound =
                |key: &str, otherwise| slider.get(key).and_then(number).unwrap_or(otherwise);
            (bound("min", SLIDER.0), bound("max", SLIDER.1))
        });
        let default = match (&input["default"], range) {
            // As OctoPrint's page: a slider begins at its default, within its bounds.
            (default, Some((least, greatest))) => {
                let default = number(default).unwrap_or(least);
                Some(as_json(default.min(greatest).max(least)))
            }
            (Value::Null, None) => None,
            (default, None) => Some(default.clone()),
        };
        Some(Self { parameter, default, range })
    }

    fn missing(&self) -> ParameterError {
        ParameterError::Missing(self.parameter.clone())
    }

    /// Returns the value as OctoPrint takes it.
    fn check(&self, value: &Value) -> Result<Value, ParameterError> {
        let name = || self.parameter.clone();
        let is_number = self.range.is_some() || self.default.as_ref().is_some_and(Value::is_number);
        if is_number {
            let number = number(value).ok_or_else(|| ParameterError::NotANumber(name()))?;
            return match self.range {
                Some((least, greatest)) if !(least..=greatest).contains(&number) => {
                    Err(ParameterError::OutOfRange { name: name(), least, greatest })
                }
                _ => Ok(as_json(number)),
            };
        }
        let fits = match value {
            Value::String(text) => {
                text.chars().count() <= MAX_TEXT && !text.chars().any(char::is_control)
            }
            value => value.is_number() || value.is_boolean(),
        };
        if fits { Ok(value.clone()) } else { Err(ParameterError::NotAText(name())) }
    }
}

/// A number, which may be written as a text.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite())
}

/// The shortest form: Python would put 50.0 into the G-code for 50.
fn as_json(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { json!(number as i64) } else { json!(number) }
}

fn read_into(controls: &mut Vec<CustomControl>, entries: &Value, above: &str) {
    for entry in entries.as_array().into_iter().flatten() {
        let name = entry["name"].as_str().unwrap_or_default().trim();
        let path = match (above, name) {
            (above, "") => above.to_owned(),
            ("", name) => name.to_owned(),
            (above, name) => format!("{above}/{name}"),
        };
        if entry["children"].is_array() {
            read_into(controls, &entry["children"], &path);
        } else if let Some(sends) = sends(entry).filter(|_| !name.is_empty()) {
            let inputs = entry["input"].as_array().into_iter().flatten();
            controls.push(CustomControl {
                path: unused(controls, path),
                name: name.to_owned(),
                inputs: inputs.filter_map(ControlInput::read).collect(),
                asks: entry["confirm"].as_str().is_some_and(|text| !text.is_empty()),
                sends,
            });
        }
    }
}

fn unused(controls: &[CustomControl], path: String) -> String {
    let is_free = |path: &String| !controls.iter().any(|control| control.path == *path);
    let numbered = (2..).map(|number| format!("{path} ({number})"));
    std::iter::once(path.clone()).chain(numbered).find(is_free).unwrap_or(path)
}

fn sends(entry: &Value) -> Option<ControlSends> {
    // OctoPrint's page runs it instead of sending anything.
    if entry["javascript"].as_str().is_some_and(|script| !script.is_empty()) {
        return None;
    }
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let lines = match entry["commands"].as_array() {
        Some(lines) => lines.iter().map(text).collect::<Option<Vec<_>>>(),
        None => text(&entry["command"]).map(|line| vec![line]),
    };
    let script = || {
        let context = match &entry["context"] {
            Value::Object(context) => context.clone().into(),
            _ => json!({}),
        };
        text(&entry["script"]).map(|name| ControlSends::Script { name, context })
    };
    lines.filter(|lines| !lines.is_empty()).map(ControlSends::Lines).or_else(script)
}

impl Rest {
    /// Returns the custom controls that send G-code, in the order of OctoPrint's page.
    ///
    /// # Errors
    /// [`RestError`]; status 403 if this user may not control the printer.
    pub async fn custom_controls(&self) -> Result<Vec<CustomControl>, RestError> {
        let answer: Value = self.get_json(LIST).await?;
        Ok(CustomControl::read_all(&answer))
    }

    /// Runs a control with these parameters, see [`CustomControl::fill`]. OctoPrint puts them into the
    /// lines as its own page has it: since 2.0 for `{name}`, before for `%(name)s`.
    ///
    /// # Errors
    /// [`RestError`]; status 409 when the printer is not connected, 404 if there is no such script,
    /// and 500 if OctoPrint cannot put the parameters into the lines.
    pub async fn run_control(
        &self,
        control: &CustomControl,
        parameters: Map<String, Value>,
    ) -> Result<(), RestError> {
        let body = control.body(&parameters);
        let answer = self.exchange(&Method::POST, RUN, Some(&body), Some(API_VERSION)).await?;
        success(answer, RUN).map(drop).map_err(|error| error.with_method(&Method::POST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controls() -> Vec<CustomControl> {
        CustomControl::read_all(&json!({"controls": [
            {"name": "Fans", "layout": "horizontal", "children": [
                {"name": "Set", "command": "M106 S%(speed)d", "input": [
                    {"name": "Speed", "parameter": "speed", "default": "300",
                        "slider": {"min": "10", "max": 200}}]},
                {"children": [{"name": "Off", "command": "M107", "confirm": "Sure?"}, null]},
            ]},
            {"name": "Clean", "commands": ["CLEAN TEMP={TEMP} MODE={MODE}", "M400"], "command": null,
                "script": null, "source": "printer", "enabled": "false", "confirm": null, "input": [
                    {"name": "Temp", "parameter": "TEMP", "default": 200, "slider": null},
                    {"name": "Mode", "parameter": "MODE"}]},
            {"name": "Off", "script": "shutdown", "context": {"a": 1}, "input": null},
            {"name": "Output", "regex": "x", "template": "y"},
            {"name": "Page", "command": "G28", "javascript": "alert(1)"},
            {"name": "Odd", "commands": ["G28", 5]},
            {"name": "Off", "command": "M84"},
            {"command": "G28"}, 5, {"name": 5, "children": 7},
        ]}))
    }

    fn given(params: &Value) -> Map<String, Value> {
        params.as_object().unwrap().clone()
    }

    #[test]
    fn controls_that_send_are_found_in_all_containers() {
        let all = controls();
        let paths: Vec<&str> = all.iter().map(|control| control.path.as_str()).collect();
        assert_eq!(paths, ["Fans/Set", "Fans/Off", "Clean", "Off", "Off (2)"]);
        let addresses: Vec<&str> = all.iter().map(|control| control.address(&all)).collect();
        assert_eq!(addresses, ["Set", "Fans/Off", "Clean", "Off", "Off (2)"]);
        assert_eq!(all.iter().filter(|control| control.asks).count(), 1);
        for none in [json!({}), json!([]), json!({"controls": null}), Value::Null] {
            assert_eq!(CustomControl::read_all(&none), []);
        }
    }

    #[test]
    fn defaults_are_those_of_octoprints_page() {
        let all = controls();
        // 300 is beyond the slider.
        assert_eq!(all[0].fill(&Map::new()), Ok(given(&json!({"speed": 200}))));
        assert_eq!(all[0].inputs[0].range, Some((10.0, 200.0)));
        assert_eq!(all[1].fill(&Map::new()), Ok(Map::new()));
        let missing = all[2].fill(&Map::new()).unwrap_err();
        assert_eq!(missing, ParameterError::Missing("MODE".to_owned()));
    }

    #[test]
    fn parameters_are_checked() {
        let all = controls();
        for (speed, taken) in
            [(json!(10), json!(10)), (json!("50"), json!(50)), (json!(12.5), json!(12.5))]
        {
            assert_eq!(
                all[0].fill(&given(&json!({"speed": speed}))),
                Ok(given(&json!({"speed": taken})))
            );
        }
        for (control, params, telling) in [
            (0, json!({"speed": 9}), "\"speed\" is 10…200"),
            (0, json!({"speed": "fast"}), "is a number"),
            (0, json!({"sped": 50}), "no parameter \"sped\"; the control takes speed"),
            (1, json!({"speed": 50}), "the control takes none"),
            (2, json!({"TEMP": 210}), "\"MODE\" has no default"),
            (2, json!({"MODE": "a\nM112"}), "without line ends"),
            (2, json!({"MODE": [1]}), "a text"),
            (2, json!({"MODE": "x", "TEMP": "hot"}), "is a number"),
        ] {
            let refused = all[control].fill(&given(&params)).unwrap_err().to_string();
            assert!(refused.contains(telling), "{refused}");
        }
        let filled = all[2].fill(&given(&json!({"MODE": true, "TEMP": "210"})));
        assert_eq!(filled, Ok(given(&json!({"MODE": true, "TEMP": 210}))));
    }

    #[test]
    fn lines_and_scripts_are_sent_as_octoprints_page_does() {
        let all = controls();
        assert_eq!(
            all[0].body(&given(&json!({"speed": 50}))),
            json!({"commands": ["M106 S%(speed)d"], "parameters": {"speed": 50}})
        );
        assert_eq!(
            all[3].body(&Map::new()),
            json!({"script": "shutdown", "context": {"a": 1}, "parameters": {}})
        );
    }
}
