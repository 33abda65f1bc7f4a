//! What a message that says nothing new costs: counted in allocations, which no other load on the
//! machine changes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

use std::time::{Instant, SystemTime};

use allocation_counter::measure;
use bytes::Bytes;
use octoprint2mqtt::bridge::printer::messages::Mapping;
use octoprint2mqtt::bridge::printer::snapshot::{Now, Snapshot};
use octoprint2mqtt::config;
use octoprint2mqtt::octoprint::Message;
use octoprint2mqtt::receipt::Receipt;
use octoprint2mqtt::topics::PrinterTopics;

/// The payload of a `current` message in the middle of a print, as recorded.
fn current() -> Bytes {
    let print = include_str!("captures/print_done.jsonl");
    let lines = print.lines().filter(|line| line.contains("\"m\":{\"current\":{"));
    let line = lines.filter(|line| line.contains("\"text\":\"Printing\"")).nth(40).unwrap();
    let start = line.find("{\"state\"").unwrap();
    // Two braces close the line around the message.
    Bytes::copy_from_slice(&line.as_bytes()[start..line.len() - 2])
}

#[test]
fn unchanged_state_costs_one_allocation_at_most() {
    let (payload, now) = (current(), Now { instant: Instant::now(), wall: SystemTime::now() });
    let payload = std::str::from_utf8(&payload).unwrap();
    let mut snapshot = Snapshot::new();
    assert!(snapshot.apply(payload, now).unwrap().len() > 4, "the first time all of it is news");
    let counted = measure(|| assert!(snapshot.apply(payload, now).unwrap().is_empty()));
    assert!(counted.count_total <= 1, "{counted:?}");
}

#[test]
fn what_is_passed_through_is_not_copied() {
    let text = "[printers.mk3]\nurl = \"http://octopi.local\"\napi_key = \"key\"\n";
    let printer = config::from_toml(text).unwrap().printers.remove(0);
    let mut mapping = Mapping::new(1, PrinterTopics::new("octoprint2mqtt", "mk3"), &printer);
    let (payload, now) = (current(), tokio::time::Instant::now());
    let message =
        Message::new("current", payload.clone(), now, SystemTime::now(), 1).expect("UTF-8");
    let receipt = Receipt::new(1, now, tokio::sync::mpsc::unbounded_channel().0);
    assert!(mapping.map(&message, &receipt).0.len() > 4, "the first time all of it is news");
    let mut publications = Vec::new();
    let counted = measure(|| publications = mapping.map(&message, &receipt).0);
    let [passed] = &publications[..] else { panic!("{publications:?}") };
    assert_eq!((passed.payload.as_ptr(), passed.payload.len()), (payload.as_ptr(), payload.len()));
    // The list of publications, and the members of the temperatures.
    assert!(counted.count_total <= 2, "{counted:?}");
}
