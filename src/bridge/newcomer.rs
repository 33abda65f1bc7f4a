//! Checks a printer that is to be added (pure).

use serde_json::Value;
use url::Url;

use crate::config::{Config, OCTOPRINT_ADDRESS, is_id, octoprint_address};
use crate::secret::Secret;

/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// Longest id that is made of a name, in bytes.
const MADE_ID: usize = 32;

/// A printer that somebody wants to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairRequest {
    /// Address of OctoPrint, as somebody wrote it: it may hold a password.
    pub url: Secret,
    /// Name for people; by default the host of the address.
    pub name: Option<String>,
    /// The printer's id; by default made of the name.
    pub id: Option<String>,
}

impl PairRequest {
    /// Reads the value of a request: an address, or an object with `url`, and perhaps `name` and `id`.
    /// `None` if it is something else.
    pub fn read(value: &Value) -> Option<Self> {
        let text = |key: &str| match &value[key] {
            Value::Null => Some(None),
            Value::String(text) => Some(Some(text.clone())),
            _ => None,
        };
        let url = value.as_str().or(value["url"].as_str()).filter(|url| !url.is_empty())?;
        Some(Self { url: Secret::new(url), name: text("name")?, id: text("id")? })
    }
}

/// A printer that can be added.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Address of OctoPrint, without user and password.
    pub url: Url,
    /// Value of the header `Authorization`, for a proxy.
    pub authorization: Option<Secret>,
}

/// Why a printer cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewcomerError {
    /// Its address.
    #[error("url: expected {OCTOPRINT_ADDRESS}")]
    Url,
    /// Its name.
    #[error("name: expected a text of at most {MAX_NAME} characters, without control characters")]
    Name,
    /// Its id.
    #[error(
        "id: expected at most 64 letters, of a-z, 0-9, _ and - that begin and end with a letter or digit, without __, not beginning with bridge"
    )]
    Id,
    /// Another printer has its name or its id.
    #[error("there is a printer with this {0}, {1}")]
    Taken(&'static str, String),
    /// It is a printer of the configuration.
    #[error("this OctoPrint is printer {0} already")]
    Known(String),
    /// Another bridge serves printers of this id.
    #[error("another shard serves a printer with the id {0}; add it there, or give it another id")]
    OtherShard(String),
}

/// Checks `request` against `config`.
///
/// # Errors
/// What is wrong with it.
pub fn newcomer(request: &PairRequest, config: &Config) -> Result<Newcomer, NewcomerError> {
    let address = octoprint_address(request.url.expose()).ok_or(NewcomerError::Url)?;
    let host = || address.url.host_str().unwrap_or("printer").to_owned();
    let name = match &request.name {
        Some(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => host(),
    };
    let id = match &request.id {
        Some(id) if !id.is_empty() => id.clone(),
        _ => free_id(&name, config),
    };
    let new = Newcomer { id, name, url: address.url, authorization: address.authorization };
    check(&new, config).map(|()| new)
}

/// Checks a printer against the configuration.
///
/// # Errors
/// If it is a printer of the configuration already, or its name or id is invalid or taken.
pub fn check(new: &Newcomer, config: &Config) -> Result<(), NewcomerError> {
    if let Some(known) = config.printers.iter().find(|printer| printer.url == new.url) {
        return Err(NewcomerError::Known(known.id.clone()));
    }
    check_name(&new.name, None, config)?;
    if !is_id(&new.id) {
        return Err(NewcomerError::Id);
    }
    let same = |known: &&String| known.replace('-', "_") == new.id.replace('-', "_");
    if let Some(known) = config.all_printers.iter().find(same) {
        return Err(NewcomerError::Taken("id", known.clone()));
    }
    if config.shard.is_some_and(|shard| !shard.serves(&new.id)) {
        return Err(NewcomerError::OtherShard(new.id.clone()));
    }
    Ok(())
}

/// Checks a name of the printer `id`, or of one that has none yet.
///
/// # Errors
/// If it is invalid, or another printer has it.
pub fn check_name(name: &str, id: Option<&str>, config: &Config) -> Result<(), NewcomerError> {
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME || name.chars().any(char::is_control) {
        return Err(NewcomerError::Name);
    }
    let twin = config.printers.iter().find(|printer| {
        printer.name.to_lowercase() == name.to_lowercase() && Some(printer.id.as_str()) != id
    });
    match twin {
        Some(twin) => Err(NewcomerError::Taken("name", twin.id.clone())),
        None => Ok(()),
    }
}

/// Makes an id of a name, which no printer has.
fn free_id(name: &str, config: &Config) -> String {
    let words = name.to_lowercase();
    let words: Vec<&str> =
        words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut base = words.join("_");
    base.truncate(MADE_ID);
    let base = base.trim_end_matches('_');
    let base = if is_id(base) { base } else { "printer" };
    let is_free = |id: &String| {
        let same = |known: &String| known.replace('-', "_") == *id;
        let served = config.shard.is_none_or(|shard| shard.serves(id));
        served && !config.all_printers.iter().any(same)
    };
    let numbered = (2..1_000_u32).map(|number| format!("{base}_{number}"));
    std::iter::once(base.to_owned())
        .chain(numbered)
        .find(is_free)
        .unwrap_or_else(|| base.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config;

    fn config() -> Config {
        config::from_toml(
            "[printers.my-mk3]\nname = \"Prusa\"\nurl = \"http://octopi.local\"\napi_key = \"K\"\n",
        )
        .unwrap()
    }

    fn asked(value: &Value) -> Result<Newcomer, NewcomerError> {
        newcomer(&PairRequest::read(value).unwrap(), &config())
    }

    #[test]
    fn an_address_is_enough() {
        let new = asked(&json!("http://user:pass@ender.local/sub")).unwrap();
        assert_eq!((new.id.as_str(), new.name.as_str()), ("ender_local", "ender.local"));
        assert_eq!(new.url.as_str(), "http://ender.local/sub/");
        assert!(new.authorization.is_some());
        let new =
            asked(&json!({"url": "http://h", "name": " Prusa MK4 Größe ", "id": ""})).unwrap();
        assert_eq!((new.id.as_str(), new.name.as_str()), ("prusa_mk4_gr_e", "Prusa MK4 Größe"));
        let new = asked(&json!({"url": "http://h", "name": "My MK3"})).unwrap();
        assert_eq!(new.id, "my_mk3_2", "differs in more than a hyphen");
        for name in ["bridge", "***", &"x".repeat(90)] {
            let id = asked(&json!({"url": "http://h", "name": name})).unwrap().id;
            assert!(is_id(&id) && id.len() <= MADE_ID, "{id}");
        }
    }

    #[test]
    fn what_cannot_be_added_is_refused_with_the_reason() {
        use NewcomerError::{Id, Known, Name, Taken, Url};
        let of = |value: Value| asked(&value).unwrap_err();
        for url in ["ftp://h", "h", "http://h/?q", "file:///etc/passwd"] {
            assert_eq!(of(json!({ "url": url })), Url);
        }
        assert_eq!(of(json!("http://octopi.local/")), Known("my-mk3".to_owned()));
        let taken = |what| Taken(what, "my-mk3".to_owned());
        assert_eq!(of(json!({"url": "http://h", "name": "prusa"})), taken("name"));
        assert_eq!(of(json!({"url": "http://h", "id": "my_mk3"})), taken("id"));
        assert_eq!(of(json!({"url": "http://h", "id": "A"})), Id);
        assert_eq!(of(json!({"url": "http://h", "name": "a\u{7}b"})), Name);
        assert_eq!(of(json!({"url": "http://h", "name": "x".repeat(101)})), Name);
        for value in [
            json!(null),
            json!(7),
            json!({}),
            json!({"url": 7}),
            json!({"url": "http://h", "id": 7}),
        ] {
            assert_eq!(PairRequest::read(&value), None, "{value}");
        }
        assert_eq!(check_name("Prusa", Some("my-mk3"), &config()), Ok(()));
    }

    #[test]
    fn an_id_that_is_made_is_one_of_this_shard() {
        let text = "[shard]\nindex = 1\ncount = 3\n";
        let config = config::from_toml(text).unwrap();
        for n in 0..20 {
            let request = PairRequest::read(&json!(format!("http://host{n}"))).unwrap();
            let id = newcomer(&request, &config).unwrap().id;
            assert!(config.shard.unwrap().serves(&id), "{id}");
        }
    }
}
