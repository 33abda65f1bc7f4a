//! The two sources of a configuration, file and environment, with where each value came from.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use ::config::{Environment, File, FileFormat, Map, Source, Value, ValueKind};

use super::mistake::Mistake;
use crate::ordered;

/// What the variables begin with.
const PREFIX: &str = "OCTOPRINT2MQTT";
/// Where the file is; no key of the configuration.
pub(super) const FILE_VARIABLE: &str = "OCTOPRINT2MQTT_CONFIG";

/// Whether the environment has anything about printers.
pub(super) fn names_printers(environment: &[(String, String)]) -> bool {
    let start = format!("{PREFIX}__PRINTERS__");
    environment.iter().any(|(name, value)| name.starts_with(&start) && !value.is_empty())
}

/// A value and the file or variable that it came from.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) value: Value,
    pub(super) source: String,
}

/// File and environment, and the mistakes met so far.
#[derive(Debug)]
pub(super) struct Sources {
    file_name: String,
    file: Map<String, Value>,
    /// By key with dots between levels, lower case.
    environment: BTreeMap<String, (String, Value)>,
    used: RefCell<BTreeSet<String>>,
    mistakes: RefCell<Vec<Mistake>>,
}

impl Sources {
    /// Reads both; `file` is the file's name and its text.
    pub(super) fn new(
        file: Option<(&str, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut mistakes = Vec::new();
        let (name, text) = file.unwrap_or(("the environment", ""));
        let tree = File::from_str(text, FileFormat::Toml).collect().unwrap_or_else(|error| {
            mistakes.push(Mistake {
                source: name.to_owned(),
                key: String::new(),
                found: format!("no TOML: {}", without_excerpt(&error.to_string())),
                expected: "TOML".to_owned(),
            });
            Map::new()
        });
        Self {
            file_name: name.to_owned(),
            file: tree,
            environment: variables(environment),
            used: RefCell::default(),
            mistakes: RefCell::new(mistakes),
        }
    }

    pub(super) fn root(&self) -> Section<'_> {
        Section {
            sources: self,
            path: String::new(),
            variable: String::new(),
            file: Some(&self.file),
        }
    }

    /// The file's name, or what stands for it.
    pub(super) fn file_name(&self) -> &str {
        &self.file_name
    }

    pub(super) fn mistake(&self, mistake: Mistake) {
        self.mistakes.borrow_mut().push(mistake);
    }

    /// The ids of printers that only variables speak of.
    pub(super) fn printers_of_environment(&self) -> BTreeSet<String> {
        self.environment
            .keys()
            .filter_map(|key| key.strip_prefix("printers.")?.split('.').next())
            .map(str::to_owned)
            .collect()
    }

    /// All mistakes so far.
    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }

    /// All mistakes, those variables included that are no key.
    pub(super) fn finish(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        let used = self.used.into_inner();
        for (key, (variable, _)) in &self.environment {
            if !used.contains(key) {
                mistakes.push(Mistake {
                    source: variable.clone(),
                    key: key.clone(),
                    found: "a key that does not exist".to_owned(),
                    expected: "a key of the configuration reference".to_owned(),
                });
            }
        }
        mistakes
    }
}

/// The variables of the bridge by their key. Empty ones count as unset.
fn variables(
    environment: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<String, (String, Value)> {
    let start = format!("{PREFIX}__");
    let mine: Map<String, String> = environment
        .into_iter()
        .filter(|(name, _)| name.to_ascii_uppercase().starts_with(&start))
        .collect();
    let key_of = |name: &String| name[start.len()..].to_lowercase().replace("__", ".");
    let names: BTreeMap<String, String> =
        ordered::map(mine.keys().map(|name| (key_of(name), name.clone())));
    // Never `try_parsing`: it would change a password of digits.
    let values = Environment::with_prefix(PREFIX)
        .separator("__")
        .ignore_empty(true)
        .source(Some(mine))
        .collect()
        .unwrap_or_default();
    ordered::map(values.into_iter().map(|(key, value)| {
        let name = names.get(&key).cloned().unwrap_or_else(|| key.clone());
        (key, (name, value))
    }))
}

/// One table of the configuration, in both sources.
#[derive(Debug, Clone)]
pub(super) struct Section<'s> {
    pub(super) sources: &'s Sources,
    /// With a dot at its end, unless it is the root.
    path: String,
    /// The same as variables have it.
    variable: String,
    file: Option<&'s Map<String, Value>>,
}

impl<'s> Section<'s> {
    /// The key with its path.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// The value of `key`, the environment's before the file's.
    pub(super) fn get(&self, key: &str) -> Option<Found> {
        self.of_environment(key).or_else(|| self.of_file(key))
    }

    pub(super) fn of_environment(&self, key: &str) -> Option<Found> {
        let name = format!("{}{key}", self.variable);
        let (variable, value) = self.sources.environment.get(&name)?;
        self.sources.used.borrow_mut().insert(name);
        Some(Found { value: value.clone(), source: variable.clone() })
    }

    pub(super) fn of_file(&self, key: &str) -> Option<Found> {
        let value = self.file?.get(key)?.clone();
        Some(Found { value, source: self.sources.file_name.clone() })
    }

    /// Whether anything is said of it in the file.
    pub(super) fn in_file(&self) -> bool {
        self.file.is_some()
    }

    /// Whether any variable speaks of it.
    pub(super) fn in_environment(&self) -> bool {
        self.sources.environment.keys().any(|key| key.starts_with(&self.variable))
    }

    /// The table `key`; an empty one where the file has none.
    pub(super) fn section(&self, key: &str) -> Self {
        let file = self.file.and_then(|file| file.get(key)).and_then(|value| match &value.kind {
            ValueKind::Table(table) => Some(table),
            _ => {
                let found = Found { value: value.clone(), source: self.sources.file_name.clone() };
                self.refuse(key, &found, "a table");
                None
            }
        });
        Section {
            sources: self.sources,
            path: format!("{}{key}.", self.path),
            // A variable's name has no hyphen.
            variable: format!("{}{}.", self.variable, key.replace('-', "_")),
            file,
        }
    }

    /// The keys that the file has.
    pub(super) fn file_keys(&self) -> Vec<String> {
        let mut keys: Vec<String> =
            self.file.into_iter().flat_map(|file| file.keys().cloned()).collect();
        keys.sort();
        keys
    }

    /// The last part of every variable that speaks of this table.
    pub(super) fn environment_keys(&self) -> Vec<String> {
        let keys = self.sources.environment.keys();
        keys.filter_map(|key| key.strip_prefix(&self.variable)).map(str::to_owned).collect()
    }

    /// Complains of every key in the file that is not in `known`.
    pub(super) fn only(&self, known: &[&str]) {
        for key in self.file_keys() {
            if !known.contains(&key.as_str()) {
                let near = known.iter().min_by_key(|known| distance(known, &key));
                let near = near
                    .filter(|near| distance(near, &key) <= 2)
                    .map_or_else(String::new, |near| format!("; is {near} meant?"));
                self.complain(
                    self.sources.file_name.clone(),
                    &key,
                    "a key that does not exist",
                    &format!("one of {}{near}", known.join(", ")),
                );
            }
        }
    }

    /// `found` is no good for `key`.
    pub(super) fn refuse(&self, key: &str, found: &Found, expected: &str) {
        self.complain(found.source.clone(), key, &shown(&found.value), expected);
    }

    pub(super) fn complain(&self, source: String, key: &str, found: &str, expected: &str) {
        self.sources.mistake(Mistake {
            source,
            key: self.key(key),
            found: found.to_owned(),
            expected: expected.to_owned(),
        });
    }

    /// `key` is missing in both sources.
    pub(super) fn missing(&self, key: &str, expected: &str) {
        self.complain(self.sources.file_name.clone(), key, "nothing", expected);
    }
}

/// A value for people: its type and, cut, its text.
fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::String(text) => format!("{:?}", cut(&without_login(text))),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Boolean(value) => value.to_string(),
        _ => format!("the number {}", cut(&value.to_string())),
    }
}

/// An error of the TOML parser without the line that it quotes, which may hold a secret.
fn without_excerpt(error: &str) -> String {
    let told: Vec<&str> = error.lines().filter(|line| !line.contains('|')).map(str::trim).collect();
    told.join(" ").trim().to_owned()
}

/// A text without what stands before its last `@`, which may be the user and password of an
/// address, however wrongly it is written.
fn without_login(text: &str) -> String {
    let Some((login, rest)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = login.find("://").map_or("", |end| &login[..end + 3]);
    format!("{scheme}***@{rest}")
}

/// The type of a value, for secrets.
pub(super) fn shown_type(value: &Value) -> &'static str {
    match &value.kind {
        ValueKind::Nil => "nothing",
        ValueKind::String(_) => "a text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
        ValueKind::Boolean(_) => "true or false",
        _ => "a number",
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Edits between two words, for a guess at what was meant.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
