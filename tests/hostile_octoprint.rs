//! The socket against a hostile OctoPrint: hundreds of sessions drawn from fixed seeds, in
//! simulated time.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

mod hostile;

use std::sync::Mutex;

use hostile::session::run;
use octoprint2mqtt::bridge::printer::messages::Mapping;
use octoprint2mqtt::config;
use octoprint2mqtt::octoprint::Message;
use octoprint2mqtt::receipt::Receipt;
use octoprint2mqtt::topics::PrinterTopics;
use serde::de::IgnoredAny;
use tokio::sync::mpsc::unbounded_channel;

const SESSIONS: u64 = 250;

/// What a bridge would publish is JSON.
fn published() -> impl Fn(&Message) + Send + 'static {
    let text = "[printers.mk3]\nurl = \"http://octopi.local\"\napi_key = \"key\"\n";
    let printer = config::from_toml(text).unwrap().printers.remove(0);
    let mapping = Mapping::new(1, PrinterTopics::new("octoprint2mqtt", "mk3"), &printer);
    let mapping = Mutex::new(mapping);
    move |message| {
        let receipt = Receipt::new(1, message.received(), unbounded_channel().0);
        for publication in mapping.lock().unwrap().map(message, &receipt).0 {
            let read = serde_json::from_slice::<IgnoredAny>(&publication.payload);
            assert!(publication.payload.is_empty() || read.is_ok(), "{publication:?}");
        }
    }
}

#[test]
fn hundreds_of_sessions_with_a_hostile_octoprint() {
    let (mut proven, mut connections, mut messages) = (0, 0, 0);
    for seed in 0..SESSIONS {
        let mut random = fastrand::Rng::with_seed(seed);
        let length = random.usize(20..800);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        let story = std::panic::catch_unwind(|| run(&bytes, published()));
        let story = story.unwrap_or_else(|_| panic!("in the session of seed {seed}"));
        proven += story.proven as u64;
        connections += story.connections as u64;
        messages += story.messages;
    }
    println!(
        "{SESSIONS} sessions: {connections} connections, {proven} proven, {messages} messages"
    );
    // Hostile, and yet one gets somewhere.
    assert!(proven > 2 * SESSIONS && connections > proven && messages > 10 * SESSIONS);
}
