//! What the bridge reads of a printer profile (pure).

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
struct Profiles {
    profiles: BTreeMap<String, Profile>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Profile {
    current: bool,
    extruder: Extruder,
    heated_bed: bool,
    heated_chamber: bool,
    model: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Extruder {
    count: u8,
}

impl Default for Extruder {
    fn default() -> Self {
        Self { count: 1 }
    }
}

/// What the bridge reads of the profile in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrinterProfile {
    /// `tool0` …, `bed`, `chamber`.
    pub heaters: Vec<String>,
    /// The first word of the profile's model where it has more.
    pub manufacturer: Option<String>,
    /// The rest of it.
    pub model: Option<String>,
}

/// The profile in force, from the answer to `GET /api/printerprofiles`. `None` where it cannot be
/// read or none is in force.
pub fn in_force(answer: &[u8]) -> Option<PrinterProfile> {
    let profiles: Profiles = serde_json::from_slice(answer).ok()?;
    let profile = profiles.profiles.into_values().find(|profile| profile.current)?;
    let mut heaters: Vec<String> =
        (0..profile.extruder.count).map(|index| format!("tool{index}")).collect();
    heaters.extend(profile.heated_bed.then(|| "bed".to_owned()));
    heaters.extend(profile.heated_chamber.then(|| "chamber".to_owned()));
    // OctoPrint has one field for both: "Prusa i3 MK3S".
    let model = profile.model.unwrap_or_default();
    let (manufacturer, model) = match model.trim().split_once(char::is_whitespace) {
        Some((manufacturer, model)) => (manufacturer, model.trim()),
        None => ("", model.trim()),
    };
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Some(PrinterProfile { heaters, manufacturer: given(manufacturer), model: given(model) })
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
        assert_eq!(in_force(br#"{"profiles":{}}"#), None);
        assert_eq!(in_force(b"<html>"), None);
    }
}
