//! The device classes that Home Assistant knows, as of 2025.4 (pure).

/// State classes of most sensors.
const MEASUREMENT: &[&str] = &["measurement"];
/// State classes of what counts up.
const TOTALS: &[&str] = &["total", "total_increasing"];
/// All state classes but that of an angle.
const ANY: &[&str] = &["measurement", "total", "total_increasing"];

const LENGTHS: &[&str] = &["mm", "cm", "m", "km", "in", "ft", "yd", "mi", "nmi"];
const PRESSURES: &[&str] = &["Pa", "hPa", "kPa", "bar", "cbar", "mbar", "mmHg", "inHg", "psi"];
const ENERGIES: &[&str] = &[
    "J", "kJ", "MJ", "GJ", "mWh", "Wh", "kWh", "MWh", "GWh", "TWh", "cal", "kcal", "Mcal", "Gcal",
];
const VOLUMES: &[&str] = &["ft³", "CCF", "m³", "L", "mL", "gal", "fl. oz."];
const DENSITY: &[&str] = &["µg/m³"];
const PERCENT: &[&str] = &["%"];
const SPEEDS: &[&str] = &["Beaufort", "ft/s", "in/s", "m/s", "km/h", "kn", "mph", "mm/s"];

/// A device class of a sensor, most of which are one of a number too.
#[derive(Debug)]
pub(super) struct SensorClass {
    pub(super) name: &'static str,
    /// Units that go with it; empty if it has none, `None` if any does.
    pub(super) units: Option<&'static [&'static str]>,
    /// State classes that go with it.
    pub(super) state_classes: &'static [&'static str],
}

const fn class(
    name: &'static str,
    units: &'static [&'static str],
    state_classes: &'static [&'static str],
) -> SensorClass {
    SensorClass { name, units: Some(units), state_classes }
}

/// The classes of sensors without a number.
pub(super) const NOT_NUMERIC: &[&str] = &["date", "timestamp"];

/// The device classes of sensors, but for `enum`, which is nothing without a list of options.
pub(super) const SENSOR: &[SensorClass] = &[
    class("date", &[], &[]),
    class("timestamp", &[], &[]),
    class("apparent_power", &["VA"], MEASUREMENT),
    class("aqi", &[], MEASUREMENT),
    class("area", &["m²", "cm²", "km²", "mm²", "in²", "ft²", "yd²", "mi²", "ac", "ha"], ANY),
    class("atmospheric_pressure", PRESSURES, MEASUREMENT),
    class("battery", PERCENT, MEASUREMENT),
    class("blood_glucose_concentration", &["mg/dL", "mmol/L"], MEASUREMENT),
    class("carbon_dioxide", &["ppm"], MEASUREMENT),
    class("carbon_monoxide", &["ppm"], MEASUREMENT),
    class("conductivity", &["S/cm", "µS/cm", "mS/cm"], MEASUREMENT),
    class("current", &["mA", "A"], MEASUREMENT),
    class(
        "data_rate",
        &[
            "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "B/s", "kB/s", "MB/s", "GB/s", "KiB/s", "MiB/s",
            "GiB/s",
        ],
        MEASUREMENT,
    ),
    class(
        "data_size",
        &[
            "bit", "kbit", "Mbit", "Gbit", "B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB",
            "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB",
        ],
        ANY,
    ),
    class("distance", LENGTHS, ANY),
    // Home Assistant writes microseconds with a Greek letter, and others with the micro sign.
    class("duration", &["d", "h", "min", "s", "ms", "\u{3bc}s"], ANY),
    class("energy", ENERGIES, TOTALS),
    class("energy_distance", &["kWh/100km", "mi/kWh", "km/kWh"], MEASUREMENT),
    class("energy_storage", ENERGIES, MEASUREMENT),
    class("frequency", &["Hz", "kHz", "MHz", "GHz"], MEASUREMENT),
    class("gas", &["CCF", "ft³", "m³"], TOTALS),
    class("humidity", PERCENT, MEASUREMENT),
    class("illuminance", &["lx"], MEASUREMENT),
    class("irradiance", &["W/m²", "BTU/(h⋅ft²)"], MEASUREMENT),
    class("moisture", PERCENT, MEASUREMENT),
    SensorClass { name: "monetary", units: None, state_classes: &["total"] },
    class("nitrogen_dioxide", DENSITY, MEASUREMENT),
    class("nitrogen_monoxide", DENSITY, MEASUREMENT),
    class("nitrous_oxide", DENSITY, MEASUREMENT),
    class("ozone", DENSITY, MEASUREMENT),
    class("ph", &[], MEASUREMENT),
    class("pm1", DENSITY, MEASUREMENT),
    class("pm10", DENSITY, MEASUREMENT),
    class("pm25", DENSITY, MEASUREMENT),
    class("power", &["mW", "W", "kW", "MW", "GW", "TW"], MEASUREMENT),
    SensorClass { name: "power_factor", units: None, state_classes: MEASUREMENT },
    class("precipitation", &["in", "mm", "cm"], ANY),
    class("precipitation_intensity", &["in/d", "in/h", "mm/d", "mm/h"], MEASUREMENT),
    class("pressure", PRESSURES, MEASUREMENT),
    class("reactive_power", &["var"], MEASUREMENT),
    class("signal_strength", &["dB", "dBm"], MEASUREMENT),
    class("sound_pressure", &["dB", "dBA"], MEASUREMENT),
    class(
        "speed",
        &[
            "Beaufort", "ft/s", "in/s", "m/s", "km/h", "kn", "mph", "mm/s", "in/d", "in/h", "mm/d",
            "mm/h",
        ],
        MEASUREMENT,
    ),
    class("sulphur_dioxide", DENSITY, MEASUREMENT),
    class("temperature", &["°C", "°F", "K"], MEASUREMENT),
    class("volatile_organic_compounds", DENSITY, MEASUREMENT),
    class("volatile_organic_compounds_parts", &["ppb", "ppm"], MEASUREMENT),
    class("voltage", &["µV", "mV", "V", "kV", "MV"], MEASUREMENT),
    class("volume", VOLUMES, TOTALS),
    class("volume_flow_rate", &["m³/h", "ft³/min", "L/min", "gal/min", "mL/s"], MEASUREMENT),
    class("volume_storage", VOLUMES, MEASUREMENT),
    class("water", &["CCF", "ft³", "m³", "gal", "L"], TOTALS),
    class("weight", &["g", "kg", "mg", "µg", "oz", "lb", "st"], ANY),
    class("wind_direction", &["°"], &["measurement_angle"]),
    class("wind_speed", SPEEDS, MEASUREMENT),
];

/// The state classes of sensors.
pub(super) const STATE: &[&str] =
    &["measurement", "measurement_angle", "total", "total_increasing"];

const BINARY_SENSOR: &[&str] = &[
    "battery",
    "battery_charging",
    "carbon_monoxide",
    "cold",
    "connectivity",
    "door",
    "garage_door",
    "gas",
    "heat",
    "light",
    "lock",
    "moisture",
    "motion",
    "moving",
    "occupancy",
    "opening",
    "plug",
    "power",
    "presence",
    "problem",
    "running",
    "safety",
    "smoke",
    "sound",
    "tamper",
    "update",
    "vibration",
    "window",
];

/// Returns the class of a sensor or number by its name.
pub(super) fn of_sensor(name: &str) -> Option<&'static SensorClass> {
    SENSOR.iter().find(|class| class.name == name)
}

/// Returns the device classes of a platform; a select has none.
pub(super) fn of_platform(platform: &str) -> Vec<&'static str> {
    let sensor = SENSOR.iter().map(|class| class.name);
    match platform {
        "sensor" => sensor.collect(),
        "number" => sensor.filter(|name| !NOT_NUMERIC.contains(name)).collect(),
        "binary_sensor" => BINARY_SENSOR.to_vec(),
        "switch" => vec!["outlet", "switch"],
        "button" => vec!["identify", "restart", "update"],
        "event" => vec!["button", "doorbell", "motion"],
        _ => Vec::new(),
    }
}
