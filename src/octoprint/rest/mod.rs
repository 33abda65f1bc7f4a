//! OctoPrint's REST API: login, commands, state, application keys. Usable without a socket.

pub(super) mod answer;
pub(super) mod appkeys;
pub(super) mod client;
pub(super) mod commands;
mod cookies;
pub(super) mod download;
pub(super) mod error;
pub(super) mod http;
pub(super) mod login;
pub(super) mod printer;
pub(super) mod reach;
