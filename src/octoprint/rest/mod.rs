//! OctoPrint's REST API: login, commands, state, application keys. Usable without a socket.
//!
//! ```no_run
//! use octoprint2mqtt::config::Tls;
//! use octoprint2mqtt::octoprint::{Credentials, JobAction, Rest, RestOptions};
//! use octoprint2mqtt::secret::Secret;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let key = Credentials::ApiKey(Secret::new("0123456789ABCDEF"));
//! let tls = octoprint2mqtt::tls::client_config(&Tls::default(), false)?;
//! let rest = Rest::new(RestOptions::new("http://octopi.local/".parse()?, key, tls))?;
//! println!("logged in as {}", rest.login().await?.name);
//! rest.set_target("bed", 60.0).await?;
//! rest.job(JobAction::Start).await?;
//! # Ok(())
//! # }
//! ```

pub(super) mod answer;
pub(super) mod appkeys;
pub(super) mod client;
pub(super) mod commands;
mod cookies;
pub(super) mod custom_controls;
pub(super) mod download;
pub(super) mod error;
pub(super) mod file_path;
pub(super) mod http;
pub(super) mod login;
pub(super) mod options;
pub(super) mod plugin;
pub(super) mod printer;
pub(super) mod prompts;
pub(super) mod psu_control;
pub(super) mod reach;
pub(super) mod settings;
pub(super) mod updates;
pub(super) mod webcam;
