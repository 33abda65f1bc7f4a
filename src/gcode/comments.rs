//! Comments become what the slicer wrote about the file (pure).

use memchr::memchr3;

use super::filament::{Amounts, MOST_TOOLS, first_used};
use super::info::{SlicerInfo, within};
use super::slicer::SlicerName;
use super::temperatures::FileTemperatures;
use super::values::{duration, leading_number, name, number, numbers};
use super::words::GcodeCommand;

/// The longest key, in bytes.
const LONGEST_KEY: usize = 48;

/// What Cura writes as the time and as the tool's filament while it does not know them, and leaves so
/// without its window.
const CURA_UNKNOWN_TIME: u64 = 6_666;

/// Collects what the slicer wrote.
#[derive(Default)]
pub(super) struct Comments {
    slicer: SlicerName,
    print_time: Option<u64>,
    /// Cura: the time when the last layer ends.
    elapsed: Option<u64>,
    lengths: Amounts,
    volumes: Amounts,
    weights: Amounts,
    costs: Amounts,
    materials: Vec<Option<String>>,
    temperatures: FileTemperatures,
    nozzle_diameters: Vec<f64>,
    layer_height: Option<f64>,
    /// ideaMaker: how many layers said their thickness.
    thicknesses: u8,
    layers: Option<u32>,
    /// Slic3r: how many tools said what they use.
    slic3r_tools: usize,
    /// Bambu Studio: the numbers of the tools that are used, the first one is 1.
    used_tools: Vec<usize>,
}

impl Comments {
    /// Takes the text of a comment that has a line for itself.
    pub(super) fn comment(&mut self, text: &[u8]) {
        let text = text.trim_ascii();
        let Some(at) = memchr3(b'=', b':', b',', text) else {
            self.slicer.comment(text);
            return;
        };
        let (key, value) = (text[..at].trim_ascii_end(), text[at + 1..].trim_ascii());
        let mut lower = [0; LONGEST_KEY];
        if let Some(lower) = lower.get_mut(..key.len()) {
            lower.copy_from_slice(key);
            lower.make_ascii_lowercase();
            if self.setting(lower, value) {
                return;
            }
        }
        self.slicer.comment(text);
    }

    /// Takes a command, and whether the first layer has begun.
    pub(super) fn command(&mut self, command: &GcodeCommand<'_>, has_begun: bool) {
        self.temperatures.command(command, has_begun);
    }

    fn setting(&mut self, key: &[u8], value: &[u8]) -> bool {
        match key {
            b"type" | b"width" | b"z" | b"mesh" | b"feature" | b"line_width" => {}
            b"estimated printing time (normal mode)"
            | b"estimated printing time"
            | b"time"
            | b"print time"
            | b"print.time"
            | b"build time"
            | b"; --- print time"
            | b"estimated build time"
            | b"calculated-during-export build time" => {
                self.print_time = duration(value).or(self.print_time);
            }
            b"model printing time" => {
                let total: &[u8] = b"total estimated time:";
                let at = value.windows(total.len()).position(|part| part == total);
                let time = at.and_then(|at| duration(&value[at + total.len()..]));
                self.print_time = time.or(self.print_time);
            }
            b"time_elapsed" => self.elapsed = duration(value).or(self.elapsed),
            b"total layer number" | b"total layers count" | b"layer_count" | b"layer count" => {
                let layers = number(value).and_then(|layers| within(layers, 1.0, 1e7));
                self.layers = layers.map(|layers| layers as u32).or(self.layers);
            }
            b"layer height"
            | b"layer_height"
            | b"layerheight"
            | b"layer_thickness_mm"
            | b"max_layer_thickness_mm" => {
                self.layer_height = number(value).or(self.layer_height);
            }
            b"basic settings" => {
                let height = value.strip_prefix(b"Layer height:").and_then(number);
                self.layer_height = height.or(self.layer_height);
            }
            b"height" => self.thickness(value),
            b"nozzle_diameter"
            | b"nozzle diameter"
            | b"extruderdiameter"
            | b"nozzlediameter"
            | b"extruder_train.0.nozzle.diameter" => {
                self.nozzle_diameters = numbers(value).take(MOST_TOOLS).collect();
            }
            b"generator.name" => self.slicer.set_name(value),
            b"generator.version" => self.slicer.set_version(value),
            b"filament_type" | b"filament type" | b"printmaterial" | b"material_name" => {
                let materials = value.split(|byte| matches!(byte, b';' | b',')).take(MOST_TOOLS);
                self.materials = materials.map(name).collect();
            }
            b"filament" => {
                self.used_tools =
                    numbers(value).take(MOST_TOOLS).map(|tool| tool as usize).collect();
            }
            _ => {
                return self.temperatures.setting(key, value)
                    || self.amount(key, value)
                    || self.amount_of_a_tool(key, value);
            }
        }
        true
    }

    /// Amounts and costs of the filament of all tools.
    fn amount(&mut self, key: &[u8], value: &[u8]) -> bool {
        match key {
            b"filament used [mm]" | b"total filament length [mm]" => {
                self.lengths.set(numbers(value));
            }
            b"filament used [cm3]" | b"total filament volume [cm^3]" => {
                self.volumes.set(numbers(value));
            }
            b"filament used [g]" | b"total filament weight [g]" => self.weights.set(numbers(value)),
            b"total filament used [g]" => self.weights.set_total(number(value)),
            b"filament cost" => self.costs.set(numbers(value)),
            b"total filament cost" => self.costs.set_total(number(value)),
            b"filament used" => self.used(value),
            b"filament weight" => {
                self.weights.set(numbers(value.strip_prefix(b"[").unwrap_or(value)));
            }
            b"filament length" | b"material length" => self.lengths.set_total(number(value)),
            b"plastic volume" | b"material volume" => {
                self.volumes
                    .set_total(number(value).map(|cubic_millimetres| cubic_millimetres / 1e3));
            }
            b"plastic weight" | b"material weight" => self.weights.set_total(number(value)),
            b"material cost" => self.costs.set_total(number(value)),
            b"estimated build cost" | b"estimated-in-gui build cost" => {
                let value = value.strip_prefix(b"$").unwrap_or(value);
                self.costs.set_total(number(value));
            }
            _ => return false,
        }
        true
    }

    /// Amounts that have a line for each tool, and its number in the key.
    fn amount_of_a_tool(&mut self, key: &[u8], value: &[u8]) -> bool {
        let tool = |prefix: &[u8], suffix: &[u8], first: usize| {
            let number = number(key.strip_prefix(prefix)?.strip_suffix(suffix)?)?;
            (number as usize).checked_sub(first)
        };
        if let Some(tool) = tool(b"material#", b" used", 1) {
            self.lengths.set_tool(tool, number(value).unwrap_or(0.0));
        } else if let Some(tool) = tool(b"ext ", b"", 1).or_else(|| tool(b"ext #", b"", 1)) {
            self.lengths.set_tool(tool, number(value).unwrap_or(0.0));
            let volume = value.iter().position(|&byte| byte == b'(');
            let volume = volume.and_then(|at| number(&value[at + 1..]));
            self.volumes.set_tool(tool, volume.unwrap_or(0.0));
        } else if let Some(tool) = tool(b"extruder_train.", b".material.volume_used", 0) {
            self.volumes.set_tool(tool, number(value).unwrap_or(0.0) / 1e3);
        } else if let Some(tool) =
            tool(b"filament type #", b"", 1).filter(|&tool| tool < MOST_TOOLS)
        {
            if self.materials.len() <= tool {
                self.materials.resize(tool + 1, None);
            }
            self.materials[tool] = name(value);
        } else {
            return false;
        }
        true
    }

    /// `1234.5mm (2.9cm3)` of Slic3r, a line for each tool; `1.99m, 0.5m` of Cura; `2.49m 7.0g` of old
    /// Cura.
    fn used(&mut self, value: &[u8]) {
        let Some((first, length)) = leading_number(value) else { return };
        let unit = value[length..].trim_ascii_start();
        if unit.starts_with(b"mm") {
            self.lengths.set_tool(self.slic3r_tools, first);
            let volume = unit.iter().position(|&byte| byte == b'(');
            let volume = volume.and_then(|at| number(&unit[at + 1..]));
            self.volumes.set_tool(self.slic3r_tools, volume.unwrap_or(0.0));
            self.slic3r_tools = self.slic3r_tools.saturating_add(1);
        } else if unit.starts_with(b"m") {
            self.lengths.set(numbers(value).map(|metres| metres * 1e3));
            let grams = unit.strip_prefix(b"m ").filter(|rest| rest.ends_with(b"g"));
            self.weights.set_total(grams.and_then(number));
        }
    }

    /// The thickness of a layer, which ideaMaker writes nowhere else: that of the second one.
    fn thickness(&mut self, value: &[u8]) {
        if self.slicer.name.as_deref() == Some("ideaMaker") && self.thicknesses < 2 {
            self.thicknesses += 1;
            self.layer_height = number(value).or(self.layer_height);
        }
    }

    pub(super) fn finish(mut self) -> SlicerInfo {
        self.lengths.place(&self.used_tools);
        let length = self.lengths.total(1e8);
        let print_time = self.print_time.filter(|&time| {
            let is_cura = self.slicer.name.as_deref() == Some("Cura");
            !(is_cura && time == CURA_UNKNOWN_TIME && length.is_none())
        });
        let volume = self.volumes.total(1e9).map(|volume| match length {
            // Bambu Studio writes cubic millimetres, and calls them cubic centimetres. No filament has a
            // cubic centimetre to the millimetre.
            Some(length) if volume > length => volume / 1e3,
            _ => volume,
        });
        let mut info = SlicerInfo {
            print_time: print_time.or(self.elapsed).filter(|&time| time > 0),
            filament_length: length,
            filament_volume: volume.and_then(|volume| within(volume, 0.00001, 1e6)),
            filament_weight: self.weights.total(1e6),
            filament_cost: self.costs.total(1e9),
            material: self.material(),
            nozzle_diameter: first_used(&self.nozzle_diameters, &self.lengths)
                .and_then(|diameter| within(diameter, 0.05, 10.0)),
            layer_height: self.layer_height.and_then(|height| within(height, 0.001, 10.0)),
            layers: self.layers,
            slicer: self.slicer.name,
            slicer_version: self.slicer.version,
            ..SlicerInfo::default()
        };
        self.temperatures.finish(&self.lengths, &mut info);
        info
    }

    /// The materials of the tools that are used, each one once.
    fn material(&self) -> Option<String> {
        let mut used: Vec<&str> = Vec::new();
        for (material, is_used) in
            self.materials.iter().zip(self.lengths.used(self.materials.len()))
        {
            if let Some(material) = material.as_deref().filter(|_| is_used)
                && !used.contains(&material)
            {
                used.push(material);
            }
        }
        (!used.is_empty()).then(|| used.join(", "))
    }
}
