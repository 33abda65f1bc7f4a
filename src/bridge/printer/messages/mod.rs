//! A message -> publications.

pub mod event;
pub mod mapping;
pub mod plugin_topics;
