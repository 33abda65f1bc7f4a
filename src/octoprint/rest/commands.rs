//! OctoPrint's REST calls that do something.

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Value, json};

use super::client::Rest;
use super::error::RestError;
use super::http::argument;
use crate::heater::{Heater, HeaterKind};

/// What stays as it is in a part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What to do with the print job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAction {
    /// Starts printing the selected file.
    Start,
    /// Pauses; nothing happens when paused already.
    Pause,
    /// Resumes; nothing happens when printing already.
    Resume,
    /// Pauses or resumes.
    Toggle,
    /// Cancels.
    Cancel,
    /// Starts a paused print anew.
    Restart,
}

impl JobAction {
    fn body(self) -> Value {
        match self {
            Self::Start => json!({"command": "start"}),
            Self::Pause => json!({"command": "pause", "action": "pause"}),
            Self::Resume => json!({"command": "pause", "action": "resume"}),
            Self::Toggle => json!({"command": "pause", "action": "toggle"}),
            Self::Cancel => json!({"command": "cancel"}),
            Self::Restart => json!({"command": "restart"}),
        }
    }
}

/// The printer's own storage, by its names: that of OctoPrint before 2.0, and that since.
const CARD: [&str; 2] = ["sdcard", "printer"];

/// A file as OctoPrint knows it: where it is stored, and its path there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath {
    origin: &'static str,
    path: String,
}

impl FilePath {
    /// Reads `local/folder/part.gcode`, or `sdcard/PART.GCO` or `printer/PART.GCO`, which both are
    /// the printer's own storage, whatever this OctoPrint calls it. `None` where the text names no
    /// storage or leads out of it.
    pub fn parse(text: &str) -> Option<Self> {
        let (origin, path) = text.split_once('/')?;
        let mut known = ["local"].into_iter().chain(CARD);
        let origin = known.find(|known| *known == origin)?;
        let bad = |part: &str| {
            part.is_empty() || part == "." || part == ".." || part.chars().any(char::is_control)
        };
        if path.split('/').any(bad) {
            return None;
        }
        Some(Self { origin, path: path.to_owned() })
    }

    /// The path in its storage.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same file by the other name of its storage.
    fn by_other_name(&self) -> Option<Self> {
        CARD.contains(&self.origin).then_some(())?;
        let origin = CARD.into_iter().find(|name| *name != self.origin)?;
        Some(Self { origin, path: self.path.clone() })
    }

    fn call(&self) -> String {
        let parts: Vec<String> =
            self.path.split('/').map(|part| utf8_percent_encode(part, PART).to_string()).collect();
        format!("api/files/{}/{}", self.origin, parts.join("/"))
    }
}

/// A relative move of the print head.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Jog {
    /// mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<f64>,
    /// mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<f64>,
    /// mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub z: Option<f64>,
    /// mm/min; without it OctoPrint takes the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<f64>,
}

/// What OctoPrint can do with itself and its host, where it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemCommand {
    /// Restart OctoPrint.
    Restart,
    /// Reboot its host.
    Reboot,
    /// Shut its host down.
    Shutdown,
}

impl SystemCommand {
    /// OctoPrint's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Reboot => "reboot",
            Self::Shutdown => "shutdown",
        }
    }
}

impl Rest {
    /// Starts, pauses, resumes or ends the print job.
    ///
    /// # Errors
    /// [`RestError`]; status 409 when the printer's state does not allow it.
    pub async fn job(&self, action: JobAction) -> Result<(), RestError> {
        self.post("api/job", &action.body()).await.map(drop)
    }

    /// The heaters that the printer has at this moment.
    ///
    /// # Errors
    /// [`RestError`]; status 409 when the printer is not connected.
    pub async fn heaters(&self) -> Result<Vec<Heater>, RestError> {
        #[derive(serde::Deserialize)]
        struct Printer {
            #[serde(default)]
            temperature: serde_json::Map<String, Value>,
        }
        let printer: Printer = self.get_json("api/printer?exclude=sd,state").await?;
        Ok(printer.temperature.keys().filter_map(|name| Heater::read(name)).collect())
    }

    /// Sets the target temperature of `heater` (`tool0`, …, `bed`, `chamber`) in °C; 0 is off.
    ///
    /// # Errors
    /// [`RestError`]; of the kind [`Argument`](super::error::RestErrorKind::Argument) for a target
    /// that is not a number from 0 up, or a heater that OctoPrint cannot have; status 409 when the
    /// printer is not connected or has no such heater.
    pub async fn set_target(&self, heater: &str, celsius: f64) -> Result<(), RestError> {
        if !(celsius.is_finite() && celsius >= 0.0) {
            return Err(argument("api/printer", "a target is a number of °C from 0 up"));
        }
        match HeaterKind::of(heater) {
            HeaterKind::Bed | HeaterKind::Chamber => {
                let body = json!({"command": "target", "target": celsius});
                self.post(&format!("api/printer/{heater}"), &body).await.map(drop)
            }
            HeaterKind::Tool(_) => {
                let body = json!({"command": "target", "targets": {heater: celsius}});
                self.post("api/printer/tool", &body).await.map(drop)
            }
            HeaterKind::Other => {
                Err(argument("api/printer", "heaters are tool0, tool1, …, bed and chamber"))
            }
        }
    }

    /// Sends G-code to the printer, one command a string.
    ///
    /// # Errors
    /// [`RestError`]; status 409 when the printer is not connected.
    pub async fn printer_command(&self, gcode: &[&str]) -> Result<(), RestError> {
        self.post("api/printer/command", &json!({ "commands": gcode })).await.map(drop)
    }

    /// Selects `file`, and prints it if `print`.
    ///
    /// # Errors
    /// [`RestError`]; status 404 where there is no such file, 409 while printing or while the
    /// printer is not connected.
    pub async fn select_file(&self, file: &FilePath, print: bool) -> Result<(), RestError> {
        let body = json!({"command": "select", "print": print});
        let selected = self.post(&file.call(), &body).await.map(drop);
        match file.by_other_name() {
            Some(file) if is_missing(&selected) => self.post(&file.call(), &body).await.map(drop),
            _ => selected,
        }
    }

    /// What OctoPrint knows of `file`, its print history among it, as JSON.
    ///
    /// # Errors
    /// [`RestError`]; status 404 where there is no such file.
    pub async fn file_info(&self, file: &FilePath) -> Result<Bytes, RestError> {
        let info = self.get(&file.call()).await;
        match file.by_other_name() {
            Some(file) if is_missing(&info) => self.get(&file.call()).await,
            _ => info,
        }
    }

    /// Sets the offset of `heater` in °C.
    ///
    /// # Errors
    /// As [`Rest::set_target`]; OctoPrint takes -50 to 50.
    pub async fn set_offset(&self, heater: &str, celsius: f64) -> Result<(), RestError> {
        match HeaterKind::of(heater) {
            HeaterKind::Bed | HeaterKind::Chamber => {
                let body = json!({"command": "offset", "offset": celsius});
                self.post(&format!("api/printer/{heater}"), &body).await.map(drop)
            }
            HeaterKind::Tool(_) => {
                let body = json!({"command": "offset", "offsets": {heater: celsius}});
                self.post("api/printer/tool", &body).await.map(drop)
            }
            HeaterKind::Other => {
                Err(argument("api/printer", "heaters are tool0, tool1, …, bed and chamber"))
            }
        }
    }

    /// Sets the feed rate in whole percent. OctoPrint takes a number with a point for a multiple.
    ///
    /// # Errors
    /// [`RestError`]; status 409 when the printer is not connected.
    pub async fn set_feedrate(&self, percent: u32) -> Result<(), RestError> {
        let body = json!({"command": "feedrate", "factor": percent});
        self.post("api/printer/printhead", &body).await.map(drop)
    }

    /// Sets the flow rate in whole percent.
    ///
    /// # Errors
    /// As [`Rest::set_feedrate`].
    pub async fn set_flowrate(&self, percent: u32) -> Result<(), RestError> {
        let body = json!({"command": "flowrate", "factor": percent});
        self.post("api/printer/tool", &body).await.map(drop)
    }

    /// Homes `axes` of `x`, `y` and `z`; at least one, for OctoPrint takes none as all.
    ///
    /// # Errors
    /// [`RestError`]; status 409 while printing or while the printer is not connected.
    pub async fn home(&self, axes: &[&str]) -> Result<(), RestError> {
        let path = "api/printer/printhead";
        if axes.is_empty() {
            return Err(argument(path, "there is no axis to home"));
        }
        self.post(path, &json!({"command": "home", "axes": axes})).await.map(drop)
    }

    /// Moves the print head from where it is.
    ///
    /// # Errors
    /// As [`Rest::home`].
    pub async fn jog(&self, jog: Jog) -> Result<(), RestError> {
        let path = "api/printer/printhead";
        if jog.x.or(jog.y).or(jog.z).is_none() {
            return Err(argument(path, "there is no axis to move"));
        }
        let mut body = json!(jog);
        body["command"] = json!("jog");
        self.post(path, &body).await.map(drop)
    }

    /// Extrudes so many mm of filament; negative retracts.
    ///
    /// # Errors
    /// As [`Rest::home`].
    pub async fn extrude(&self, millimetres: f64) -> Result<(), RestError> {
        let body = json!({"command": "extrude", "amount": millimetres});
        self.post("api/printer/tool", &body).await.map(drop)
    }

    /// Restarts OctoPrint, or acts on its host.
    ///
    /// # Errors
    /// [`RestError`]; status 404 where OctoPrint is not configured to.
    pub async fn system(&self, command: SystemCommand) -> Result<(), RestError> {
        let path = format!("api/system/commands/core/{}", command.as_str());
        self.post(&path, &json!({})).await.map(drop)
    }
}

/// Whether OctoPrint has no such storage, or no such file in it.
fn is_missing<T>(answer: &Result<T, RestError>) -> bool {
    answer.as_ref().is_err_and(|error| error.status() == Some(404))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_part_of_the_path_for_each_of_its_own() {
        for (name, path) in [
            ("local/part.gcode", "local/part.gcode"),
            ("local/a b/Würfel.gcode", "local/a%20b/W%C3%BCrfel.gcode"),
            ("local/100%.gcode", "local/100%25.gcode"),
            ("local/%2e%2e/a", "local/%252e%252e/a"),
            ("local/why?.gcode", "local/why%3F.gcode"),
            ("local/#1 \\ 2.gcode", "local/%231%20%5C%202.gcode"),
            ("sdcard/A+B;C=&D.GCO", "sdcard/A%2BB%3BC%3D%26D.GCO"),
        ] {
            let file = FilePath::parse(name).unwrap();
            assert_eq!(file.call(), format!("api/files/{path}"), "{name}");
        }
        for name in ["local", "local/", "local/../x", "local/a//b", "usb/a", "local/a\nb"] {
            assert_eq!(FilePath::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_printers_own_storage_has_two_names() {
        let file = |text| FilePath::parse(text).unwrap();
        assert_eq!(file("sdcard/A B.GCO").by_other_name(), Some(file("printer/A B.GCO")));
        assert_eq!(file("printer/d/a.gcode").by_other_name(), Some(file("sdcard/d/a.gcode")));
        assert_eq!(file("local/a.gcode").by_other_name(), None);
        assert_eq!(file("printer/d/A B.GCO").call(), "api/files/printer/d/A%20B.GCO");
    }
}
