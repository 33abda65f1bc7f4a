//! Extra request headers, which may hold secrets, with values as text or from files.

use std::collections::{BTreeMap, BTreeSet};

use ::config::ValueKind;
use reqwest::header::{HeaderName, HeaderValue};

use super::source::{Section, SourcedValue};
use super::values::{strict_text, wrapped};
use crate::secret::Secret;

const EXPECTED: &str =
    "a header name, and its value as text or as { file = \"…\" } that holds the value";

/// Reads all headers, by lower-case name. Names of variables have no hyphen: `X_PROXY_USER` is the
/// header `x-proxy-user`, and `X_PROXY_USER__FILE` the file that holds its value.
pub(super) fn headers(
    section: &Section<'_>,
    warnings: &mut Vec<String>,
) -> BTreeMap<String, Secret> {
    let mut headers = BTreeMap::new();
    let mut take = |name: &str, value: Option<Secret>| {
        let Some(value) = value else { return };
        headers.insert(name.to_ascii_lowercase(), value);
    };
    for key in section.file_keys() {
        if let Some(found) = section.of_file(&key) {
            take(&key, of_file(section, &key, &found, warnings));
        }
    }
    let keys = section.environment_keys();
    let keys: BTreeSet<&str> =
        keys.iter().map(|key| key.strip_suffix(".file").unwrap_or(key)).collect();
    for key in keys {
        let name = key.replace('_', "-");
        take(&name, of_environment(section, key, &name, warnings));
    }
    headers
}

fn of_file(
    section: &Section<'_>,
    name: &str,
    found: &SourcedValue,
    warnings: &mut Vec<String>,
) -> Option<Secret> {
    if !matches!(found.value.kind, ValueKind::Table(_)) {
        return text(section, name, name, found, warnings);
    }
    let table = section.section(name);
    table.only(&["file"]);
    match table.of_file("file") {
        Some(path) => file(&table, name, &path, warnings),
        None => {
            table.complain(found.source.clone(), "file", "nothing", EXPECTED);
            None
        }
    }
}

fn of_environment(
    section: &Section<'_>,
    key: &str,
    name: &str,
    warnings: &mut Vec<String>,
) -> Option<Secret> {
    let table = section.section(key);
    match (section.of_environment(key), table.of_environment("file")) {
        (Some(found), Some(_)) => {
            section.complain(found.source, key, "both a value and a file", "one of the two");
            None
        }
        (Some(found), None) => text(section, key, name, &found, warnings),
        (None, Some(path)) => file(&table, name, &path, warnings),
        (None, None) => None,
    }
}

fn text(
    section: &Section<'_>,
    key: &str,
    name: &str,
    found: &SourcedValue,
    warnings: &mut Vec<String>,
) -> Option<Secret> {
    let value = strict_text(&found.value).filter(|value| is_header(name, value));
    match value {
        Some(value) => {
            warnings.extend(wrapped(&found.source, &section.key(key), &value));
            Some(Secret::new(value))
        }
        // It may hold a password, so it is not shown.
        None => {
            let what = "a name or value that no HTTP header can have";
            section.complain(found.source.clone(), key, what, EXPECTED);
            None
        }
    }
}

/// Reads the value from the file at `path`, the value of the key `file` in `table`.
fn file(
    table: &Section<'_>,
    name: &str,
    path: &SourcedValue,
    warnings: &mut Vec<String>,
) -> Option<Secret> {
    let value = table.secret_file("file", path, warnings)?;
    if is_header(name, value.expose()) {
        return Some(value);
    }
    let what = "a file whose content, or a name that no HTTP header can have";
    table.complain(path.source.clone(), "file", what, EXPECTED);
    None
}

fn is_header(name: &str, value: &str) -> bool {
    HeaderValue::from_str(value).is_ok() && HeaderName::from_bytes(name.as_bytes()).is_ok()
}

/// Parses a header of the command line, `Name: value`; `None` if it is invalid.
pub fn header_line(line: &str) -> Option<(String, Secret)> {
    let (name, value) = line.split_once(':')?;
    let (name, value) = (name.trim(), value.trim());
    is_header(name, value).then(|| (name.to_ascii_lowercase(), Secret::new(value)))
}
