//! A rate that was set by hand holds over a restart of the bridge.

use std::sync::Arc;

use crate::octoprint::{RateMode, Socket};
use crate::store::{Known, Store};

const WHAT: &str = "rate_factor";

/// Keeps the factor that holds; nothing is kept while the rate follows the latency.
#[derive(Debug)]
pub struct RateMemory {
    store: Store,
    printer: Arc<str>,
    kept: Option<u32>,
}

impl RateMemory {
    /// The rate as it was when the bridge ended.
    pub fn restore(printer: &str, known: &Known, store: Store) -> Self {
        let kept = known.get::<Option<u32>>(printer, WHAT).flatten();
        Self { store, printer: printer.into(), kept }
    }

    /// Sets the rate of a new socket.
    pub fn apply(&self, socket: &Socket) {
        if let Some(factor) = self.kept {
            socket.set_rate(RateMode::Manual(factor));
        }
    }

    /// Takes in who sets the rate now.
    pub fn update(&mut self, mode: RateMode) {
        let factor = match mode {
            RateMode::Auto => None,
            RateMode::Manual(factor) => Some(factor),
        };
        if factor != self.kept {
            self.kept = factor;
            self.store.keep(&self.printer, WHAT, &factor);
        }
    }
}
