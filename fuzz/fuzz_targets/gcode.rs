//! A G-code file from somewhere: it must be read alike in all chunks, and without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use octoprint2mqtt::gcode::{GcodeReader, ReadLimits, read_ends};

fuzz_target!(|data: &[u8]| {
    let limits = ReadLimits { thumbnail: 16 * 1024 };
    let (cut, data) = data.split_first().map_or((0, data), |(cut, data)| (*cut, data));
    let read = |chunk: usize| {
        let mut reader = GcodeReader::new(&limits);
        for chunk in data.chunks(chunk) {
            reader.feed(chunk);
        }
        reader.finish()
    };
    assert_eq!(read(usize::from(cut) + 1), read(usize::MAX));
    let (head, tail) = data.split_at(data.len() * usize::from(cut) / 256);
    let _ = read_ends(head, tail, &limits);
});
