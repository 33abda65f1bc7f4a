//! What survives a restart: a small database in `data_dir`.
//!
//! Nobody waits for the disk. What changes is collected and written once a second at most, each
//! [`Store::write`] as a whole or not at all, in a thread of its own. Up to a second of changes is
//! lost to a power cut; a `kill -9` right after a change may cost as much.
//!
//! Nothing here is a reason not to start or to stop: a damaged file is set aside, and a disk that
//! takes nothing costs a warning.

mod database;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::{oneshot, watch};

use crate::mqtt::{Audience, Worth};
use database::Database;
pub use database::OpenError;
use writer::{Request, Writer};

use crate::topic::Topic;

/// What is kept of the bridge itself has no printer.
pub const BRIDGE: &str = "";

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Keeps a value for a printer, or forgets it.
    Keep {
        /// The printer's id; empty for the bridge itself.
        printer: Arc<str>,
        /// What it is.
        what: &'static str,
        /// The value; `None` forgets it.
        value: Option<Bytes>,
    },
    /// Keeps an event that waits for the broker, or forgets it.
    Event {
        /// The printer's id; empty for the bridge itself.
        printer: Arc<str>,
        /// Its place among the events of that printer.
        sequence: u64,
        /// The event; `None` forgets it.
        event: Option<StoredEvent>,
    },
    /// Forgets everything of a printer, whatever was written of it before.
    Forget {
        /// The printer's id.
        printer: Arc<str>,
    },
}

/// An event that waits for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Where it goes.
    pub topic: Topic,
    /// What it says, without `_delayed`.
    pub payload: Bytes,
    /// When it was received.
    pub received: SystemTime,
    /// Whether it carries `_delayed` when it is late.
    pub stamped: bool,
    /// What it is worth when there is no room.
    pub worth: Worth,
    /// Who must be there to hear it.
    pub audience: Audience,
}

/// What was there at the start.
#[derive(Debug, Default)]
pub struct Known {
    kept: HashMap<(String, String), Vec<u8>>,
    events: BTreeMap<(String, u64), StoredEvent>,
}

impl Known {
    /// What `data_dir` has at this moment; nothing where it has nothing, or a bridge uses it.
    pub fn look(data_dir: Option<&Path>) -> Self {
        let Some(dir) = data_dir.filter(|dir| Database::is_in(dir)) else { return Self::default() };
        Database::open(dir).map(|(_, known, _)| known).unwrap_or_default()
    }

    /// The value kept for `printer`, if there is one that can be read.
    pub fn get<T: DeserializeOwned>(&self, printer: &str, what: &str) -> Option<T> {
        let value = self.kept.get(&(printer.to_owned(), what.to_owned()))?;
        match serde_json::from_slice(value) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(printer, what, "what data_dir knows cannot be read: {error}");
                None
            }
        }
    }

    /// Takes the events of `printer` out, in order.
    pub fn take_events(&mut self, printer: &str) -> Vec<(u64, StoredEvent)> {
        let first = (printer.to_owned(), 0);
        let last = (printer.to_owned(), u64::MAX);
        let keys: Vec<_> = self.events.range(first..=last).map(|(key, _)| key.clone()).collect();
        keys.into_iter()
            .filter_map(|key| self.events.remove(&key).map(|event| (key.1, event)))
            .collect()
    }

    /// The printers that something is kept of.
    pub fn printers(&self) -> std::collections::BTreeSet<&str> {
        let kept = self.kept.keys().map(|(printer, _)| printer.as_str());
        kept.chain(self.events.keys().map(|(printer, _)| printer.as_str())).collect()
    }
}

/// A handle to the database; cheap to clone. Without `data_dir` it takes everything and keeps
/// nothing.
#[derive(Debug, Clone, Default)]
pub struct Store {
    requests: Option<mpsc::Sender<Request>>,
    /// Its other end goes with the thread.
    thread: Option<watch::Receiver<()>>,
}

impl Store {
    /// Opens the database in `data_dir`, made where missing; `None` keeps nothing. What is wrong is
    /// said in the log: a damaged file is set aside, and where nothing can be written the bridge
    /// goes on without.
    pub fn open(data_dir: Option<&Path>) -> (Self, Known) {
        let Some(dir) = data_dir else { return Default::default() };
        match Self::try_open(dir) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(data_dir = %dir.display(), "{error}; nothing will survive a restart");
                Default::default()
            }
        }
    }

    fn try_open(dir: &Path) -> Result<(Self, Known), OpenError> {
        let (database, known, set_aside) = Database::open(dir)?;
        if let Some(path) = set_aside {
            tracing::warn!(set_aside = %path.display(), "what data_dir held is damaged; it is set aside and begun anew");
        }
        let (requests, queue) = mpsc::channel();
        let (alive, thread) = watch::channel(());
        let path: PathBuf = dir.to_owned();
        let writer = Writer::new(database, queue, path.clone());
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let _alive = alive;
                writer.run();
            })
            .map_err(|source| OpenError::Io { path, source })?;
        Ok((Self { requests: Some(requests), thread: Some(thread) }, known))
    }

    /// Keeps the JSON form of `value` for `printer`.
    pub fn keep(&self, printer: &Arc<str>, what: &'static str, value: &impl serde::Serialize) {
        // What is kept are plain structs, which always have a JSON form.
        if let Ok(value) = serde_json::to_vec(value) {
            self.write(vec![Change::Keep {
                printer: printer.clone(),
                what,
                value: Some(value.into()),
            }]);
        }
    }

    /// Forgets those printers that are not in `configured`, here and on the disk: one that is put
    /// back months later begins anew.
    pub fn forget_others(&self, known: &mut Known, configured: &[String]) {
        let gone: Vec<String> = known
            .printers()
            .into_iter()
            .filter(|id| !id.is_empty() && !configured.iter().any(|other| other == id))
            .map(str::to_owned)
            .collect();
        for printer in &gone {
            tracing::info!(printer, "no longer configured, so data_dir forgets it");
            known.kept.retain(|(of, _), _| of != printer);
            known.events.retain(|(of, _), _| of != printer);
        }
        let forget = |id: String| Change::Forget { printer: id.into() };
        self.write(gone.into_iter().map(forget).collect());
    }

    /// Writes `changes` within about a second, all in one transaction.
    pub fn write(&self, changes: Vec<Change>) {
        if let Some(requests) = &self.requests {
            // Fails only when the thread has ended, which it does with the last handle.
            let _ = requests.send(Request::Write(changes));
        }
    }

    /// Writes `changes` at once, all in one transaction. Yields when they are on the disk, or cannot
    /// be; `None` where nothing is kept.
    pub fn write_now(&self, changes: Vec<Change>) -> Option<oneshot::Receiver<()>> {
        let requests = self.requests.as_ref()?;
        let (done, written) = oneshot::channel();
        requests.send(Request::Write(changes)).ok()?;
        requests.send(Request::Flush(done)).ok()?;
        Some(written)
    }

    /// Waits until the thread that writes has failed: while there is a handle it ends for nothing
    /// else. For ever where nothing is kept.
    pub async fn failed(&self) {
        match self.thread.clone() {
            Some(mut thread) => while thread.changed().await.is_ok() {},
            None => std::future::pending().await,
        }
    }

    /// Makes the thread that writes panic.
    #[cfg(test)]
    pub fn fail(&self) {
        let _ = self.requests.as_ref().unwrap().send(Request::Fail);
    }

    /// Whether anything is kept at all.
    pub fn keeps(&self) -> bool {
        self.requests.is_some()
    }

    /// Waits until what was written so far is on the disk, for `within` at most.
    pub async fn flush(&self, within: Duration) {
        let Some(requests) = &self.requests else { return };
        let (done, flushed) = oneshot::channel();
        if requests.send(Request::Flush(done)).is_ok() {
            // Too late or gone: the writer has said why.
            let _ = tokio::time::timeout(within, flushed).await;
        }
    }
}

#[cfg(test)]
mod tests;
