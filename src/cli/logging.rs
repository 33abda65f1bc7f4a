//! Logs to stderr, with a level that can change while the bridge runs.

use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, reload};

use crate::bridge::SetLogLevel;
use crate::config::{Log, LogFormat, log_filter};
use crate::recent_log::RecentLog;

/// Levels of libraries whose log lines are of no interest to a user unless requested by name.
const QUIET: &str = "rumqttc=warn,rumqttd=off,hyper=info,reqwest=info,rustls=warn,tungstenite=info";

/// Why a log level cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It is neither a level nor a filter.
    #[error("{0:?} is no log level; expected error, warn, info, debug, trace or a filter")]
    Level(String),
    /// The level cannot be changed any more.
    #[error(transparent)]
    Reload(#[from] reload::Error),
}

/// Starts logging, and returns a function that changes its level. Keeps the last warnings and errors
/// in `recent`, if there is one.
///
/// # Errors
/// If the filter cannot be parsed.
pub fn start(log: &Log, recent: Option<RecentLog>) -> Result<SetLogLevel, LogError> {
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
    tracing_subscriber::registry().with(level).with(lines).with(recent).init();
    let set = move |level: &str| -> Result<(), LogError> { Ok(handle.reload(filter(level)?)?) };
    Ok(Arc::new(move |level: &str| set(level).map_err(Into::into)))
}

fn filter(level: &str) -> Result<Targets, LogError> {
    // The user's filter comes last, so that it wins.
    log_filter(&format!("{QUIET},{level}")).ok_or_else(|| LogError::Level(level.to_owned()))
}
