//! What waits for the broker (pure): the newest state of each topic, events in order and until those
//! who need them can hear them, and what the broker will not take.

pub(super) mod admission;
pub(super) mod entry;
mod events;
mod lane;
pub(super) mod quarantine;
pub(super) mod queue;

#[cfg(test)]
mod tests;
