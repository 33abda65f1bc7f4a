//! The sources of a configuration, file and environment, and the mistakes found in them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use ::config::{Environment, File, FileFormat, Map, Source, Value, ValueKind};

use crate::ordered;

const PREFIX: &str = "OCTOPRINT2MQTT";
/// Path of the table of printers.
const PRINTERS: &str = "printers.";
/// Variable with the path of the file, which is not a key of the configuration.
pub(super) const FILE_VARIABLE: &str = "OCTOPRINT2MQTT_CONFIG";

/// A mistake in the configuration: where, what was found, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file or the environment variable.
    pub source: String,
    /// The key, with dots between levels; empty for the whole file.
    pub key: String,
    /// What was found; never the value of a secret.
    pub found: String,
    /// What is expected.
    pub expected: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, key, found, expected } = self;
        let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
        write!(f, "{source}: {key}found {found}; expected {expected}")
    }
}

/// All mistakes of a configuration; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub(super) Vec<Mistake>);

impl ConfigErrors {
    /// Returns the mistakes, in the order of the configuration.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has a mistake:")?,
            many => write!(f, "the configuration has {many} mistakes:")?,
        }
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// A value, and the file or variable it came from.
#[derive(Debug, Clone)]
pub(super) struct SourcedValue {
    pub(super) value: Value,
    pub(super) source: String,
}

/// File and environment, and the mistakes found so far.
#[derive(Debug)]
pub(super) struct Sources {
    file_name: String,
    file: Map<String, Value>,
    /// Name and printers of the file with the printers that were added.
    added: (String, Map<String, Value>),
    /// Files that were read, or would be if they were there.
    read: RefCell<BTreeSet<PathBuf>>,
    /// By lower-case key with dots between levels.
    environment: BTreeMap<String, (String, Value)>,
    used: RefCell<BTreeSet<String>>,
    mistakes: RefCell<Vec<Mistake>>,
}

impl Sources {
    pub(super) fn new(
        file: Option<(&str, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut mistakes = Vec::new();
        let (name, text) = file.unwrap_or(("the environment", ""));
        let tree = parsed(name, text).unwrap_or_else(|mistake| {
            mistakes.push(mistake);
            Map::new()
        });
        Self {
            file_name: name.to_owned(),
            file: tree,
            added: Default::default(),
            read: RefCell::default(),
            environment: variables(environment),
            used: RefCell::default(),
            mistakes: RefCell::new(mistakes),
        }
    }

    /// Adds the printers of a file called `name`, but for those that the other sources have: these
    /// win, which is said in a warning.
    pub(super) fn add_printers(&mut self, name: &str, text: &str, warnings: &mut Vec<String>) {
        let mut tree = match parsed(name, text) {
            Ok(tree) => tree,
            Err(mistake) => return self.mistake(mistake),
        };
        let printers = tree.remove("printers").map(|value| value.kind);
        let refuse = |key: &str, found: &str, expected: &str| Mistake {
            source: name.to_owned(),
            key: key.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        };
        if let Some(key) = tree.keys().next() {
            self.mistake(refuse(key, "a key that does not exist", "tables [printers.<id>] alone"));
        }
        let mut printers = match printers {
            None => return,
            Some(ValueKind::Table(printers)) => printers,
            Some(_) => {
                return self.mistake(refuse("printers", "no table", "tables [printers.<id>]"));
            }
        };
        // A variable's name has no hyphen.
        let same = |id: &str| id.replace('-', "_");
        let of_file: Vec<String> = match self.file.get("printers").map(|value| &value.kind) {
            Some(ValueKind::Table(printers)) => printers.keys().map(|id| same(id)).collect(),
            _ => Vec::new(),
        };
        let of_environment = self.printers_of_environment();
        printers.retain(|id, _| {
            let winner = if of_file.contains(&same(id)) {
                &self.file_name
            } else if of_environment.contains(&same(id)) {
                "the environment"
            } else {
                return true;
            };
            warnings.push(format!(
                "{name}: printers.{id} is not used, because {winner} has a printer of this id"
            ));
            false
        });
        self.added = (name.to_owned(), printers);
    }

    /// Whether a printer is of the file with those that were added.
    pub(super) fn is_added(&self, id: &str) -> bool {
        self.added.1.contains_key(id)
    }

    /// Notes that a file was read, or looked for.
    pub(super) fn note_read(&self, path: &Path) {
        self.read.borrow_mut().insert(path.to_owned());
    }

    /// Returns the files that were read, or looked for.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.read.borrow().iter().cloned().collect()
    }

    pub(super) fn root(&self) -> Section<'_> {
        Section {
            sources: self,
            name: &self.file_name,
            path: String::new(),
            variable: String::new(),
            file: Some(&self.file),
        }
    }

    pub(super) fn file_name(&self) -> &str {
        &self.file_name
    }

    pub(super) fn mistake(&self, mistake: Mistake) {
        self.mistakes.borrow_mut().push(mistake);
    }

    /// Returns the ids of printers that have variables.
    pub(super) fn printers_of_environment(&self) -> BTreeSet<String> {
        self.environment
            .keys()
            .filter_map(|key| key.strip_prefix("printers.")?.split('.').next())
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }

    /// Returns all mistakes, including variables that are not a key.
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

fn parsed(name: &str, text: &str) -> Result<Map<String, Value>, Mistake> {
    File::from_str(text, FileFormat::Toml).collect().map_err(|error| Mistake {
        source: name.to_owned(),
        key: String::new(),
        found: format!("no TOML: {}", without_excerpt(&error.to_string())),
        expected: "TOML".to_owned(),
    })
}

/// Returns the bridge's variables by key; empty ones count as unset.
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

#[derive(Debug, Clone)]
pub(super) struct Section<'s> {
    pub(super) sources: &'s Sources,
    /// Name of the file that the table is of.
    name: &'s str,
    /// Path of the table, ending with a dot unless it is the root.
    path: String,
    /// The same for variables.
    variable: String,
    file: Option<&'s Map<String, Value>>,
}

impl<'s> Section<'s> {
    /// Returns the name of the file that the table is of.
    pub(super) fn file_name(&self) -> &'s str {
        self.name
    }

    pub(super) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// Returns the value of `key`; the environment overrides the file.
    pub(super) fn get(&self, key: &str) -> Option<SourcedValue> {
        self.of_environment(key).or_else(|| self.of_file(key))
    }

    pub(super) fn of_environment(&self, key: &str) -> Option<SourcedValue> {
        let name = format!("{}{key}", self.variable);
        let (variable, value) = self.sources.environment.get(&name)?;
        self.sources.used.borrow_mut().insert(name);
        Some(SourcedValue { value: value.clone(), source: variable.clone() })
    }

    pub(super) fn of_file(&self, key: &str) -> Option<SourcedValue> {
        let value = self.file?.get(key)?.clone();
        Some(SourcedValue { value, source: self.name.to_owned() })
    }

    pub(super) fn in_file(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn in_environment(&self) -> bool {
        self.sources.environment.keys().any(|key| key.starts_with(&self.variable))
    }

    /// Returns the table `key`, empty if the file has none.
    pub(super) fn section(&self, key: &str) -> Self {
        let (name, value) = self.place(key);
        let file = value.and_then(|value| match &value.kind {
            ValueKind::Table(table) => Some(table),
            _ => {
                let found = SourcedValue { value: value.clone(), source: name.to_owned() };
                self.refuse(key, &found, "a table");
                None
            }
        });
        Section {
            sources: self.sources,
            name,
            path: format!("{}{key}.", self.path),
            // A variable's name has no hyphen.
            variable: format!("{}{}.", self.variable, key.replace('-', "_")),
            file,
        }
    }

    /// Returns the file that has `key`, and its value there.
    fn place(&self, key: &str) -> (&'s str, Option<&'s Value>) {
        let (name, added) = &self.sources.added;
        if self.path == PRINTERS && added.contains_key(key) {
            return (name, added.get(key));
        }
        (self.name, self.file.and_then(|file| file.get(key)))
    }

    pub(super) fn file_keys(&self) -> Vec<String> {
        let mut keys: Vec<String> =
            self.file.into_iter().flat_map(|file| file.keys().cloned()).collect();
        if self.path == PRINTERS {
            keys.extend(self.sources.added.1.keys().cloned());
        }
        keys.sort();
        keys
    }

    /// Returns the keys of this table that have variables.
    pub(super) fn environment_keys(&self) -> Vec<String> {
        let keys = self.sources.environment.keys();
        keys.filter_map(|key| key.strip_prefix(&self.variable)).map(str::to_owned).collect()
    }

    /// Reports every key in the file that is not in `known`.
    pub(super) fn only(&self, known: &[&str]) {
        for key in self.file_keys() {
            if !known.contains(&key.as_str()) {
                let near = known.iter().min_by_key(|known| distance(known, &key));
                let near = near
                    .filter(|near| distance(near, &key) <= 2)
                    .map_or_else(String::new, |near| format!("; is {near} meant?"));
                self.complain(
                    self.name.to_owned(),
                    &key,
                    "a key that does not exist",
                    &format!("one of {}{near}", known.join(", ")),
                );
            }
        }
    }

    /// Reports an invalid value of `key`.
    pub(super) fn refuse(&self, key: &str, found: &SourcedValue, expected: &str) {
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

    /// Reports that `key` is missing in both sources.
    pub(super) fn missing(&self, key: &str, expected: &str) {
        self.complain(self.name.to_owned(), key, "nothing", expected);
    }
}

/// Formats a value for people, cut to a readable length.
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

/// Removes the quoted line, which may hold a secret, from an error of the TOML parser.
fn without_excerpt(error: &str) -> String {
    let kept: Vec<&str> = error.lines().filter(|line| !line.contains('|')).map(str::trim).collect();
    kept.join(" ").trim().to_owned()
}

/// Masks the text before the last `@`, which may be user and password of a malformed address.
fn without_login(text: &str) -> String {
    let Some((login, rest)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = login.find("://").map_or("", |end| &login[..end + 3]);
    format!("{scheme}***@{rest}")
}

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

/// Edit distance between two words, for suggestions.
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
