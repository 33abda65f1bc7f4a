//! What is published of a message (pure).

pub mod event;
pub mod mapping;
pub mod plugin_topics;
