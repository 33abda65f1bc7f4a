//! OctoPrint's own connection: to its printer.
//!
//! Since 2.0 the serial port is one of several connectors, and the call without a version is that
//! of the serial one alone: it would open serial ports where another connector is preferred. What a
//! connector needs to connect, OctoPrint tells in clear, keys among it: it goes back to OctoPrint
//! and nowhere else.

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::client::{Rest, json_of};
use super::error::RestError;
use super::http::{argument, success};

const PATH: &str = "api/connection";
/// The version of the calls that know connectors.
const API_VERSION: &str = "2.0.0";
/// A text so short is no secret: hiding it would hide nearly every answer.
const SHORT: usize = 4;

/// The connector of the serial port.
pub const SERIAL: &str = "serial";

/// How OctoPrint is connected to its printer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrinterConnection {
    /// The connector in use, such as `serial` or `moonraker`. `None` where the printer is not
    /// connected, or where OctoPrint is older than 2.0, which knows the serial port alone.
    pub connector: Option<String>,
    /// Whether the connector takes offsets of temperatures; `None` where nothing says.
    pub temperature_offsets: Option<bool>,
}

/// What to connect with; by default what OctoPrint prefers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectWith {
    /// The connector; `None`: the preferred one.
    pub connector: Option<String>,
    /// The serial port; `None`: as OctoPrint prefers.
    pub port: Option<String>,
    /// The serial port's speed in baud; `None`: as OctoPrint prefers.
    pub baudrate: Option<u32>,
}

impl ConnectWith {
    fn serial_parameters(&self) -> Map<String, Value> {
        let port = self.port.as_ref().map(|port| ("port", json!(port)));
        let baudrate = self.baudrate.map(|baudrate| ("baudrate", json!(baudrate)));
        let named = [port, baudrate].into_iter().flatten();
        named.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// A connector and what it needs to connect. Never shown: there are keys among it.
struct Preferred {
    connector: String,
    parameters: Map<String, Value>,
}

impl Rest {
    /// How OctoPrint is connected to its printer.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn printer_connection(&self) -> Result<PrinterConnection, RestError> {
        let current = &self.ask_connection().await?["current"];
        Ok(PrinterConnection {
            connector: current["connector"].as_str().map(str::to_owned),
            temperature_offsets: current["capabilities"]["temperature_offsets"].as_bool(),
        })
    }

    /// Connects OctoPrint to its printer: as OctoPrint prefers, or with what `with` names. Success
    /// means that OctoPrint begins to.
    ///
    /// # Errors
    /// [`RestError`]; of the kind [`Argument`](super::error::RestErrorKind::Argument) where OctoPrint
    /// prefers nothing and nothing is named, or where it is older than 2.0 and has no such connector;
    /// status 400 where a newer one has none, and 412 where what it knows of the connector is not
    /// enough to connect.
    pub async fn connect(&self, with: &ConnectWith) -> Result<(), RestError> {
        let answer = self.ask_connection().await?;
        // Older versions pay no heed to the header, and answer in their own shape.
        if answer["options"].get("preferredConnector").is_none() {
            return self.connect_serial(with).await;
        }
        let Preferred { connector, parameters } = choose(&answer, with)?;
        let body = json!({
            "command": "connect", "connector": connector, "parameters": parameters,
        });
        let answer = self.exchange(&Method::POST, PATH, Some(&body), Some(API_VERSION)).await?;
        success(without(answer, &parameters), PATH).map(drop)
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
            return Err(argument(
                PATH,
                "before OctoPrint 2.0 the serial connector is the only one",
            ));
        }
        let mut body = with.serial_parameters();
        body.insert("command".to_owned(), json!("connect"));
        self.post(PATH, &Value::Object(body)).await.map(drop)
    }

    async fn ask_connection(&self) -> Result<Value, RestError> {
        let answer = self.exchange(&Method::GET, PATH, None, Some(API_VERSION)).await?;
        // An error of this shows no value: it takes any.
        json_of(&success(answer, PATH)?, PATH)
    }
}

/// What to connect with, from the answer to `GET /api/connection`.
fn choose(answer: &Value, with: &ConnectWith) -> Result<Preferred, RestError> {
    let preferred = &answer["options"]["preferredConnector"];
    let name = preferred["connector"].as_str();
    let Some(connector) = with.connector.as_deref().or(name) else {
        return Err(argument(PATH, "OctoPrint prefers no connector, and none is named"));
    };
    let known = (name == Some(connector)).then(|| preferred["parameters"].as_object()).flatten();
    let mut parameters = known.cloned().unwrap_or_default();
    parameters.extend(with.serial_parameters());
    Ok(Preferred { connector: connector.to_owned(), parameters })
}

/// The answer; without its text where that has anything of the parameters in it.
fn without(answer: Answer, parameters: &Map<String, Value>) -> Answer {
    let mut texts = parameters.values().filter_map(Value::as_str);
    let tells = |text: &str| {
        let text = text.as_bytes();
        text.len() > SHORT && answer.body.windows(text.len()).any(|window| window == text)
    };
    match texts.any(tells) {
        true => Answer { body: Bytes::new(), ..answer },
        false => answer,
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
    fn what_octoprint_prefers_is_what_it_is_told() {
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
    fn a_connector_that_is_named_has_its_own_parameters_and_no_others() {
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
        // The preferred one keeps what is not named.
        let with = ConnectWith { port: None, ..with };
        let chosen = choose(&answer(), &with).unwrap();
        let expected = json!({"port": "VIRTUAL", "baudrate": 115_200});
        assert_eq!(Value::from(chosen.parameters), expected);
    }

    #[test]
    fn an_answer_that_has_a_key_in_it_is_not_told() {
        let Preferred { parameters, .. } = choose(&moonraker(), &ConnectWith::default()).unwrap();
        let told = |body: &'static str| {
            let (status, body) = (StatusCode::BAD_REQUEST, Bytes::from_static(body.as_bytes()));
            let answer = Answer { status, location: None, challenge: None, body };
            success(without(answer, &parameters), PATH).unwrap_err().to_string()
        };
        let text = told(r#"{"error":"MARKER-KEY is no key"}"#);
        assert_eq!(text, "api/connection: Bad Request (400)");
        assert!(told(r#"{"error":"unknown connector"}"#).contains("unknown connector"));
    }
}
