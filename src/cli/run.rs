//! `octoprint2mqtt`: runs the bridge, and serves health and metrics if `[http]` is configured.

use std::future::Future;

use tracing::{Instrument, Span};

use super::logging;
use super::subcommand::{self, CommandFailure, block_on};
use crate::bridge::reload::{ConfigFollower, ReadConfig};
use crate::bridge::{Hub, RunError, SetLogLevel, SetupError};
use crate::config::{Config, Loaded};
use crate::http::{self, ListenError};

/// Why the bridge did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// Health and metrics cannot be served.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The bridge cannot be set up.
    #[error(transparent)]
    SetUp(#[from] SetupError),
    /// A task that all printers need failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

pub(super) fn command(loaded: Loaded, read: ReadConfig) -> Result<(), CommandFailure> {
    let Loaded { config, warnings, files } = loaded;
    let set_log_level = logging::start(&config.log)?;
    span().in_scope(|| warnings.iter().for_each(|warning| tracing::warn!("{warning}")));
    block_on(async {
        let stop = subcommand::stop()?;
        let follower = ConfigFollower::new(read, files, subcommand::hangups()?);
        Ok(run(config, set_log_level, Some(follower), stop).instrument(span()).await?)
    })
}

/// Runs the bridge until `shutdown` resolves; then publishes `offline` and flushes the outbox, for
/// five seconds at most.
///
/// # Errors
/// If the address of `[http]` is taken, TLS or a socket cannot be set up, or a task that all
/// printers need failed; `offline` is published then, too. An unreachable broker or OctoPrint is
/// not an error.
pub async fn bridge(
    config: Config,
    set_log_level: SetLogLevel,
    shutdown: impl Future<Output = ()>,
) -> Result<(), BridgeError> {
    run(config, set_log_level, None, shutdown).instrument(span()).await
}

/// The span of everything that belongs neither to a printer nor to the broker.
fn span() -> Span {
    tracing::info_span!("bridge")
}

async fn run(
    config: Config,
    set_log_level: SetLogLevel,
    follower: Option<ConfigFollower>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), BridgeError> {
    let listener = config.http.as_ref().map(|http| http::listen(http.listen)).transpose()?;
    let mut hub = Hub::start(config, set_log_level)?;
    if let Some(follower) = follower {
        hub.follow_config(follower);
    }
    if let Some(listener) = listener {
        hub.spawn("HTTP server", http::serve(listener, hub.vitals()));
    }
    Ok(hub.run(shutdown).await?)
}
