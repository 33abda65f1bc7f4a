//! The push socket: handle, connection, back-off, throttling, handlers.

pub(super) mod backoff;
mod connection;
mod connector;
pub(super) mod dispatcher;
mod failure;
mod fallback;
pub(super) mod handle;
pub(super) mod handlers;
mod knocking;
pub(super) mod options;
mod rate;
mod relogin;
pub(super) mod status;
pub(super) mod throttle;
