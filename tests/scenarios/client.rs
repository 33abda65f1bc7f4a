//! The OctoPrint client against a real OctoPrint.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::real;
use crate::real::octoprint::{KEY, OctoPrint, PASSWORD, USER};
use octoprint2mqtt::config::Tls;
use octoprint2mqtt::octoprint::{
    Credentials, Handled, JobAction, LoginError, RateMode, Socket, SocketOptions, SocketState,
    Transport, TransportChoice,
};
use octoprint2mqtt::secret::Secret;
use tokio::time::{sleep, timeout};

fn options(octoprint: &OctoPrint, credentials: Credentials) -> SocketOptions {
    let tls = octoprint2mqtt::tls::client_config(&Tls::default(), false).unwrap();
    SocketOptions::new(format!("{}/", octoprint.url()).parse().unwrap(), credentials, tls)
}

fn key() -> Credentials {
    Credentials::ApiKey(Secret::new(KEY))
}

fn password() -> Credentials {
    Credentials::Password { username: USER.to_owned(), password: Secret::new(PASSWORD) }
}

/// Waits until the socket is in this state.
async fn reaches(socket: &Socket, state: SocketState) {
    let mut status = socket.status();
    let reached = status.wait_for(|status| status.state == state);
    assert!(timeout(real::PATIENCE, reached).await.is_ok(), "never {state:?}");
}

type Seen = Arc<Mutex<BTreeMap<String, u32>>>;

/// Counts the messages of each type.
fn count(socket: &Socket) -> Seen {
    let seen = Seen::default();
    let counts = Arc::clone(&seen);
    socket.on_message("*", move |message| {
        *counts.lock().unwrap().entry(message.kind().to_string()).or_default() += 1;
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OctoPrint: ./tests/run real"]
async fn a_key_logs_in_and_commands() {
    let octoprint = OctoPrint::start().await;
    let socket = Socket::new(options(&octoprint, key())).unwrap();
    let seen = count(&socket);
    socket.connect();
    sees(&seen, &["connected", "history", "timelapse", "current"]).await;
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OctoPrint: ./tests/run real"]
async fn user_and_password_log_in_and_command() {
    let octoprint = OctoPrint::start().await;
    let socket = Socket::new(options(&octoprint, password())).unwrap();
    let seen = count(&socket);
    socket.connect();
    sees(&seen, &["connected", "history", "timelapse", "current"]).await;
    socket.rest().set_target("tool0", 0.0).await.unwrap();
    assert_eq!(socket.rest().job(JobAction::Restart).await.unwrap_err().status(), Some(409));
    socket.close().await;
    let rest = Socket::new(options(&octoprint, password())).unwrap().rest();
    rest.set_target("bed", 0.0).await.unwrap();
    assert!(rest.passive_login().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OctoPrint: ./tests/run real"]
async fn xhr_streaming_goes_on_past_its_end() {
    let octoprint = OctoPrint::start().await;
    let mut options = options(&octoprint, key());
    options.transport = TransportChoice::XhrStreaming;
    options.ping_after = Duration::from_millis(100);
    let socket = Socket::new(options).unwrap();
    let seen = count(&socket);
    socket.connect();
    sees(&seen, &["connected", "history", "timelapse", "current"]).await;
    assert_eq!(socket.status().borrow().transport, Some(Transport::XhrStreaming));
    let before = socket.counters().messages;
    real::eventually("more messages over the stream", || async {
        (socket.counters().messages > before + 3).then_some(())
    })
    .await;
    assert_eq!(socket.counters().decode_errors, 0);
    assert_eq!(socket.status().borrow().state, SocketState::Connected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OctoPrint: ./tests/run real"]
async fn a_wrong_key_waits() {
    let octoprint = OctoPrint::start().await;
    let socket =
        Socket::new(options(&octoprint, Credentials::ApiKey(Secret::new("WRONG")))).unwrap();
    let refused = socket.rest().login().await.unwrap_err();
    assert!(matches!(refused, LoginError::KeyRefused), "{refused:?}");
    assert_eq!(socket.rest().current_user().await.unwrap().name, None);
    socket.connect();
    reaches(&socket, SocketState::Waiting).await;
    let status = socket.status().borrow().clone();
    assert_eq!(status.next_attempt_in, Some(Duration::from_secs(600)));
    assert!(status.error.unwrap().contains("API key"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OctoPrint: ./tests/run real"]
async fn the_throttle_factor_holds_over_a_reconnect() {
    let octoprint = OctoPrint::start().await;
    let socket = Socket::new(options(&octoprint, key())).unwrap();
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    socket.on_message("current", move |message| {
        let _ = arrived.send(message.received());
        async { Handled::Measured }
    });
    socket.connect();
    // The shortest of some gaps: a slow machine makes them longer, never shorter.
    let mut gap = async |skip: usize| {
        for _ in 0..skip {
            arrivals.recv().await.unwrap();
        }
        let first = arrivals.recv().await.unwrap();
        arrivals.recv().await.unwrap() - first
    };
    gap(1).await;
    socket.set_rate(RateMode::Manual(4));
    assert!(gap(2).await >= Duration::from_millis(1800));
    socket.reconnect();
    reaches(&socket, SocketState::Connecting).await;
    reaches(&socket, SocketState::Connected).await;
    // A new socket starts at 1, so the factor was sent again.
    assert!(gap(2).await >= Duration::from_millis(1800));
    socket.set_rate(RateMode::Manual(1));
    gap(2).await;
    let mut quick = Duration::MAX;
    for _ in 0..10 {
        quick = quick.min(gap(0).await);
    }
    assert!(quick < Duration::from_millis(1500), "{quick:?}");
}
