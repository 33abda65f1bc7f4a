//! Typed values of the configuration. Each getter reports an invalid value and goes on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Value, ValueKind};

use super::source::{Section, SourcedValue, shown_type};
use super::types::Tls;
use crate::secret::Secret;
use crate::topic::Topic;

/// Largest file of a secret, in bytes.
const MAX_SECRET_FILE: u64 = 64 * 1024;
/// Longest topic or prefix of a key other than `base_topic`, in bytes.
pub(super) const MAX_PREFIX: usize = 256;
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Section<'_> {
    /// Reads a value with `read`; `default` if it is missing or invalid.
    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        default: T,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> T {
        self.optional(key, expected, read).unwrap_or(default)
    }

    /// Reads a value with `read`, if there is a valid one.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let found = self.get(key)?;
        let value = read(&found.value);
        if value.is_none() {
            self.refuse(key, &found, expected);
        }
        value
    }

    pub(super) fn text(&self, key: &str, expected: &str) -> Option<String> {
        self.optional(key, expected, |value| text(value).filter(|text| !text.is_empty()))
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        self.read(key, "true or false", default, |value| match &value.kind {
            ValueKind::Boolean(flag) => Some(*flag),
            // Variables have no types.
            ValueKind::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
            _ => None,
        })
    }

    pub(super) fn whole(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let expected = format!("a whole number {}…{}", range.start(), range.end());
        self.read(key, &expected, default, |value| {
            whole(value).filter(|number| range.contains(number))
        })
    }

    pub(super) fn celsius(&self, key: &str, default: f64) -> f64 {
        self.read(key, "a temperature in °C, above 0 and 1000 at most", default, |value| {
            number(value).filter(|celsius| *celsius > 0.0 && *celsius <= 1000.0)
        })
    }

    pub(super) fn duration(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let form = |duration| humantime::format_duration(duration).to_string();
        let expected = format!(
            "a duration as text, such as \"30s\", \"500ms\" or \"1h\", {} to {}",
            form(*range.start()),
            form(*range.end())
        );
        self.read(key, &expected, default, |value| {
            let duration = humantime::parse_duration(&strict_text(value)?).ok()?;
            range.contains(&duration).then_some(duration)
        })
    }

    pub(super) fn size(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<usize>,
        default: usize,
    ) -> usize {
        // In bytes: formatting as a size needs a logarithm, and with it half a megabyte of libm.
        let least = range.start();
        let most = match *range.end() {
            usize::MAX => String::new(),
            most => format!(", at most {most} bytes"),
        };
        let expected =
            format!("a size such as \"16MiB\" or \"1900KB\", at least {least} bytes{most}");
        self.read(key, &expected, default, |value| {
            let size: bytesize::ByteSize = text(value)?.parse().ok()?;
            usize::try_from(size.as_u64()).ok().filter(|bytes| range.contains(bytes))
        })
    }

    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)], default: T) -> T {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        self.read(key, &format!("one of {}", names.join(", ")), default, |value| {
            let text = strict_text(value)?;
            words.iter().find(|(name, _)| *name == text).map(|(_, word)| *word)
        })
    }

    /// Reads a list of some of `words`, separated by commas in a variable; all of them by default.
    pub(super) fn words<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Vec<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let all = words.iter().map(|(_, word)| *word).collect();
        self.read(key, &format!("a list of some of {}", names.join(", ")), all, |value| {
            let find = |item: &Value| {
                let text = strict_text(item)?;
                words.iter().find(|(name, _)| *name == text.trim()).map(|(_, word)| *word)
            };
            items(value)?.iter().map(find).collect()
        })
    }

    /// Reads a list of texts, separated by commas in a variable.
    pub(super) fn texts(&self, key: &str, default: &[&str]) -> Vec<String> {
        let default = default.iter().map(|text| (*text).to_owned()).collect();
        self.read(key, "a list of names", default, |value| {
            let texts: Option<Vec<String>> = items(value)?.iter().map(strict_text).collect();
            texts.filter(|texts| texts.iter().all(|text| !text.trim().is_empty()))
        })
    }

    /// Reads a list of names of hosts, without ports; in lower case.
    pub(super) fn hosts(&self, key: &str) -> Vec<String> {
        let expected = "a list of names such as \"printers.example.org\", without scheme and port";
        self.read(key, expected, Vec::new(), |value| {
            let names: Option<Vec<String>> = items(value)?.iter().map(strict_text).collect();
            let names = names?.into_iter().map(|name| name.trim().to_ascii_lowercase());
            let names: Vec<String> = names.collect();
            let is_in_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            let is_host = |name: &String| !name.is_empty() && name.chars().all(is_in_a_name);
            names.iter().all(is_host).then_some(names)
        })
    }

    /// Reads a list of seconds, each up to a day.
    pub(super) fn seconds(&self, key: &str, default: &[u64]) -> Vec<Duration> {
        let default = default.iter().map(|seconds| Duration::from_secs(*seconds)).collect();
        let expected = "a list of seconds, such as [1, 2, 5], one at least, each 0…86400";
        self.read(key, expected, default, |value| {
            let seconds: Option<Vec<Duration>> = items(value)?
                .iter()
                .map(|item| {
                    let seconds = number(item).filter(|s| (0.0..=86_400.0).contains(s))?;
                    Duration::try_from_secs_f64(seconds).ok()
                })
                .collect();
            seconds.filter(|seconds| !seconds.is_empty())
        })
    }

    pub(super) fn file(&self, key: &str) -> Option<PathBuf> {
        let found = self.get(key)?;
        let Some(path) = strict_text(&found.value).filter(|path| !path.is_empty()) else {
            self.refuse(key, &found, "the path of a file");
            return None;
        };
        if let Err(error) = std::fs::File::open(&path) {
            let what = format!("{path:?}, which cannot be read ({error})");
            self.complain(found.source, key, &what, "the path of a file that can be read");
            return None;
        }
        Some(PathBuf::from(path))
    }

    /// Reads a secret from `key`, or from the file at `<key>_file`. Both in one source are a
    /// mistake; the environment overrides the file.
    pub(super) fn secret(&self, key: &str, warnings: &mut Vec<String>) -> Option<Secret> {
        let twin = format!("{key}_file");
        let of_environment = (self.of_environment(key), self.of_environment(&twin));
        let of_file = (self.of_file(key), self.of_file(&twin));
        for pair in [&of_environment, &of_file] {
            if let (Some(found), Some(_)) = pair {
                let both = format!("both {key} and {twin}");
                self.complain(found.source.clone(), key, &both, "one of the two");
                return None;
            }
        }
        let pair = match of_environment {
            (None, None) => of_file,
            pair => pair,
        };
        match pair {
            (Some(found), _) => self.secret_text(key, &found, warnings),
            (None, Some(found)) => self.secret_file(&twin, &found, warnings),
            (None, None) => None,
        }
    }

    fn secret_text(
        &self,
        key: &str,
        found: &SourcedValue,
        warnings: &mut Vec<String>,
    ) -> Option<Secret> {
        match &found.value.kind {
            ValueKind::String(text) if !text.is_empty() => {
                warnings.extend(wrapped(&found.source, &self.key(key), text));
                Some(Secret::new(text))
            }
            ValueKind::String(_) => {
                self.complain(found.source.clone(), key, "an empty text", "the secret as text");
                None
            }
            _ => {
                let shown = shown_type(&found.value);
                self.complain(found.source.clone(), key, shown, "the secret as text, in quotes");
                None
            }
        }
    }

    /// Reads a secret from the file at the path `found`, the value of `key`.
    pub(super) fn secret_file(
        &self,
        key: &str,
        found: &SourcedValue,
        warnings: &mut Vec<String>,
    ) -> Option<Secret> {
        let Some(path) = strict_text(&found.value).filter(|path| !path.is_empty()) else {
            self.refuse(key, found, "the path of a file that holds the secret");
            return None;
        };
        let refuse = |what: String| {
            let what = format!("{path:?}, which {what}");
            let expected = "the path of a readable file that holds the secret";
            self.complain(found.source.clone(), key, &what, expected);
        };
        self.sources.note_read(Path::new(&path));
        match read_secret(Path::new(&path)) {
            Ok(text) if text.is_empty() => {
                refuse("is empty".to_owned());
                None
            }
            Ok(text) => {
                warnings.extend(open_to_others(Path::new(&path)));
                warnings.extend(wrapped(&path, &self.key(key), &text));
                Some(Secret::new(text))
            }
            Err(error) => {
                refuse(format!("cannot be read ({error})"));
                None
            }
        }
    }
}

/// Returns a warning if a secret is wrapped in white space, or in quotes, which Docker keeps in
/// some forms of `KEY="value"`.
pub(super) fn wrapped(source: &str, key: &str, secret: &str) -> Option<String> {
    let (first, last) = (secret.chars().next()?, secret.chars().next_back()?);
    let quoted = secret.len() > 1 && first == last && matches!(first, '"' | '\'');
    let what = match (quoted, first.is_whitespace(), last.is_whitespace()) {
        (true, ..) => format!("begins and ends with the quote {first}"),
        (_, true, true) => "begins and ends with white space".to_owned(),
        (_, true, false) => "begins with white space".to_owned(),
        (_, false, true) => "ends with white space".to_owned(),
        (false, false, false) => return None,
    };
    let length = secret.chars().count();
    Some(format!(
        "{source}: {key}: the secret {what}, which count among its {length} characters; leave them out if they are not part of it (Docker keeps the quotes of KEY=\"value\" in some forms)"
    ))
}

fn read_secret(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > MAX_SECRET_FILE {
        return Err(std::io::Error::other("too large for a secret"));
    }
    let text = std::fs::read_to_string(path)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Returns a warning if others on the machine can read the file. Docker's secrets are exempt:
/// Docker sets their mode, and everyone in the container may read them anyway.
fn open_to_others(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0 && !path.starts_with("/run/secrets")).then(|| {
        let path = path.display();
        format!(
            "{path} holds a secret and can be read by every user of this machine; chmod 600 {path}"
        )
    })
}

/// Returns a text, or a number as text.
pub(super) fn text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        ValueKind::I64(number) => Some(number.to_string()),
        ValueKind::U64(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn strict_text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn whole(value: &Value) -> Option<u64> {
    text(value)?.trim().parse().ok()
}

pub(super) fn number(value: &Value) -> Option<f64> {
    match &value.kind {
        ValueKind::Float(number) => Some(*number),
        _ => text(value)?.trim().parse().ok(),
    }
    .filter(|number: &f64| number.is_finite())
}

/// Returns the items of a list, or of a variable's comma-separated text.
fn items(value: &Value) -> Option<Vec<Value>> {
    match &value.kind {
        ValueKind::Array(items) => Some(items.clone()),
        ValueKind::String(text) => {
            Some(text.split(',').map(|item| Value::from(item.trim().to_owned())).collect())
        }
        _ => None,
    }
}

/// Reads a trust setting; `None` if there is none.
pub(super) fn tls(section: &Section<'_>, client: bool, warnings: &mut Vec<String>) -> Option<Tls> {
    let known: &[&str] = if client {
        &["ca_file", "cert_file", "key_file", "insecure"]
    } else {
        &["ca_file", "insecure"]
    };
    section.only(known);
    if !section.in_file() && !section.in_environment() {
        return None;
    }
    let mut tls = Tls {
        ca_file: section.file("ca_file"),
        insecure: section.flag("insecure", false),
        ..Tls::default()
    };
    if client {
        tls.cert_file = section.file("cert_file");
        tls.key_file = section.file("key_file");
        let given = |key: &str| section.get(key).is_some();
        match (given("cert_file"), given("key_file")) {
            (true, false) => section.missing("key_file", "the key that goes with cert_file"),
            (false, true) => {
                section.missing("cert_file", "the certificate that goes with key_file");
            }
            _ => {}
        }
    }
    if tls.insecure {
        let key = section.key("insecure");
        warnings.push(format!(
            "{key} = true: any certificate is accepted, so anyone on the way can listen and command; prefer ca_file"
        ));
    }
    Some(tls)
}

/// Reads a topic without wildcards, empty levels, or slashes at its ends.
pub(super) fn topic(section: &Section<'_>, key: &str, default: &str) -> String {
    topic_within(section, key, MAX_PREFIX, default)
}

pub(super) fn topic_within(section: &Section<'_>, key: &str, most: usize, default: &str) -> String {
    let expected = format!(
        "a topic of at most {most} bytes, without +, #, control characters, Unicode noncharacters, empty levels, slashes at its ends and $ at its start"
    );
    section
        .optional(key, &expected, |value| strict_text(value).filter(|topic| is_topic(topic, most)))
        .unwrap_or_else(|| default.to_owned())
}

pub(super) fn is_topic(topic: &str, most: usize) -> bool {
    topic.len() <= most
        && !topic.starts_with('$')
        && topic.split('/').all(|level| !level.is_empty())
        && Topic::read(topic).is_ok()
}
