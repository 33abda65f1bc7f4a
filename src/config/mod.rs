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
mod added;
mod address;
mod camera;
mod classes;
mod counter;
mod entities;
mod headers;
mod id;
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

pub use added::{AddedError, AddedPrinters, NewPrinter};
pub use address::{OCTOPRINT_ADDRESS, OctoPrintAddress, octoprint_address};
pub use counter::{Counter, CounterUnit};
pub use headers::header_line;
pub use id::is_id;
pub(crate) use log_filter::log_filter;
pub use power_switch::PowerSwitch;
pub use printer::Access;
pub use source::{ConfigErrors, Mistake};
use source::{FILE_VARIABLE, Sources};
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
    /// The files that it was read from, those of secrets and of added printers too, whether or not
    /// they are there.
    pub files: Vec<PathBuf>,
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
    let found = file_text(file, &environment)?;
    let text = found.text.as_deref().map(|text| (found.name.as_str(), text));
    let mut loaded = check(text, environment)?;
    if found.text.is_none() && found.is_named && loaded.config.all_printers.is_empty() {
        let name = &found.name;
        loaded.warnings.push(format!(
            "{FILE_VARIABLE} names {name}, which does not exist: variables and defaults are used"
        ));
    }
    loaded.files.push(PathBuf::from(found.name));
    Ok(loaded)
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
    let found = file_text(file, &environment)?;
    let text = found.text.as_deref().map(|text| (found.name.as_str(), text));
    let mut warnings = Vec::new();
    let sources = sources(text, environment, &mut warnings);
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

/// The configuration file.
struct FoundFile {
    name: String,
    /// Its text; `None`: there is none, and none is needed.
    text: Option<String>,
    /// Whether the environment names it.
    is_named: bool,
}

/// Reads the configuration file. Only one that the command line names must be there: a path from
/// the environment is usually the image's, where variables and added printers may be enough.
fn file_text(
    file: Option<&Path>,
    environment: &[(String, String)],
) -> Result<FoundFile, ConfigErrors> {
    let variable = environment.iter().find(|(name, _)| name == FILE_VARIABLE);
    let of_environment = variable.map(|(_, path)| path.as_str()).filter(|path| !path.is_empty());
    let named = file.or(of_environment.map(Path::new));
    let path = named.unwrap_or(Path::new("config.toml"));
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => None,
        Err(error) => {
            return Err(unreadable(
                name,
                &error,
                "a configuration file (--config, or OCTOPRINT2MQTT_CONFIG)",
            ));
        }
    };
    Ok(FoundFile { name, text, is_named: named.is_some() })
}

fn unreadable(source: String, error: &std::io::Error, expected: &str) -> ConfigErrors {
    ConfigErrors(vec![Mistake {
        source,
        key: String::new(),
        found: format!("a file that cannot be read ({error})"),
        expected: expected.to_owned(),
    }])
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

/// Returns all sources: `file`, the environment, and the printers that were added.
fn sources(
    file: Option<(&str, &str)>,
    environment: impl IntoIterator<Item = (String, String)>,
    warnings: &mut Vec<String>,
) -> Sources {
    let mut sources = Sources::new(file, environment);
    let Some(dir) = read::data_dir(&sources.root()) else { return sources };
    let path = AddedPrinters::path_in(&dir);
    sources.note_read(&path);
    let name = path.display().to_string();
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::read_to_string(&path) {
        Ok(text) => sources.add_printers(&name, &text, warnings),
        // The store warns of a directory that is none.
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {}
        Err(error) => {
            let expected = "the file with the printers that were added";
            unreadable(name, &error, expected).0.into_iter().for_each(|one| sources.mistake(one));
        }
    }
    sources
}

fn check(
    file: Option<(&str, &str)>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    let mut warnings = Vec::new();
    let sources = sources(file, environment, &mut warnings);
    let config = read::config(&sources, &mut warnings);
    let files = sources.files();
    let mistakes = sources.finish();
    match config {
        Some(config) if mistakes.is_empty() => Ok(Loaded { config, warnings, files }),
        _ => Err(ConfigErrors(mistakes)),
    }
}
