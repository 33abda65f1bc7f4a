//! Log lines on stderr, with a level that can change while the bridge runs.

use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, reload};

use crate::bridge::SetLogLevel;
use crate::config::{Log, LogFormat, is_log_level};

/// Said by libraries at `info` and below: no news to a user unless asked for by name.
const QUIET: &str = "rumqttc=warn,rumqttd=off,hyper=info,reqwest=info,rustls=warn,tungstenite=info";

/// Starts logging and returns the way to change its level.
///
/// # Errors
/// Where the filter cannot be read.
pub fn start(log: &Log) -> Result<SetLogLevel, String> {
    let (level, handle) = reload::Layer::new(filter(&log.level)?);
    let lines = match log.format {
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
        }
    };
    tracing_subscriber::registry().with(level).with(lines).init();
    Ok(Arc::new(move |level: &str| {
        handle.reload(filter(level)?).map_err(|error| error.to_string())
    }))
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    if !is_log_level(level) {
        return Err(format!(
            "{level:?} is no log level; expected error, warn, info, debug, trace or a filter"
        ));
    }
    // What the user asks for comes last, so that it wins.
    EnvFilter::try_new(format!("{QUIET},{level}"))
        .map_err(|error| format!("{level:?} is no log level or filter: {error}"))
}
