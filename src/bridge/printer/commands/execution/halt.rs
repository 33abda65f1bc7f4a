//! Whether an emergency stop came while a command was being carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bridge::printer::commands::answers::Failure;

/// What an emergency stop drops.
const DROPPED: &str = "dropped by an emergency stop";

/// Tells whether an emergency stop came since a command was queued.
pub(crate) struct Halt {
    stops: Arc<AtomicU64>,
    before: u64,
}

impl Halt {
    /// `stops` counts them; there were `before` when the command was queued.
    pub(in crate::bridge::printer::commands) fn new(stops: Arc<AtomicU64>, before: u64) -> Self {
        Self { stops, before }
    }

    /// Nothing more is to be done once one came.
    pub(in crate::bridge::printer::commands) fn check(&self) -> Result<(), Failure> {
        match self.stops.load(Ordering::Relaxed) == self.before {
            true => Ok(()),
            false => Err(Failure::new(DROPPED)),
        }
    }
}
