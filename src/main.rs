//! The command line; wiring only.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use octoprint2mqtt::config::{self, Config};
use octoprint2mqtt::{bridge, check, logging, tls};

/// Bridges OctoPrint's push socket to MQTT and Home Assistant.
#[derive(Parser)]
#[command(version)]
struct Arguments {
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
    /// The whole job with nothing to install: a broker, a simulated OctoPrint, the bridge between
    #[cfg(feature = "demo")]
    Demo {
        /// Port of the embedded broker on 127.0.0.1
        #[arg(long, default_value_t = 1883)]
        port: u16,
    },
}

/// The configuration is wrong.
const WRONG_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tls::install_provider();
    #[cfg(feature = "demo")]
    if let Some(Command::Demo { port }) = arguments.command {
        return run_demo(port);
    }
    let config = match config::read(arguments.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(WRONG_CONFIGURATION);
        }
    };
    match arguments.command {
        Some(Command::Check) => run_check(&config.config),
        _ => run_bridge(config),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    // Two are plenty for a bridge: the work of one message is microseconds.
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn run_bridge(loaded: config::Loaded) -> ExitCode {
    let config::Loaded { config, warnings } = loaded;
    let set_log_level = match logging::start(&config.log) {
        Ok(set_log_level) => set_log_level,
        Err(error) => return failed(&error),
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(async {
        let stop = octoprint2mqtt::signals::stop().map_err(|error| error.to_string())?;
        bridge::run(config, set_log_level, stop).await.map_err(|error| error.to_string())
    });
    // A task that hangs in a blocking lookup of a name must not hold up the end.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn run_check(config: &Config) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let all_well = runtime.block_on(check::run(config, |finding| println!("{finding}")));
    runtime.shutdown_background();
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "demo")]
fn run_demo(port: u16) -> ExitCode {
    let log = config::Log { level: "warn".to_owned(), format: config::LogFormat::Text };
    let set_log_level = match logging::start(&log) {
        Ok(set_log_level) => set_log_level,
        Err(error) => return failed(&error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(octoprint2mqtt::demo::run(port, set_log_level));
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}
