//! Which printer a message of the broker is for.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::mqtt::Incoming;

/// Maximum number of messages that wait for one printer.
const CAPACITY: usize = 256;

/// The queues of the printers' tasks.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// By printer id.
    queues: HashMap<String, mpsc::Sender<Box<Incoming>>>,
    /// By topics outside of the bridge's own.
    foreign: HashMap<String, ForeignTopic>,
}

/// A topic of another program that printers follow.
#[derive(Debug, Default)]
struct ForeignTopic {
    /// Ids of the printers.
    printers: Vec<String>,
    /// The last payload: a device that repeats its state must not fill the queues.
    last: Option<Bytes>,
}

impl Routes {
    /// Adds a printer. Returns its queue.
    pub(super) fn add(&mut self, printer: &str) -> mpsc::Receiver<Box<Incoming>> {
        let (queue, receiver) = mpsc::channel(CAPACITY);
        self.queues.insert(printer.to_owned(), queue);
        receiver
    }

    /// Takes no more messages for a printer, whose task is ending.
    pub(super) fn pause(&mut self, printer: &str) {
        self.queues.remove(printer);
    }

    /// Removes a printer. Returns the topics of other programs that nobody follows any more.
    pub(super) fn remove(&mut self, printer: &str) -> Vec<String> {
        self.queues.remove(printer);
        let mut left = Vec::new();
        self.foreign.retain(|topic, foreign| {
            foreign.printers.retain(|id| id != printer);
            if foreign.printers.is_empty() {
                left.push(topic.clone());
            }
            !foreign.printers.is_empty()
        });
        left
    }

    /// Whether a printer follows a topic of another program.
    pub(super) fn is_followed(&self, topic: &str) -> bool {
        self.foreign.contains_key(topic)
    }

    /// Passes messages on `topic` to `printer`, too.
    pub(super) fn follow(&mut self, topic: &str, printer: &str) {
        let foreign = self.foreign.entry(topic.to_owned()).or_default();
        // The newcomer has not heard it.
        foreign.last = None;
        foreign.printers.push(printer.to_owned());
    }

    /// Passes a message on a topic outside of the bridge's own to the printers that follow it, unless
    /// it repeats the one before. Returns whether there are such printers.
    pub(super) fn send_foreign(&mut self, incoming: &Incoming) -> bool {
        let Some(foreign) = self.foreign.get_mut(&incoming.topic) else { return false };
        if foreign.last.as_ref() != Some(&incoming.payload) {
            // A copy: a slice would keep the whole buffer of the connection.
            foreign.last = Some(Bytes::copy_from_slice(&incoming.payload));
            let queues = foreign.printers.iter().filter_map(|id| self.queues.get(id));
            queues.for_each(|queue| pass(queue, incoming.clone()));
        }
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printer_that_was_removed_gets_nothing_and_its_topics_are_told() {
        let mut routes = Routes::default();
        let mut queue = routes.add("a");
        drop(routes.add("b"));
        routes.follow("plug", "a");
        routes.follow("both", "a");
        routes.follow("both", "b");
        assert_eq!(routes.remove("a"), ["plug"]);
        assert!(!routes.send_to("a", Incoming::default()));
        assert!(matches!(queue.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
        assert_eq!(routes.remove("b"), ["both"]);
        assert!(routes.remove("b").is_empty());
    }

    #[test]
    fn a_foreign_topic_goes_to_all_printers_that_follow_it_when_it_changes() {
        let mut routes = Routes::default();
        let mut queues = ["a", "b", "c"].map(|id| routes.add(id));
        routes.follow("plug", "a");
        routes.follow("plug", "b");
        let said = |payload: &'static str| Incoming {
            topic: "plug".to_owned(),
            payload: payload.into(),
            retained: false,
        };
        assert!(["on", "on", "off", "off", "on"].iter().all(|p| routes.send_foreign(&said(p))));
        let other = Incoming { topic: "other".to_owned(), ..said("on") };
        assert!(!routes.send_foreign(&other));
        let mut received = queues.each_mut().map(|queue| {
            std::iter::from_fn(|| queue.try_recv().ok())
                .map(|incoming| incoming.payload.clone())
                .collect::<Vec<_>>()
        });
        assert_eq!(received[0], ["on", "off", "on"]);
        assert_eq!(std::mem::take(&mut received[1]), received[0]);
        assert!(received[2].is_empty());
    }
}
