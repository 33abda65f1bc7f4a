//! When Home Assistant is told of a printer, and what.

pub mod facts;
pub mod home_assistant;
pub mod profile;
pub mod schedule;
