//! The thread that writes: once a second at most, and again later what could not be written.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::database::{Database, OpenError, Pending, add};
use super::entry::Change;
use crate::causes;

/// The shortest time between two writes: memory cards wear out.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait after a write that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) enum Request {
    Write(Vec<Change>),
    Flush(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
    #[cfg(test)]
    Fail,
}

pub(super) struct Writer {
    /// `None` after a write that failed: the file must be opened anew then.
    database: Option<Database>,
    queue: Receiver<Request>,
    path: PathBuf,
    pending: Pending,
    /// Not before this.
    next: Instant,
    failing: bool,
    /// Told when everything is on the disk, or cannot be.
    flushing: Vec<oneshot::Sender<()>>,
    /// Told when the database is closed.
    closing: Option<oneshot::Sender<()>>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Write(#[from] redb::Error),
}

impl Writer {
    pub(super) fn new(database: Database, queue: Receiver<Request>, path: PathBuf) -> Self {
        Self {
            database: Some(database),
            queue,
            path,
            pending: Pending::new(),
            next: Instant::now(),
            failing: false,
            flushing: Vec::new(),
            closing: None,
        }
    }

    /// Until it is closed, or the last handle is gone; then what is left is written once more.
    pub(super) fn run(mut self) {
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
            // What else is there already goes into the same transaction.
            while let Ok(request) = self.queue.try_recv() {
                self.take(request);
            }
            if !self.flushing.is_empty() {
                self.write();
                for flushed in self.flushing.drain(..) {
                    // The one who asked may have given up waiting.
                    let _ = flushed.send(());
                }
            }
        }
        self.write();
        self.database = None;
        if let Some(closed) = self.closing {
            // The one who asked may have given up waiting.
            let _ = closed.send(());
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Write(changes) => {
                changes.into_iter().for_each(|change| add(&mut self.pending, change));
            }
            Request::Flush(flushed) => self.flushing.push(flushed),
            Request::Close(closed) => self.closing = Some(closed),
            #[cfg(test)]
            Request::Fail => panic!("a test"),
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

    fn try_write(&mut self) -> Result<(), WriteError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::open(&self.path)?.0,
        };
        Ok(self.database.insert(database).write(&self.pending)?)
    }
}
