//! Whole G-code files in the conventions of all slicers, with what is in them beside each: made by hand
//! after real ones, and cut from real ones. With `--ignored`, files that slicers on this machine make.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

use std::path::PathBuf;

use allocation_counter::measure;
use octoprint2mqtt::gcode::{FileKind, GcodeFile, GcodeReader, LayerIndex, ReadLimits, read_ends};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

#[path = "gcode/slicers.rs"]
mod slicers;

/// What is known of a file.
#[derive(Deserialize)]
struct Expected {
    /// Where layers begin, and their heights.
    layers: Vec<(u64, Option<f64>)>,
    /// All of what the slicer wrote.
    slicer: Value,
    /// Media type, width and height.
    thumbnail: Option<(String, u32, u32)>,
}

/// The files in `tests/gcode`, with what is known of them.
fn files() -> Vec<(String, Vec<u8>, Expected)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/gcode");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let expected = serde_json::from_slice(&std::fs::read(&path).unwrap());
            let data = std::fs::read(path.with_extension("gcode")).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            files.push((name.clone(), data, expected.unwrap_or_else(|e| panic!("{name}: {e}"))));
        }
    }
    assert!(files.len() > 10, "only {} files", files.len());
    files
}

/// Reads a file whose chunks end at these positions too.
fn read(data: &[u8], cuts: &[usize]) -> GcodeFile {
    let mut reader = GcodeReader::new(&ReadLimits::default());
    let mut from = 0;
    for &cut in cuts {
        reader.feed(&data[from..cut]);
        from = cut;
    }
    reader.feed(&data[from..]);
    reader.finish()
}

/// Where layers begin, and their heights.
fn starts(index: &LayerIndex) -> Vec<(u64, Option<f64>)> {
    index.iter().map(|(at, layer)| (at, layer.z)).collect()
}

#[test]
fn each_slicer_is_understood() {
    for (name, data, expected) in files() {
        let file = read(&data, &[]);
        assert_eq!(file.kind, FileKind::Text);
        assert_eq!(starts(&file.layers), expected.layers, "{name}");
        assert_eq!(file.layers.total() as usize, expected.layers.len());
        let slicer = serde_json::to_value(&file.slicer).unwrap();
        for (key, value) in expected.slicer.as_object().unwrap() {
            let found = &slicer[key];
            let is_same = found == value || (found.is_number() && found.as_f64() == value.as_f64());
            assert!(is_same, "{name}: {key} is {found} and not {value}");
        }
        let thumbnail = file.thumbnail.map(|thumbnail| {
            (thumbnail.format.media_type().to_owned(), thumbnail.width, thumbnail.height)
        });
        assert_eq!(thumbnail, expected.thumbnail, "{name}");
    }
}

#[test]
fn the_ends_of_a_file_say_the_same() {
    for (name, data, _) in files() {
        let whole = read(&data, &[]);
        let (head, tail) = data.split_at(data.len() / 2);
        for (head, tail) in [(head, tail), (&data[..], &[][..])] {
            let (mut slicer, thumbnail) = read_ends(head, tail, &ReadLimits::default());
            slicer.layers = whole.slicer.layers;
            assert_eq!(slicer, whole.slicer, "{name}");
            if tail.is_empty() {
                assert_eq!(thumbnail, whole.thumbnail, "{name}");
            }
        }
    }
}

#[test]
fn a_position_has_its_layer() {
    for (name, data, expected) in files() {
        let layers = read(&data, &[]).layers;
        let first = expected.layers[0].0;
        assert_eq!(first.checked_sub(1).and_then(|before| layers.at(before)), None, "{name}");
        for (at, (start, z)) in expected.layers.iter().enumerate() {
            let layer = layers.at(*start).unwrap();
            assert_eq!((layer.number as usize, layer.z), (at + 1, *z), "{name}");
        }
    }
}

#[test]
fn without_comments_moves_have_the_same_layers() {
    // KISSlicer extrudes by relative amounts without a command that says so.
    for (name, data, expected) in files().into_iter().filter(|(name, ..)| !name.starts_with("kiss"))
    {
        let text = String::from_utf8(data).unwrap();
        let bare: String = text
            .lines()
            .filter(|line| !line.starts_with(';'))
            .fold(String::new(), |bare, line| bare + line.split(';').next().unwrap() + "\n");
        let found: Vec<_> = starts(&read(bare.as_bytes(), &[]).layers);
        let heights = |layers: &[(u64, Option<f64>)]| -> Vec<f64> {
            layers.iter().map(|(_, z)| (z.unwrap() * 100.0).round() / 100.0).collect()
        };
        assert_eq!(heights(&found), heights(&expected.layers), "{name}");
    }
}

#[test]
fn what_is_no_text_is_refused() {
    for (begin, kind) in
        [(&b"GCDE\x01\0\0\0"[..], FileKind::BinaryGcode), (b"PK\x03\x04", FileKind::Archive)]
    {
        let mut data = begin.to_vec();
        data.extend_from_slice(b"\n;LAYER_CHANGE\n; generated by PrusaSlicer 2.9.2\nG1 X1 Z1 E1\n");
        for cuts in [&[][..], &[1, 3], &[4]] {
            let file = read(&data, cuts);
            assert_eq!(file.kind, kind);
            assert_eq!((file.layers.total(), file.slicer.slicer), (0, None));
        }
        let (slicer, thumbnail) = read_ends(&data, &data, &ReadLimits::default());
        assert_eq!((slicer.slicer, thumbnail), (None, None));
    }
    for short in [&b""[..], b"G", b"GCD"] {
        assert_eq!(read(short, &[]).kind, FileKind::Text);
    }
}

#[test]
fn memory_does_not_grow_with_the_file() {
    let limits = ReadLimits { thumbnail: 16 * 1024 };
    let mut line = vec![b'A'; 1 << 20];
    line[0] = b';';
    let layers: Vec<u8> = (0..2_000).flat_map(|_| *b";LAYER_CHANGE\n;Z:1\n").collect();
    let heights = |from: u32| -> Vec<u8> {
        let line = |at: u32| format!("G1 Z{}.{}\nG1 X1 E1\n", at / 10, at % 10).into_bytes();
        (from..from + 2_000).flat_map(line).collect()
    };
    let counted = measure(|| {
        let mut reader = GcodeReader::new(&limits);
        reader.feed(b"; thumbnail begin 16x16 5\n");
        for _ in 0..10_000 {
            reader.feed(b"; AAAA\n");
        }
        reader.feed(b";thumbnail: data:image/png;base64,");
        for _ in 0..100 {
            reader.feed(&line[1..]);
        }
        for _ in 0..100 {
            reader.feed(&line);
        }
        reader.feed(b"\nM83\n");
        for from in 0..60 {
            reader.feed(&layers);
            reader.feed(&heights(from * 2_000));
        }
        let file = reader.finish();
        assert_eq!(file.layers.total(), 120_000);
    });
    // Most of it is the layers, by comments and by moves; 100 kB are of this test.
    assert!(counted.bytes_max < 800_000, "{counted:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_may_end_anywhere(file in 0_usize..11, cuts in prop::collection::vec(0_usize..100_000, 0..20)) {
        let (_, data, _) = files().swap_remove(file);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % data.len()).collect();
        cuts.sort_unstable();
        prop_assert_eq!(read(&data, &cuts), read(&data, &[]));
    }

    #[test]
    fn damaged_files_are_read(
        file in 0_usize..11,
        damage in prop::collection::vec((0_usize..100_000, any::<u8>()), 0..200),
        from in 0_usize..100_000,
    ) {
        let (_, mut data, _) = files().swap_remove(file);
        let length = data.len();
        for (at, byte) in damage {
            data[at % length] = byte;
        }
        let from = from % length;
        let file = read(&data[from..], &[]);
        let _ = read_ends(&data[..from], &data[from..], &ReadLimits::default());
        let json = serde_json::to_string(&file.slicer).unwrap();
        prop_assert!(serde_json::from_str::<Value>(&json).is_ok());
    }
}
