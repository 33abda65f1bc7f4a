//! The bridge with a real broker and real OctoPrints. One program, so that what mostly waits waits
//! together: each scenario has its own servers.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "scenarios/authorize.rs"]
mod authorize;
#[path = "scenarios/backpressure.rs"]
mod backpressure;
#[path = "scenarios/bad_messages.rs"]
mod bad_messages;
#[path = "scenarios/camera.rs"]
mod camera;
#[path = "scenarios/client.rs"]
mod client;
#[path = "scenarios/commands.rs"]
mod commands;
#[path = "scenarios/controls.rs"]
mod controls;
#[path = "scenarios/delivery.rs"]
mod delivery;
#[path = "scenarios/discover.rs"]
mod discover;
#[path = "scenarios/disks.rs"]
mod disks;
#[path = "scenarios/durability.rs"]
mod durability;
#[path = "scenarios/faults.rs"]
mod faults;
#[path = "scenarios/layers.rs"]
mod layers;
#[path = "scenarios/lines.rs"]
mod lines;
#[path = "scenarios/messages.rs"]
mod messages;
#[path = "scenarios/names.rs"]
mod names;
#[path = "scenarios/octoprint.rs"]
mod octoprint;
#[path = "scenarios/octoprint_2.rs"]
mod octoprint_2;
#[path = "scenarios/own_entities.rs"]
mod own_entities;
#[path = "scenarios/pairing.rs"]
mod pairing;
#[path = "scenarios/permissions.rs"]
mod permissions;
#[path = "scenarios/power.rs"]
mod power;
#[path = "scenarios/prints.rs"]
mod prints;
#[path = "scenarios/rate.rs"]
mod rate;
mod real;
#[path = "scenarios/reconnect.rs"]
mod reconnect;
#[path = "scenarios/secrets.rs"]
mod secrets;
#[path = "scenarios/statistics.rs"]
mod statistics;
#[path = "scenarios/tls.rs"]
mod tls;
#[path = "scenarios/websocket.rs"]
mod websocket;
