//! The database file: its tables, opening it, and setting a damaged one aside.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::entry::{Change, Known, StoredEvent};
use crate::causes::text;
use crate::mqtt::{Audience, Worth};
use crate::topic::{NotCarried, Topic};

const FILE: &str = "octoprint2mqtt.redb";
/// Size of the cache in bytes: the database is small.
const CACHE: usize = 1024 * 1024;

/// Its name is that in existing databases.
const VALUES: TableDefinition<'static, (&str, &str), &[u8]> = TableDefinition::new("kept");
const EVENTS: TableDefinition<'static, (&str, u64), &[u8]> = TableDefinition::new("events");

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it.
    #[error("{} cannot be used", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is used by another process; give each bridge a data_dir of its own", .0.display())]
    InUse(PathBuf),
}

/// Values by key; `None` removes the entry.
pub(super) type PendingChanges = BTreeMap<Key, Option<Bytes>>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// Everything of a printer: first in order, so that later entries stay.
    All(Arc<str>),
    Value(Arc<str>, &'static str),
    Event(Arc<str>, u64),
}

impl Key {
    fn printer(&self) -> &Arc<str> {
        match self {
            Self::All(printer) | Self::Value(printer, _) | Self::Event(printer, _) => printer,
        }
    }
}

/// The line of JSON stored before the payload of an event.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    topic: std::borrow::Cow<'a, str>,
    /// Unix milliseconds.
    received: u64,
    stamped: bool,
    // Missing in files of earlier versions.
    #[serde(default)]
    worth: Worth,
    #[serde(default)]
    audience: Audience,
}

/// Adds a change; a later one of the same entry replaces an earlier one.
pub(super) fn add(pending: &mut PendingChanges, change: Change) {
    match change {
        Change::Value { printer, what, value } => {
            pending.insert(Key::Value(printer, what), value);
        }
        Change::Event { printer, sequence, event: Some(event) } => {
            pending.insert(Key::Event(printer, sequence), encode(&event));
        }
        Change::Event { printer, sequence, event: None } => {
            let key = Key::Event(printer, sequence);
            // An event that is not on disk yet needs no removal: no event is stored twice.
            if !matches!(pending.remove(&key), Some(Some(_))) {
                pending.insert(key, None);
            }
        }
        Change::Forget { printer } => {
            pending.retain(|key, _| key.printer() != &printer);
            pending.insert(Key::All(printer), None);
        }
    }
}

fn encode(event: &StoredEvent) -> Option<Bytes> {
    let received = event.received.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let head = Head {
        topic: (&*event.topic).into(),
        received: u64::try_from(received).unwrap_or_default(),
        stamped: event.stamped,
        worth: event.worth,
        audience: event.audience,
    };
    let mut bytes = serde_json::to_vec(&head).ok()?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&event.payload);
    Some(bytes.into())
}

#[derive(Debug, thiserror::Error)]
enum StoredEventError {
    #[error("it has no head")]
    NoHead,
    #[error(transparent)]
    Head(#[from] serde_json::Error),
    #[error(transparent)]
    Topic(#[from] NotCarried),
}

fn decode(bytes: &[u8]) -> Result<StoredEvent, StoredEventError> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(StoredEventError::NoHead)?;
    let head: Head<'_> = serde_json::from_slice(&bytes[..end])?;
    Ok(StoredEvent {
        topic: Topic::read(&head.topic)?,
        payload: Bytes::copy_from_slice(&bytes[end + 1..]),
        received: UNIX_EPOCH + Duration::from_millis(head.received),
        stamped: head.stamped,
        worth: head.worth,
        audience: head.audience,
    })
}

pub(super) struct Database {
    inner: Option<redb::Database>,
}

impl Drop for Database {
    fn drop(&mut self) {
        let inner = self.inner.take();
        // Closing writes, but a failure then no longer matters.
        let _ = guarded(|| {
            drop(inner);
            Ok(())
        });
    }
}

impl Database {
    pub(super) fn is_in(dir: &Path) -> bool {
        dir.join(FILE).is_file()
    }

    /// Opens and reads the database in `dir`. A damaged one is set aside, and its new path
    /// returned.
    pub(super) fn open(dir: &Path) -> Result<(Self, Known, Option<PathBuf>), OpenError> {
        let path = dir.join(FILE);
        let io = |source: io::Error| OpenError::Io { path: path.clone(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        match read(&path) {
            Ok((inner, known)) => return Ok((Self { inner: Some(inner) }, known, None)),
            Err(Damage::Not(error)) => return Err(error),
            Err(Damage::Is(error)) => tracing::debug!("the database is damaged: {}", text(&error)),
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let aside = dir.join(format!("{FILE}.damaged-{seconds}"));
        std::fs::rename(&path, &aside).map_err(io)?;
        match read(&path) {
            Ok((inner, known)) => Ok((Self { inner: Some(inner) }, known, Some(aside))),
            Err(Damage::Not(error)) => Err(error),
            Err(Damage::Is(error)) => Err(io(io::Error::other(error))),
        }
    }

    /// Reads the entries of `printer`.
    pub(super) fn read(&self, printer: &str) -> Result<Known, redb::Error> {
        let Some(inner) = &self.inner else { return Ok(Known::default()) };
        guarded(|| known_of(inner, printer, |of| of == printer))
    }

    /// Writes `pending` in one transaction, which is on disk when this returns.
    pub(super) fn write(&self, pending: &PendingChanges) -> Result<(), redb::Error> {
        let Some(inner) = &self.inner else { return Ok(()) };
        guarded(|| {
            let transaction = inner.begin_write()?;
            {
                let mut values = transaction.open_table(VALUES)?;
                let mut events = transaction.open_table(EVENTS)?;
                for (key, value) in pending {
                    match (key, value) {
                        (Key::All(printer), _) => {
                            for what in value_names(&values, printer)? {
                                values.remove((&**printer, &*what))?;
                            }
                            for sequence in sequences(&events, printer)? {
                                events.remove((&**printer, sequence))?;
                            }
                        }
                        (Key::Value(printer, what), Some(value)) => {
                            values.insert((&**printer, *what), &value[..])?;
                        }
                        (Key::Value(printer, what), None) => {
                            values.remove((&**printer, *what))?;
                        }
                        (Key::Event(printer, sequence), Some(value)) => {
                            events.insert((&**printer, *sequence), &value[..])?;
                        }
                        (Key::Event(printer, sequence), None) => {
                            events.remove((&**printer, *sequence))?;
                        }
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }
}

fn value_names(
    values: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    printer: &str,
) -> Result<Vec<String>, redb::Error> {
    let mut value_names = Vec::new();
    for entry in values.range((printer, "")..)? {
        let (key, _) = entry?;
        match key.value() {
            (of, what) if of == printer => value_names.push(what.to_owned()),
            _ => break,
        }
    }
    Ok(value_names)
}

fn sequences(
    events: &impl ReadableTable<(&'static str, u64), &'static [u8]>,
    printer: &str,
) -> Result<Vec<u64>, redb::Error> {
    let mut sequences = Vec::new();
    for entry in events.range((printer, 0)..)? {
        let (key, _) = entry?;
        match key.value() {
            (of, sequence) if of == printer => sequences.push(sequence),
            _ => break,
        }
    }
    Ok(sequences)
}

enum Damage {
    /// It is damaged.
    Is(redb::Error),
    /// It may be fine.
    Not(OpenError),
}

fn read(path: &Path) -> Result<(redb::Database, Known), Damage> {
    guarded(|| {
        let mut builder = redb::Database::builder();
        // Verifies every checksum, so that damage shows now and not in the middle of a print.
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let database = builder.create(path)?;
        let known = read_tables(&database)?;
        Ok((database, known))
    })
    .map_err(|error| match error {
        redb::Error::Io(source) if !of_content(&source) => {
            Damage::Not(OpenError::Io { path: path.to_owned(), source })
        }
        redb::Error::DatabaseAlreadyOpen => Damage::Not(OpenError::InUse(path.to_owned())),
        other => Damage::Is(other),
    })
}

/// Whether an error is about the file's content rather than the disk: redb found a wrong header or
/// a truncated file.
fn of_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn read_tables(database: &redb::Database) -> Result<Known, redb::Error> {
    let transaction = database.begin_write()?;
    // Created at once, so that a disk that cannot be written shows at the start.
    transaction.open_table(VALUES)?;
    transaction.open_table(EVENTS)?;
    transaction.commit()?;
    known_of(database, "", |_| true)
}

/// Reads the entries of printers from `first` on, as long as they are `wanted`.
fn known_of(
    database: &redb::Database,
    first: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Known, redb::Error> {
    let transaction = database.begin_read()?;
    let mut known = Known::default();
    for entry in transaction.open_table(VALUES)?.range((first, "")..)? {
        let (key, value) = entry?;
        let (printer, what) = key.value();
        if !wanted(printer) {
            break;
        }
        known.values.insert((printer.to_owned(), what.to_owned()), value.value().to_owned());
    }
    for entry in transaction.open_table(EVENTS)?.range((first, 0)..)? {
        let (key, value) = entry?;
        let (printer, sequence) = key.value();
        if !wanted(printer) {
            break;
        }
        match decode(value.value()) {
            Ok(event) => {
                known.events.insert((printer.to_owned(), sequence), event);
            }
            Err(error) => {
                let error = text(&error);
                tracing::warn!(printer, "skipped an unreadable event in data_dir: {error}");
            }
        }
    }
    Ok(known)
}

/// Runs `work` on the file, catching panics: a damaged file can make the library panic.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("it made the library panic".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_event_with_an_invalid_topic_is_skipped() {
        let stored = |topic: &str| {
            let head = serde_json::json!({"topic": topic, "received": 5, "stamped": true});
            decode(format!("{head}\n{{}}").as_bytes())
        };
        assert_eq!(stored("o/mk3/event/X").unwrap().payload, "{}");
        let long = "x".repeat(70_000);
        for topic in ["", "o/mk3/event/X\u{fffe}", "o/mk3/event/#", &long] {
            assert!(matches!(stored(topic), Err(StoredEventError::Topic(_))), "{topic}");
        }
    }
}
