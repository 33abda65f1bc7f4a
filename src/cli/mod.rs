//! The command line: one file per subcommand, and what they share.
//!
//! A subcommand returns a [`CommandFailure`]; [`run()`] prints it and chooses the exit code.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "here the program speaks to people")]

pub mod addon;
pub mod authorize;
pub mod check;
pub mod dashboard;
#[cfg(feature = "demo")]
pub mod demo;
pub mod discover;
pub mod discovery;
pub mod health;
pub mod logging;
pub mod run;
mod subcommand;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use subcommand::block_on;
pub use subcommand::{CommandFailure, Unanswered, stop};

use crate::causes::Cause;
use crate::config::{self, Loaded};

/// Bridges OctoPrint's push socket to MQTT and Home Assistant.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    /// Configuration file [default: $OCTOPRINT2MQTT_CONFIG, else ./config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<CliCommand>,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Try every OctoPrint and the broker, and say what is wrong and what to do
    Check,
    /// Ask OctoPrint for an application key: you click Allow there, the key is printed or saved
    Authorize(authorize::AuthorizeArguments),
    /// Find the OctoPrints of the local network, which announce themselves by multicast (mDNS)
    Discover(discover::DiscoverArguments),
    /// Query the health of the running bridge, at http.listen; for Docker's HEALTHCHECK
    Health,
    /// Print Home Assistant's discovery messages as JSON lines, without publishing them
    Discovery {
        /// Publish the removal of everything that was discovered instead
        #[arg(long)]
        remove: bool,
    },
    /// Print a dashboard for Home Assistant with all printers, to paste into its editor
    Dashboard {
        /// Cards that Home Assistant has beside its own, which are used then
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        cards: Vec<dashboard::CustomCard>,
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
    /// Run everything in one process, with nothing to install: a broker, a simulated OctoPrint, the bridge
    #[cfg(feature = "demo")]
    Demo {
        /// Port of the embedded broker on 127.0.0.1
        #[arg(long, default_value_t = 1883)]
        port: u16,
    },
}

/// Runs the command of the command line.
pub fn run(arguments: Arguments) -> ExitCode {
    match dispatch(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text_of_error() {
                eprintln!("{text}");
            }
            failure.exit_code()
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<(), CommandFailure> {
    let file = arguments.config.as_deref();
    match arguments.command {
        None => {
            let file = arguments.config.clone();
            run::command(load(file.as_deref())?, Arc::new(move || read(file.as_deref())))
        }
        Some(CliCommand::Check) => check::command(&load(file)?),
        Some(CliCommand::Discover(arguments)) => discover::command(&arguments, load(file)),
        Some(CliCommand::Health) => health::command(&load(file)?.config),
        Some(CliCommand::Discovery { remove }) => discovery::command(&load(file)?.config, remove),
        Some(CliCommand::Dashboard { cards }) => dashboard::command(&load(file)?.config, &cards),
        Some(CliCommand::Authorize(authorize)) => authorize::command(authorize, file),
        #[cfg(feature = "simulator")]
        Some(CliCommand::Simulate { listen, api_key }) => simulate(listen, api_key),
        #[cfg(feature = "demo")]
        Some(CliCommand::Demo { port }) => demo::command(port),
    }
}

#[cfg(feature = "simulator")]
fn simulate(listen: std::net::SocketAddr, api_key: String) -> Result<(), CommandFailure> {
    use crate::simulator::{Simulator, SimulatorOptions};
    block_on(async {
        let stop = stop()?;
        let options =
            SimulatorOptions { listen, api_key, print_loop: true, ..SimulatorOptions::default() };
        let simulator = Simulator::start(options).await;
        let simulator = simulator.map_err(|error| CommandFailure::at(listen.to_string(), error))?;
        eprintln!("a simulated OctoPrint at {}", simulator.url());
        stop.await;
        simulator.stop();
        Ok(())
    })
}

/// Loads the configuration: in an add-on its options, else the file and the environment.
fn load(file: Option<&Path>) -> Result<Loaded, CommandFailure> {
    read(file).map_err(|error| CommandFailure::Configuration(error))
}

fn read(file: Option<&Path>) -> Result<Loaded, Cause> {
    if file.is_some() || !addon::is_addon() {
        return Ok(config::read(file)?);
    }
    block_on(async { Ok(addon::load().await?) })
}
