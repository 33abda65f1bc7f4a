//! Files that slicers on this machine make: PrusaSlicer, Slic3r and CuraEngine, from `PATH` or from
//! `OCTOPRINT2MQTT_TEST_PRUSASLICER`, `OCTOPRINT2MQTT_TEST_SLIC3R` and `OCTOPRINT2MQTT_TEST_CURAENGINE`.
//! CuraEngine also needs Cura's definitions, in `OCTOPRINT2MQTT_TEST_CURA_DEFINITIONS`.
//!
//! What is in them is found a second time, by simple means.

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};
use std::process::Command;

use octoprint2mqtt::gcode::SlicerInfo;

use super::{read, starts};

type Point = [f64; 3];

/// A part in layers of rings: the radius in mm at the bottom and at the top, its height, and corners.
struct Part {
    name: &'static str,
    radii: (f64, f64),
    height: f64,
    corners: u32,
}

const CUBE: Part = Part { name: "cube", radii: (14.1, 14.1), height: 10.0, corners: 4 };
const CONE: Part = Part { name: "cone", radii: (15.0, 0.5), height: 20.0, corners: 60 };
const VASE: Part = Part { name: "vase", radii: (10.0, 25.0), height: 30.0, corners: 200 };
/// It stands on its tip, and needs support.
const FUNNEL: Part = Part { name: "funnel", radii: (3.0, 20.0), height: 8.0, corners: 40 };

impl Part {
    /// Writes it as an STL.
    fn write(&self, dir: &Path) -> PathBuf {
        let point = |corner: u32, radius: f64, z: f64| -> Point {
            let angle = (f64::from(corner) + 0.5) * TAU / f64::from(self.corners);
            [radius * angle.cos() + 100.0, radius * angle.sin() + 100.0, z]
        };
        let (bottom, top) = self.radii;
        let (middle, roof) = ([100.0, 100.0, 0.0], [100.0, 100.0, self.height]);
        let mut text = "solid part\n".to_owned();
        let mut facet = |corners: [Point; 3]| {
            text += "facet normal 0 0 0\nouter loop\n";
            for [x, y, z] in corners {
                text += &format!("vertex {x:.5} {y:.5} {z:.5}\n");
            }
            text += "endloop\nendfacet\n";
        };
        for corner in 0..self.corners {
            let (a, b) = (point(corner, bottom, 0.0), point(corner + 1, bottom, 0.0));
            let (c, d) = (point(corner, top, self.height), point(corner + 1, top, self.height));
            facet([middle, b, a]);
            facet([a, b, d]);
            facet([a, d, c]);
            facet([roof, c, d]);
        }
        let path = dir.join(format!("{}.stl", self.name));
        std::fs::write(&path, text + "endsolid part\n").unwrap();
        path
    }
}

/// The program of a slicer, if it is on this machine.
fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| {
        std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
    });
    if found.is_none() {
        println!("{name} is not on this machine");
    }
    found
}

fn run(command: &mut Command, output: &Path) -> String {
    let ended = command.output().unwrap();
    let data = std::fs::read(output).unwrap_or_else(|e| {
        let said = String::from_utf8_lossy(&ended.stderr);
        panic!("{command:?} made no file: {e}\n{said}")
    });
    if let Some(dir) = std::env::var_os("OCTOPRINT2MQTT_TEST_KEEP") {
        std::fs::copy(output, Path::new(&dir).join(output.file_name().unwrap())).unwrap();
    }
    String::from_utf8(data).unwrap()
}

/// Where lines are that begin a layer, and the heights that `height` finds in all lines for the one at a
/// position.
fn marked(
    text: &str,
    is_begin: impl Fn(&str) -> bool,
    height: impl Fn(&[&str], usize) -> Option<f64>,
) -> Vec<(u64, Option<f64>)> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut offset, mut layers) = (0, Vec::new());
    for (at, line) in lines.iter().enumerate() {
        if is_begin(line) {
            layers.push((offset, height(&lines, at)));
        }
        offset += line.len() as u64 + 1;
    }
    layers
}

/// The last height that is set before something is extruded from the line at this position on.
fn first_height(lines: &[&str], begin: usize) -> Option<f64> {
    let word = |line: &str, letter: char| -> Option<f64> {
        line.split(';').next()?.split(' ').find_map(|word| word.strip_prefix(letter)?.parse().ok())
    };
    let mut z = None;
    let (mut last, mut is_relative) = (0.0, false);
    for (at, line) in lines.iter().enumerate() {
        z = word(line, 'Z').or(z);
        is_relative |= line.starts_with("M83");
        if line.starts_with("G92 E") {
            last = 0.0;
        } else if let Some(e) = word(line, 'E') {
            if at >= begin && e > last && word(line, 'X').is_some() {
                break;
            }
            last = if is_relative { 0.0 } else { e };
        }
    }
    z
}

/// Compares what is read of a file with its layers; how many by moves alone may differ by `slack`.
fn compare(name: &str, text: &str, layers: &[(u64, Option<f64>)], slack: usize) -> SlicerInfo {
    let file = read(text.as_bytes(), &[]);
    assert!(layers.len() > 10, "{name}: {} layers", layers.len());
    assert_eq!(starts(&file.layers), layers, "{name}");
    let bare: String = text
        .lines()
        .filter(|line| !line.starts_with(';'))
        .flat_map(|line| [line.split(';').next().unwrap(), "\n"])
        .collect();
    let by_moves = starts(&read(bare.as_bytes(), &[]).layers);
    let heights = |layers: &[(u64, Option<f64>)]| -> Vec<i64> {
        layers.iter().map(|(_, z)| (z.unwrap() * 100.0).round() as i64).collect()
    };
    if slack == 0 {
        assert_eq!(heights(&by_moves), heights(layers), "{name} without comments");
    } else {
        assert!(by_moves.len().abs_diff(layers.len()) <= slack, "{name}: {}", by_moves.len());
    }
    println!(
        "{name}: {} kB, {} layers, {} by moves",
        text.len() / 1024,
        layers.len(),
        by_moves.len()
    );
    file.slicer
}

#[test]
#[ignore = "needs PrusaSlicer"]
fn prusaslicer_is_understood() {
    let Some(slicer) = program("OCTOPRINT2MQTT_TEST_PRUSASLICER", "prusa-slicer") else { return };
    let dir = tempfile::tempdir().unwrap();
    let relative: &[&str] = &["--use-relative-e-distances", "--layer-gcode", "G92 E0"];
    let vase: &[&str] =
        &["--spiral-vase", "--perimeters", "1", "--top-solid-layers", "0", "--fill-density", "0"];
    for (name, part, settings, slack) in [
        ("prusa_cube", CUBE, &[][..], 0),
        ("prusa_cone_relative", CONE, relative, 0),
        ("prusa_hop", CONE, &["--retract-lift", "0.6", "--first-layer-height", "0.3"], 0),
        ("prusa_vase", VASE, vase, 1),
        ("prusa_raft", FUNNEL, &["--support-material", "--raft-layers", "3"], 0),
        ("prusa_verbose", CUBE, &["--gcode-comments", "--layer-height", "0.1"], 0),
        ("prusa_objects", CUBE, &["--complete-objects", "--duplicate", "2"], 0),
        ("prusa_marlin_2", CONE, &["--gcode-flavor", "marlin2", "--skirts", "0"], 0),
    ] {
        let (stl, output) = (part.write(dir.path()), dir.path().join(format!("{name}.gcode")));
        let mut command = Command::new(&slicer);
        command.args([
            "--export-gcode",
            "--temperature",
            "205",
            "--first-layer-temperature",
            "210",
        ]);
        command.args([
            "--filament-type",
            "PETG",
            "--filament-density",
            "1.25",
            "--filament-cost",
            "20",
        ]);
        let text = run(command.args(settings).arg("--output").arg(&output).arg(&stl), &output);
        let z = |lines: &[&str], at: usize| lines[at + 1].strip_prefix(";Z:")?.parse().ok();
        let layers = marked(&text, |line| line == ";LAYER_CHANGE", z);
        let info = compare(name, &text, &layers, slack);
        assert_eq!(info.slicer.as_deref(), Some("PrusaSlicer"));
        assert!(info.slicer_version.is_some_and(|version| version.starts_with(char::is_numeric)));
        assert!(info.print_time.is_some_and(|time| (60..100_000).contains(&time)));
        assert!(info.filament_length.is_some_and(|length| length > 100.0));
        let (weight, volume) = (info.filament_weight.unwrap(), info.filament_volume.unwrap());
        assert!((weight / volume - 1.25).abs() < 0.05, "{weight} g are {volume} cm³");
        assert!(info.filament_cost.is_some());
        assert_eq!(info.material.as_deref(), Some("PETG"));
        assert_eq!(info.nozzle_temperature, Some(205.0));
        assert_eq!(info.nozzle_temperature_first_layer, Some(210.0));
        assert_eq!(info.nozzle_diameter, Some(0.4));
    }
}

#[test]
#[ignore = "needs Slic3r"]
fn slic3r_is_understood() {
    let Some(slicer) = program("OCTOPRINT2MQTT_TEST_SLIC3R", "slic3r") else { return };
    let dir = tempfile::tempdir().unwrap();
    for (name, part, settings) in [
        ("slic3r_cube", CUBE, &[][..]),
        ("slic3r_cone", CONE, &["--retract-lift", "0.5"]),
        ("slic3r_relative", CUBE, &["--use-relative-e-distances"]),
        ("slic3r_support", FUNNEL, &["--support-material", "--raft-layers", "2"]),
    ] {
        let stl = part.write(dir.path());
        let slice = |suffix: &str, more: &[&str]| {
            let output = dir.path().join(format!("{name}{suffix}.gcode"));
            let mut command = Command::new(&slicer);
            command.args(["--temperature", "205", "--first-layer-temperature", "210"]);
            run(command.args(settings).args(more).arg("--output").arg(&output).arg(&stl), &output)
        };
        // It marks no layers; but with comments it says which moves change the layer.
        let said = slice("_verbose", &["--gcode-comments"]);
        let mut heights: Vec<i64> = Vec::new();
        for line in said.lines().filter(|line| line.contains("; move to next layer")) {
            let z: f64 =
                line.split(' ').find_map(|word| word.strip_prefix('Z')?.parse().ok()).unwrap();
            heights.push((z * 100.0).round() as i64);
        }
        let file = read(slice("", &[]).as_bytes(), &[]);
        let found: Vec<i64> =
            starts(&file.layers).iter().map(|(_, z)| (z.unwrap() * 100.0).round() as i64).collect();
        println!("{name}: {} layers, {} found", heights.len(), found.len());
        assert_eq!(found, heights, "{name}");
        assert_eq!(file.slicer.slicer.as_deref(), Some("Slic3r"));
        assert!(file.slicer.filament_length.is_some_and(|length| length > 100.0));
        assert!(file.slicer.filament_volume.is_some_and(|volume| volume > 0.1));
        assert_eq!(file.slicer.nozzle_temperature, Some(205.0));
    }
}

#[test]
#[ignore = "needs CuraEngine, and Cura's definitions"]
fn cura_is_understood() {
    let Some(slicer) = program("OCTOPRINT2MQTT_TEST_CURAENGINE", "CuraEngine") else { return };
    let definitions = std::env::var_os("OCTOPRINT2MQTT_TEST_CURA_DEFINITIONS")
        .map_or_else(|| PathBuf::from("/usr/share/cura/resources/definitions"), PathBuf::from);
    let definition = definitions.join("fdmprinter.def.json");
    if !definition.is_file() {
        println!("{} is not on this machine", definition.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, part, settings, slack) in [
        ("cura_cube", CUBE, &[][..], 0),
        ("cura_hop", CONE, &["retraction_hop_enabled=true", "retraction_hop=0.6"], 0),
        ("cura_relative", CONE, &["relative_extrusion=true"], 0),
        ("cura_adaptive", CONE, &["adaptive_layer_height_enabled=true"], 0),
        ("cura_vase", VASE, &["magic_spiralize=true", "bottom_layers=3"], 1),
        // The first layer of the part is lower than the last one of the raft: moves do not tell them apart.
        ("cura_rafted", CUBE, &["adhesion_type=raft"], 1),
        ("cura_support", FUNNEL, &["support_enable=true"], 0),
    ] {
        let (stl, output) = (part.write(dir.path()), dir.path().join(format!("{name}.gcode")));
        let mut command = Command::new(&slicer);
        command.env("CURA_ENGINE_SEARCH_PATH", &definitions);
        command.args(["slice", "-j"]).arg(&definition);
        let usual = ["layer_height=0.2", "layer_height_0=0.3", "roofing_layer_count=0"];
        for setting in usual.iter().chain(settings) {
            command.args(["-s", setting]);
        }
        let text = run(command.arg("-o").arg(&output).arg("-l").arg(&stl), &output);
        let layers = marked(&text, |line| line.starts_with(";LAYER:"), first_height);
        let info = compare(name, &text, &layers, slack);
        assert_eq!(info.slicer.as_deref(), Some("Cura"));
        assert!(info.slicer_version.is_some());
        assert!(info.print_time.is_some_and(|time| (60..100_000).contains(&time)));
    }
}
