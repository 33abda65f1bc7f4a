//! The configuration as the user writes it, validated into typed settings.
//!
//! TOML, overridden by environment variables named after the key with `__` between levels, such as
//! `OCTOPRINT2MQTT__MQTT__URL`. All mistakes are reported together.
//!
//! ```
//! let text = r#"
//!     [mqtt]
//!     url = "mqtt://broker.local"
//!     [printers.mk3]
//!     url = "http://octopi.local"
//!     api_key = "0123456789ABCDEF"
//! "#;
//! let config = octoprint2mqtt::config::from_toml(text)?;
//! assert_eq!((config.mqtt.host.as_str(), config.mqtt.port), ("broker.local", 1883));
//! assert_eq!(config.printers[0].url.as_str(), "http://octopi.local/");
//!
//! let error = octoprint2mqtt::config::from_toml("[mqtt]\nport = 1883\n").unwrap_err();
//! assert!(error.to_string().contains("mqtt.port"));
//! # Ok::<(), octoprint2mqtt::config::ConfigErrors>(())
//! ```

mod actions;
mod address;
mod camera;
mod classes;
mod counter;
mod entities;
mod headers;
mod log_filter;
mod maintenance;
mod power;
mod power_switch;
mod printer;
mod read;
mod readings;
mod scalars;
mod shown;
mod source;
mod types;
mod values;

use std::path::{Path, PathBuf};

pub use address::{OctoPrintAddress, octoprint_address};
pub use counter::{Counter, CounterUnit};
pub use headers::header_line;
pub(crate) use log_filter::log_filter;
pub use power_switch::PowerSwitch;
pub use printer::Access;
use source::Sources;
pub use source::{ConfigErrors, Mistake};
pub(crate) use types::STATUS_TOPIC;
pub use types::{
    Camera, Commands, Config, Filter, HomeAssistant, Http, Log, LogFormat, Mqtt, OutboxBounds,
    PictureMoment, Printer, Publish, Socket, Tls,
};

/// A configuration with warnings.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings for the log, as of a secret that others can read or an unverified certificate.
    pub warnings: Vec<String>,
}

/// Reads the configuration of this process: `file`, else `$OCTOPRINT2MQTT_CONFIG`, else
/// `./config.toml`, the only one that may be missing; and the environment.
///
/// # Errors
/// All mistakes, together.
pub fn read(file: Option<&Path>) -> Result<Loaded, ConfigErrors> {
    load(file, process_environment())
}

/// Like [`read()`], with a given environment.
///
/// # Errors
/// All mistakes, together.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    match file_text(file, &environment)? {
        Some((name, text)) => check(Some((&name, &text)), environment),
        None => check(None, environment),
    }
}

/// Reads how to reach the OctoPrint of the printer `id`, which need not have a key yet, with
/// warnings for the user. Ignores the rest of the configuration.
///
/// # Errors
/// All mistakes in what is read, together.
pub fn read_access(file: Option<&Path>, id: &str) -> Result<(Access, Vec<String>), ConfigErrors> {
    access(file, process_environment(), id)
}

/// Like [`read_access`], with a given environment.
///
/// # Errors
/// All mistakes in what is read, together.
pub fn access(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    id: &str,
) -> Result<(Access, Vec<String>), ConfigErrors> {
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    let text = file_text(file, &environment)?;
    let text = text.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let sources = Sources::new(text, environment);
    let mut warnings = Vec::new();
    let access = printer::access_of(&sources.root(), id, &mut warnings);
    let mistakes = sources.into_mistakes();
    match access {
        Some(access) if mistakes.is_empty() => Ok((access, warnings)),
        _ => Err(ConfigErrors(mistakes)),
    }
}

/// The variables of this process, except those that are not Unicode, which cannot be valid.
fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Reads name and text of the configuration file; `None` if there is none and none is needed.
fn file_text(
    file: Option<&Path>,
    environment: &[(String, String)],
) -> Result<Option<(String, String)>, ConfigErrors> {
    let named = file.map(Path::to_owned).or_else(|| {
        let (_, path) = environment.iter().find(|(name, _)| name == source::FILE_VARIABLE)?;
        (!path.is_empty()).then(|| PathBuf::from(path))
    });
    let path = named.clone().unwrap_or_else(|| PathBuf::from("config.toml"));
    let name = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((name, text))),
        // A path from the environment is usually the image's, where variables may be enough.
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && (named.is_none() || (file.is_none() && source::names_printers(environment))) =>
        {
            Ok(None)
        }
        Err(error) => Err(ConfigErrors(vec![Mistake {
            source: name,
            key: String::new(),
            found: format!("a file that cannot be read ({error})"),
            expected: "a configuration file (--config, or OCTOPRINT2MQTT_CONFIG)".to_owned(),
        }])),
    }
}

/// Loads a configuration from a text called `name`, and the environment.
///
/// # Errors
/// All mistakes, together.
pub fn load_text(
    name: &str,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    check(Some((name, text)), environment)
}

/// Loads a configuration from a text without the environment.
///
/// # Errors
/// All mistakes, together.
pub fn from_toml(text: &str) -> Result<Config, ConfigErrors> {
    check(Some(("config.toml", text)), []).map(|loaded| loaded.config)
}

fn check(
    file: Option<(&str, &str)>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    let sources = Sources::new(file, environment);
    let mut warnings = Vec::new();
    let config = read::config(&sources, &mut warnings);
    let mistakes = sources.finish();
    match config {
        Some(config) if mistakes.is_empty() => Ok(Loaded { config, warnings }),
        _ => Err(ConfigErrors(mistakes)),
    }
}
