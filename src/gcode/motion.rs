//! Where the nozzle is, and whether it extrudes (pure).

use super::values::number;
use super::words::GcodeCommand;

/// What a command does to layers.
#[derive(Debug, PartialEq)]
pub(super) enum MotionEffect {
    /// Nothing.
    None,
    /// Plastic is laid along a path that begins and ends at these heights in mm.
    Extruded { from: f64, to: f64 },
    /// The printer is set up or heated, as before a print.
    Setup,
}

/// Follows the height and the extruder through absolute and relative coordinates.
///
/// `G90` and `G91` leave the extruder alone, as OctoPrint has it by default. Firmware that means the
/// extruder too, means a file that works there nearly the same: what is between them only travels.
pub(super) struct Motion {
    z: f64,
    e: f64,
    is_relative: bool,
    is_extruder_relative: bool,
    /// Millimetres in a unit: 25.4 after `G20`.
    unit: f64,
}

impl Default for Motion {
    fn default() -> Self {
        Self { z: 0.0, e: 0.0, is_relative: false, is_extruder_relative: false, unit: 1.0 }
    }
}

impl Motion {
    pub(super) fn apply(&mut self, command: &GcodeCommand<'_>) -> MotionEffect {
        match (command.letter, command.code) {
            (b'G', 0..=3) => return self.travel(command),
            (b'G', 20) => self.unit = 25.4,
            (b'G', 21) => self.unit = 1.0,
            (b'G', 28) => self.home(command),
            (b'G', 29) | (b'M', 109 | 190) => {}
            (b'G', 90) => self.is_relative = false,
            (b'G', 91) => self.is_relative = true,
            (b'G', 92) => {
                self.set(command);
                return MotionEffect::None;
            }
            (b'M', 82) => self.is_extruder_relative = false,
            (b'M', 83) => self.is_extruder_relative = true,
            _ => return MotionEffect::None,
        }
        MotionEffect::Setup
    }

    fn travel(&mut self, command: &GcodeCommand<'_>) -> MotionEffect {
        let from = self.z;
        let mut extruded = 0.0;
        let mut is_along_the_bed = false;
        for (letter, text) in command.words() {
            match letter {
                b'X' | b'Y' | b'I' | b'J' => is_along_the_bed = true,
                b'Z' => {
                    let Some(z) = number(text) else { continue };
                    self.z = z * self.unit + if self.is_relative { self.z } else { 0.0 };
                }
                b'E' => {
                    let Some(e) = number(text) else { continue };
                    if self.is_extruder_relative {
                        extruded = e;
                    } else {
                        extruded = e - self.e;
                        self.e = e;
                    }
                }
                _ => {}
            }
        }
        if is_along_the_bed && extruded > 0.0 {
            MotionEffect::Extruded { from, to: self.z }
        } else {
            MotionEffect::None
        }
    }

    fn home(&mut self, command: &GcodeCommand<'_>) {
        let mut axes = command.words().map(|(letter, _)| letter).filter(|&axis| is_axis(axis));
        let first = axes.next();
        if first.is_none() || first == Some(b'Z') || axes.any(|axis| axis == b'Z') {
            self.z = 0.0;
        }
    }

    fn set(&mut self, command: &GcodeCommand<'_>) {
        let mut is_all = true;
        for (letter, text) in command.words() {
            is_all &= !is_axis(letter) && letter != b'E';
            match (letter, number(text)) {
                (b'Z', value) => self.z = value.unwrap_or(0.0) * self.unit,
                (b'E', value) => self.e = value.unwrap_or(0.0),
                _ => {}
            }
        }
        if is_all {
            (self.z, self.e) = (0.0, 0.0);
        }
    }
}

fn is_axis(letter: u8) -> bool {
    matches!(letter, b'X' | b'Y' | b'Z')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heights at which something is extruded.
    fn heights(lines: &str) -> Vec<(f64, f64)> {
        let mut motion = Motion::default();
        let effect = |line: &str| match motion.apply(&GcodeCommand::parse(line.as_bytes())?) {
            MotionEffect::Extruded { from, to } => Some((from, to)),
            MotionEffect::None | MotionEffect::Setup => None,
        };
        lines.split('|').filter_map(effect).collect()
    }

    #[test]
    fn only_a_move_in_the_plane_of_the_bed_that_feeds_extrudes() {
        assert_eq!(heights("G1 Z0.2|G1 X1 E1"), [(0.2, 0.2)]);
        assert_eq!(heights("G1 Z0.2|G1 E1|G1 X1|G1 X2 E1|G1 X3 E0.5|G0 Y1"), []);
        assert_eq!(heights("G2 I1 J0 E1|G3 X1 I2 E2"), [(0.0, 0.0), (0.0, 0.0)]);
        assert_eq!(heights("g1 x1y1z.3e1"), [(0.0, 0.3)]);
    }

    #[test]
    fn coordinates_are_absolute_or_relative() {
        assert_eq!(heights("M83|G1 X1 E1|G1 X1 E1|G1 X1 E-1"), [(0.0, 0.0), (0.0, 0.0)]);
        assert_eq!(heights("G91|G1 Z1|G1 Z1|G1 X1 E1|G90|G1 Z1 X2 E2"), [(2.0, 2.0), (2.0, 1.0)]);
        assert_eq!(heights("M82|G1 E5|G92 E0|G1 X1 E1"), [(0.0, 0.0)]);
        assert_eq!(heights("G1 Z5|G92|G1 X1 E1"), [(0.0, 0.0)]);
        assert_eq!(heights("G1 Z5 E5|G92 X0|G1 X1 E1"), []);
        assert_eq!(heights("G1 Z5|G92 Z1|G1 X1 E1"), [(1.0, 1.0)]);
        assert_eq!(heights("G20|G1 Z1|G1 X1 E1|G21|G1 Z1|G1 X1 E2"), [(25.4, 25.4), (1.0, 1.0)]);
    }

    #[test]
    fn homing_ends_at_the_bed() {
        assert_eq!(heights("G1 Z5|G28|G1 X1 E1"), [(0.0, 0.0)]);
        assert_eq!(heights("G1 Z5|G28 X Z|G1 X1 E1"), [(0.0, 0.0)]);
        assert_eq!(heights("G1 Z5|G28 X Y|G1 X1 E1"), [(5.0, 5.0)]);
        assert_eq!(heights("G1 Z5|G28 W|G1 X1 E1"), [(0.0, 0.0)]);
    }
}
