//! Which printer a message of the broker is for.

use std::collections::HashMap;

use tokio::sync::mpsc;

use crate::mqtt::Incoming;

/// Maximum number of messages that wait for one printer.
const CAPACITY: usize = 256;

/// The queues of the printers' tasks.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// By printer id.
    queues: HashMap<String, mpsc::Sender<Box<Incoming>>>,
}

impl Routes {
    /// Adds a printer. Returns its queue.
    pub(super) fn add(&mut self, printer: &str) -> mpsc::Receiver<Box<Incoming>> {
        let (queue, receiver) = mpsc::channel(CAPACITY);
        self.queues.insert(printer.to_owned(), queue);
        receiver
    }

    /// Passes a message below `base` to its printer, whose id follows there.
    pub(super) fn send(&self, base: &str, incoming: Incoming) {
        let id = incoming.topic.get(base.len() + 1..).and_then(|rest| rest.split('/').next());
        if let Some(queue) = id.and_then(|id| self.queues.get(id)) {
            pass(queue, incoming);
        }
    }

    /// Passes a message to `printer`. Returns whether there is one.
    pub(super) fn send_to(&self, printer: &str, incoming: Incoming) -> bool {
        let queue = self.queues.get(printer);
        if let Some(queue) = queue {
            pass(queue, incoming);
        }
        queue.is_some()
    }
}

fn pass(queue: &mpsc::Sender<Box<Incoming>>, incoming: Incoming) {
    if let Err(mpsc::error::TrySendError::Full(incoming)) = queue.try_send(Box::new(incoming)) {
        tracing::warn!(topic = incoming.topic, "dropped a message: too many at once");
    }
}
