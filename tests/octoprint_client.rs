//! The OctoPrint client against a real OctoPrint, and against small scripted servers.
//!
//! The tests against a real one need `OCTOPRINT_URL` (with a `/` at its end) and
//! `OCTOPRINT_API_KEY`; those with user and password `OCTOPRINT_USER` and `OCTOPRINT_PASSWORD` too.

#[path = "octoprint_client/connections.rs"]
mod connections;
#[path = "octoprint_client/logins.rs"]
mod logins;
#[path = "octoprint_client/script.rs"]
mod script;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use octoprint2mqtt::octoprint::{
    Credentials, Handled, JobAction, LoginError, RateMode, Socket, SocketOptions, SocketState,
    Transport, TransportChoice,
};
use octoprint2mqtt::secret::Secret;
use script::{options, reaches, tls};
use tokio::time::{sleep, timeout};

const REAL: &str = "needs a real OctoPrint: OCTOPRINT_URL and OCTOPRINT_API_KEY";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; this test {REAL}"))
}

fn real_options(credentials: Credentials) -> SocketOptions {
    SocketOptions::new(variable("OCTOPRINT_URL").parse().unwrap(), credentials, tls())
}

fn key() -> Credentials {
    Credentials::ApiKey(Secret::new(variable("OCTOPRINT_API_KEY")))
}

fn password() -> Credentials {
    Credentials::Password {
        username: variable("OCTOPRINT_USER"),
        password: Secret::new(variable("OCTOPRINT_PASSWORD")),
    }
}

type Seen = Arc<Mutex<BTreeMap<String, u32>>>;

/// Counts the messages of each type.
fn count(socket: &Socket) -> Seen {
    let seen = Seen::default();
    let counts = Arc::clone(&seen);
    socket.on_message("*", move |message| {
        *counts.lock().unwrap().entry(message.kind().to_owned()).or_default() += 1;
        async { Handled::Measured }
    });
    seen
}

async fn sees(seen: &Seen, kinds: &[&str]) {
    let all = async {
        while !kinds.iter().all(|kind| seen.lock().unwrap().contains_key(*kind)) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(Duration::from_secs(15), all).await.is_err() {
        panic!("not all of {kinds:?} in {:?}", seen.lock().unwrap());
    }
}

#[tokio::test]
#[ignore = "needs a real OctoPrint: OCTOPRINT_URL and OCTOPRINT_API_KEY"]
async fn real_key() {
    let socket = Socket::new(real_options(key())).unwrap();
    let seen = count(&socket);
    socket.connect();
    sees(&seen, &["connected", "history", "timelapse", "event", "current"]).await;
    assert_eq!(socket.counters().decode_errors, 0);
    let user = socket.rest().current_user().await.unwrap();
    assert!(user.permissions.iter().any(|permission| permission == "STATUS"), "{user:?}");
    socket.rest().set_target("bed", 0.0).await.unwrap();
    socket.rest().printer_command(&["M117 hello", "M105"]).await.unwrap();
    assert_eq!(socket.rest().job(JobAction::Restart).await.unwrap_err().status(), Some(409));
    socket.reconnect();
    reaches(&socket, SocketState::Connecting).await;
    reaches(&socket, SocketState::Connected).await;
    assert_eq!((socket.counters().reconnects, seen.lock().unwrap()["connected"]), (1, 2));
    socket.close().await;
    assert_eq!(socket.status().borrow().state, SocketState::Disconnected);
}

#[tokio::test]
#[ignore = "needs a real OctoPrint: OCTOPRINT_URL and OCTOPRINT_API_KEY"]
async fn real_user_and_password() {
    let socket = Socket::new(real_options(password())).unwrap();
    let seen = count(&socket);
    socket.connect();
    sees(&seen, &["connected", "history", "timelapse", "event", "current"]).await;
    socket.rest().set_target("tool0", 0.0).await.unwrap();
    assert_eq!(socket.rest().job(JobAction::Restart).await.unwrap_err().status(), Some(409));
    socket.close().await;
    let rest = Socket::new(real_options(password())).unwrap().rest();
    rest.set_target("bed", 0.0).await.unwrap();
    assert!(rest.passive_login().await.is_ok());
}

#[tokio::test]
#[ignore = "needs a real OctoPrint: OCTOPRINT_URL and OCTOPRINT_API_KEY"]
async fn real_xhr_streaming() {
    let mut options = real_options(key());
    options.transport = TransportChoice::XhrStreaming;
    options.ping_after = Duration::from_millis(100);
    let socket = Socket::new(options).unwrap();
    let seen = count(&socket);
    socket.connect();
    sees(&seen, &["connected", "history", "timelapse", "event", "current"]).await;
    assert_eq!(socket.status().borrow().transport, Some(Transport::XhrStreaming));
    let before = socket.counters().messages;
    // Long enough for the stream to be ended by its size and taken up again.
    sleep(Duration::from_secs(3)).await;
    assert!(socket.counters().messages > before + 3, "{:?}", socket.counters());
    assert_eq!(socket.counters().decode_errors, 0);
    assert_eq!(socket.status().borrow().state, SocketState::Connected);
}

#[tokio::test]
#[ignore = "needs a real OctoPrint: OCTOPRINT_URL and OCTOPRINT_API_KEY"]
async fn real_wrong_key() {
    let socket = Socket::new(real_options(Credentials::ApiKey(Secret::new("WRONG")))).unwrap();
    assert_eq!(socket.rest().login().await.unwrap_err(), LoginError::KeyRefused);
    assert_eq!(socket.rest().current_user().await.unwrap().name, None);
    socket.connect();
    reaches(&socket, SocketState::Waiting).await;
    let status = socket.status().borrow().clone();
    assert_eq!(status.next_attempt_in, Some(Duration::from_secs(600)));
    assert!(status.error.unwrap().contains("API key"));
}

#[tokio::test]
#[ignore = "needs a real OctoPrint: OCTOPRINT_URL and OCTOPRINT_API_KEY"]
async fn real_throttle() {
    let socket = Socket::new(real_options(key())).unwrap();
    let seen = count(&socket);
    socket.connect();
    sees(&seen, &["history", "current"]).await;
    let currents = || seen.lock().unwrap().get("current").copied().unwrap_or_default();
    let during = async |seconds| {
        let before = currents();
        sleep(Duration::from_secs(seconds)).await;
        currents() - before
    };
    socket.set_rate(RateMode::Manual(4));
    sleep(Duration::from_secs(2)).await;
    assert!((1..=3).contains(&during(4).await));
    socket.reconnect();
    reaches(&socket, SocketState::Connecting).await;
    reaches(&socket, SocketState::Connected).await;
    assert!((1..=3).contains(&during(4).await));
    socket.set_rate(RateMode::Manual(1));
    sleep(Duration::from_secs(1)).await;
    assert!(during(4).await >= 6);
}

#[tokio::test]
async fn nothing_runs_without_being_told() {
    let socket = Socket::new(options("http://127.0.0.1:1/")).unwrap();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(socket.status().borrow().state, SocketState::Disconnected);
    socket.close().await;
    socket.connect();
    socket.close().await;
}
