//! REST calls that control OctoPrint, its printer and its host, the emergency stop among them.

use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::client::{Caller, Rest};
use super::error::{BuildError, RestError, RestErrorKind};
use super::file_path::FilePath;
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

/// What OctoPrint 2.0 passes on to the connector with a print, such as the plate. Older versions
/// ignore it.
pub type PrintParams = Map<String, Value>;

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

    /// Starts printing the selected file with `params`.
    ///
    /// # Errors
    /// As [`Rest::job`].
    pub async fn start_with(&self, params: &PrintParams) -> Result<(), RestError> {
        let body = json!({"command": "start", "params": params});
        self.post("api/job", &body).await.map(drop)
    }

    /// Returns the heaters that the printer currently has.
    ///
    /// # Errors
    /// [`RestError`]; status 409 when the printer is not connected.
    pub async fn heaters(&self) -> Result<Vec<Heater>, RestError> {
        #[derive(serde::Deserialize)]
        struct PrinterBody {
            #[serde(default)]
            temperature: Map<String, Value>,
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

    /// Selects `file`, and prints it if `print`, with `params` if there are any.
    ///
    /// # Errors
    /// [`RestError`]; status 404 if there is no such file, 409 while printing or while the printer
    /// is not connected.
    pub async fn select_file(
        &self,
        file: &FilePath,
        print: bool,
        params: &PrintParams,
    ) -> Result<(), RestError> {
        let mut body = json!({"command": "select", "print": print});
        if !params.is_empty() {
            body["params"] = json!(params);
        }
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
