//! What OctoPrint's settings offer: temperature presets, and the printer's SD card.

use serde_json::{Value, json};

use super::client::Rest;
use super::error::RestError;

const CARD: &str = "api/printer/sd";

/// A temperature preset ("temperature profile" in OctoPrint's settings), in °C.
#[derive(Debug, Clone, PartialEq)]
pub struct TemperaturePreset {
    /// Its name, such as `PLA`.
    pub name: String,
    /// The target of each hotend; `None` if the preset leaves it alone.
    pub extruder: Option<f64>,
    /// The target of the bed.
    pub bed: Option<f64>,
    /// The target of the chamber.
    pub chamber: Option<f64>,
}

impl TemperaturePreset {
    /// Reads the presets in the answer to `GET /api/settings`. One without a name is left out, and a
    /// target that is no number is none.
    pub fn read_all(answer: &Value) -> Vec<Self> {
        let profiles = answer["temperature"]["profiles"].as_array();
        profiles.into_iter().flatten().filter_map(Self::read).collect()
    }

    fn read(profile: &Value) -> Option<Self> {
        let name = profile["name"].as_str()?.trim();
        let target = |key: &str| {
            let celsius = match &profile[key] {
                Value::String(text) => text.trim().parse().ok(),
                value => value.as_f64(),
            };
            celsius.filter(|celsius: &f64| celsius.is_finite() && *celsius >= 0.0)
        };
        (!name.is_empty()).then(|| Self {
            name: name.to_owned(),
            extruder: target("extruder"),
            bed: target("bed"),
            chamber: target("chamber"),
        })
    }
}

impl Rest {
    /// Returns the temperature presets.
    ///
    /// # Errors
    /// [`RestError`]; status 403 if this user may not read the settings.
    pub async fn temperature_presets(&self) -> Result<Vec<TemperaturePreset>, RestError> {
        let answer: Value = self.get_json("api/settings").await?;
        Ok(TemperaturePreset::read_all(&answer))
    }

    /// Returns whether the printer's SD card is ready.
    ///
    /// # Errors
    /// [`RestError`]; status 404 if SD support is disabled in OctoPrint.
    pub async fn is_card_ready(&self) -> Result<bool, RestError> {
        let answer: Value = self.get_json(CARD).await?;
        Ok(answer["ready"] == true)
    }

    /// Makes OctoPrint read the list of files on the printer's SD card again.
    ///
    /// # Errors
    /// [`RestError`]; status 404 if SD support is disabled in OctoPrint, 409 while printing or while
    /// the printer is not connected.
    pub async fn refresh_card(&self) -> Result<(), RestError> {
        self.post(CARD, &json!({"command": "refresh"})).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_preset_does_not_affect_others() {
        let answer = json!({"temperature": {"profiles": [
            {"name": "PLA", "extruder": 210, "bed": "60", "chamber": null},
            null, 5, {"extruder": 1}, {"name": " "},
            {"name": " ASA ", "extruder": 250.5, "bed": "hot", "chamber": -1},
        ]}});
        let preset = |name: &str, extruder, bed, chamber| TemperaturePreset {
            name: name.to_owned(),
            extruder,
            bed,
            chamber,
        };
        let pla = preset("PLA", Some(210.0), Some(60.0), None);
        assert_eq!(
            TemperaturePreset::read_all(&answer),
            [pla, preset("ASA", Some(250.5), None, None)]
        );
        for none in [json!({}), json!({"temperature": {"profiles": {}}}), Value::Null] {
            assert_eq!(TemperaturePreset::read_all(&none), []);
        }
    }
}
