//! The program: parses the command line and leaves the rest to [`octoprint2mqtt::cli`].

use std::process::ExitCode;

use clap::Parser;
use octoprint2mqtt::{cli, tls};

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    tls::install_provider();
    // The panic hook has already written to stderr.
    std::panic::catch_unwind(|| cli::run(arguments)).unwrap_or(ExitCode::FAILURE)
}
