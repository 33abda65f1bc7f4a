//! OctoPrint's REST calls: login, commands, application keys. They need no socket.

pub(super) mod answer;
pub(super) mod appkeys;
pub(super) mod client;
pub(super) mod commands;
pub(super) mod connect;
mod cookies;
mod emergency;
pub(super) mod error;
pub(super) mod http;
pub(super) mod job;
pub(super) mod login;
pub(super) mod net_error;
pub(super) mod reach;
mod resolver;
