//! Moves the printer's axes and filament. OctoPrint 2.0 refuses that while a print is paused, as for a
//! change of filament; but it accepts the same moves as G-code.

use super::job_before;
use crate::bridge::printer::commands::answers::CommandError;
use crate::bridge::printer::discovery::printer_profile;
use crate::bridge::printer::snapshot::PrinterState;
use crate::octoprint::{Jog, Rest, RestError};

/// OctoPrint's default speeds of axes in mm/min, for a profile without them.
const XY: f64 = 6000.0;
const Z: f64 = 200.0;
const E: f64 = 300.0;

/// Homes these axes.
pub(crate) async fn home(rest: &Rest, axes: &[&str]) -> Result<(), CommandError> {
    let refused = rest.home(axes).await;
    in_a_pause(rest, refused, |_| home_gcode(axes)).await
}

/// Moves the print head.
pub(crate) async fn jog(rest: &Rest, jog: Jog) -> Result<(), CommandError> {
    let refused = rest.jog(jog).await;
    in_a_pause(rest, refused, |speeds| jog_gcode(jog, speeds)).await
}

/// Extrudes so many mm of filament.
pub(crate) async fn extrude(rest: &Rest, millimetres: f64) -> Result<(), CommandError> {
    let refused = rest.extrude(millimetres).await;
    in_a_pause(rest, refused, |speeds| extrude_gcode(millimetres, speeds)).await
}

/// Sends as G-code what was `refused` only because of a pause.
async fn in_a_pause(
    rest: &Rest,
    refused: Result<(), RestError>,
    gcode: impl FnOnce(Speeds) -> Vec<String>,
) -> Result<(), CommandError> {
    let Err(error) = refused else { return Ok(()) };
    if error.status() != Some(409) || job_before(rest).await?.state != PrinterState::Paused {
        return Err(error.into());
    }
    let profiles = rest.get("api/printerprofiles").await.ok();
    let lines = gcode(profiles.map(|answer| Speeds::read(&answer)).unwrap_or_default());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    Ok(rest.printer_command(&lines).await?)
}

/// The speeds of the current profile, in mm/min.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Speeds {
    x: f64,
    y: f64,
    z: f64,
    e: f64,
}

impl Default for Speeds {
    fn default() -> Self {
        Self { x: XY, y: XY, z: Z, e: E }
    }
}

impl Speeds {
    fn read(answer: &[u8]) -> Self {
        let Some(profile) = printer_profile::current_profile(answer) else {
            return Self::default();
        };
        let speed = |axis: &str, otherwise: f64| {
            let speed = profile["axes"][axis]["speed"].as_f64();
            speed.filter(|speed| *speed > 0.0).unwrap_or(otherwise)
        };
        Self { x: speed("x", XY), y: speed("y", XY), z: speed("z", Z), e: speed("e", E) }
    }
}

/// The G-code that OctoPrint itself sends to home.
fn home_gcode(axes: &[&str]) -> Vec<String> {
    let axes: Vec<String> = axes.iter().map(|axis| format!("{}0", axis.to_uppercase())).collect();
    vec!["G91".to_owned(), format!("G28 {}", axes.join(" ")), "G90".to_owned()]
}

/// The G-code that OctoPrint itself sends to move, no faster than the slowest of the axes.
fn jog_gcode(jog: Jog, speeds: Speeds) -> Vec<String> {
    let axes = [("X", jog.x, speeds.x), ("Y", jog.y, speeds.y), ("Z", jog.z, speeds.z)];
    let moved = || axes.iter().filter_map(|(name, way, speed)| Some((name, (*way)?, *speed)));
    let slowest = moved().map(|(.., speed)| speed).fold(f64::INFINITY, f64::min);
    let ways: Vec<String> = moved().map(|(name, way, _)| format!("{name}{way}")).collect();
    let line = format!("G0 {} F{}", ways.join(" "), jog.speed.unwrap_or(slowest));
    vec!["G91".to_owned(), line, "G90".to_owned()]
}

/// The G-code that OctoPrint itself sends to extrude.
fn extrude_gcode(millimetres: f64, speeds: Speeds) -> Vec<String> {
    let line = format!("G1 E{millimetres} F{}", speeds.e);
    ["G91", "M83", &line, "M82", "G90"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_as_gcode_are_those_of_octoprint() {
        let answer = br#"{"profiles":{"a":{"current":false,"axes":{"x":{"speed":1}}},
            "b":{"current":true,"axes":{"x":{"speed":5000},"y":{"speed":0},"e":{"speed":120}}}}}"#;
        let speeds = Speeds::read(answer);
        assert_eq!(speeds, Speeds { x: 5000.0, y: XY, z: Z, e: 120.0 });
        assert_eq!(Speeds::read(b"<html>"), Speeds::default());
        assert_eq!(home_gcode(&["x", "z"]), ["G91", "G28 X0 Z0", "G90"]);
        let way = Jog { x: Some(10.0), z: Some(-0.2), ..Jog::default() };
        assert_eq!(jog_gcode(way, speeds)[1], "G0 X10 Z-0.2 F200");
        let way = Jog { y: Some(0.001), speed: Some(3000.0), ..Jog::default() };
        assert_eq!(jog_gcode(way, speeds)[1], "G0 Y0.001 F3000");
        let extrude = extrude_gcode(-3.5, speeds);
        assert_eq!(extrude, ["G91", "M83", "G1 E-3.5 F120", "M82", "G90"]);
    }
}
