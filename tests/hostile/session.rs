//! A socket lives with a hostile OctoPrint, in simulated time; and what must hold whatever that
//! does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use octoprint2mqtt::octoprint::{
    Credentials, Handled, Message, RateMode, Socket, SocketOptions, SocketState, Status,
    TransportChoice,
};
use octoprint2mqtt::secret::Secret;
use serde::de::IgnoredAny;
use tokio::time::{Instant, sleep, timeout};

use super::dice::Dice;
use super::server::OctoPrint;

/// How long an honest OctoPrint waits for the socket at most: refusals make that long.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);
/// After how much silence no connection is left, and a bit.
const DEAD: Duration = Duration::from_secs(45);

/// The statistics of a successful session.
#[derive(Debug, Default)]
pub struct Story {
    pub logins: u32,
    pub connections: usize,
    pub proven: usize,
    pub messages: u64,
    pub decode_errors: u64,
}

/// Runs a session that is drawn from these bytes. `on_message` sees every message; it panics where
/// it finds something wrong.
///
/// # Panics
/// Where something does not hold that must.
pub fn run(bytes: &[u8], on_message: impl Fn(&Message) + Send + 'static) -> Story {
    octoprint2mqtt::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let story = runtime.block_on(live(Dice::new(bytes), on_message));
    // Not for what a hostile server still does.
    runtime.shutdown_background();
    story
}

async fn live(dice: Dice, on_message: impl Fn(&Message) + Send + 'static) -> Story {
    let octoprint = OctoPrint::start(dice).await;
    let socket = Socket::new(options(&octoprint)).unwrap();
    // A panic in a handler would be swallowed, so findings are stored and checked here.
    let found = Arc::new(Mutex::new(None));
    let finds = Arc::clone(&found);
    let last = Mutex::new(0);
    socket.on_message("*", move |message| {
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            is_sound(&message, &mut last.lock().unwrap());
            on_message(&message);
        }));
        if looked.is_err() {
            finds.lock().unwrap().get_or_insert(format!(
                "{} {:.300}",
                message.kind(),
                message.payload()
            ));
        }
        async { Handled::Unmeasured }
    });
    socket.connect();
    let mut status = socket.status();
    while !octoprint.dice().is_used_up() {
        let pause = [1, 100, 1_000, 5_000, 30_000, 700_000];
        let until = Instant::now() + Duration::from_millis(*octoprint.dice().pick(&pause));
        // Looks at every change on the way, and once a second besides.
        while Instant::now() < until {
            let _ = timeout(Duration::from_secs(1), status.changed()).await;
            holds(&octoprint, &socket);
            if status.borrow_and_update().state == SocketState::Failed {
                break;
            }
        }
        act(&octoprint, &socket);
        sleep(Duration::from_millis(1)).await;
    }
    octoprint.be_honest();
    socket.connect();
    let connected = status.wait_for(|status| status.state == SocketState::Connected);
    if timeout(PATIENCE, connected).await.is_err() {
        let (status, story) = (socket.status().borrow().clone(), octoprint.ledger().story());
        panic!("never connected again: {status:?}\n{story}");
    }
    holds(&octoprint, &socket);
    assert_eq!(*found.lock().unwrap(), None, "a message that is none");
    let (counters, ledger) = (socket.counters(), octoprint.ledger());
    Story {
        logins: ledger.logins,
        connections: ledger.connections.len(),
        proven: ledger
            .connections
            .iter()
            .filter(|connection| connection.proof_sent.is_some())
            .count(),
        messages: counters.messages,
        decode_errors: counters.decode_errors,
    }
}

fn options(octoprint: &OctoPrint) -> SocketOptions {
    let roots = rustls::RootCertStore::empty();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let key = Credentials::ApiKey(Secret::new("TEST-KEY"));
    let mut options = SocketOptions::new(octoprint.url.parse().unwrap(), key, Arc::new(tls));
    let choices =
        [TransportChoice::Auto, TransportChoice::WebSocket, TransportChoice::XhrStreaming];
    options.transport = *octoprint.dice().pick(&choices);
    options.knock = octoprint.dice().chance(8);
    // Reached by what a hostile OctoPrint sends.
    options.large_message_bytes = 200_000;
    options.max_message_bytes = 350_000;
    options
}

/// What the owner of the socket does.
fn act(octoprint: &OctoPrint, socket: &Socket) {
    let choice = octoprint.dice().below(16);
    match choice {
        0 => socket.reconnect(),
        1 => {
            socket.disconnect();
            socket.connect();
        }
        2 => socket.send_message("x", &serde_json::Value::Null),
        3 => socket.set_rate(RateMode::Manual(7)),
        4 => socket.set_rate(RateMode::Auto),
        5 => socket.connect(),
        _ => {}
    }
}

/// What must hold at any time.
fn holds(octoprint: &OctoPrint, socket: &Socket) {
    let status: Status = socket.status().borrow().clone();
    assert!(!socket.has_ended(), "the socket's task has ended: {status:?}");
    let ledger = octoprint.ledger();
    let told = || format!("{status:?} {:?}\n{}", ledger.connections, ledger.story());
    if status.state != SocketState::Connected {
        return;
    }
    let connection =
        ledger.connections.last().unwrap_or_else(|| panic!("no connection: {}", told()));
    assert!(connection.proof_sent.is_some(), "connected, and nothing was pushed: {}", told());
    assert!(status.transport.is_some(), "{}", told());
    let now = Instant::now();
    if connection.open {
        let overdue = connection.proof_due.is_some_and(|due| due < now);
        assert!(!overdue, "connected, and the last login was never proven: {}", told());
        let dead = connection.frozen.is_some_and(|since| now - since > DEAD);
        assert!(!dead, "connected to a silence: {}", told());
    }
}

/// What must hold for every message.
fn is_sound(message: &Message, last: &mut u64) {
    assert!(serde_json::from_str::<IgnoredAny>(message.payload()).is_ok(), "no JSON");
    assert!(message.connection() >= *last, "a message of an earlier connection");
    *last = message.connection();
}
