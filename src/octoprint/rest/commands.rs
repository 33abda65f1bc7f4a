//! REST calls that control OctoPrint, its printer and its host, the emergency stop among them.

use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use super::answer::Answer;
use super::client::{Caller, Rest};
use super::error::{BuildError, RestError, RestErrorKind};
use super::http::{HttpClient, invalid_argument, success};
use super::login::Credentials;
use crate::heater::{Heater, HeaterKind};

const COMMAND_PATH: &str = "api/printer/command";

/// An action on the print job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAction {
    /// Starts printing the selected file.
    Start,
    /// Pauses; no effect when paused already.
    Pause,
    /// Resumes; no effect when printing already.
    Resume,
    /// Pauses or resumes.
    Toggle,
    /// Cancels.
    Cancel,
    /// Restarts a paused print from the beginning.
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

/// The names of the printer's own storage: before OctoPrint 2.0, and since.
const CARD: [&str; 2] = ["sdcard", "printer"];

/// A file by its storage and its path there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath {
    origin: String,
    path: String,
}

impl FilePath {
    /// Parses `local/folder/part.gcode`, or `sdcard/PART.GCO` or `printer/PART.GCO`, which both name
    /// the printer's own storage in any version. Since OctoPrint 2.0 plugins may add storages, so any
    /// name is accepted: OctoPrint knows which there are. `None` if the text names no storage or a
    /// path outside of it.
    pub fn parse(text: &str) -> Option<Self> {
        let (origin, path) = text.split_once('/')?;
        let bad = |part: &str| {
            part.is_empty() || part == "." || part == ".." || part.chars().any(char::is_control)
        };
        if bad(origin) || path.split('/').any(bad) {
            return None;
        }
        Some(Self { origin: origin.to_owned(), path: path.to_owned() })
    }

    /// Returns the name of its storage.
    pub fn storage(&self) -> &str {
        &self.origin
    }

    /// Returns the path in its storage.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn by_other_name(&self) -> Option<Self> {
        CARD.contains(&self.origin.as_str()).then_some(())?;
        let origin = CARD.into_iter().find(|name| *name != self.origin)?;
        Some(Self { origin: origin.to_owned(), path: self.path.clone() })
    }

    /// Whether the file is in OctoPrint's own storage.
    pub fn is_local(&self) -> bool {
        self.origin == "local"
    }

    /// Returns the path of its calls below `base`, which ends with `/`, with each segment escaped.
    fn call(&self, base: &Url) -> Result<String, RestError> {
        self.below(base, &["api", "files"])
    }

    /// Returns the path of a call below `base` and `parts`.
    pub(in crate::octoprint) fn below(
        &self,
        base: &Url,
        parts: &[&str],
    ) -> Result<String, RestError> {
        let mut url = base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments
                .pop_if_empty()
                .extend(parts)
                .push(&self.origin)
                .extend(self.path.split('/')),
            Err(()) => return Err(invalid_argument("api/files", "the base address has no path")),
        };
        Ok(url.path().get(base.path().len()..).unwrap_or_default().to_owned())
    }
}

/// A relative move of the print head.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Jog {
    /// Distance along X, in mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<f64>,
    /// Distance along Y, in mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<f64>,
    /// Distance along Z, in mm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub z: Option<f64>,
    /// Speed in mm/min; by default the printer profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<f64>,
}

/// A command to OctoPrint itself or its host, if one is configured in OctoPrint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemCommand {
    /// Restarts OctoPrint.
    Restart,
    /// Reboots the host.
    Reboot,
    /// Shuts the host down.
    Shutdown,
}

impl SystemCommand {
    /// Returns OctoPrint's name for the command.
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

    /// Returns the heaters that the printer currently has.
    ///
    /// # Errors
    /// [`RestError`]; status 409 when the printer is not connected.
    pub async fn heaters(&self) -> Result<Vec<Heater>, RestError> {
        #[derive(serde::Deserialize)]
        struct PrinterBody {
            #[serde(default)]
            temperature: serde_json::Map<String, Value>,
        }
        let printer: PrinterBody = self.get_json("api/printer?exclude=sd,state").await?;
        Ok(printer.temperature.keys().filter_map(|name| Heater::read(name)).collect())
    }

    /// Sets the target temperature of `heater` (`tool0`, …, `bed`, `chamber`) in °C; 0 is off.
    ///
    /// # Errors
    /// [`RestError`]; of the kind [`RestErrorKind::Argument`] for a target that is not a number from
    /// 0 up, or an unknown kind of heater; status 409 when the printer is not connected or has no
    /// such heater.
    pub async fn set_target(&self, heater: &str, celsius: f64) -> Result<(), RestError> {
        if !(celsius.is_finite() && celsius >= 0.0) {
            return Err(invalid_argument("api/printer", "a target is a number of °C from 0 up"));
        }
        self.heater_command("target", heater, celsius).await
    }

    /// Sets the offset of `heater` in °C.
    ///
    /// # Errors
    /// As [`Rest::set_target`]; OctoPrint accepts -50 to 50.
    pub async fn set_offset(&self, heater: &str, celsius: f64) -> Result<(), RestError> {
        self.heater_command("offset", heater, celsius).await
    }

    async fn heater_command(
        &self,
        command: &str,
        heater: &str,
        celsius: f64,
    ) -> Result<(), RestError> {
        match HeaterKind::of(heater) {
            HeaterKind::Bed | HeaterKind::Chamber => {
                let body = json!({"command": command, command: celsius});
                self.post(&format!("api/printer/{heater}"), &body).await.map(drop)
            }
            HeaterKind::Tool(_) => {
                let body = json!({"command": command, format!("{command}s"): {heater: celsius}});
                self.post("api/printer/tool", &body).await.map(drop)
            }
            HeaterKind::Other => {
                Err(invalid_argument("api/printer", "heaters are tool0, tool1, …, bed and chamber"))
            }
        }
    }

    /// Sends G-code to the printer, one command per string.
    ///
    /// # Errors
    /// [`RestError`]; status 409 when the printer is not connected.
    pub async fn printer_command(&self, gcode: &[&str]) -> Result<(), RestError> {
        self.post(COMMAND_PATH, &json!({ "commands": gcode })).await.map(drop)
    }

    /// Selects `file`, and prints it if `print`.
    ///
    /// # Errors
    /// [`RestError`]; status 404 if there is no such file, 409 while printing or while the printer
    /// is not connected.
    pub async fn select_file(&self, file: &FilePath, print: bool) -> Result<(), RestError> {
        let body = json!({"command": "select", "print": print});
        let base = self.http().base();
        let selected = self.post(&file.call(base)?, &body).await.map(drop);
        match file.by_other_name() {
            Some(file) if is_missing(&selected) => {
                self.post(&file.call(base)?, &body).await.map(drop)
            }
            _ => selected,
        }
    }

    /// Returns OctoPrint's JSON about `file`, including its print history.
    ///
    /// # Errors
    /// [`RestError`]; status 404 if there is no such file.
    pub async fn file_info(&self, file: &FilePath) -> Result<Bytes, RestError> {
        let base = self.http().base();
        let info = self.get(&file.call(base)?).await;
        match file.by_other_name() {
            Some(file) if is_missing(&info) => self.get(&file.call(base)?).await,
            _ => info,
        }
    }

    /// Sets the feed rate in whole percent; OctoPrint would read a decimal number as a factor.
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

    /// Homes `axes` (`x`, `y`, `z`). At least one is required: OctoPrint reads none as all.
    ///
    /// # Errors
    /// [`RestError`]; status 409 while printing or while the printer is not connected.
    pub async fn home(&self, axes: &[&str]) -> Result<(), RestError> {
        let path = "api/printer/printhead";
        if axes.is_empty() {
            return Err(invalid_argument(path, "there is no axis to home"));
        }
        self.post(path, &json!({"command": "home", "axes": axes})).await.map(drop)
    }

    /// Moves the print head relative to its position.
    ///
    /// # Errors
    /// As [`Rest::home`].
    pub async fn jog(&self, jog: Jog) -> Result<(), RestError> {
        let path = "api/printer/printhead";
        if jog.x.or(jog.y).or(jog.z).is_none() {
            return Err(invalid_argument(path, "there is no axis to move"));
        }
        let mut body = json!(jog);
        body["command"] = json!("jog");
        self.post(path, &body).await.map(drop)
    }

    /// Extrudes filament, in mm; a negative length retracts.
    ///
    /// # Errors
    /// As [`Rest::home`].
    pub async fn extrude(&self, millimetres: f64) -> Result<(), RestError> {
        let body = json!({"command": "extrude", "amount": millimetres});
        self.post("api/printer/tool", &body).await.map(drop)
    }

    /// Runs a command on OctoPrint or its host.
    ///
    /// # Errors
    /// [`RestError`]; status 404 if the command is not configured in OctoPrint.
    pub async fn system(&self, command: SystemCommand) -> Result<(), RestError> {
        let path = format!("api/system/commands/core/{}", command.as_str());
        self.post(&path, &json!({})).await.map(drop)
    }
}

impl Rest {
    /// Stops the printer immediately with M112; OctoPrint then disconnects from it.
    ///
    /// Uses its own connection with the API key or the last successful login, and never waits for
    /// other calls or logins. Without such a login, or if OctoPrint refuses it, logs in once, even in
    /// the pause after a refused login.
    ///
    /// # Errors
    /// [`RestError`]; status 409 when the printer is not connected.
    pub async fn emergency_stop(&self) -> Result<(), RestError> {
        self.try_emergency_stop().await.map_err(|error| error.with_method(&Method::POST))
    }

    async fn try_emergency_stop(&self) -> Result<(), RestError> {
        match self.credentials() {
            Credentials::ApiKey(_) => {
                let http = self.http().with_cookies(Default::default()).map_err(not_built)?;
                success(self.stop(&http).await?, COMMAND_PATH).map(drop)
            }
            Credentials::Password { .. } => self.stop_with_a_session().await,
        }
    }

    async fn stop_with_a_session(&self) -> Result<(), RestError> {
        if let Some(cookies) = self.remembered() {
            let http = self.http().with_cookies(cookies).map_err(not_built)?;
            let answer = self.stop(&http).await?;
            if !refused(&answer) {
                return success(answer, COMMAND_PATH).map(drop);
            }
        }
        let http = self.http().with_cookies(Default::default()).map_err(not_built)?;
        Caller { http: &http, credentials: self.credentials() }.log_in().await?;
        self.remember(&http.cookies);
        success(self.stop(&http).await?, COMMAND_PATH).map(drop)
    }

    async fn stop(&self, http: &HttpClient) -> Result<Answer, RestError> {
        let caller = Caller { http, credentials: self.credentials() };
        let body = json!({"commands": ["M112"]});
        let sent = caller.send(&Method::POST, COMMAND_PATH, Some(&body)).await;
        sent.map_err(|error| error.at(COMMAND_PATH))
    }
}

/// Whether OctoPrint refused the login behind a call. A missing permission looks the same.
fn refused(answer: &Answer) -> bool {
    match answer.status.as_u16() {
        401 | 403 => true,
        400 => answer.body.windows(4).any(|window| window == b"CSRF"),
        _ => false,
    }
}

fn not_built(error: BuildError) -> RestError {
    RestError::new(RestErrorKind::NotSent, COMMAND_PATH).caused_by(error)
}

/// Whether OctoPrint has no such storage, or no such file in it.
fn is_missing<T>(answer: &Result<T, RestError>) -> bool {
    answer.as_ref().is_err_and(|error| error.status() == Some(404))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_segment_of_a_file_path_is_escaped() {
        for (name, path) in [
            ("local/part.gcode", "local/part.gcode"),
            ("local/a b/Würfel.gcode", "local/a%20b/W%C3%BCrfel.gcode"),
            ("local/100%.gcode", "local/100%25.gcode"),
            ("local/%2e%2e/a", "local/%252e%252e/a"),
            ("local/why?.gcode", "local/why%3F.gcode"),
            ("local/#1 \\ 2.gcode", "local/%231%20%5C%202.gcode"),
            ("local/a/...b/..c", "local/a/...b/..c"),
            ("local/ a ", "local/%20a%20"),
            ("sdcard/A+B;C=&D.GCO", "sdcard/A+B;C=&D.GCO"),
            ("usb/a.gcode", "usb/a.gcode"),
            ("my usb?/a.gcode", "my%20usb%3F/a.gcode"),
        ] {
            let file = FilePath::parse(name).unwrap();
            for base in ["http://h/", "https://user:word@h:1/mk%203/octoprint/"] {
                let base = Url::parse(base).unwrap();
                let call = file.call(&base).unwrap();
                assert_eq!(call, format!("api/files/{path}"), "{name}");
                // What is sent is this path, and OctoPrint reads the name from it.
                let sent = Url::parse(&format!("{base}{call}")).unwrap();
                assert!(sent.path().ends_with(&call) && sent.query().is_none(), "{sent}");
                let read = percent_encoding::percent_decode_str(&call).decode_utf8().unwrap();
                assert_eq!(read, format!("api/files/{name}"));
            }
        }
        for name in [
            "local",
            "local/",
            "local/../x",
            "local/a//b",
            "local/a\nb",
            "/a",
            "./a",
            "../a",
            "u\nb/a",
        ] {
            assert_eq!(FilePath::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_printers_own_storage_has_two_names() {
        let file = |text| FilePath::parse(text).unwrap();
        assert_eq!(file("sdcard/A B.GCO").by_other_name(), Some(file("printer/A B.GCO")));
        assert_eq!(file("printer/d/a.gcode").by_other_name(), Some(file("sdcard/d/a.gcode")));
        for other in ["local/a.gcode", "usb/a.gcode"] {
            assert_eq!(file(other).by_other_name(), None);
        }
        let base = Url::parse("http://h/").unwrap();
        assert_eq!(file("printer/d/A B.GCO").call(&base).unwrap(), "api/files/printer/d/A%20B.GCO");
    }
}
