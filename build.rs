//! Makes a release smaller where linker and system can: functions that are the same are one, and the
//! list of relocations is packed. Each is tried on a small program first, which is run, too: not
//! every linker knows how, and a C library may be too old.

use std::path::Path;
use std::process::Command;

const TRIED: [&str; 2] = ["-Wl,--icf=all", "-Wl,-z,pack-relative-relocs"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|it| it == value);
    let is_native = std::env::var("HOST").ok() == std::env::var("TARGET").ok();
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_OS", "linux") || !is_native {
        return;
    }
    for argument in TRIED.into_iter().filter(|argument| works(argument)) {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}

/// Whether a program that is linked with `argument` runs.
fn works(argument: &str) -> bool {
    let (Ok(rustc), Ok(out)) = (std::env::var("RUSTC"), std::env::var("OUT_DIR")) else {
        return false;
    };
    let (source, program) = (Path::new(&out).join("probe.rs"), Path::new(&out).join("probe"));
    if std::fs::write(&source, "fn main() { println!(\"{:?}\", std::env::args()); }").is_err() {
        return false;
    }
    let mut link = Command::new(rustc);
    // The linker, and what else the user has chosen.
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        link.arg(format!("-Clinker={linker}"));
    }
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    link.args(flags.split('\u{1f}').filter(|flag| !flag.is_empty()));
    let linked = link
        .arg(format!("-Clink-arg={argument}"))
        .args(["--edition", "2024", "-o"])
        .args([&program, &source])
        .output();
    // Some linkers only warn of what they do not know.
    let is_known = linked.is_ok_and(|linked| {
        linked.status.success() && !String::from_utf8_lossy(&linked.stderr).contains("warning")
    });
    is_known && Command::new(program).output().is_ok_and(|ran| ran.status.success())
}
