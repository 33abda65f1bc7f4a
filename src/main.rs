//! The command line; wiring only.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use octoprint2mqtt::authorize::{self, KeyFile};
use octoprint2mqtt::config::{self, Config};
use octoprint2mqtt::{addon, bridge, check, discover, http, logging, tls};

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
    /// Ask OctoPrint for an application key: you click Allow there, the key is printed or saved
    Authorize(AuthorizeArguments),
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

#[derive(clap::Args)]
struct AuthorizeArguments {
    /// Address of OctoPrint, such as http://octopi.local
    #[arg(long, value_name = "URL", required_unless_present = "printer")]
    url: Option<String>,
    /// The printer of the configuration whose address, TLS and headers are used instead
    #[arg(long, value_name = "ID", conflicts_with_all = ["url", "ca_file", "insecure"])]
    printer: Option<String>,
    /// An extra request header, "Name: value", for a proxy that wants it; may be given several times
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// Write the key to FILE, which only you can read, instead of printing it
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Let only this user of OctoPrint allow the request
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// How long to wait for the click
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: std::time::Duration,
    /// PEM file of a private CA to trust
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long)]
    insecure: bool,
}

/// The configuration is wrong.
const WRONG_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tls::install_provider();
    // A panic, which the hook has written to stderr, is one more way to fail.
    std::panic::catch_unwind(|| obey(arguments)).unwrap_or(ExitCode::FAILURE)
}

fn obey(arguments: Arguments) -> ExitCode {
    match arguments.command {
        None => with_config(arguments.config, run_bridge),
        Some(Command::Check) => with_config(arguments.config, |loaded| run_check(&loaded)),
        Some(Command::Health) => with_config(arguments.config, |loaded| run_health(&loaded.config)),
        Some(Command::Discovery { remove }) => {
            with_config(arguments.config, |loaded| run_discovery(&loaded.config, remove))
        }
        Some(Command::Authorize(authorize)) => {
            run_authorize(authorize, arguments.config.as_deref())
        }
        #[cfg(feature = "simulator")]
        Some(Command::Simulate { listen, api_key }) => run_simulator(listen, api_key),
        #[cfg(feature = "demo")]
        Some(Command::Demo { port }) => run_demo(port),
    }
}

fn with_config(file: Option<PathBuf>, then: impl FnOnce(config::Loaded) -> ExitCode) -> ExitCode {
    if file.is_none() && addon::is_addon() {
        let loaded = runtime().map(|runtime| runtime.block_on(addon::load()));
        return match loaded {
            Ok(Ok(loaded)) => then(loaded),
            Ok(Err(error)) => {
                eprintln!("{error}");
                ExitCode::from(WRONG_CONFIGURATION)
            }
            Err(error) => failed(&error),
        };
    }
    match config::read(file.as_deref()) {
        Ok(loaded) => then(loaded),
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::from(WRONG_CONFIGURATION)
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    // One thread: the work of a message is microseconds, a thousand printers keep a sixth of a core
    // busy, and threads that wake each other would cost more than they gain.
    tokio::runtime::Builder::new_current_thread().enable_all().build()
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

fn run_check(loaded: &config::Loaded) -> ExitCode {
    let config::Loaded { config, warnings } = loaded;
    warnings.iter().for_each(|warning| eprintln!("{warning}"));
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let all_well = runtime.block_on(check::run(config, |finding| println!("{finding}")));
    runtime.shutdown_background();
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_health(config: &Config) -> ExitCode {
    let Some(http) = &config.http else {
        return failed(&"health is not served: set http.listen, such as \"127.0.0.1:8099\"");
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(http::ask(http.listen)) {
        Ok(how) => {
            println!("{how}");
            ExitCode::SUCCESS
        }
        Err(reason) => failed(&reason),
    }
}

fn run_discovery(config: &Config, remove: bool) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(async {
        if !remove {
            discover::lines(config).await.iter().for_each(|line| println!("{line}"));
            return Ok(());
        }
        let removed = discover::remove(config).await?;
        removed.topics.iter().for_each(|topic| println!("removed {topic}"));
        for (topic, owner) in &removed.left {
            let owner = owner.as_deref().unwrap_or("not known");
            println!("left {topic}: another bridge published it (its mqtt.client_id is {owner})");
        }
        Ok::<(), discover::DiscoverError>(())
    });
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn run_authorize(arguments: AuthorizeArguments, file: Option<&Path>) -> ExitCode {
    let access = match authorize_access(&arguments, file) {
        Ok(access) => access,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(WRONG_CONFIGURATION);
        }
    };
    let AuthorizeArguments { save, user, timeout, .. } = arguments;
    let file = match save.as_deref().map(|path| (path, KeyFile::create(path))) {
        None => None,
        Some((path, Ok(file))) => Some((path, file)),
        Some((path, Err(error))) => {
            return failed(&format!("{} cannot be written: {error}", path.display()));
        }
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let asking = authorize::Asking { access, user, timeout };
    let ended = runtime.block_on(async {
        let stop = octoprint2mqtt::signals::stop().map_err(|error| error.to_string())?;
        tokio::select! {
            answer = authorize::run(&asking, |text| eprintln!("{text}")) => {
                answer.map_err(|error| error.to_string())
            }
            () = stop => Err("stopped before the request was decided".to_owned()),
        }
    });
    runtime.shutdown_background();
    match (ended, file) {
        (Err(error), _) => failed(&error),
        (Ok(key), None) => {
            println!("{}", key.expose());
            ExitCode::SUCCESS
        }
        (Ok(key), Some((path, file))) => match file.save(&key) {
            Ok(()) => {
                eprintln!("The key is in {}", path.display());
                ExitCode::SUCCESS
            }
            Err(error) => failed(&format!("{}: {error}", path.display())),
        },
    }
}

/// How to reach the OctoPrint that is asked: as the configuration says, or the arguments. Both may
/// hold secrets, so what is wrong is told without them.
fn authorize_access(
    arguments: &AuthorizeArguments,
    file: Option<&Path>,
) -> Result<config::Access, String> {
    let AuthorizeArguments { url, printer, header, ca_file, insecure, .. } = arguments;
    let mut access = match (printer, url) {
        (Some(id), _) => {
            let read = config::read_access(file, id);
            let (access, warnings) = read.map_err(|errors| errors.to_string())?;
            warnings.iter().for_each(|warning| eprintln!("{warning}"));
            access
        }
        (None, url) => {
            let address = url.as_deref().and_then(config::octoprint_address).ok_or(
                "--url: expected the address of OctoPrint such as http://octopi.local, without query or fragment",
            )?;
            let login = address.authorization.map(|login| ("authorization".to_owned(), login));
            let tls = config::Tls {
                ca_file: ca_file.clone(),
                insecure: *insecure,
                ..config::Tls::default()
            };
            config::Access { url: address.url, tls, headers: login.into_iter().collect() }
        }
    };
    for line in header {
        let header = config::header_line(line);
        access.headers.extend([header.ok_or("--header: expected \"Name: value\"")?]);
    }
    Ok(access)
}

#[cfg(feature = "simulator")]
fn run_simulator(listen: std::net::SocketAddr, api_key: String) -> ExitCode {
    use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(async {
        let stop = octoprint2mqtt::signals::stop().map_err(|error| error.to_string())?;
        let options =
            SimulatorOptions { listen, api_key, print_loop: true, ..SimulatorOptions::default() };
        let simulator = Simulator::start(options).await;
        let simulator = simulator.map_err(|error| format!("{listen}: {error}"))?;
        eprintln!("a simulated OctoPrint at {}", simulator.url());
        stop.await;
        simulator.stop();
        Ok::<(), String>(())
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
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
