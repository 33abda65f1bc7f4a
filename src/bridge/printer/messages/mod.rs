//! A message -> publications.

pub mod event;
pub mod inbox;
pub mod mapping;
pub mod plugin_topics;
