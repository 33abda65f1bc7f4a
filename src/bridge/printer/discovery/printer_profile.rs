//! Reads OctoPrint's printer profiles (pure).

use serde_json::Value;

use crate::heater::Heater;

/// Maximum number of tools of a printer, which leaves room for bed and chamber.
const MAX_TOOLS: u8 = 30;

/// What the bridge uses of a printer profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrinterProfile {
    /// Its id, such as `_default`.
    pub id: Option<String>,
    /// `tool0` …, `bed`, `chamber`, as far as the printer has them.
    pub heaters: Vec<Heater>,
    /// The first word of the profile's model where it has more.
    pub manufacturer: Option<String>,
    /// The rest of it.
    pub model: Option<String>,
}

/// Returns the current profile in the answer to `GET /api/printerprofiles`, if it has one.
pub fn current_profile(answer: &[u8]) -> Option<Value> {
    let mut answer: Value = serde_json::from_slice(answer).ok()?;
    let mut profiles = answer.get_mut("profiles")?.as_object_mut()?.values_mut();
    profiles.find(|profile| profile["current"] == true).map(Value::take)
}

/// Reads the current profile, see [`current_profile`].
pub(super) fn printer_profile(answer: &[u8]) -> Option<PrinterProfile> {
    let profile = current_profile(answer)?;
    let tools = profile["extruder"]["count"].as_u64().unwrap_or(1);
    let tools = u8::try_from(tools).map_or(MAX_TOOLS, |tools| tools.min(MAX_TOOLS));
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
    fn heaters_follow_the_current_profile() {
        let answer = br#"{"profiles":{
            "a":{"current":false,"extruder":{"count":1},"heatedBed":true},
            "b":{"current":true,"extruder":{"count":2,"sharedNozzle":false},"heatedBed":true,
                 "heatedChamber":true,"volume":{},"model":"Prusa i3 MK3S"}}}"#;
        let profile = printer_profile(answer).unwrap();
        assert_eq!(profile.heaters, ["tool0", "tool1", "bed", "chamber"]);
        assert_eq!(profile.manufacturer.as_deref(), Some("Prusa"));
        assert_eq!(profile.model.as_deref(), Some("i3 MK3S"));
        let odd = br#"{"profiles":{"a":null,"b":{"current":true,"heatedBed":true,"model":null,
            "extruder":{"count":null},"heatedChamber":null},"c":{"current":1,"extruder":[]}}}"#;
        assert_eq!(printer_profile(odd).unwrap().heaters, ["tool0", "bed"]);
        assert_eq!(printer_profile(br#"{"profiles":{}}"#), None);
        assert_eq!(printer_profile(b"<html>"), None);
    }
}
