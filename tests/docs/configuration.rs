//! The configuration chapter, and every configuration and variable that any page shows.

use std::collections::{BTreeMap, BTreeSet};

use octoprint2mqtt::config;

use super::book::{blocks, chapter, only_code, pages, read, rows, same};

const CHAPTER: &str = "reference/configuration";
/// No such key anywhere.
const NONSENSE: &str = "nonsense";

/// A configuration that is whole but for `without`, one key a line.
fn whole_but(without: &str) -> String {
    [("printers.p.url", "\"http://h\""), ("printers.p.api_key", "\"k\"")]
        .iter()
        .filter(|(key, _)| *key != without)
        .map(|(key, value)| format!("{key} = {value}\n"))
        .collect()
}

/// The keys of the table `path`, as the program lists them where it refuses one; `None` where there
/// is no such table.
fn keys_of(path: &str) -> Option<Vec<String>> {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    let text = format!("{prefix}{NONSENSE} = 1\n{}", whole_but(path));
    let errors = config::from_toml(&text).expect_err("a key that does not exist");
    let asked = format!("{prefix}{NONSENSE}");
    let mistake = errors
        .mistakes()
        .iter()
        .find(|m| m.key == asked && m.found == "a key that does not exist")?;
    let keys = mistake.expected.strip_prefix("one of ")?.split(';').next()?;
    Some(keys.split(", ").map(str::to_owned).collect())
}

/// Every key that is no table, with `<id>` for the id of a printer.
fn existing_keys() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut tables = vec![String::new()];
    while let Some(table) = tables.pop() {
        for key in keys_of(&table).unwrap_or_else(|| panic!("{table:?} is no table")) {
            let path = if table.is_empty() { key } else { format!("{table}.{key}") };
            // Each printer is a table of its own name.
            let path = if path == "printers" { "printers.p".to_owned() } else { path };
            if keys_of(&path).is_some() {
                tables.push(path);
            } else {
                found.insert(path.replace("printers.p.", "printers.<id>."));
            }
        }
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

#[test]
fn every_key_is_listed_and_every_listed_key_exists() {
    let listed = rows(CHAPTER, ["key"]);
    let documented: BTreeSet<String> = listed.iter().map(|[key]| only_code(key)).collect();
    assert_eq!(documented.len(), listed.len(), "a key is listed twice");
    same(CHAPTER, &documented, &existing_keys());
}

/// All that a configuration says, but for what a default leaves open.
fn said(text: &str) -> String {
    let config = config::from_toml(text).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    format!("{:#} {:?} {:?}", config.without_secrets(), config.log, config.printers)
}

#[test]
fn listed_defaults_are_the_defaults() {
    let mut compared = 0;
    for [key, default] in rows(CHAPTER, ["key", "default"]) {
        let key = only_code(&key).replace("<id>", "p");
        if matches!(default.as_str(), "none" | "required" | "the id") {
            continue;
        }
        let mut base = whole_but("");
        // These are refused without TLS.
        if key.starts_with("mqtt.tls.") {
            base += "mqtt.url = \"mqtts://h\"\n";
        }
        // Without any of them, HTTP is off.
        if key.starts_with("http.") {
            base += "http.listen = \"127.0.0.1:8099\"\n";
        }
        // A switch has both topics.
        if key.starts_with("printers.p.power.") {
            base +=
                "printers.p.power.state_topic = \"s\"\nprinters.p.power.command_topic = \"c\"\n";
        }
        let explicit = format!("{key} = {}\n{base}", only_code(&default));
        assert_eq!(said(&explicit), said(&base), "the default of {key}");
        compared += 1;
    }
    assert!(compared > 30, "{compared}");
}

/// The default that a key has where the chapter names none must not be one that it has.
#[test]
fn keys_without_a_listed_default_have_none() {
    let base = config::from_toml(&whole_but("")).unwrap().without_secrets();
    for [key, default] in rows(CHAPTER, ["key", "default"]) {
        let key = only_code(&key).replace("<id>", "p");
        if default != "none" {
            continue;
        }
        let value = key.split('.').fold(&base, |value, part| &value[part]);
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        assert!(empty, "{key} is {value} by default");
    }
}

/// An example with its files, which are not here, replaced by one that is.
fn with_files(example: &str, file: &str) -> String {
    let parts = example.split('"').enumerate();
    let parts = parts.map(|(at, part)| match at % 2 {
        1 if part.starts_with('/') => file,
        _ => part,
    });
    parts.collect::<Vec<_>>().join("\"")
}

#[test]
fn examples_are_taken_by_the_program() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "content").unwrap();
    let mut read_in = 0;
    for page in pages() {
        for block in blocks(&read(&page), "toml") {
            // Entities are shown without the printer that they belong to.
            let block = block.replace("[printers.mk3.entities.", "[printers.p.entities.");
            let whole = block.contains("[printers.") && !block.starts_with("[printers.p.entities.");
            let text = if whole { block } else { format!("{}{block}", whole_but("")) };
            let text = with_files(&text, file.path().to_str().unwrap());
            if let Err(errors) = config::from_toml(&text) {
                panic!("{}:\n{text}\n{errors}", page.display());
            }
            read_in += 1;
        }
    }
    assert!(read_in >= 10, "{read_in}");
}

#[test]
fn examples_of_json_are_json() {
    for page in pages() {
        for block in blocks(&read(&page), "json") {
            let parsed = serde_json::from_str::<serde_json::Value>(&block);
            assert!(parsed.is_ok(), "{}: {block}", page.display());
        }
    }
}

/// The variables that a text names, as keys with `<id>` for the printer.
fn variables(text: &str) -> BTreeMap<String, String> {
    let starts = text.match_indices("OCTOPRINT2MQTT__").map(|(start, _)| &text[start..]);
    let names = starts.map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    });
    let key = |name: &str| {
        let path = name.strip_prefix("OCTOPRINT2MQTT__").unwrap_or_default().to_lowercase();
        let mut parts: Vec<&str> = path.split("__").collect();
        if parts[0] == "printers" && parts.len() > 1 {
            parts[1] = "<id>";
        }
        parts.join(".")
    };
    names.map(|name| (name.to_owned(), key(name))).collect()
}

#[test]
fn variables_are_those_of_keys() {
    let keys = existing_keys();
    let mut seen = 0;
    for page in pages() {
        for (variable, key) in variables(&read(&page)) {
            assert!(keys.contains(&key), "{}: {variable} is no key", page.display());
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen}");
    assert!(chapter(CHAPTER).contains("OCTOPRINT2MQTT__MQTT__URL"));
}
