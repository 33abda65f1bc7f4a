//! Configuration of the Home Assistant add-on: its options instead of a file, and the supervisor's
//! broker.

use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::subcommand::{Unanswered, http_get};
use crate::causes::{self, Cause};
use crate::config::{self, ConfigErrors, Loaded};

/// Variable set by the supervisor in every add-on; its value is a secret.
const TOKEN: &str = "SUPERVISOR_TOKEN";
/// Variables with the supervisor's address and the path of the options, for tests.
const SUPERVISOR: &str = "OCTOPRINT2MQTT_SUPERVISOR";
const OPTIONS: &str = "OCTOPRINT2MQTT_OPTIONS";
const TIMEOUT: Duration = Duration::from_secs(10);
/// Where the supervisor asks for the page: the port of `ingress_port` in the add-on's `config.yaml`.
const INGRESS_LISTEN: &str = "0.0.0.0:8099";

/// Why an add-on has no configuration.
#[derive(Debug, thiserror::Error)]
pub enum AddonError {
    /// The options cannot be read.
    #[error("{path}: the add-on's options cannot be read")]
    Options {
        /// The file.
        path: String,
        /// Why.
        source: Cause,
    },
    /// The supervisor knows no broker.
    #[error(
        "the supervisor names no MQTT broker ({}): install the Mosquitto add-on, or set mqtt.url in this add-on's options",
        causes::text(.0)
    )]
    NoBroker(#[source] NoService),
    /// The options are wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
}

/// Why the supervisor names no broker.
#[derive(Debug, thiserror::Error)]
pub enum NoService {
    /// It does not answer.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// It answers with an error.
    #[error("its answer was {0}")]
    Status(StatusCode),
    /// Its answer cannot be parsed. The error is not shown, since the answer holds a password.
    #[error("its answer cannot be read")]
    Shape,
}

/// Whether this process runs as an add-on.
pub fn is_addon() -> bool {
    std::env::var_os(TOKEN).is_some_and(|token| !token.is_empty())
}

/// Reads the configuration of an add-on.
///
/// # Errors
/// [`AddonError`], which says what to do.
pub async fn load() -> Result<Loaded, AddonError> {
    let variable = |name: &str, default: &str| {
        std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or(default.to_owned())
    };
    let path = variable(OPTIONS, "/data/options.json");
    let failed = |source: Cause| AddonError::Options { path: path.clone(), source };
    let text = std::fs::read_to_string(&path).map_err(|error| failed(error.into()))?;
    let options: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| failed(error.into()))?;
    let data_dir = Path::new(&path).parent().unwrap_or(Path::new("/data")).display().to_string();
    let mut settings = settings(options, &data_dir);
    if settings["mqtt"]["url"].is_null() {
        let supervisor = variable(SUPERVISOR, "http://supervisor");
        let broker =
            broker(&supervisor, &variable(TOKEN, "")).await.map_err(AddonError::NoBroker)?;
        broker.put_into(&mut settings["mqtt"]);
    }
    let text = toml::to_string(&settings).map_err(|error| failed(error.into()))?;
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut loaded = config::load_text(&path, &text, environment)?;
    loaded.files.push(path.into());
    Ok(loaded)
}

/// Converts the options to the structure of the configuration file: printers by id, the log level
/// in its table; everything else has the same name. The page is where the ingress looks for it,
/// unless the options say otherwise.
fn settings(mut options: Map<String, Value>, data_dir: &str) -> Value {
    drop_nulls(&mut options);
    let mut printers = Map::new();
    if let Some(Value::Array(list)) = options.remove("printers") {
        for (index, mut printer) in list.into_iter().enumerate() {
            let id = printer.as_object_mut().and_then(|printer| printer.remove("id"));
            let id = id.and_then(|id| id.as_str().map(str::to_owned));
            // A missing id becomes an invalid one, which is then reported.
            printers.insert(id.unwrap_or_else(|| format!("(number {})", index + 1)), printer);
        }
    }
    if let Some(level) = options.remove("log_level") {
        options.insert("log".to_owned(), json!({ "level": level }));
    }
    options.entry("data_dir").or_insert_with(|| data_dir.into());
    options.entry("mqtt").or_insert_with(|| json!({}));
    if let Value::Object(http) = options.entry("http").or_insert_with(|| json!({})) {
        http.entry("listen").or_insert_with(|| INGRESS_LISTEN.into());
    }
    options.insert("printers".to_owned(), printers.into());
    options.into()
}

/// Removes nulls, which the supervisor writes for empty options and TOML does not have.
fn drop_nulls(object: &mut Map<String, Value>) {
    object.retain(|_, value| !value.is_null() && value != "");
    for value in object.values_mut() {
        match value {
            Value::Object(object) => drop_nulls(object),
            Value::Array(items) => {
                items.iter_mut().filter_map(Value::as_object_mut).for_each(drop_nulls);
            }
            _ => {}
        }
    }
}

#[derive(Deserialize)]
struct Service {
    host: String,
    port: u16,
    #[serde(default)]
    ssl: bool,
    username: Option<String>,
    password: Option<String>,
}

impl Service {
    fn put_into(self, mqtt: &mut Value) {
        let scheme = if self.ssl { "mqtts" } else { "mqtt" };
        mqtt["url"] = format!("{scheme}://{}:{}", self.host, self.port).into();
        for (key, value) in [("username", self.username), ("password", self.password)] {
            if let (true, Some(value)) = (mqtt[key].is_null(), value.filter(|v| !v.is_empty())) {
                mqtt[key] = value.into();
            }
        }
        // Indexing by name, as above, inserts nulls.
        if let Some(mqtt) = mqtt.as_object_mut() {
            drop_nulls(mqtt);
        }
    }
}

async fn broker(supervisor: &str, token: &str) -> Result<Service, NoService> {
    #[derive(Deserialize)]
    struct SupervisorAnswer {
        data: Service,
    }
    let url = format!("{supervisor}/services/mqtt");
    let (status, body) = http_get(&url, Some(token), TIMEOUT).await?;
    if !status.is_success() {
        return Err(NoService::Status(status));
    }
    let answer: SupervisorAnswer = serde_json::from_slice(&body).map_err(|_| NoService::Shape)?;
    Ok(answer.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_converted_to_the_structure_of_the_file() {
        let options = json!({
            "log_level": "debug",
            "mqtt": {"url": "", "username": null},
            "homeassistant": {"climate": true},
            "printers": [
                {"id": "mk3", "url": "http://a", "api_key": "k", "name": null},
                {"url": "http://b", "api_key": "k"},
            ],
        });
        let settings = settings(options.as_object().unwrap().clone(), "/data");
        assert_eq!(
            settings,
            json!({
                "data_dir": "/data",
                "log": {"level": "debug"},
                "mqtt": {},
                "homeassistant": {"climate": true},
                "http": {"listen": "0.0.0.0:8099"},
                "printers": {
                    "mk3": {"url": "http://a", "api_key": "k"},
                    "(number 2)": {"url": "http://b", "api_key": "k"},
                },
            })
        );
        assert!(toml::to_string(&settings).is_ok());
    }

    #[test]
    fn options_may_be_empty_and_may_move_the_page() {
        let settings = |options: Value| settings(options.as_object().unwrap().clone(), "/data");
        let empty = json!({"mqtt": {}, "homeassistant": {}, "http": {}, "printers": []});
        for options in [json!({}), empty] {
            let text = toml::to_string(&settings(options)).unwrap();
            let config = config::from_toml(&text).unwrap();
            assert!(config.printers.is_empty());
            let http = config.http.unwrap();
            assert_eq!(http.listen.to_string(), INGRESS_LISTEN);
            assert!(http.page && http.password.is_none());
        }
        let moved = settings(json!({"http": {"listen": "127.0.0.1:1", "read_only": true}}));
        assert_eq!(moved["http"], json!({"listen": "127.0.0.1:1", "read_only": true}));
        // A mistake stays as it is, to be reported.
        assert_eq!(settings(json!({"http": 1}))["http"], json!(1));
    }
}
