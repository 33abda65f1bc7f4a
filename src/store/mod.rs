//! What survives a restart: a small database in `data_dir`.
//!
//! Nobody waits for the disk. What changes is collected and written once a second at most, each
//! [`Store::write`] as a whole or not at all, in a thread of its own. Up to a second of changes is
//! lost to a power cut; a `kill -9` right after a change may cost as much.
//!
//! Nothing here is a reason not to start or to stop: a damaged file is set aside, and a disk that
//! takes nothing costs a warning.

mod database;
mod entry;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use database::Database;
pub use database::OpenError;
pub use entry::{BRIDGE, Change, Known, StoredEvent};
use tokio::sync::{oneshot, watch};
use writer::{Request, Writer};

use crate::causes;

/// What `data_dir` has at this moment; nothing where it has nothing, or a bridge uses it.
pub fn look(data_dir: Option<&Path>) -> Known {
    let Some(dir) = data_dir.filter(|dir| Database::is_in(dir)) else { return Known::default() };
    Database::open(dir).map(|(_, known, _)| known).unwrap_or_default()
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
                let error = causes::text(&error);
                tracing::warn!(data_dir = %dir.display(), "{error}; nothing will survive a restart");
                Default::default()
            }
        }
    }

    fn try_open(dir: &Path) -> Result<(Self, Known), OpenError> {
        let (database, known, set_aside) = Database::open(dir)?;
        if let Some(path) = set_aside {
            tracing::warn!(set_aside = %path.display(), "the database in data_dir is damaged; moved it aside and created a new one");
        }
        let (requests, queue) = mpsc::channel();
        let (alive, thread) = watch::channel(());
        let path: PathBuf = dir.to_owned();
        let writer = Writer::new(database, queue, path.clone());
        let span = tracing::Span::current();
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let (_alive, _inside) = (alive, span.enter());
                writer.run();
            })
            .map_err(|source| OpenError::Io { path, source })?;
        Ok((Self { requests: Some(requests), thread: Some(thread) }, known))
    }

    /// Keeps the JSON form of `value` for `printer`.
    pub fn persist(&self, printer: &Arc<str>, what: &'static str, value: &impl serde::Serialize) {
        // What is kept are plain structs, which always have a JSON form.
        if let Ok(value) = serde_json::to_vec(value) {
            self.write(vec![Change::Value {
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
            tracing::info!(printer, "removed a printer from data_dir that is no longer configured");
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
    pub fn is_persistent(&self) -> bool {
        self.requests.is_some()
    }

    /// Writes what is left and closes the database, so that it can be opened anew at once; waits
    /// for that, for `within` at most. What the other handles write afterwards is lost.
    pub async fn close(&self, within: Duration) {
        let Some(requests) = &self.requests else { return };
        let (tell, closed) = oneshot::channel();
        if requests.send(Request::Close(tell)).is_ok() {
            // Too late or gone: the writer has said why.
            let _ = tokio::time::timeout(within, closed).await;
        }
    }
}

#[cfg(test)]
mod tests;
