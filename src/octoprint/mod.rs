//! An OctoPrint client, the counterpart of OctoPrint's JavaScript client.
//!
//! [`Socket`] is the push socket: it logs in, stays connected, and passes OctoPrint's messages to
//! streams and handlers. [`Rest`] is the REST client, which needs no socket.
//!
//! # With an API key
//!
//! ```no_run
//! use octoprint2mqtt::octoprint::{Credentials, Handled, Socket, SocketOptions};
//! use octoprint2mqtt::secret::Secret;
//!
//! # async fn example(tls: std::sync::Arc<rustls::ClientConfig>) -> Result<(), Box<dyn std::error::Error>> {
//! let key = Credentials::ApiKey(Secret::new("0123456789ABCDEF"));
//! let options = SocketOptions::new("http://octopi.local/".parse()?, key, tls);
//! let socket = Socket::new(options)?;
//! socket.on_message("event", |message| {
//!     println!("{}", message.payload());
//!     async { Handled::Unmeasured }
//! });
//! socket.connect();
//! # Ok(())
//! # }
//! ```
//!
//! # All messages, and the push rate
//!
//! Each message has a receipt. The time until it is acknowledged controls how often OctoPrint pushes.
//!
//! ```no_run
//! use octoprint2mqtt::octoprint::{Message, MessageKind, Socket};
//!
//! # async fn store(message: &Message) {}
//! # async fn example(socket: Socket) {
//! let mut messages = socket.messages();
//! socket.connect();
//! while let Some((message, receipt)) = messages.recv().await {
//!     if *message.kind() == MessageKind::Current {
//!         store(&message).await;
//!         receipt.acknowledge();
//!     }
//! }
//! # }
//! ```
//!
//! # With user and password
//!
//! ```no_run
//! use octoprint2mqtt::octoprint::{Credentials, JobAction, Socket, SocketOptions, SocketState};
//! use octoprint2mqtt::secret::Secret;
//!
//! # async fn example(tls: std::sync::Arc<rustls::ClientConfig>) -> Result<(), Box<dyn std::error::Error>> {
//! let credentials =
//!     Credentials::Password { username: "admin".to_owned(), password: Secret::new("correct horse") };
//! let options = SocketOptions::new("https://printers.example/mk3/".parse()?, credentials, tls);
//! let socket = Socket::new(options)?;
//! let mut status = socket.status();
//! socket.connect();
//! status.wait_for(|status| status.state == SocketState::Connected).await?;
//! socket.rest().job(JobAction::Pause).await?;
//! socket.close().await;
//! # Ok(())
//! # }
//! ```

mod large;
mod lenient;
mod rest;
mod socket;
mod wire;

pub use rest::appkeys::{AppKeys, AppKeysError, Decision, KeyRequest, POLL_INTERVAL, REQUEST_LIFE};
pub use rest::client::{CurrentUser, Rest};
pub use rest::commands::{JobAction, Jog, PrintParams, SystemCommand};
pub use rest::custom_controls::{ControlInput, CustomControl, ParameterError};
pub use rest::download::{Download, Pace};
pub use rest::error::{BuildError, LoginError, RestError, RestErrorKind};
pub use rest::file_path::FilePath;
pub use rest::login::{Credentials, Login};
pub use rest::options::RestOptions;
pub use rest::plugin::{PluginCall, PluginMethod};
pub use rest::printer::{ConnectWith, JobStatus, PrinterConnection, SERIAL};
pub use rest::prompts::{PROMPT_PLUGIN, PrinterPrompt};
pub use rest::psu_control::{PSU_PLUGIN, psu_state};
pub use rest::settings::TemperaturePreset;
pub use rest::updates::{UPDATE_PLUGIN, UpdateCheck};
pub use rest::webcam::{PictureError, PictureFormat, PictureSource, Webcam};
pub use socket::backoff::{Backoff, DEFAULT_TIMEOUTS, Turns};
pub use socket::dispatcher::Messages;
pub use socket::handle::Socket;
pub use socket::handlers::{Handled, HandlerId};
pub use socket::options::{Selection, SocketOptions, Subscription, TransportChoice};
pub use socket::status::{Counters, RateMode, SocketState, Status};
pub use socket::throttle::{RATE_BASE, Rate, Throttle};
pub use wire::frame::{BadElement, Decoded, Frame, FrameError, RawMessage, decode, encode};
pub use wire::message::{Event, EventKind, Message, MessageKind, Plugin, ReauthReason};
pub use wire::transport::Transport;

pub use crate::receipt::Receipt;
