//! How the state of an entity is read from a message (pure).

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::pointer::Pointer;
use super::scalar::{number, text};
use crate::timestamp;

/// Longest state that Home Assistant takes, in characters.
const LONGEST: usize = 255;
/// Member that holds the type of an event, as in `B/P/event/<Type>`.
const EVENT_TYPE: &str = "_event";
/// Words that mean on, and words that mean off.
const WORDS: [(&[&str], bool); 2] =
    [(&["on", "true", "yes", "1"], true), (&["off", "false", "no", "0"], false)];

/// Where messages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Events of this type.
    Event(String),
    /// Messages of this plugin.
    Plugin(String),
    /// Other messages of this type, such as `current`.
    Message(String),
}

/// A condition for a message: what is at `pointer` is one of `equals`, or, if that is empty, there
/// at all and not null.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadingCondition {
    /// Where to look.
    pub pointer: Pointer,
    /// The accepted values.
    pub equals: Vec<Value>,
}

/// Makes one number of a list, of lists of lists, or of an object's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// Number of its elements.
    Count,
    /// The smallest number in it.
    Min,
    /// The largest number in it.
    Max,
    /// The difference between the largest and the smallest number in it.
    Range,
    /// The sum of the numbers in it.
    Sum,
}

/// The form of a state.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// A number, text, true or false, as it comes.
    Any,
    /// A number times `scale`; of a text, the number that it begins with.
    Number {
        /// What the number is multiplied by; not 0.
        scale: f64,
    },
    /// A text.
    Text,
    /// On or off; `on` is the value that means on, any other then means off.
    OnOff {
        /// The value that means on; `None` for those that mean it anyway.
        on: Option<Value>,
    },
    /// A point in time: RFC 3339, or Unix seconds.
    Time,
}

/// How the state of an entity is read.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueReading {
    /// Where messages come from; at least one.
    pub sources: Vec<Source>,
    /// Where the value is; `None` for an event of one type.
    pub value: Option<Pointer>,
    /// Which of these messages count.
    pub when: Option<ReadingCondition>,
    /// The state before any message, and after one that has no value, or not of this form.
    pub default: Option<Value>,
    /// How to make one number of many.
    pub reduce: Option<Reduce>,
    /// The form of the state.
    pub form: Form,
    /// Age after which the state is unknown.
    pub expire_after: Option<Duration>,
}

/// The payload of a message.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    /// Its JSON.
    pub json: &'a str,
    /// The type of an event.
    pub event: Option<&'a str>,
}

impl Payload<'_> {
    fn find(&self, pointer: &Pointer) -> Option<Value> {
        match self.event {
            Some(event) if pointer.is_member(EVENT_TYPE) => Some(event.into()),
            _ => pointer.find(self.json),
        }
    }
}

impl ReadingCondition {
    fn holds(&self, payload: Payload<'_>) -> bool {
        match payload.find(&self.pointer) {
            None | Some(Value::Null) => false,
            Some(found) => self.equals.is_empty() || self.equals.iter().any(|v| is_same(v, &found)),
        }
    }
}

impl ValueReading {
    /// Reads the state from a message of one of the sources. `None` if the message is not about it:
    /// the condition does not hold, or, without a condition, the value is not there at all.
    pub fn read(&self, payload: Payload<'_>) -> Option<Value> {
        if self.when.as_ref().is_some_and(|when| !when.holds(payload)) {
            return None;
        }
        let found = match &self.value {
            Some(pointer) => payload.find(pointer),
            None => Some(Value::Bool(true)),
        };
        let state = match found {
            None if self.when.is_none() => return None,
            None => Value::Null,
            Some(found) => self.form(found),
        };
        Some(if state.is_null() { self.initial() } else { state })
    }

    /// The state before any message.
    pub fn initial(&self) -> Value {
        self.default.clone().unwrap_or_default()
    }

    fn form(&self, found: Value) -> Value {
        let found = match self.reduce {
            Some(reduce) => reduce.of(&found).map(number).unwrap_or_default(),
            None => found,
        };
        match &self.form {
            Form::Any => match found {
                Value::String(text) => cut(&text),
                Value::Number(_) | Value::Bool(_) => found,
                _ => Value::Null,
            },
            Form::Number { scale } => {
                // Null where the product is infinite.
                let scaled = numeric(&found).map(|value| value * scale);
                scaled.filter(|value| value.is_finite()).map(number).unwrap_or_default()
            }
            Form::Text => text(&found).map(|text| cut(&text)).unwrap_or_default(),
            Form::OnOff { on: Some(on) } => Value::Bool(is_same(on, &found)),
            Form::OnOff { on: None } => is_on(&found).map(Value::Bool).unwrap_or_default(),
            Form::Time => time(&found).map(Value::String).unwrap_or_default(),
        }
    }
}

impl Reduce {
    fn of(self, value: &Value) -> Option<f64> {
        let count = match value {
            Value::Array(elements) => elements.len(),
            Value::Object(members) => members.len(),
            _ => return None,
        };
        if self == Self::Count {
            return Some(count as f64);
        }
        let mut numbers = Vec::new();
        collect(value, &mut numbers);
        let min = numbers.iter().copied().reduce(f64::min);
        let max = numbers.iter().copied().reduce(f64::max);
        match self {
            Self::Count | Self::Sum => Some(numbers.iter().sum()),
            Self::Min => min,
            Self::Max => max,
            Self::Range => Some(max? - min?),
        }
    }
}

/// Collects all numbers in a value; texts that are numbers count, as some plugins send those.
fn collect(value: &Value, numbers: &mut Vec<f64>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| collect(element, numbers)),
        Value::Object(members) => members.values().for_each(|member| collect(member, numbers)),
        value => numbers.extend(numeric(value)),
    }
}

/// Reads a number; of a text such as `50%`, the number that it begins with.
fn numeric(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::String(text) => {
            let text = text.trim_start();
            let part = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+');
            let end = text.find(|c| !part(c)).unwrap_or(text.len());
            text[..end].parse().ok()
        }
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// Compares numbers by their values, and anything else as it is.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

fn is_on(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::Number(number) => number.as_f64().map(|number| number != 0.0),
        Value::String(text) => {
            let text = text.trim().to_ascii_lowercase();
            WORDS.iter().find(|(words, _)| words.contains(&text.as_str())).map(|(_, on)| *on)
        }
        _ => None,
    }
}

/// Returns RFC 3339 for Home Assistant, which wants a time zone.
fn time(value: &Value) -> Option<String> {
    match value {
        Value::Number(seconds) => {
            let since = Duration::try_from_secs_f64(seconds.as_f64()?).ok()?;
            timestamp::rfc3339(UNIX_EPOCH.checked_add(since)?)
        }
        Value::String(text) => is_rfc3339(text).then(|| text.clone()),
        _ => None,
    }
}

/// Whether a text has the form of RFC 3339: `2026-11-28T12:00:00`, a fraction, `Z` or `+01:00`.
fn is_rfc3339(text: &str) -> bool {
    let matches = |text: &str, form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                b'+' => matches!(byte, b'+' | b'-'),
                b'T' => matches!(byte, b'T' | b't' | b' '),
                form => byte == form,
            })
    };
    let Some((time, rest)) = text.split_at_checked(19) else { return false };
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    matches(time, "0000-00-00T00:00:00") && (matches!(zone, "Z" | "z") || matches(zone, "+00:00"))
}

/// Cuts a text to what Home Assistant takes as a state.
fn cut(text: &str) -> Value {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => text[..end].into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading(pointer: &str, form: Form) -> ValueReading {
        ValueReading {
            sources: vec![Source::Plugin("x".to_owned())],
            value: Pointer::parse(pointer),
            when: None,
            default: None,
            reduce: None,
            form,
            expire_after: None,
        }
    }

    fn read(reading: &ValueReading, json: &Value) -> Option<Value> {
        reading.read(Payload { json: &json.to_string(), event: None })
    }

    fn formed(form: Form, value: &Value) -> Value {
        read(&reading("/v", form), &json!({ "v": value })).unwrap()
    }

    #[test]
    fn a_message_without_the_value_is_about_something_else_unless_a_condition_says_so() {
        let mut reading = reading("/spool/weight", Form::Number { scale: 1.0 });
        assert_eq!(read(&reading, &json!({"action": "spool", "spool": null})), None);
        reading.when = Some(ReadingCondition {
            pointer: Pointer::parse("/action").unwrap(),
            equals: vec![json!("spool"), json!("spools")],
        });
        assert_eq!(read(&reading, &json!({"action": "popup", "spool": {"weight": 5}})), None);
        assert_eq!(read(&reading, &json!({"spool": {"weight": 5}})), None);
        let none = json!({"action": "spool", "spool": null});
        assert_eq!(read(&reading, &none), Some(json!(null)));
        reading.default = Some(json!(0));
        assert_eq!(read(&reading, &none), Some(json!(0)));
        let spool = json!({"action": "spools", "spool": {"weight": 812.5}});
        assert_eq!(read(&reading, &spool), Some(json!(812.5)));
        assert_eq!(read(&reading, &json!([1])), None);
    }

    #[test]
    fn what_is_not_of_the_form_is_the_default() {
        let mut reading = reading("/fan", Form::Number { scale: 1.0 });
        reading.default = Some(json!(0));
        assert_eq!(read(&reading, &json!({"fan": "Off"})), Some(json!(0)));
        assert_eq!(read(&reading, &json!({"fan": null})), Some(json!(0)));
        assert_eq!(read(&reading, &json!({"fan": "50%"})), Some(json!(50)));
    }

    #[test]
    fn a_condition_without_a_value_asks_for_presence() {
        let mut reading = reading("/a", Form::Any);
        reading.when =
            Some(ReadingCondition { pointer: Pointer::parse("/b").unwrap(), equals: vec![] });
        assert_eq!(read(&reading, &json!({"a": 1})), None);
        assert_eq!(read(&reading, &json!({"a": 1, "b": null})), None);
        assert_eq!(read(&reading, &json!({"a": 1, "b": false})), Some(json!(1)));
    }

    #[test]
    fn numbers_are_scaled_and_never_noise_nor_infinite() {
        let number = |scale, value: Value| formed(Form::Number { scale }, &value);
        assert_eq!(number(0.001, json!(1234)), json!(1.234));
        assert_eq!(number(1.0, json!(120.0)), json!(120));
        assert_eq!(number(0.1, json!(3)), json!(0.3));
        assert_eq!(number(1.0, json!(" 50%")), json!(50));
        assert_eq!(number(1.0, json!("-1.5 mm")), json!(-1.5));
        assert_eq!(number(1.0, json!(true)), json!(1));
        for none in [json!("Off"), json!(""), json!([1]), json!({}), json!("NaN"), json!("-")] {
            assert_eq!(number(1.0, none.clone()), json!(null), "{none}");
        }
        assert_eq!(number(1e300, json!(1e300)), json!(null));
        assert_eq!(number(1.0, json!(1e300)), json!(1e300));
    }

    #[test]
    fn on_and_off_have_many_words() {
        let on = |value: Value| formed(Form::OnOff { on: None }, &value);
        for value in [json!(true), json!(1), json!(0.5), json!("ON"), json!(" yes ")] {
            assert_eq!(on(value.clone()), json!(true), "{value}");
        }
        for value in [json!(false), json!(0), json!("off"), json!("False")] {
            assert_eq!(on(value.clone()), json!(false), "{value}");
        }
        assert_eq!(on(json!("perhaps")), json!(null));
        let open = |value: Value| formed(Form::OnOff { on: Some(json!("open")) }, &value);
        assert_eq!((open(json!("open")), open(json!("shut"))), (json!(true), json!(false)));
        let one = |value: Value| formed(Form::OnOff { on: Some(json!(0)) }, &value);
        assert_eq!((one(json!(0.0)), one(json!(1))), (json!(true), json!(false)));
    }

    #[test]
    fn texts_are_cut_and_what_is_no_scalar_is_unknown() {
        let long = "ä".repeat(300);
        assert_eq!(formed(Form::Any, &json!(long)), json!("ä".repeat(255)));
        assert_eq!(formed(Form::Text, &json!(long)), json!("ä".repeat(255)));
        assert_eq!(formed(Form::Any, &json!(false)), json!(false));
        assert_eq!(formed(Form::Text, &json!(1.5)), json!("1.5"));
        for none in [json!([]), json!({"a": 1})] {
            assert_eq!(formed(Form::Any, &none.clone()), json!(null));
            assert_eq!(formed(Form::Text, &none), json!(null));
        }
    }

    #[test]
    fn times_have_a_zone() {
        let time = |value: Value| formed(Form::Time, &value);
        assert_eq!(time(json!(1_700_000_000)), json!("2023-11-14T22:13:20Z"));
        assert_eq!(time(json!(1.7e9)), json!("2023-11-14T22:13:20Z"));
        for good in
            ["2026-11-28T12:00:00Z", "2026-11-28T12:00:00.123+01:00", "2026-11-28 12:00:00-05:00"]
        {
            assert_eq!(time(json!(good)), json!(good));
        }
        for none in [json!("2026-11-28T12:00:00"), json!("soon"), json!(-5), json!(1e300)] {
            assert_eq!(time(none.clone()), json!(null), "{none}");
        }
    }

    #[test]
    fn many_numbers_become_one() {
        let mesh = json!({"v": [["0.1", 0.25], [null, -0.05]]});
        let reduced = |reduce, json: &Value| {
            let reading =
                ValueReading { reduce: Some(reduce), ..reading("/v", Form::Number { scale: 1.0 }) };
            read(&reading, json).unwrap()
        };
        assert_eq!(reduced(Reduce::Range, &mesh), json!(0.3));
        assert_eq!(reduced(Reduce::Min, &mesh), json!(-0.05));
        assert_eq!(reduced(Reduce::Max, &mesh), json!(0.25));
        assert_eq!(reduced(Reduce::Sum, &mesh), json!(0.3));
        assert_eq!(reduced(Reduce::Count, &mesh), json!(2));
        let empty = json!({"v": []});
        assert_eq!(reduced(Reduce::Count, &empty), json!(0));
        assert_eq!(reduced(Reduce::Range, &empty), json!(null));
        assert_eq!(reduced(Reduce::Count, &json!({"v": 5})), json!(null));
    }

    #[test]
    fn the_type_of_an_event_is_a_member_of_it() {
        let reading = reading("/_event", Form::OnOff { on: Some(json!("Runout")) });
        let at = |event| reading.read(Payload { json: "null", event: Some(event) });
        assert_eq!((at("Runout"), at("Loaded")), (Some(json!(true)), Some(json!(false))));
    }
}
