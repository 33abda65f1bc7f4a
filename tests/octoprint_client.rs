//! The OctoPrint client against small scripted servers.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "octoprint_client/absences.rs"]
mod absences;
#[path = "octoprint_client/connections.rs"]
mod connections;
#[path = "octoprint_client/emergency.rs"]
mod emergency;
#[path = "octoprint_client/kept.rs"]
mod kept;
#[path = "octoprint_client/logins.rs"]
mod logins;
#[path = "octoprint_client/proofs.rs"]
mod proofs;
#[path = "octoprint_client/script.rs"]
mod script;
#[path = "octoprint_client/streams.rs"]
mod streams;

use std::time::Duration;

use octoprint2mqtt::octoprint::{Socket, SocketState};
use script::options;
use tokio::time::sleep;

#[tokio::test]
async fn nothing_runs_before_it_is_started() {
    let socket = Socket::new(options("http://127.0.0.1:1/")).unwrap();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(socket.status().borrow().state, SocketState::Disconnected);
    socket.close().await;
    socket.connect();
    socket.close().await;
}
