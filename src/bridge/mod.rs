//! Connects OctoPrint and MQTT.
//!
//! The [`hub`] owns the connection to the broker and one task per printer. A printer's task
//! ([`printer`]) folds the messages of its socket into a snapshot, maps them to publications, and
//! passes commands to an executor.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use octoprint2mqtt::bridge::{Hub, SetLogLevel};
//! use octoprint2mqtt::config;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = config::read(None)?.config;
//! let set_log_level: SetLogLevel = Arc::new(|_| Err("the level is fixed".into()));
//! let stop = async {
//!     let _ = tokio::signal::ctrl_c().await;
//! };
//! Hub::start(config, set_log_level)?.run(stop).await?;
//! # Ok(())
//! # }
//! ```

pub mod authorization;
pub mod board;
pub mod broker_card;
pub mod check;
pub mod fleet;
pub mod fleet_report;
pub mod hub;
pub mod identity;
pub mod newcomer;
mod oversize;
pub mod printer;
pub mod reload;
pub mod request;
pub mod setup;
pub mod watch;

pub use hub::{Hub, RunError, Vitals};
pub use setup::{SetLogLevel, SetupError};
