//! OctoPrint's connector to the printer, and the free space of its storages (pure).

use serde::Serialize;

use super::json::{LastPayload, StateChange, StateTopic};
use crate::octoprint::PrinterConnection;

/// Space of a storage, in bytes; `None` if OctoPrint does not report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Space {
    /// Free space.
    pub free: Option<u64>,
    /// Total space.
    pub total: Option<u64>,
}

/// Space of OctoPrint's storages, as it is published; `None` for one that does not report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Storages {
    /// OctoPrint's own storage.
    pub local: Option<Space>,
    /// The printer's storage.
    pub printer: Option<Space>,
}

#[derive(Debug, Default)]
pub(super) struct Surroundings {
    connection: LastPayload,
    storage: LastPayload,
}

impl Surroundings {
    pub(super) fn set_connection(&mut self, now: &PrinterConnection) -> Option<StateChange> {
        #[derive(Serialize)]
        struct ConnectionPayload<'a> {
            connector: Option<&'a str>,
            temperature_offsets: Option<bool>,
            job_on_hold: Option<bool>,
        }
        let payload = ConnectionPayload {
            connector: now.connector.as_deref(),
            temperature_offsets: now.temperature_offsets,
            job_on_hold: now.job_on_hold,
        };
        self.connection.change(StateTopic::Connection, &payload)
    }

    pub(super) fn set_storages(&mut self, storages: &Storages) -> Option<StateChange> {
        self.storage.change(StateTopic::Storage, storages)
    }
}
