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

/// The heaters of the profile in force, from the answer to `GET /api/printerprofiles`. `None`
/// where it cannot be read or none is in force.
pub fn heaters(answer: &[u8]) -> Option<Vec<String>> {
    let profiles: Profiles = serde_json::from_slice(answer).ok()?;
    let profile = profiles.profiles.into_values().find(|profile| profile.current)?;
    let mut heaters: Vec<String> =
        (0..profile.extruder.count).map(|index| format!("tool{index}")).collect();
    heaters.extend(profile.heated_bed.then(|| "bed".to_owned()));
    heaters.extend(profile.heated_chamber.then(|| "chamber".to_owned()));
    Some(heaters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heaters_follow_the_profile_in_force() {
        let answer = br#"{"profiles":{
            "a":{"current":false,"extruder":{"count":1},"heatedBed":true},
            "b":{"current":true,"extruder":{"count":2,"sharedNozzle":false},"heatedBed":true,
                 "heatedChamber":true,"volume":{}}}}"#;
        assert_eq!(heaters(answer).unwrap(), ["tool0", "tool1", "bed", "chamber"]);
        assert_eq!(heaters(br#"{"profiles":{}}"#), None);
        assert_eq!(heaters(b"<html>"), None);
    }
}
