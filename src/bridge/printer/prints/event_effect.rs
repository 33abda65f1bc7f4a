//! How a print changes the publications of its event (pure).

use bytes::Bytes;

use super::step::PrintStep;
use crate::mqtt::{Kind, Publication};
use crate::octoprint::EventKind;
use crate::topics::PrinterTopics;

/// How to publish an event.
#[derive(Debug, Default)]
pub struct EventEffect {
    /// The record to persist with its publication.
    pub along: Option<Bytes>,
    /// The same was published of the print before.
    pub repeated: bool,
    /// The start or end of a print that it reports, unless it is repeated.
    pub step: Option<PrintStep>,
}

impl EventEffect {
    /// Applies this to the publications of an event of type `kind`.
    pub fn amend(
        &self,
        publications: &mut Vec<Publication>,
        kind: &EventKind,
        topics: &PrinterTopics,
    ) {
        if self.repeated {
            let is_start = *kind == EventKind::PrintStarted;
            publications.retain(|publication| {
                publication.topic != topics.print
                    && !(is_start && publication.topic == topics.last_event)
            });
        }
        if let Some(record) = &self.along {
            let is_event = |p: &&mut Publication| matches!(p.kind, Kind::Event { .. });
            publications.iter_mut().filter(is_event).for_each(|p| p.along = Some(record.clone()));
        }
    }
}
