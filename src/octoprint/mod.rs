//! Everything that speaks to OctoPrint.

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
