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

mod actor;
mod appkeys;
mod backoff;
mod commands;
mod connection;
mod cookies;
mod emergency;
mod fallback;
mod frame;
mod handlers;
mod http;
mod in_flight;
mod knocking;
mod lenient;
mod login;
mod message;
mod net_error;
mod opening;
mod options;
mod reach;
mod resolver;
mod rest;
mod shared;
mod socket;
mod status;
mod throttle;
mod transport;
mod turns;
mod waiting;
mod websocket;
mod wire;
mod ws_text;
mod xhr;

pub use appkeys::{AppKeys, AppKeysError, Decision, KeyRequest, POLL_INTERVAL, REQUEST_LIFE};
pub use backoff::{Backoff, DEFAULT_TIMEOUTS};
pub use commands::{FilePath, JobAction, Jog, SystemCommand};
pub use frame::{BadElement, Decoded, Frame, FrameError, RawMessage, decode, encode};
pub use handlers::{Handled, HandlerId};
pub use http::RestError;
pub use login::{Login, LoginError};
pub use message::{Event, Message, Plugin, ReauthReason};
pub use options::{Selection, SocketOptions, Subscription};
pub use rest::{CurrentUser, Rest};
pub use socket::{BuildError, Socket};
pub use status::{Counters, RateMode, SocketState, Status, Transport};
pub use throttle::{RATE_BASE, Rate, Throttle};
pub use turns::Turns;

use crate::secret::Secret;

/// How to log in to OctoPrint.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// An application key or a user's API key.
    ApiKey(Secret),
    /// A user's name and password.
    Password {
        /// The user's name; never has a colon (OctoPrint's `auth` message forbids it).
        username: String,
        /// The password.
        password: Secret,
    },
}

impl Credentials {
    /// What a failed login says, and of a refusal how many characters of the secret were sent:
    /// quotes or white space that crept in show in that, and the secret does not.
    pub fn told(&self, error: &LoginError) -> String {
        let (what, secret) = match self {
            Self::ApiKey(key) => ("a key", key),
            Self::Password { password, .. } => ("a password", password),
        };
        let of_octoprint = matches!(
            error,
            LoginError::KeyRefused | LoginError::NoActiveUser | LoginError::WrongPassword
        );
        match of_octoprint {
            true => format!("{error} ({what} of {} characters was sent)", secret.characters()),
            false => error.to_string(),
        }
    }
}

/// Which transport the socket may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportChoice {
    /// WebSocket, and XHR streaming where WebSocket is blocked.
    #[default]
    Auto,
    /// WebSocket only.
    WebSocket,
    /// XHR streaming only.
    XhrStreaming,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_how_many_characters_were_sent() {
        let key = Credentials::ApiKey(Secret::new("\"MARKER\""));
        let told = key.told(&LoginError::KeyRefused);
        assert!(told.contains("a key of 8 characters was sent"), "{told}");
        assert!(!told.contains("MARKER"), "{told}");
        assert_eq!(key.told(&LoginError::Timeout), LoginError::Timeout.to_string());
    }
}
