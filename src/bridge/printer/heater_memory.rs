//! The heaters that have a topic are known over a restart of the bridge. Home Assistant's part
//! remembers them too; this is for when discovery is off.

use std::sync::Arc;

use crate::store::{Known, Store};

const WHAT: &str = "heaters";

/// Keeps the names of the heaters.
#[derive(Debug)]
pub struct HeaterMemory {
    store: Store,
    printer: Arc<str>,
    kept: Vec<String>,
}

impl HeaterMemory {
    /// The heaters from before the start of the bridge.
    pub fn restore(printer: &str, known: &Known, store: Store) -> Self {
        let kept = known.get(printer, WHAT).unwrap_or_default();
        Self { store, printer: printer.into(), kept }
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.kept.clone()
    }

    /// Takes in the heaters of now; what is kept already is not written again.
    pub fn update<'h>(&mut self, heaters: impl Iterator<Item = &'h str> + Clone) {
        if !heaters.clone().eq(self.kept.iter().map(String::as_str)) {
            self.kept = heaters.map(str::to_owned).collect();
            self.store.keep(&self.printer, WHAT, &self.kept);
        }
    }
}
