//! The examples of how to add something, done: applied to a copy of the program, compiled and tried.

use std::path::Path;
use std::process::Command;

use super::book::{chapter, read, root};

/// A block of a chapter that changes one file.
struct Change {
    file: String,
    /// The lines as they are.
    before: String,
    /// The lines as they become.
    after: String,
}

fn changes(chapter: &str) -> Vec<Change> {
    let blocks = chapter.split("```diff\n--- ").skip(1);
    let change = |block: &str| {
        let (file, rest) = block.split_once('\n').unwrap();
        let (lines, _) = rest.split_once("```").unwrap();
        let of = |but: char| -> String {
            let kept = lines.lines().filter(|line| !line.starts_with(but));
            kept.map(|line| format!("{}\n", line.get(1..).unwrap_or_default())).collect()
        };
        Change { file: file.to_owned(), before: of('+'), after: of('-') }
    };
    blocks.map(change).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Runs cargo there, with what is compiled here already.
fn cargo(directory: &Path, arguments: &[&str]) -> String {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let output = Command::new(env!("CARGO"))
        .current_dir(directory)
        .env("CARGO_TARGET_DIR", target)
        .env_remove("OCTOPRINT2MQTT_CONFIG")
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}:\n{text}\n{errors}");
    text
}

#[test]
#[ignore = "compiles the program again: ./tests/run docs"]
fn what_is_added_as_the_chapter_says_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    for part in ["src", "tests", "benches"] {
        copy(&root().join(part), &there.join(part));
    }
    for file in ["Cargo.toml", "Cargo.lock", "README.md", "clippy.toml", "askama.toml", "build.rs"]
    {
        if root().join(file).exists() {
            std::fs::copy(root().join(file), there.join(file)).unwrap();
        }
    }
    let changes = changes(&chapter("internals/extending"));
    assert!(!changes.is_empty(), "the chapter has examples");
    for change in &changes {
        let path = there.join(&change.file);
        let text = read(&path);
        assert_eq!(text.matches(&change.before).count(), 1, "{}:\n{}", change.file, change.before);
        std::fs::write(&path, text.replacen(&change.before, &change.after, 1)).unwrap();
    }
    let config = there.join("printers.toml");
    let printer = "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n[printers.p]\nurl = \"http://127.0.0.1:1\"\napi_key = \"0123456789abcdef\"\n";
    std::fs::write(&config, printer).unwrap();
    let config = config.to_str().unwrap();
    let run =
        ["run", "--quiet", "--locked", "--all-features", "--", "--config", config, "discovery"];
    let discovery = cargo(there, &run);
    assert!(discovery.contains("octoprint2mqtt_p__last_print_time"), "{discovery}");
    // The example of the command brings its own test.
    let test =
        ["test", "--quiet", "--locked", "--all-features", "--lib", "printer::commands::tests"];
    let passed = cargo(there, &test);
    assert!(!passed.contains("running 0 tests"), "{passed}");
}
