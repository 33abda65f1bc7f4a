//! The whole bridge with an OctoPrint whose prints are drawn from the fuzzer's bytes, in simulated
//! time: what is published of them is the truth.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/hostile/mod.rs"]
mod hostile;

fuzz_target!(|data: &[u8]| {
    hostile::prints::run(data);
});
