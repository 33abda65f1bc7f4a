//! Everything that speaks to OctoPrint: a Rust counterpart of OctoPrint's JavaScript client.
//!
//! [`Socket`] is the push socket: it logs in, stays connected, and hands every message that
//! OctoPrint pushes to the handlers registered for it. [`Rest`] is the calls beside it.
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

mod rest;
mod socket;
mod wire;

pub use rest::appkeys::{AppKeys, AppKeysError, Decision, KeyRequest, POLL_INTERVAL, REQUEST_LIFE};
pub use rest::client::{CurrentUser, Rest};
pub use rest::commands::{FilePath, JobAction, Jog, SystemCommand};
pub use rest::error::{BuildError, RestError};
pub use rest::login::{Credentials, Login, LoginError};
pub use socket::backoff::{Backoff, DEFAULT_TIMEOUTS};
pub use socket::handle::Socket;
pub use socket::handlers::{Handled, HandlerId};
pub use socket::options::{Selection, SocketOptions, Subscription, TransportChoice};
pub use socket::status::{Counters, RateMode, SocketState, Status};
pub use socket::throttle::{RATE_BASE, Rate, Throttle};
pub use socket::turns::Turns;
pub use wire::frame::{BadElement, Decoded, Frame, FrameError, RawMessage, decode, encode};
pub use wire::message::{Event, Message, Plugin, ReauthReason};
pub use wire::transport::Transport;
