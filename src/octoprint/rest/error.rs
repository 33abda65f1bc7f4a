//! Why a call, or the client that makes it, failed.

use super::login::LoginError;
use super::net_error::NetError;

/// Why a socket could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base address is not one of OctoPrint.
    #[error("{url}: the base address must be http or https and its path must end with /")]
    Url {
        /// The address, without user and password.
        url: String,
    },
    /// The API key, user name or a header cannot be sent.
    #[error("{name}: holds characters that cannot be sent")]
    NotSendable {
        /// What it is: never its value.
        name: String,
    },
    /// There is no tokio runtime to run the socket.
    #[error("a socket must be made within a tokio runtime")]
    NoRuntime,
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be built: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
}

/// Why a REST call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestError {
    /// OctoPrint answered with an error status.
    #[error("{path}: {text} ({status})")]
    Status {
        /// The path of the call.
        path: String,
        /// The HTTP status.
        status: u16,
        /// OctoPrint's own text where it gave one.
        text: String,
    },
    /// The server sends its visitors elsewhere. Not followed.
    #[error("{path}: OctoPrint is at another address: {location}")]
    Redirected {
        /// The path of the call.
        path: String,
        /// The HTTP status.
        status: u16,
        /// The address it names, without query and user.
        location: String,
    },
    /// No connection came about: the call was not sent.
    #[error("{path}: not sent: {reason}")]
    NotSent {
        /// The path of the call.
        path: String,
        /// Why.
        reason: String,
    },
    /// The call was sent, or may have been, and no HTTP answer came.
    #[error("{path}: sent, but no answer came: {reason}")]
    Unanswered {
        /// The path of the call.
        path: String,
        /// Why.
        reason: String,
    },
    /// The status came, the rest of the answer did not.
    #[error("{path}: the answer broke off ({status}): {reason}")]
    Broken {
        /// The path of the call.
        path: String,
        /// The HTTP status.
        status: u16,
        /// Why.
        reason: String,
    },
    /// The answer has another shape than OctoPrint gives it.
    #[error("{path}: the answer cannot be read")]
    Shape {
        /// The path of the call.
        path: String,
        /// What was wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The call is not one that can be made.
    #[error("{path}: {reason}")]
    Argument {
        /// The path of the call.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The call needed a login first, and that failed.
    #[error("login failed: {0}")]
    Login(#[from] LoginError),
}

impl RestError {
    /// The HTTP status, where there was an HTTP answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. }
            | Self::Redirected { status, .. }
            | Self::Broken { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the call reached OctoPrint, or may have, with no answer of OctoPrint's to tell what
    /// became of it: none came, or only that of a proxy that got none either.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unanswered { .. } | Self::Status { status: 502 | 504, .. })
    }
}

/// Why an exchange gave no whole answer; the caller knows the path.
pub(in crate::octoprint) enum CallError {
    NotSent(NetError),
    Unanswered(NetError),
    Body { status: u16, reason: String },
}

impl CallError {
    pub(in crate::octoprint) fn of_send(error: &reqwest::Error) -> Self {
        let cause = NetError::of(error);
        if error.is_connect() || error.is_builder() {
            Self::NotSent(cause)
        } else {
            Self::Unanswered(cause)
        }
    }

    pub(in crate::octoprint) fn at(self, path: &str) -> RestError {
        let path = path.to_owned();
        match self {
            Self::NotSent(cause) => RestError::NotSent { path, reason: cause.to_string() },
            Self::Unanswered(cause) => RestError::Unanswered { path, reason: cause.to_string() },
            Self::Body { status, reason } => RestError::Broken { path, status, reason },
        }
    }
}

impl From<CallError> for LoginError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(cause) | CallError::Unanswered(cause) => cause.into(),
            CallError::Body { reason, .. } => Self::NotUp { reason },
        }
    }
}
