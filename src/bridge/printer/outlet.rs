//! Publishes what is about one printer.

use bytes::Bytes;

use crate::bridge::oversize;
use crate::mqtt::{Broker, Kind, Publication};
use crate::topics::{PrinterTopics, Topic};

/// The way of one printer's publications to the broker.
pub(super) struct Outlet {
    /// The printer's lane in the outbox.
    pub(super) lane: usize,
    /// The printer's topics.
    pub(super) topics: PrinterTopics,
    /// The broker.
    pub(super) broker: Broker,
}

impl Outlet {
    /// Publishes a state, if there is one.
    pub(super) fn publish_state(&self, topic: &Topic, payload: Option<Bytes>) {
        if let Some(payload) = payload {
            self.publish(Publication::new(self.lane, topic.clone(), payload, Kind::State));
        }
    }

    /// Publishes `publication`, shortened if it is too large.
    pub(super) fn publish(&self, publication: Publication) {
        self.publish_all(vec![publication]);
    }

    /// Publishes what has one cause.
    pub(super) fn publish_all(&self, publications: Vec<Publication>) {
        let limit = self.broker.limit();
        let fit = |publication| oversize::fit(publication, &self.topics, limit);
        self.broker.publish_all(publications.into_iter().map(fit).collect());
    }
}
