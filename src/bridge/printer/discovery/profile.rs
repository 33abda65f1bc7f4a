//! What the bridge reads of a printer profile (pure).

use serde_json::Value;

use crate::heater::Heater;

/// Most tools of a printer, which leaves room for bed and chamber.
const MOST_TOOLS: u8 = 30;

/// What the bridge reads of the profile in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrinterProfile {
    /// Its id, such as `_default`.
    pub id: Option<String>,
    /// `tool0` …, `bed`, `chamber`.
    pub heaters: Vec<Heater>,
    /// The first word of the profile's model where it has more.
    pub manufacturer: Option<String>,
    /// The rest of it.
    pub model: Option<String>,
}

/// The profile in force as OctoPrint has it, from the answer to `GET /api/printerprofiles`. `None`
/// where it cannot be read or none is in force.
pub fn current(answer: &[u8]) -> Option<Value> {
    let mut answer: Value = serde_json::from_slice(answer).ok()?;
    let mut profiles = answer.get_mut("profiles")?.as_object_mut()?.values_mut();
    profiles.find(|profile| profile["current"] == true).map(Value::take)
}

/// What the bridge reads of the profile in force, as [`current`] finds it.
pub fn in_force(answer: &[u8]) -> Option<PrinterProfile> {
    let profile = current(answer)?;
    let tools = profile["extruder"]["count"].as_u64().unwrap_or(1);
    let tools = u8::try_from(tools).map_or(MOST_TOOLS, |tools| tools.min(MOST_TOOLS));
    let mut heaters: Vec<Heater> = (0..tools).map(Heater::tool).collect();
    heaters.extend((profile["heatedBed"] == true).then(Heater::bed));
    heaters.extend((profile["heatedChamber"] == true).then(Heater::chamber));
    // OctoPrint has one field for both: "Prusa i3 MK3S".
    let model = profile["model"].as_str().unwrap_or_default();
    let (manufacturer, model) = match model.trim().split_once(char::is_whitespace) {
        Some((manufacturer, model)) => (manufacturer, model.trim()),
        None => ("", model.trim()),
    };
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let id = profile["id"].as_str().map(str::to_owned);
    Some(PrinterProfile { id, heaters, manufacturer: given(manufacturer), model: given(model) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heaters_follow_the_profile_in_force() {
        let answer = br#"{"profiles":{
            "a":{"current":false,"extruder":{"count":1},"heatedBed":true},
            "b":{"current":true,"extruder":{"count":2,"sharedNozzle":false},"heatedBed":true,
                 "heatedChamber":true,"volume":{},"model":"Prusa i3 MK3S"}}}"#;
        let profile = in_force(answer).unwrap();
        assert_eq!(profile.heaters, ["tool0", "tool1", "bed", "chamber"]);
        assert_eq!(profile.manufacturer.as_deref(), Some("Prusa"));
        assert_eq!(profile.model.as_deref(), Some("i3 MK3S"));
        let odd = br#"{"profiles":{"a":null,"b":{"current":true,"heatedBed":true,"model":null,
            "extruder":{"count":null},"heatedChamber":null},"c":{"current":1,"extruder":[]}}}"#;
        assert_eq!(in_force(odd).unwrap().heaters, ["tool0", "bed"]);
        assert_eq!(in_force(br#"{"profiles":{}}"#), None);
        assert_eq!(in_force(b"<html>"), None);
    }
}
