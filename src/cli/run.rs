//! `octoprint2mqtt`: runs the bridge, and serves health, metrics and the page if `[http]` is
//! configured.

use std::future::Future;

use tracing::{Instrument, Span};

use super::subcommand::{self, CommandFailure, block_on};
use super::{addon, logging};
use crate::bridge::board::Board;
use crate::bridge::hub::ShownBoard;
use crate::bridge::reload::{ConfigFollower, ReadConfig};
use crate::bridge::{Hub, RunError, SetLogLevel, SetupError};
use crate::config::{Config, Loaded};
use crate::http::{self, ListenError, Page, PageChoice, PageOptions, Site};
use crate::recent_log::RecentLog;

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
    let page = page_options(&config).filter(|page| page.choice() == PageChoice::Served);
    let recent = page.is_some().then(RecentLog::default);
    let set_log_level = logging::start(&config.log, recent.clone())?;
    span().in_scope(|| warnings.iter().for_each(|warning| tracing::warn!("{warning}")));
    block_on(async {
        let stop = subcommand::stop()?;
        let follower = ConfigFollower::new(read, files, subcommand::hangups()?);
        let around = (recent.unwrap_or_default(), Some(follower));
        Ok(run(config, set_log_level, around, stop).instrument(span()).await?)
    })
}

/// What the page needs, if HTTP is served.
fn page_options(config: &Config) -> Option<PageOptions> {
    let ingress = addon::is_addon().then_some(http::SUPERVISOR);
    Some(PageOptions { http: config.http.clone()?, ingress })
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
    let around = (RecentLog::default(), None);
    run(config, set_log_level, around, shutdown).instrument(span()).await
}

/// The span of everything that belongs neither to a printer nor to the broker.
fn span() -> Span {
    tracing::info_span!("bridge")
}

async fn run(
    config: Config,
    set_log_level: SetLogLevel,
    (recent, follower): (RecentLog, Option<ConfigFollower>),
    shutdown: impl Future<Output = ()>,
) -> Result<(), BridgeError> {
    let listener = config.http.as_ref().map(|http| http::listen(http.listen)).transpose()?;
    let (page, board) = page_options(&config).and_then(|page| make_page(page, recent)).unzip();
    let mut hub = Hub::start_shown(config, set_log_level, board)?;
    if let Some(follower) = follower {
        hub.follow_config(follower);
    }
    if let Some(listener) = listener {
        let site = Site::from(hub.vitals()).with_page(page);
        hub.spawn("HTTP server", http::serve(listener, site));
    }
    Ok(hub.run(shutdown).await?)
}

/// Makes the page, where it is wanted and safe.
fn make_page(options: PageOptions, recent: RecentLog) -> Option<(Page, ShownBoard)> {
    match options.choice() {
        PageChoice::Off => None,
        PageChoice::Served => {
            let (board, asked) = Board::new();
            Some((Page::new(options, board.clone(), recent), (board, asked)))
        }
        PageChoice::Unsafe(listen) => {
            tracing::warn!(
                "the page is not served, because http.listen = {listen} is open to others; set http.password, or http.page to false"
            );
            None
        }
    }
}
