//! Why a call, or the client that makes it, failed.

use std::fmt;

use reqwest::Method;

use super::login::LoginError;
use super::net_error::{NetError, shared};
use crate::causes::{Cause, HttpFault};

/// Why a socket could not be made.
#[derive(Debug, thiserror::Error)]
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
    #[error("the HTTP client could not be built")]
    Client(#[from] HttpFault),
}

/// Why a REST call failed: what happened in [`RestError::kind`], and why, where that is known, in
/// `source`.
#[derive(Debug, thiserror::Error)]
pub struct RestError {
    kind: RestErrorKind,
    method: Option<Method>,
    path: Option<String>,
    source: Option<Cause>,
}

/// What happened to a REST call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestErrorKind {
    /// OctoPrint answered with an error status.
    #[error("{text} ({status})")]
    Status {
        /// The HTTP status.
        status: u16,
        /// OctoPrint's own text where it gave one.
        text: String,
    },
    /// The server sends its visitors elsewhere. Not followed.
    #[error("OctoPrint is at another address: {location}")]
    Redirected {
        /// The HTTP status.
        status: u16,
        /// The address it names, without query and user.
        location: String,
    },
    /// No connection came about: the call was not sent.
    #[error("not sent")]
    NotSent,
    /// The call was sent, or may have been, and no HTTP answer came.
    #[error("sent, but no answer came")]
    Unanswered,
    /// The status came, the rest of the answer did not.
    #[error("the answer broke off ({status})")]
    BrokenOff {
        /// The HTTP status.
        status: u16,
    },
    /// The answer has another shape than OctoPrint gives it.
    #[error("the answer cannot be read")]
    Shape,
    /// The call is not one that can be made.
    #[error("{0}")]
    Argument(&'static str),
    /// The call needed a login first, and that failed.
    #[error("login failed")]
    Login,
}

impl fmt::Display for RestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{path}: {}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

impl From<LoginError> for RestError {
    fn from(error: LoginError) -> Self {
        let (kind, source) = (RestErrorKind::Login, Some(error.into()));
        Self { kind, method: None, path: None, source }
    }
}

impl RestError {
    pub(crate) fn new(kind: RestErrorKind, path: &str) -> Self {
        Self { kind, method: None, path: Some(path.to_owned()), source: None }
    }

    pub(crate) fn because(self, cause: impl Into<Cause>) -> Self {
        Self { source: Some(cause.into()), ..self }
    }

    pub(in crate::octoprint) fn of(self, method: &Method) -> Self {
        Self { method: Some(method.clone()), ..self }
    }

    /// What happened.
    pub fn kind(&self) -> &RestErrorKind {
        &self.kind
    }

    /// The call's HTTP method, such as `POST`, where it is known.
    pub fn method(&self) -> Option<&str> {
        self.method.as_ref().map(Method::as_str)
    }

    /// The call's path below the base address, such as `api/job`; `None` where the login before it
    /// failed.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The HTTP status, where there was an HTTP answer.
    pub fn status(&self) -> Option<u16> {
        match self.kind {
            RestErrorKind::Status { status, .. }
            | RestErrorKind::Redirected { status, .. }
            | RestErrorKind::BrokenOff { status } => Some(status),
            RestErrorKind::NotSent
            | RestErrorKind::Unanswered
            | RestErrorKind::Shape
            | RestErrorKind::Argument(_)
            | RestErrorKind::Login => None,
        }
    }

    /// The login that failed, where the call needed one first.
    pub fn login(&self) -> Option<&LoginError> {
        let source = self.source.as_ref().filter(|_| self.kind == RestErrorKind::Login);
        source?.downcast_ref()
    }

    /// Whether the call reached OctoPrint, or may have, with no answer of OctoPrint's to tell what
    /// became of it: none came, or only that of a proxy that got none either.
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self.kind,
            RestErrorKind::Unanswered | RestErrorKind::Status { status: 502 | 504, .. }
        )
    }
}

/// Why an exchange gave no whole answer; the caller knows the path.
pub(in crate::octoprint) enum CallError {
    NotSent(NetError),
    Unanswered(NetError),
    Body { status: u16, source: BodyError },
}

/// Why the rest of an answer was not read.
#[derive(Debug, thiserror::Error)]
pub(in crate::octoprint) enum BodyError {
    #[error("{source} ({path})")]
    BrokenOff { path: String, source: HttpFault },
    #[error("more than {limit} bytes ({path})")]
    TooLarge { path: String, limit: usize },
}

impl CallError {
    pub(in crate::octoprint) fn of_send(error: reqwest::Error) -> Self {
        let unsent = error.is_connect() || error.is_builder();
        let cause = NetError::of(error);
        if unsent { Self::NotSent(cause) } else { Self::Unanswered(cause) }
    }

    pub(in crate::octoprint) fn at(self, path: &str) -> RestError {
        let error = |kind| RestError::new(kind, path);
        match self {
            Self::NotSent(cause) => error(RestErrorKind::NotSent).because(cause),
            Self::Unanswered(cause) => error(RestErrorKind::Unanswered).because(cause),
            Self::Body { status, source } => {
                error(RestErrorKind::BrokenOff { status }).because(source)
            }
        }
    }
}

impl From<CallError> for LoginError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(cause) | CallError::Unanswered(cause) => cause.into(),
            CallError::Body { source, .. } => Self::NotUp { source: shared(source) },
        }
    }
}
