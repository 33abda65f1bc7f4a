//! What the slicer wrote about a file, as it is published (pure).

use serde::Serialize;

/// What the slicer wrote about a file; `None`, which is null in JSON, is what it did not write, or what
/// cannot be true.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SlicerInfo {
    /// Name of the slicer, such as `PrusaSlicer`.
    pub slicer: Option<String>,
    /// Its version, such as `2.9.2`.
    pub slicer_version: Option<String>,
    /// How long the slicer thinks the print takes, in seconds.
    pub print_time: Option<u64>,
    /// Filament of all tools in mm.
    pub filament_length: Option<f64>,
    /// Filament of all tools in cm³.
    pub filament_volume: Option<f64>,
    /// Filament of all tools in g.
    pub filament_weight: Option<f64>,
    /// Cost of the filament of all tools, in the currency that the slicer is set up for.
    pub filament_cost: Option<f64>,
    /// Materials of the tools that are used, such as `PLA` or `PLA, PETG`.
    pub material: Option<String>,
    /// Temperature of the first nozzle that is used, in °C.
    pub nozzle_temperature: Option<f64>,
    /// The same in the first layer.
    pub nozzle_temperature_first_layer: Option<f64>,
    /// Temperature of the bed in °C; 0 is a cold one.
    pub bed_temperature: Option<f64>,
    /// The same in the first layer.
    pub bed_temperature_first_layer: Option<f64>,
    /// Diameter of the first nozzle that is used, in mm.
    pub nozzle_diameter: Option<f64>,
    /// Height of a layer in mm.
    pub layer_height: Option<f64>,
    /// How many layers there are: as counted, if the whole file was read, else as the slicer wrote.
    pub layers: Option<u32>,
}

/// `value` if it is within the bounds, rounded to five decimals.
pub(super) fn within(value: f64, least: f64, most: f64) -> Option<f64> {
    let rounded = (value * 1e5).round() / 1e5;
    (least..=most).contains(&rounded).then_some(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_there() {
        let json = serde_json::to_value(SlicerInfo::default()).unwrap();
        for key in ["slicer", "print_time", "filament_weight", "material", "layers"] {
            assert_eq!(json.get(key), Some(&serde_json::Value::Null), "{key}");
        }
        assert_eq!(json.as_object().unwrap().len(), 15);
    }

    #[test]
    fn numbers_that_are_none_are_unknown() {
        assert_eq!(within(f64::NAN, 0.0, 1.0), None);
        assert_eq!(within(f64::INFINITY, 0.0, 1.0), None);
        assert_eq!(within(-1.0, 0.0, 1.0), None);
        assert_eq!(within(0.1 + 0.2, 0.0, 1.0), Some(0.3));
    }
}
