//! A socket lives with a hostile OctoPrint that is drawn from the fuzzer's bytes, in simulated time.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/hostile/mod.rs"]
mod hostile;

fuzz_target!(|data: &[u8]| {
    hostile::session::run(data, |_| {});
});
