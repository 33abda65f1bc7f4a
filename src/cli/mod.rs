//! The command line: one file a subcommand, and what they share.
//!
//! A subcommand returns a [`Failure`]; [`run()`] prints it and chooses the exit code.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "here the program speaks to people")]

pub mod addon;
pub mod authorize;
pub mod check;
#[cfg(feature = "demo")]
pub mod demo;
pub mod discovery;
pub mod health;
pub mod logging;
mod plain_http;
pub mod run;
#[cfg(feature = "simulator")]
mod simulate;
mod subcommand;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
pub use plain_http::Unanswered;
use subcommand::block_on;
pub use subcommand::{Failure, stop};

use crate::causes;
use crate::config::{self, ConfigErrors, Loaded};

/// Bridges OctoPrint's push socket to MQTT and Home Assistant.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    /// Configuration file [default: $OCTOPRINT2MQTT_CONFIG, else ./config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Try every OctoPrint and the broker, and say what is wrong and what to do
    Check,
    /// Ask OctoPrint for an application key: you click Allow there, the key is printed or saved
    Authorize(authorize::Arguments),
    /// Ask the running bridge how it is, at http.listen; for Docker's HEALTHCHECK
    Health,
    /// Print Home Assistant's discovery messages as JSON lines, without publishing them
    Discovery {
        /// Publish the removal of everything that was discovered instead
        #[arg(long)]
        remove: bool,
    },
    /// The simulated OctoPrint alone, which prints a part in a loop
    #[cfg(feature = "simulator")]
    Simulate {
        /// Where it listens
        #[arg(long, default_value = "127.0.0.1:5000")]
        listen: std::net::SocketAddr,
        /// The API key that it knows
        #[arg(long, default_value = "SIMULATOR-KEY")]
        api_key: String,
    },
    /// The whole job with nothing to install: a broker, a simulated OctoPrint, the bridge between
    #[cfg(feature = "demo")]
    Demo {
        /// Port of the embedded broker on 127.0.0.1
        #[arg(long, default_value_t = 1883)]
        port: u16,
    },
}

/// Runs what the command line asks for.
pub fn run(arguments: Arguments) -> ExitCode {
    match obey(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Failure::Configuration(error) | Failure::Other(error) = &failure {
                eprintln!("{}", causes::text(&**error));
            }
            failure.exit_code()
        }
    }
}

fn obey(arguments: Arguments) -> Result<(), Failure> {
    let file = arguments.config.as_deref();
    match arguments.command {
        None => run::command(load(file)?),
        Some(Command::Check) => check::command(&load(file)?),
        Some(Command::Health) => health::command(&load(file)?.config),
        Some(Command::Discovery { remove }) => discovery::command(&load(file)?.config, remove),
        Some(Command::Authorize(authorize)) => authorize::command(authorize, file),
        #[cfg(feature = "simulator")]
        Some(Command::Simulate { listen, api_key }) => simulate::command(listen, api_key),
        #[cfg(feature = "demo")]
        Some(Command::Demo { port }) => demo::command(port),
    }
}

/// The configuration: the add-on's where this is one, else the file's and the environment's.
fn load(file: Option<&Path>) -> Result<Loaded, Failure> {
    let wrong = |errors: ConfigErrors| Failure::Configuration(errors.into());
    if file.is_some() || !addon::is_addon() {
        return config::read(file).map_err(wrong);
    }
    block_on(async { addon::load().await.map_err(|error| Failure::Configuration(error.into())) })
}
