//! Printers that are added and removed while others print.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bridge::{Bridge, Variant};
use crate::broker::{Mosquitto, Subscriber};
use crate::frames::Moving;
use crate::printers::Printers;
use crate::sent::{Latency, Sent};

/// How many print.
const HOSTS: usize = 10;
/// How many come and go.
const GUESTS: usize = 100;
/// The default rate of OctoPrint: two messages a second.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long what was removed takes to be cleared: Home Assistant has 2 s to remove its entities.
const CLEARED: Duration = Duration::from_secs(6);

/// What it costs the printers that print.
#[derive(Debug, Serialize)]
pub struct LiveChanges {
    /// From the frame leaving OctoPrint to the subscriber, of the printers that print.
    pub latency: Latency,
    /// How often the others were added and removed.
    pub rounds: usize,
    /// Resident, in bytes, before the first round, and after each.
    pub memory: Vec<u64>,
}

impl LiveChanges {
    /// How much memory the last round has that the second had not, in bytes: the first two fill what
    /// the allocator keeps.
    pub fn growth(&self) -> u64 {
        let [_, _, second, .., last] = self.memory[..] else { return 0 };
        last.saturating_sub(second)
    }
}

/// Adds and removes a hundred printers while ten print.
pub async fn live_changes(quick: bool) -> LiveChanges {
    eprintln!("live changes …");
    let sent = Arc::new(Sent::new(HOSTS));
    let broker = Mosquitto::start();
    let tracked = "temperature/tool0";
    let subscriber =
        Subscriber::start(broker.port, tracked, tracked, sent.clone(), Instant::now()).await;
    let moving = Moving::Temperature;
    let hosts = Printers::start(HOSTS, false, moving, None, sent.clone()).await;
    let guests = Printers::start(GUESTS, false, moving, None, Arc::new(Sent::new(GUESTS))).await;
    let data = tempfile::tempdir().expect("a data_dir");
    let bridge = Bridge::start(&broker.url(), &hosts, HOSTS, data.path(), Variant::default());
    hosts.all_live().await;
    hosts.print(INTERVAL);
    let more: String = (0..GUESTS)
        .map(|n| format!("[printers.g{n}]\nurl = \"{}\"\napi_key = \"bench\"\n", guests.url(n)))
        .collect();
    let rounds = if quick { 1 } else { 6 };
    let span = Duration::from_secs(16);
    let mut memory = vec![bridge.memory()];
    let changing = async {
        for _ in 0..rounds {
            let ends = tokio::time::Instant::now() + span;
            bridge.add_to_config(&more);
            guests.all_live().await;
            bridge.add_to_config("");
            guests.none_live().await;
            tokio::time::sleep(CLEARED).await;
            memory.push(bridge.memory());
            tokio::time::sleep_until(ends).await;
        }
    };
    let whole = span * u32::try_from(rounds).expect("a few");
    let (latency, ()) = tokio::join!(sent.measure(whole), changing);
    drop(subscriber);
    LiveChanges { latency, rounds, memory }
}
