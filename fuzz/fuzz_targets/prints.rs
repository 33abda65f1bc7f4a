//! The whole bridge in simulated time, with an OctoPrint whose prints come from the fuzzer's bytes: it
//! must publish what really happened to them.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/hostile/mod.rs"]
mod hostile;

fuzz_target!(|data: &[u8]| {
    hostile::prints::run(data);
});
