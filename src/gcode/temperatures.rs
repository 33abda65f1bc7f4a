//! FileTemperatures, from the settings of the slicer and from commands (pure).

use super::filament::{Amounts, MOST_TOOLS, first_used};
use super::info::{SlicerInfo, within};
use super::values::{number, numbers};
use super::words::GcodeCommand;

/// The hottest nozzle and bed in °C that are believed.
const HOTTEST: (f64, f64) = (600.0, 300.0);

/// The plates of Bambu's printers: the beginning of the name of the setting, and the name of the plate.
const PLATES: [(&[u8], &[u8]); 6] = [
    (b"cool_plate_temp", b"Cool Plate"),
    (b"eng_plate_temp", b"Engineering Plate"),
    (b"hot_plate_temp", b"High Temp Plate"),
    (b"textured_plate_temp", b"Textured PEI Plate"),
    (b"textured_cool_plate_temp", b"Textured Cool Plate"),
    (b"supertack_plate_temp", b"Supertack Plate"),
];

/// FileTemperatures in °C of one heater, in the first layer and in the others: of each tool.
#[derive(Default)]
struct GcodeHeater {
    first_layer: Vec<f64>,
    others: Vec<f64>,
    /// What commands before and after the beginning of the first layer set.
    commanded: (Option<f64>, Option<f64>),
}

impl GcodeHeater {
    fn command(&mut self, celsius: f64, has_begun: bool) {
        // What is switched off says nothing about how hot it prints.
        if celsius > 0.0 {
            if !has_begun {
                self.commanded.0 = Some(celsius);
            } else if self.commanded.1.is_none() {
                self.commanded.1 = Some(celsius);
            }
        }
    }

    /// One more tool, with its temperatures in the first layer and in the others.
    fn add_tool(&mut self, first_layer: f64, others: f64) {
        if self.first_layer.len() < MOST_TOOLS {
            self.first_layer.push(first_layer);
            self.others.push(others);
        }
    }

    fn finish(&self, lengths: &Amounts, least: f64, most: f64) -> (Option<f64>, Option<f64>) {
        let set = |values: &[f64]| first_used(values, lengths).and_then(|c| within(c, least, most));
        let commanded = |c: Option<f64>| c.and_then(|c| within(c, 1.0, most));
        let (before, after) = (commanded(self.commanded.0), commanded(self.commanded.1));
        let first = set(&self.first_layer).or(before);
        (set(&self.others).or(after).or(first), first)
    }
}

/// Collects temperatures.
#[derive(Default)]
pub(super) struct FileTemperatures {
    nozzle: GcodeHeater,
    bed: GcodeHeater,
    /// For each plate.
    plates: [(Option<f64>, Option<f64>); PLATES.len()],
    plate: Option<usize>,
    /// Simplify3D: how many set points each heater has, and all of them.
    set_points: (Vec<usize>, Vec<f64>),
    /// Simplify3D 5: whether the set points that follow are of a nozzle.
    is_nozzle: Option<bool>,
}

impl FileTemperatures {
    /// Takes a setting; `key` is in lower case. Returns whether it is a temperature.
    pub(super) fn setting(&mut self, key: &[u8], value: &[u8]) -> bool {
        let list = || numbers(value).take(MOST_TOOLS).collect();
        match key {
            b"temperature" | b"nozzle_temperature" | b"temperature_c" => {
                self.nozzle.others = list();
            }
            b"first_layer_temperature" | b"nozzle_temperature_initial_layer" | b"first_layer_c" => {
                self.nozzle.first_layer = list();
            }
            b"extruder_train.0.initial_temperature" => self.nozzle.first_layer = list(),
            b"bed_temperature" | b"bed_c" => self.bed.others = list(),
            b"first_layer_bed_temperature" | b"build_plate.initial_temperature" => {
                self.bed.first_layer = list();
            }
            b"curr_bed_type" => {
                self.plate = PLATES.iter().position(|(_, plate)| value.eq_ignore_ascii_case(plate));
            }
            b"temperaturesetpointcount" => {
                self.set_points.0 =
                    numbers(value).take(MOST_TOOLS).map(|count| count as usize).collect();
            }
            b"temperaturesetpointtemperatures" => self.set_points.1 = list(),
            b"temperatureheatedbed" => self.heated_beds(value),
            b"temperaturetype" => self.is_nozzle = Some(value == b"extruder"),
            b"temperaturesetpoints" => self.set_points_of_version_5(value),
            _ => return self.plate_setting(key, value),
        }
        true
    }

    /// Takes a command, and whether the first layer has begun.
    pub(super) fn command(&mut self, command: &GcodeCommand<'_>, has_begun: bool) {
        let heater = match (command.letter, command.code) {
            (b'M', 104 | 109) => &mut self.nozzle,
            (b'M', 140 | 190) => &mut self.bed,
            _ => return,
        };
        let mut celsius = None;
        for (letter, text) in command.words() {
            match letter {
                b'S' | b'R' => celsius = number(text),
                // Another tool, which may only be kept warm.
                b'T' if number(text) != Some(0.0) => return,
                _ => {}
            }
        }
        if let Some(celsius) = celsius {
            heater.command(celsius, has_begun);
        }
    }

    pub(super) fn finish(mut self, lengths: &Amounts, info: &mut SlicerInfo) {
        if let Some((others, first_layer)) = self.plate.map(|plate| self.plates[plate]) {
            if self.bed.others.is_empty() {
                self.bed.others.extend(others);
            }
            if self.bed.first_layer.is_empty() {
                self.bed.first_layer.extend(first_layer);
            }
        }
        (info.nozzle_temperature, info.nozzle_temperature_first_layer) =
            self.nozzle.finish(lengths, 1.0, HOTTEST.0);
        (info.bed_temperature, info.bed_temperature_first_layer) =
            self.bed.finish(lengths, 0.0, HOTTEST.1);
    }

    fn plate_setting(&mut self, key: &[u8], value: &[u8]) -> bool {
        let of_first_layer = key.strip_suffix(b"_initial_layer");
        let key = of_first_layer.unwrap_or(key);
        let Some(plate) = PLATES.iter().position(|(name, _)| *name == key) else { return false };
        let (others, first_layer) = &mut self.plates[plate];
        *(if of_first_layer.is_some() { first_layer } else { others }) = number(value);
        true
    }

    /// Simplify3D up to version 4: which of the heaters are beds, one digit for each.
    fn heated_beds(&mut self, value: &[u8]) {
        let (counts, points) = &self.set_points;
        let mut points = points.iter();
        for (heater, is_bed) in numbers(value).enumerate() {
            let count = counts.get(heater).copied().unwrap_or(1);
            let heater = if is_bed > 0.0 { &mut self.bed } else { &mut self.nozzle };
            let mut its = points.by_ref().take(count);
            let Some(first) = its.next() else { return };
            heater.add_tool(*first, *its.last().unwrap_or(first));
        }
    }

    /// Simplify3D 5: `1|210,2|205` is a layer and a temperature.
    fn set_points_of_version_5(&mut self, value: &[u8]) {
        let point = |part: &[u8]| {
            let at = part.iter().position(|&byte| byte == b'|')?;
            number(&part[at + 1..])
        };
        let mut points = value.split(|&byte| byte == b',').filter_map(point);
        let (Some(is_nozzle), Some(first)) = (self.is_nozzle, points.next()) else { return };
        let heater = if is_nozzle { &mut self.nozzle } else { &mut self.bed };
        heater.add_tool(first, points.next_back().unwrap_or(first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The temperatures of the nozzle and of the bed, each in the other layers and in the first.
    fn found(settings: &[(&str, &str)], commands: &[(&str, bool)]) -> [Option<f64>; 4] {
        let (mut temperatures, mut info) = (FileTemperatures::default(), SlicerInfo::default());
        for (key, value) in settings {
            assert!(temperatures.setting(key.as_bytes(), value.as_bytes()), "{key}");
        }
        for (line, has_begun) in commands {
            temperatures.command(&GcodeCommand::parse(line.as_bytes()).unwrap(), *has_begun);
        }
        temperatures.finish(&Amounts::default(), &mut info);
        [
            info.nozzle_temperature,
            info.nozzle_temperature_first_layer,
            info.bed_temperature,
            info.bed_temperature_first_layer,
        ]
    }

    const EXPECTED: [Option<f64>; 4] = [Some(210.0), Some(215.0), Some(60.0), Some(65.0)];

    #[test]
    fn settings_have_the_temperatures() {
        let prusa = [
            ("temperature", "210,240"),
            ("first_layer_temperature", "215,245"),
            ("bed_temperature", "60,60"),
            ("first_layer_bed_temperature", "65"),
        ];
        assert_eq!(found(&prusa, &[("M104 S170", false)]), EXPECTED);
        let bambu = [
            ("cool_plate_temp", "35"),
            ("curr_bed_type", "Textured PEI Plate"),
            ("nozzle_temperature", "210"),
            ("nozzle_temperature_initial_layer", "215"),
            ("textured_plate_temp", "60"),
            ("textured_plate_temp_initial_layer", "65"),
        ];
        assert_eq!(found(&bambu, &[]), EXPECTED);
        let simplify = [
            ("temperaturesetpointcount", "2,2"),
            ("temperaturesetpointtemperatures", "215,210,65,60"),
            ("temperatureheatedbed", "0,1"),
        ];
        assert_eq!(found(&simplify, &[]), EXPECTED);
        let simplify_5 = [
            ("temperaturetype", "extruder"),
            ("temperaturesetpoints", "1|215,2|210"),
            ("temperaturetype", "platform"),
            ("temperaturesetpoints", "1|65,2|60"),
        ];
        assert_eq!(found(&simplify_5, &[]), EXPECTED);
    }

    #[test]
    fn without_settings_commands_have_them() {
        let commands = [
            ("M140 S0", false),
            ("M140 S65", false),
            ("M104 S150", false),
            ("M109 S215", false),
            ("M104 T1 S180", false),
            ("M104 S210", true),
            ("M140 S60", true),
            ("M104 S0", true),
            ("M104 S150", true),
            ("M106 S255", true),
        ];
        assert_eq!(found(&[], &commands), EXPECTED);
        assert_eq!(found(&[], &commands[..4])[..2], [Some(215.0), Some(215.0)]);
        assert_eq!(found(&[], &[("M109", false), ("M104 S0", false)]), [None; 4]);
    }

    #[test]
    fn absurd_temperatures_are_unknown() {
        let absurd =
            [("temperature", "2000"), ("first_layer_temperature", "0"), ("bed_temperature", "-5")];
        assert_eq!(found(&absurd, &[]), [None; 4]);
        assert_eq!(found(&[("bed_temperature", "0")], &[])[2], Some(0.0));
    }
}
