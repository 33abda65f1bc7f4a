//! Why a call, a login, or the client that makes them, failed.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use reqwest::Method;

use crate::causes::{Cause, HttpFault, chain, of_tls};

/// Why a socket or a REST client could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base address cannot be OctoPrint's.
    #[error("{url}: the base address must be http or https and its path must end with /")]
    Url {
        /// The address, without user and password.
        url: String,
    },
    /// The API key, user name or a header cannot be sent.
    #[error("{name}: holds characters that cannot be sent")]
    NotSendable {
        /// The name of the setting, never its value.
        name: String,
    },
    /// There is no tokio runtime to run the socket.
    #[error("a socket must be created within a tokio runtime")]
    NoRuntime,
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be built")]
    Client(#[from] HttpFault),
}

/// Why a REST call failed: what happened in [`RestError::kind`], and the cause, if known, in
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
        /// OctoPrint's error text, if there is one.
        text: String,
    },
    /// The server redirects to another address. Redirects are not followed.
    #[error("OctoPrint is at another address: {location}")]
    Redirected {
        /// The HTTP status.
        status: u16,
        /// The redirect's target, without query and user.
        location: String,
    },
    /// No connection was made: the call was not sent.
    #[error("not sent")]
    NotSent,
    /// The call was sent, or may have been, and there was no HTTP answer.
    #[error("sent, but no answer came")]
    Unanswered,
    /// The answer ended after the status.
    #[error("the answer broke off ({status})")]
    BrokenOff {
        /// The HTTP status.
        status: u16,
    },
    /// The answer does not have the expected format.
    #[error("the answer cannot be read")]
    Shape,
    /// An argument of the call is invalid.
    #[error("{0}")]
    Argument(&'static str),
    /// The call required a login, and the login failed.
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
        let path = without_query(path).to_owned();
        Self { kind, method: None, path: Some(path), source: None }
    }

    pub(crate) fn caused_by(self, cause: impl Into<Cause>) -> Self {
        Self { source: Some(cause.into()), ..self }
    }

    pub(in crate::octoprint) fn with_method(self, method: &Method) -> Self {
        Self { method: Some(method.clone()), ..self }
    }

    /// Returns what happened.
    pub fn kind(&self) -> &RestErrorKind {
        &self.kind
    }

    /// Returns the call's HTTP method, such as `POST`, if known.
    pub fn method(&self) -> Option<&str> {
        self.method.as_ref().map(Method::as_str)
    }

    /// Returns the call's path below the base address, such as `api/job`; `None` if a login failed.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns the HTTP status, if there was an HTTP answer.
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

    /// Returns the error of the login that the call required.
    pub fn login(&self) -> Option<&LoginError> {
        let source = self.source.as_ref().filter(|_| self.kind == RestErrorKind::Login);
        source?.downcast_ref()
    }

    /// Whether it is unknown if OctoPrint carried out the call: it may have been sent, but there was
    /// no answer, or only that of a proxy that got none either.
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self.kind,
            RestErrorKind::Unanswered | RestErrorKind::Status { status: 502 | 504, .. }
        )
    }
}

/// Why a login failed, and what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The API key is wrong or missing; OctoPrint answers `400 CSRF validation failed`.
    #[error("OctoPrint does not know this API key: check it, or create a new one")]
    KeyRefused,
    /// OctoPrint has no active user for the key: the user is deactivated, or, before 1.8, the key is
    /// wrong. The answers are the same.
    #[error(
        "OctoPrint does not know this API key, or its user is deactivated: check the key, and the \
         user in OctoPrint's settings"
    )]
    NoActiveUser,
    /// User name or password is wrong, or the user is deactivated. The answers are the same.
    #[error("OctoPrint refuses user name or password, or the user is deactivated: check all three")]
    WrongPassword,
    /// The user has a second factor, which a daemon cannot provide.
    #[error("OctoPrint asks for a second factor: use an API key instead of user and password")]
    SecondFactor,
    /// Too many failed logins: OctoPrint refuses every login from this address for a while.
    #[error(
        "too many failed logins: OctoPrint refuses every login from this address for up to an \
         hour; correct the key or password meanwhile"
    )]
    RateLimited,
    /// A proxy in front of OctoPrint asks for its own login.
    #[error(
        "a proxy in front of OctoPrint wants a login of its own ({status}, {challenge}): give it in \
         the address as user:password@, or in an extra header"
    )]
    ProxyLogin {
        /// The HTTP status.
        status: u16,
        /// The login challenge.
        challenge: String,
    },
    /// Something in front of OctoPrint refuses access.
    #[error(
        "something in front of OctoPrint refuses access ({status}: {text}): it may want a login of \
         its own, in the address as user:password@ or in an extra header"
    )]
    ProxyRefused {
        /// The HTTP status.
        status: u16,
        /// Summary of the answer.
        text: String,
    },
    /// Nothing listens at the address, or OctoPrint is still starting.
    #[error("OctoPrint is not up ({source})")]
    NotUp {
        /// The cause.
        source: SharedCause,
    },
    /// A server that is not OctoPrint answered.
    #[error("this is not OctoPrint ({seen}): check the address, with its path")]
    NotOctoPrint {
        /// Summary of the answer.
        seen: String,
    },
    /// The credentials cannot be sent.
    #[error("the login cannot be sent")]
    NotSendable(#[source] SharedCause),
    /// The server redirects to another address. Not followed: the key must not leak.
    #[error("OctoPrint is at another address: use {location} in the configuration")]
    Redirected {
        /// The redirect's target, without query and user.
        location: String,
    },
    /// The TLS handshake failed.
    #[error("TLS failed ({source}): check certificate, CA file and that the address is https")]
    Tls {
        /// The cause.
        source: SharedCause,
    },
    /// The host name is unknown.
    #[error("the host name cannot be resolved ({source}): check the address")]
    Dns {
        /// The cause.
        source: SharedCause,
    },
    /// There is no route to the host.
    #[error("no route to OctoPrint's host ({source}): check the network and the address")]
    Unreachable {
        /// The cause.
        source: SharedCause,
    },
    /// No answer in time.
    #[error("OctoPrint did not answer in time")]
    Timeout,
    /// An error that is unrelated to the credentials.
    #[error("OctoPrint answered {status}: {text}")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// Summary of the answer.
        text: String,
    },
}

impl LoginError {
    /// Whether the credentials were refused. Retrying soon is useless and harmful: ten failed logins
    /// an hour lock out every login from this address.
    pub fn refused(&self) -> bool {
        matches!(
            self,
            Self::KeyRefused
                | Self::NoActiveUser
                | Self::WrongPassword
                | Self::SecondFactor
                | Self::RateLimited
                | Self::ProxyLogin { .. }
                | Self::ProxyRefused { .. }
        )
    }

    pub(in crate::octoprint) fn unreached(&self) -> bool {
        matches!(
            self,
            Self::NotUp { .. } | Self::Timeout | Self::Unreachable { .. } | Self::Dns { .. }
        )
    }
}

impl From<NetError> for LoginError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Timeout => Self::Timeout,
            NetError::Dns(source) => Self::Dns { source },
            NetError::Tls(source) => Self::Tls { source },
            NetError::Unreachable(source) => Self::Unreachable { source },
            NetError::Down(source) | NetError::Unreadable(source) => Self::NotUp { source },
        }
    }
}

/// Why an exchange gave no complete answer, without the path.
pub(in crate::octoprint) enum CallError {
    NotSent(NetError),
    Unanswered(NetError),
    Body { status: u16, source: BodyError },
}

/// Returns a path as errors show it: queries may contain passwords.
pub(in crate::octoprint) fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

#[derive(Debug, thiserror::Error)]
pub(in crate::octoprint) enum BodyError {
    #[error("{source} ({path})")]
    BrokenOff { path: String, source: HttpFault },
    #[error("more than {limit} bytes ({path})")]
    TooLarge { path: String, limit: usize },
    #[error("nothing arrived for {} s ({path})", limit.as_secs())]
    Stalled { path: String, limit: Duration },
}

impl CallError {
    pub(in crate::octoprint) fn from_send(error: reqwest::Error) -> Self {
        let unsent = error.is_connect() || error.is_builder();
        let cause = NetError::of(error);
        if unsent { Self::NotSent(cause) } else { Self::Unanswered(cause) }
    }

    pub(in crate::octoprint) fn at(self, path: &str) -> RestError {
        let error = |kind| RestError::new(kind, path);
        match self {
            Self::NotSent(cause) => error(RestErrorKind::NotSent).caused_by(cause),
            Self::Unanswered(cause) => error(RestErrorKind::Unanswered).caused_by(cause),
            Self::Body { status, source } => {
                error(RestErrorKind::BrokenOff { status }).caused_by(source)
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

/// The cause of an error that implements `Clone`.
pub(in crate::octoprint) type SharedCause = Arc<dyn Error + Send + Sync>;

pub(in crate::octoprint) fn shared(cause: impl Into<Cause>) -> SharedCause {
    cause.into().into()
}

/// Why there was no usable HTTP answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::octoprint) enum NetError {
    #[error("timed out")]
    Timeout,
    #[error("the host name cannot be resolved ({0})")]
    Dns(#[source] SharedCause),
    #[error("TLS failed ({0})")]
    Tls(#[source] SharedCause),
    #[error("no route to it ({0})")]
    Unreachable(#[source] SharedCause),
    /// The connection was refused, reset, or closed before an answer.
    #[error("{0}")]
    Down(#[source] SharedCause),
    /// The answer was not HTTP.
    #[error("{0}")]
    Unreadable(#[source] SharedCause),
}

#[derive(Debug, thiserror::Error)]
#[error("no HTTP answer: {0}")]
struct NoHttpAnswer(#[source] HttpFault);

impl NetError {
    pub(in crate::octoprint) fn of(error: reqwest::Error) -> Self {
        let fault = |error: reqwest::Error| shared(HttpFault::from(error));
        if of_tls(&error).is_some() {
            return Self::Tls(fault(error));
        }
        if error.is_dns() {
            return Self::Dns(fault(error));
        }
        match io_kind(&error) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Down(shared("connection refused")),
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
                Self::Unreachable(fault(error))
            }
            Some(io::ErrorKind::TimedOut) => Self::Timeout,
            Some(_) => Self::Down(fault(error)),
            None if error.is_timeout() => Self::Timeout,
            None if is_parse(&error) => Self::Unreadable(shared(NoHttpAnswer(error.into()))),
            None => Self::Down(shared(NoHttpAnswer(error.into()))),
        }
    }

    /// Whether OctoPrint could not be reached. A server that fails the TLS handshake is reachable.
    pub(in crate::octoprint) fn unreached(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    chain(error).filter_map(|e| e.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}

fn is_parse(error: &(dyn Error + 'static)) -> bool {
    chain(error).filter_map(|e| e.downcast_ref::<hyper::Error>()).any(hyper::Error::is_parse)
}
