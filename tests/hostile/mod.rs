//! A hostile OctoPrint: what it answers and pushes is drawn from bytes, so that a failure is found
//! again from a seed, and a fuzzer can look for one. It listens on 127.0.0.1, and means to run in
//! simulated time.
//!
//! [`server::OctoPrint`] is the server alone, for whatever connects to it. [`session`] has a socket live
//! with it and says what must hold. [`prints`] has the whole bridge live with one whose prints are known.

#![allow(dead_code, reason = "each user takes a part of it")]

mod answers;
pub mod dice;
mod frames;
mod peer;
pub mod prints;
pub mod server;
pub mod session;
mod wire;
