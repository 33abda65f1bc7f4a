//! A socket in simulated time, with a hostile OctoPrint whose behaviour comes from the fuzzer's bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/hostile/mod.rs"]
mod hostile;

fuzz_target!(|data: &[u8]| {
    hostile::session::run(data, |_| {});
});
