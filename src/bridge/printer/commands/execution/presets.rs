//! Sets the targets of OctoPrint's temperature presets, and reads the list of the SD card anew.

use crate::bridge::printer::commands::answers::CommandError;
use crate::heater::{Heater, HeaterKind, Limits};
use crate::octoprint::{Rest, TemperaturePreset};

/// Sets the heaters that this printer has to the targets of the preset `name`, as OctoPrint's page
/// does; none if one of them would be above its limit.
pub(crate) async fn set(rest: &Rest, name: &str, limits: &Limits) -> Result<(), CommandError> {
    let presets = rest.temperature_presets().await.map_err(|error| match error.status() {
        Some(403) => CommandError::with_status(
            "this user may not read OctoPrint's settings, where the presets are",
            403,
        ),
        _ => CommandError::not_sent(&error),
    })?;
    let preset = find(&presets, name)?;
    let heaters = rest.heaters().await.map_err(|error| CommandError::not_sent(&error))?;
    let targets = targets(preset, &heaters, limits)?;
    let mut done = Vec::new();
    for (heater, target) in targets {
        if let Err(error) = rest.set_target(heater.as_str(), target).await {
            let CommandError { error, status } = error.into();
            return Err(CommandError { error: unfinished(heater, &error, &done), status });
        }
        done.push(heater.as_str());
    }
    Ok(())
}

fn unfinished(heater: &Heater, error: &str, done: &[&str]) -> String {
    let set = match done {
        [] => "nothing was set".to_owned(),
        done => format!("only {} was set", done.join(", ")),
    };
    format!("{heater}: {error}; {set}")
}

fn find<'a>(
    presets: &'a [TemperaturePreset],
    name: &str,
) -> Result<&'a TemperaturePreset, CommandError> {
    let alike = |preset: &&TemperaturePreset| preset.name.to_lowercase() == name.to_lowercase();
    let exact = presets.iter().find(|preset| preset.name == name);
    exact.or_else(|| presets.iter().find(alike)).ok_or_else(|| {
        let names: Vec<&str> = presets.iter().map(|preset| preset.name.as_str()).collect();
        CommandError::new(match names.is_empty() {
            true => "OctoPrint has no presets".to_owned(),
            false => format!("OctoPrint has no such preset; it has {}", names.join(", ")),
        })
    })
}

/// The target of each of `heaters` that the preset sets.
fn targets<'a>(
    preset: &TemperaturePreset,
    heaters: &'a [Heater],
    limits: &Limits,
) -> Result<Vec<(&'a Heater, f64)>, CommandError> {
    let mut targets = Vec::new();
    for heater in heaters {
        let target = match heater.kind() {
            HeaterKind::Tool(_) => preset.extruder,
            HeaterKind::Bed => preset.bed,
            HeaterKind::Chamber => preset.chamber,
            HeaterKind::Other => None,
        };
        let (Some(target), Some(limit)) = (target, limits.of(heater)) else { continue };
        if target > limit {
            return Err(CommandError::new(format!(
                "the preset {} has {target} °C for {heater}, and its limit is {limit} °C (limits in the configuration)",
                preset.name
            )));
        }
        targets.push((heater, target));
    }
    match targets.is_empty() {
        true => Err(CommandError::new(format!(
            "the preset {} has no target for a heater of this printer",
            preset.name
        ))),
        false => Ok(targets),
    }
}

/// Makes OctoPrint read the list of the SD card anew. While there is no card, it would answer with
/// success and do nothing.
pub(crate) async fn refresh_card(rest: &Rest) -> Result<(), CommandError> {
    let ready = rest.is_card_ready().await.map_err(|error| match error.status() {
        Some(404) => CommandError::with_status("SD support is disabled in OctoPrint", 404),
        _ => CommandError::not_sent(&error),
    })?;
    if !ready {
        let error = "the printer has no SD card that is ready";
        return Err(CommandError::with_status(error, 409));
    }
    Ok(rest.refresh_card().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { tool: 260.0, bed: 100.0, chamber: 60.0 };

    fn preset(name: &str, extruder: f64, bed: f64, chamber: Option<f64>) -> TemperaturePreset {
        let (extruder, bed) = (Some(extruder), Some(bed));
        TemperaturePreset { name: name.to_owned(), extruder, bed, chamber }
    }

    fn heaters(names: &[&str]) -> Vec<Heater> {
        names.iter().filter_map(|name| Heater::read(name)).collect()
    }

    #[test]
    fn a_preset_sets_the_heaters_that_there_are() {
        let pla = preset("PLA", 210.0, 60.0, None);
        let all = heaters(&["tool0", "tool1", "bed", "chamber", "A"]);
        let set = |preset: &TemperaturePreset, heaters: &[Heater]| {
            let targets = targets(preset, heaters, &LIMITS);
            targets
                .map(|targets| {
                    targets.into_iter().map(|(h, t)| (h.to_string(), t)).collect::<Vec<_>>()
                })
                .map_err(|error| error.error)
        };
        let expected = [("tool0", 210.0), ("tool1", 210.0), ("bed", 60.0)];
        let expected = expected.map(|(heater, target)| (heater.to_owned(), target));
        assert_eq!(set(&pla, &all), Ok(expected.to_vec()));
        let hot = preset("PEEK", 210.0, 110.0, Some(80.0));
        let refused = set(&hot, &all).unwrap_err();
        assert!(refused.contains("110 °C for bed, and its limit is 100 °C"), "{refused}");
        assert_eq!(set(&hot, &heaters(&["tool0"])).unwrap().len(), 1, "no bed, no limit of one");
        let refused = set(&pla, &heaters(&["chamber"])).unwrap_err();
        assert!(refused.contains("no target"), "{refused}");
    }

    #[test]
    fn a_preset_is_found_by_its_name_whatever_the_case() {
        let presets = [preset("pla", 200.0, 50.0, None), preset("PLA", 210.0, 60.0, None)];
        assert_eq!(find(&presets, "PLA").unwrap().extruder, Some(210.0));
        assert_eq!(find(&presets, "Pla").unwrap().extruder, Some(200.0));
        let error = find(&presets, "ABS").unwrap_err().error;
        assert!(error.contains("it has pla, PLA"), "{error}");
        assert!(find(&[], "ABS").unwrap_err().error.contains("no presets"));
    }
}
