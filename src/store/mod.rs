//! Everything that survives a restart: a small database in `data_dir`.
//!
//! Nobody waits for the disk. Changes are collected and written at most once a second, in a thread
//! of its own; each [`Store::write`] is atomic. A power cut or `kill -9` may cost the last second.
//!
//! Nothing here keeps the bridge from starting or running: a damaged file is set aside, and a disk
//! that cannot be written costs a warning.

mod database;
mod entry;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

pub use database::OpenError;
use database::{Database, PendingChanges, add};
pub use entry::{BRIDGE, Change, Known, StoredEvent};
use tokio::sync::{oneshot, watch};

use crate::causes;

/// Reads `data_dir`; empty if there is no database, or a bridge is using it.
pub fn look(data_dir: Option<&Path>) -> Known {
    let Some(dir) = data_dir.filter(|dir| Database::is_in(dir)) else { return Known::default() };
    Database::open(dir).map(|(_, known, _)| known).unwrap_or_default()
}

/// A handle to the database; cheap to clone. Without `data_dir` it stores nothing.
#[derive(Debug, Clone, Default)]
pub struct Store {
    requests: Option<mpsc::Sender<WriteRequest>>,
    /// Closes when the thread ends.
    thread: Option<watch::Receiver<()>>,
}

impl Store {
    /// Opens the database in `data_dir`, and creates it if missing; `None` stores nothing. Problems
    /// are logged: a damaged file is set aside, and if nothing can be written, nothing is stored.
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

    /// Stores the JSON form of `value` for `printer`.
    pub fn persist(&self, printer: &Arc<str>, what: &'static str, value: &impl serde::Serialize) {
        // Stored values are plain structs, which always have a JSON form.
        if let Ok(value) = serde_json::to_vec(value) {
            self.write(vec![Change::Value {
                printer: printer.clone(),
                what,
                value: Some(value.into()),
            }]);
        }
    }

    /// Removes printers that are not in `configured`, from `known` and from disk: one that is added
    /// again months later starts afresh.
    pub fn forget_others(&self, known: &mut Known, configured: &[String]) {
        let gone: Vec<String> = known
            .printers()
            .into_iter()
            .filter(|id| !id.is_empty() && !configured.iter().any(|other| other == id))
            .map(str::to_owned)
            .collect();
        for printer in &gone {
            tracing::info!(printer, "removed a printer from data_dir that is no longer configured");
            known.values.retain(|(of, _), _| of != printer);
            known.events.retain(|(of, _), _| of != printer);
        }
        let forget = |id: String| Change::Forget { printer: id.into() };
        self.write(gone.into_iter().map(forget).collect());
    }

    /// Writes `changes` within about a second, in one transaction.
    pub fn write(&self, changes: Vec<Change>) {
        if let Some(requests) = &self.requests {
            // Fails only if the store was closed, or its thread has failed.
            let _ = requests.send(WriteRequest::Write(changes));
        }
    }

    /// Writes `changes` at once, in one transaction. The receiver resolves when they are on disk,
    /// or could not be written; `None` without a database.
    pub fn write_now(&self, changes: Vec<Change>) -> Option<oneshot::Receiver<()>> {
        let requests = self.requests.as_ref()?;
        let (done, written) = oneshot::channel();
        requests.send(WriteRequest::Write(changes)).ok()?;
        requests.send(WriteRequest::Flush(done)).ok()?;
        Some(written)
    }

    /// Returns what is stored of `printer`; nothing without a database.
    pub async fn recall(&self, printer: &Arc<str>) -> Known {
        let (answer, recalled) = oneshot::channel();
        let request = WriteRequest::Recall(printer.clone(), answer);
        match &self.requests {
            Some(requests) if requests.send(request).is_ok() => recalled.await.unwrap_or_default(),
            _ => Known::default(),
        }
    }

    /// Waits until the writing thread has ended: unless the store was closed, it has failed. Never resolves without a database.
    pub async fn failed(&self) {
        match self.thread.clone() {
            Some(mut thread) => while thread.changed().await.is_ok() {},
            None => std::future::pending().await,
        }
    }

    /// Makes the writing thread panic.
    #[cfg(test)]
    pub fn fail(&self) {
        let _ = self.requests.as_ref().unwrap().send(WriteRequest::Fail);
    }

    /// Whether anything is stored.
    pub fn is_persistent(&self) -> bool {
        self.requests.is_some()
    }

    /// Writes the remaining changes and closes the database, so that it can be opened again at
    /// once. Waits for that, `within` at most. Later writes of other handles are lost.
    pub async fn close(&self, within: Duration) {
        let Some(requests) = &self.requests else { return };
        let (done, closed) = oneshot::channel();
        if requests.send(WriteRequest::Close(done)).is_ok() {
            // If it fails, the writer has logged why.
            let _ = tokio::time::timeout(within, closed).await;
        }
    }
}

/// Shortest interval between writes: memory cards wear out.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pause after a failed write.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

#[derive(Debug)]
enum WriteRequest {
    Write(Vec<Change>),
    Flush(oneshot::Sender<()>),
    Recall(Arc<str>, oneshot::Sender<Known>),
    Close(oneshot::Sender<()>),
    #[cfg(test)]
    Fail,
}

struct Writer {
    /// `None` after a failed write: the file must be opened again.
    database: Option<Database>,
    queue: Receiver<WriteRequest>,
    path: PathBuf,
    pending: PendingChanges,
    next: Instant,
    failing: bool,
    /// Notified when everything is on disk, or could not be written.
    flushing: Vec<oneshot::Sender<()>>,
    closing: Option<oneshot::Sender<()>>,
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Write(#[from] redb::Error),
}

impl Writer {
    fn new(database: Database, queue: Receiver<WriteRequest>, path: PathBuf) -> Self {
        Self {
            database: Some(database),
            queue,
            path,
            pending: PendingChanges::new(),
            next: Instant::now(),
            failing: false,
            flushing: Vec::new(),
            closing: None,
        }
    }

    /// Writes until it is closed or the last handle is dropped, and then writes the remaining
    /// changes.
    fn run(mut self) {
        while self.closing.is_none() {
            let received = if self.pending.is_empty() {
                self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                let wait = self.next.saturating_duration_since(Instant::now());
                self.queue.recv_timeout(wait)
            };
            match received {
                Ok(request) => self.take(request),
                Err(RecvTimeoutError::Timeout) => self.write(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // All queued requests go into the same transaction.
            while let Ok(request) = self.queue.try_recv() {
                self.take(request);
            }
            if !self.flushing.is_empty() {
                self.write();
                for flushed in self.flushing.drain(..) {
                    // The receiver may have given up waiting.
                    let _ = flushed.send(());
                }
            }
        }
        self.write();
        self.database = None;
        if let Some(closed) = self.closing {
            let _ = closed.send(());
        }
    }

    fn take(&mut self, request: WriteRequest) {
        match request {
            WriteRequest::Write(changes) => {
                changes.into_iter().for_each(|change| add(&mut self.pending, change));
            }
            WriteRequest::Flush(flushed) => self.flushing.push(flushed),
            WriteRequest::Recall(printer, answer) => {
                self.write();
                // Whoever asked may have given up waiting.
                let _ = answer.send(self.recall(&printer));
            }
            WriteRequest::Close(closed) => self.closing = Some(closed),
            #[cfg(test)]
            WriteRequest::Fail => panic!("a test"),
        }
    }

    fn write(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        match self.try_write() {
            Ok(()) => {
                self.pending.clear();
                self.next = Instant::now() + INTERVAL;
                if self.failing {
                    tracing::info!(data_dir = %self.path.display(), "writing to data_dir again");
                }
                self.failing = false;
            }
            Err(error) => {
                self.database = None;
                self.next = Instant::now() + AFTER_FAILURE;
                if !self.failing {
                    let error = causes::text(&error);
                    tracing::warn!(data_dir = %self.path.display(), "cannot write to data_dir ({error}); continuing in memory, retrying every 30 s");
                }
                self.failing = true;
            }
        }
    }

    fn recall(&mut self, printer: &str) -> Known {
        let read = self
            .database
            .as_ref()
            .map_or_else(|| Ok(Known::default()), |database| database.read(printer));
        read.unwrap_or_else(|error| {
            let error = causes::text(&error);
            tracing::warn!(printer, "cannot read data_dir ({error}); this printer starts afresh");
            Known::default()
        })
    }

    fn try_write(&mut self) -> Result<(), WriteError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::open(&self.path)?.0,
        };
        Ok(self.database.insert(database).write(&self.pending)?)
    }
}

#[cfg(test)]
mod tests;
