//! The documentation held against the program: what lists keys, topics, commands, entities and
//! metrics has what there is, and nothing else.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "docs/book.rs"]
mod book;
#[path = "docs/configuration.rs"]
mod configuration;
#[path = "docs/entities.rs"]
mod entities;
#[path = "docs/extending.rs"]
mod extending;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/map.rs"]
mod map;
#[path = "docs/program.rs"]
mod program;
// It talks to the broker that the demo embeds.
#[cfg(feature = "demo")]
#[path = "docs/running.rs"]
mod running;
