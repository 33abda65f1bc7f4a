//! The push socket: its handle, the life of a connection, back-off, throttling, handlers.

mod actor;
pub(super) mod backoff;
mod connection;
mod failure;
mod fallback;
pub(super) mod handle;
pub(super) mod handlers;
mod in_flight;
mod knocking;
mod opening;
pub(super) mod options;
mod relogin;
mod shared;
pub(super) mod status;
pub(super) mod throttle;
pub(super) mod turns;
mod waiting;
