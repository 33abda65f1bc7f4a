//! OctoPrint's connection to its printer, and the state of the job.
//!
//! Since OctoPrint 2.0 the serial port is one of several connectors. The unversioned call always
//! opens a serial port, even if another connector is preferred. OctoPrint returns the parameters of
//! a connector unmasked, including keys; they are sent back to OctoPrint and nowhere else.

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::client::{API_VERSION, Rest, json_of};
use super::error::RestError;
use super::http::{invalid_argument, success};

const PATH: &str = "api/connection";
/// Longest parameter that is not treated as a secret, in bytes: short values such as `0` occur in
/// nearly every answer.
const MAX_PUBLIC: usize = 4;

/// The connector of the serial port.
pub const SERIAL: &str = "serial";

/// How OctoPrint is connected to its printer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrinterConnection {
    /// The connector in use, such as `serial` or `moonraker`. `None` if the printer is not connected,
    /// or if OctoPrint is older than 2.0, which supports serial ports only.
    pub connector: Option<String>,
    /// Whether the connector supports temperature offsets; `None` if OctoPrint does not report it.
    pub temperature_offsets: Option<bool>,
    /// Whether the connector can hold a job; `None` if OctoPrint does not report it.
    pub job_on_hold: Option<bool>,
}

/// How to connect to the printer; by default as OctoPrint prefers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectWith {
    /// The connector; `None` for the serial one if port or baudrate are given, otherwise for the
    /// preferred one.
    pub connector: Option<String>,
    /// The serial port; `None` for the preferred one.
    pub port: Option<String>,
    /// The serial port's speed in baud; `None` for the preferred one.
    pub baudrate: Option<u32>,
}

impl ConnectWith {
    /// Returns the connector that is asked for: only the serial one has a port and a baudrate. `None`
    /// for the preferred one.
    pub fn asked_connector(&self) -> Option<&str> {
        let is_serial = self.port.is_some() || self.baudrate.is_some();
        self.connector.as_deref().or(is_serial.then_some(SERIAL))
    }

    fn serial_parameters(&self) -> Map<String, Value> {
        let port = self.port.as_ref().map(|port| ("port", json!(port)));
        let baudrate = self.baudrate.map(|baudrate| ("baudrate", json!(baudrate)));
        let named = [port, baudrate].into_iter().flatten();
        named.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// A connector and its parameters. Never logged: the parameters may contain keys.
struct ConnectorChoice {
    connector: String,
    parameters: Map<String, Value>,
}

impl Rest {
    /// Returns how OctoPrint is connected to its printer.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn printer_connection(&self) -> Result<PrinterConnection, RestError> {
        let current = &self.fetch_connection().await?["current"];
        let supports = |capability: &str| current["capabilities"][capability].as_bool();
        Ok(PrinterConnection {
            connector: current["connector"].as_str().map(str::to_owned),
            temperature_offsets: supports("temperature_offsets"),
            job_on_hold: supports("job_on_hold"),
        })
    }

    /// Connects OctoPrint to its printer. Success means that OctoPrint has started to connect.
    ///
    /// # Errors
    /// [`RestError`]; of the kind [`Argument`](super::error::RestErrorKind::Argument) if neither
    /// OctoPrint nor `with` names a connector, or if OctoPrint is older than 2.0 and the connector is
    /// not the serial one; status 400 if a newer one has no such connector, and 412 if OctoPrint
    /// lacks parameters for it.
    pub async fn connect(&self, with: &ConnectWith) -> Result<(), RestError> {
        let answer = self.fetch_connection().await?;
        // Older versions ignore the header and answer in their own format.
        if answer["options"].get("preferredConnector").is_none() {
            return self.connect_serial(with).await;
        }
        let ConnectorChoice { connector, parameters } = choose(&answer, with)?;
        let body = json!({
            "command": "connect", "connector": connector, "parameters": parameters,
        });
        let answer = self.exchange(&Method::POST, PATH, Some(&body), Some(API_VERSION)).await?;
        success(redacted(answer, &parameters), PATH).map(drop)
    }

    /// Disconnects OctoPrint from its printer.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn disconnect(&self) -> Result<(), RestError> {
        self.post(PATH, &json!({"command": "disconnect"})).await.map(drop)
    }

    async fn connect_serial(&self, with: &ConnectWith) -> Result<(), RestError> {
        if with.connector.as_ref().is_some_and(|connector| connector != SERIAL) {
            return Err(invalid_argument(
                PATH,
                "before OctoPrint 2.0 the serial connector is the only one",
            ));
        }
        let mut body = with.serial_parameters();
        body.insert("command".to_owned(), json!("connect"));
        self.post(PATH, &Value::Object(body)).await.map(drop)
    }

    async fn fetch_connection(&self) -> Result<Value, RestError> {
        // Any JSON is accepted, so a parse error cannot contain a value.
        json_of(&self.get_as_of_2_0(PATH).await?, PATH)
    }
}

fn choose(answer: &Value, with: &ConnectWith) -> Result<ConnectorChoice, RestError> {
    let preferred = &answer["options"]["preferredConnector"];
    let name = preferred["connector"].as_str();
    let Some(connector) = with.asked_connector().or(name) else {
        return Err(invalid_argument(PATH, "OctoPrint prefers no connector, and none is named"));
    };
    let known = (name == Some(connector)).then(|| preferred["parameters"].as_object()).flatten();
    let mut parameters = known.cloned().unwrap_or_default();
    parameters.extend(with.serial_parameters());
    Ok(ConnectorChoice { connector: connector.to_owned(), parameters })
}

/// Removes the body of an answer if it contains a parameter.
fn redacted(answer: Answer, parameters: &Map<String, Value>) -> Answer {
    let mut texts = parameters.values().filter_map(Value::as_str);
    let leaks = |text: &str| {
        let text = text.as_bytes();
        text.len() > MAX_PUBLIC && answer.body.windows(text.len()).any(|window| window == text)
    };
    match texts.any(leaks) {
        true => Answer { body: Bytes::new(), ..answer },
        false => answer,
    }
}

/// The current job. A missing or malformed member does not affect the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobStatus {
    /// OctoPrint's text for the printer's state, such as `Printing`.
    pub state: Option<String>,
    /// The printer's error, if any.
    pub error: Option<String>,
    /// The storage of the selected file.
    pub origin: Option<String>,
    /// The path of the selected file in its storage.
    pub path: Option<String>,
    /// The name of the selected file.
    pub name: Option<String>,
    /// How far the print is, in OctoPrint's form: `printTime` is null before the first print.
    pub progress: Value,
}

impl JobStatus {
    fn read(answer: &Value) -> Self {
        let text =
            |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let file = &answer["job"]["file"];
        Self {
            state: text(&answer["state"]),
            error: text(&answer["error"]),
            origin: text(&file["origin"]),
            path: text(&file["path"]),
            name: text(&file["name"]),
            progress: answer["progress"].clone(),
        }
    }

    /// Whether a file is selected.
    pub fn has_file(&self) -> bool {
        self.path.is_some() || self.name.is_some()
    }
}

impl Rest {
    /// Returns the current job: the printer's state and the selected file.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn job_status(&self) -> Result<JobStatus, RestError> {
        self.get_json("api/job").await.map(|answer: Value| JobStatus::read(&answer))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn answer() -> Value {
        let lines = include_str!("../../../tests/captures/octoprint2_rest.jsonl").lines();
        let mut answers = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let asked = |line: &Value| {
            line["path"] == "/api/connection"
                && line["headers"]["X-OctoPrint-Api-Version"] == "2.0.0"
        };
        answers.find(asked).unwrap()["response"].take()
    }

    fn moonraker() -> Value {
        let mut answer = answer();
        answer["options"]["preferredConnector"] = json!({
            "connector": "moonraker", "parameters": {"host": "printer", "apikey": "MARKER-KEY"},
        });
        answer
    }

    #[test]
    fn the_preferred_connector_is_chosen_by_default() {
        let chosen = choose(&answer(), &ConnectWith::default()).unwrap();
        assert_eq!(chosen.connector, "serial");
        assert_eq!(Value::from(chosen.parameters), json!({"baudrate": 0, "port": "VIRTUAL"}));
        let chosen = choose(&moonraker(), &ConnectWith::default()).unwrap();
        assert_eq!((chosen.connector.as_str(), chosen.parameters.len()), ("moonraker", 2));
        let mut none = answer();
        none["options"]["preferredConnector"] = Value::Null;
        let refused = choose(&none, &ConnectWith::default()).err().unwrap();
        assert!(refused.to_string().contains("prefers no connector"), "{refused}");
    }

    #[test]
    fn a_named_connector_gets_only_its_own_parameters() {
        let with = ConnectWith {
            connector: Some("serial".to_owned()),
            port: Some("/dev/ttyUSB0".to_owned()),
            baudrate: Some(115_200),
        };
        let chosen = choose(&moonraker(), &with).unwrap();
        let expected = json!({"port": "/dev/ttyUSB0", "baudrate": 115_200});
        assert_eq!(
            (chosen.connector.as_str(), Value::from(chosen.parameters)),
            ("serial", expected)
        );
        // Parameters that are not given come from the preferred connector.
        let with = ConnectWith { port: None, ..with };
        let chosen = choose(&answer(), &with).unwrap();
        let expected = json!({"port": "VIRTUAL", "baudrate": 115_200});
        assert_eq!(Value::from(chosen.parameters), expected);
    }

    #[test]
    fn a_port_without_a_connector_means_the_serial_one() {
        let port = ConnectWith { port: Some("/dev/ttyUSB0".to_owned()), ..ConnectWith::default() };
        let baudrate = ConnectWith { baudrate: Some(115_200), ..ConnectWith::default() };
        for (with, of_serial, of_other) in [
            (port, json!({"port": "/dev/ttyUSB0", "baudrate": 0}), json!({"port": "/dev/ttyUSB0"})),
            (
                baudrate,
                json!({"port": "VIRTUAL", "baudrate": 115_200}),
                json!({"baudrate": 115_200}),
            ),
        ] {
            for (answer, expected) in [(answer(), of_serial), (moonraker(), of_other)] {
                let chosen = choose(&answer, &with).unwrap();
                assert_eq!(
                    (chosen.connector.as_str(), Value::from(chosen.parameters)),
                    ("serial", expected)
                );
            }
        }
    }

    #[test]
    fn an_answer_with_a_key_in_it_is_not_shown() {
        let ConnectorChoice { parameters, .. } =
            choose(&moonraker(), &ConnectWith::default()).unwrap();
        let shown = |body: &'static str| {
            let (status, body) = (StatusCode::BAD_REQUEST, Bytes::from_static(body.as_bytes()));
            let answer = Answer { status, location: None, challenge: None, body };
            success(redacted(answer, &parameters), PATH).unwrap_err().to_string()
        };
        let text = shown(r#"{"error":"MARKER-KEY is no key"}"#);
        assert_eq!(text, "api/connection: Bad Request (400)");
        assert!(shown(r#"{"error":"unknown connector"}"#).contains("unknown connector"));
    }

    #[test]
    fn each_member_is_read_by_itself() {
        let status = JobStatus::read(&json!({
            "job": {"file": {"name": "a.gcode", "path": "d/a.gcode", "origin": "local"}},
            "state": "Printing", "error": "",
        }));
        assert_eq!(status.state.as_deref(), Some("Printing"));
        assert_eq!((status.error.as_ref(), status.has_file()), (None, true));
        assert_eq!(
            JobStatus::read(&json!({"job": {"file": {"path": null}}, "state": 5})),
            JobStatus::default()
        );
        assert!(!JobStatus::read(&json!([])).has_file());
    }
}
