//! Tells the linker to pack relative relocations where the C library knows how to unpack them.
//!
//! The program holds 8,000 addresses, of texts and of functions. Where each is takes 24 bytes that
//! are read once, when the program starts, and stay in memory: 190 kB. Packed they take 2 kB.
//!
//! With `OCTOPRINT2MQTT_PORTABLE` set to anything they are not packed, for a program that older
//! systems are to run.

use std::env;
use std::process::Command;

/// The first version of glibc that unpacks them. An older one refuses to start the program, and
/// says so.
const GLIBC: (u32, u32) = (2, 36);

const PORTABLE: &str = "OCTOPRINT2MQTT_PORTABLE";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={PORTABLE}");
    let of_target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let glibc = of_target("OS") == "linux" && of_target("ENV") == "gnu";
    // What another machine has is for whoever builds for it to know.
    let native = env::var("HOST") == env::var("TARGET");
    // Some linkers, such as gold, refuse what they do not know.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let own_linker = flags.contains("link") || env::var_os("RUSTC_LINKER").is_some();
    let portable = env::var_os(PORTABLE).is_some_and(|value| !value.is_empty());
    if glibc
        && native
        && !own_linker
        && !portable
        && version().is_some_and(|version| version >= GLIBC)
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc.
fn version() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
