//! Logging in: what OctoPrint answers, and what that means.

use std::fmt;

use reqwest::StatusCode;
use serde::Deserialize;

use super::answer::{Answer, shown};
use super::net_error::{NetError, SharedCause, shared};
use crate::causes;
use crate::secret::Secret;

/// A login: what the socket's `auth` message needs.
#[derive(Clone)]
pub struct Login {
    /// The user's name (`_api` for the global key of the settings).
    pub name: String,
    /// The session that the server keeps for this login.
    pub session: Secret,
    /// The user's groups.
    pub groups: Vec<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a login failed, and what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The API key is wrong or missing. OctoPrint says `400 CSRF validation failed` then.
    #[error("OctoPrint does not know this API key: check it, or create a new one")]
    KeyRefused,
    /// OctoPrint has no active user for the key: the user has been deactivated, or, before 1.8, the
    /// key is wrong. The answers do not tell which.
    #[error(
        "OctoPrint does not know this API key, or its user is deactivated: check the key, and the \
         user in OctoPrint's settings"
    )]
    NoActiveUser,
    /// User name or password is wrong, or the user has been deactivated: the answers are the same.
    #[error("OctoPrint refuses user name or password, or the user is deactivated: check all three")]
    WrongPassword,
    /// The user logs in with a second factor, which a daemon does not have.
    #[error("OctoPrint asks for a second factor: use an API key instead of user and password")]
    SecondFactor,
    /// Too many logins failed; OctoPrint refuses every login from this address for a while.
    #[error(
        "too many failed logins: OctoPrint refuses every login from this address for up to an \
         hour; correct the key or password meanwhile"
    )]
    RateLimited,
    /// A proxy in front of OctoPrint asks for a login of its own, and says so.
    #[error(
        "a proxy in front of OctoPrint wants a login of its own ({status}, {challenge}): give it in \
         the address as user:password@, or in an extra header"
    )]
    ProxyLogin {
        /// The HTTP status.
        status: u16,
        /// The kind of login that it names.
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
        /// What the answer says of itself.
        text: String,
    },
    /// Nothing listens there, or OctoPrint is still starting.
    #[error("OctoPrint is not up ({source})")]
    NotUp {
        /// What was seen.
        source: SharedCause,
    },
    /// Something answers there, but it is not OctoPrint.
    #[error("this is not OctoPrint ({seen}): check the address, with its path")]
    NotOctoPrint {
        /// What was seen.
        seen: String,
    },
    /// The login is not one that can be sent.
    #[error("the login cannot be sent")]
    NotSendable(#[source] SharedCause),
    /// The server sends its visitors elsewhere. Not followed, lest the key go astray.
    #[error("OctoPrint is at another address: use {location} in the configuration")]
    Redirected {
        /// The address it names, without query and user.
        location: String,
    },
    /// The TLS handshake failed.
    #[error("TLS failed ({source}): check certificate, CA file and that the address is https")]
    Tls {
        /// What was seen.
        source: SharedCause,
    },
    /// The host name is unknown.
    #[error("the host name cannot be resolved ({source}): check the address")]
    Dns {
        /// What was seen.
        source: SharedCause,
    },
    /// There is no route to the host.
    #[error("no route to OctoPrint's host ({source}): check the network and the address")]
    Unreachable {
        /// What was seen.
        source: SharedCause,
    },
    /// No answer in time.
    #[error("OctoPrint did not answer in time")]
    Timeout,
    /// An error that is not about who asks.
    #[error("OctoPrint answered {status}: {text}")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// Its text.
        text: String,
    },
}

impl LoginError {
    /// Whether the credentials were refused. Trying again soon is of no use then, and does harm:
    /// ten failed logins an hour lock out every login from this address.
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

    /// Whether OctoPrint could not be reached: it is not up, or it is not known where it is.
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

/// Which credentials an answer was given to; the same status means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::octoprint) enum Attempt {
    /// Passive login with an API key.
    Key,
    /// Passive login with a session's cookies.
    Cookies,
    /// User name and password.
    Password,
}

/// Reads the answer to `POST api/login`.
pub(in crate::octoprint) fn read(attempt: Attempt, answer: &Answer) -> Result<Login, LoginError> {
    if answer.status == StatusCode::OK {
        return logged_in(attempt, answer);
    }
    if attempt == Attempt::Password && is_refusal_of_1_5(answer) {
        return Err(LoginError::WrongPassword);
    }
    Err(in_between(answer).unwrap_or_else(|| refusal(attempt, answer)))
}

/// What an answer says that is none of OctoPrint's to the question, whatever that was: a redirect,
/// the refusal of a proxy, a fault of the server.
pub(in crate::octoprint) fn in_between(answer: &Answer) -> Option<LoginError> {
    let status = answer.status.as_u16();
    if answer.status.is_redirection() {
        let location = answer.location.clone().unwrap_or_else(|| "(none named)".to_owned());
        return Some(LoginError::Redirected { location });
    }
    proxy_login(answer).or_else(|| match status {
        // OctoPrint refuses in its own form.
        401 | 403 | 407 if !answer.is_object() => {
            Some(LoginError::ProxyRefused { status, text: answer.seen() })
        }
        501..=504 => Some(LoginError::NotUp { source: shared(HttpStatus(status)) }),
        500.. => Some(LoginError::Unexpected { status, text: answer.seen() }),
        _ => None,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("HTTP status {0}")]
struct HttpStatus(u16);

/// A proxy's question for a login of its own.
pub(in crate::octoprint) fn proxy_login(answer: &Answer) -> Option<LoginError> {
    match (answer.status.as_u16(), &answer.challenge) {
        (status @ (401 | 407), Some(challenge)) => {
            Some(LoginError::ProxyLogin { status, challenge: challenge.clone() })
        }
        _ => None,
    }
}

fn logged_in(attempt: Attempt, answer: &Answer) -> Result<Login, LoginError> {
    #[derive(Deserialize)]
    struct Body {
        name: Option<String>,
        session: Option<String>,
        #[serde(default)]
        groups: Vec<String>,
        needs: Option<serde::de::IgnoredAny>,
    }
    let not_octoprint = || LoginError::NotOctoPrint {
        seen: match answer.title() {
            Some(title) => format!("it answers a login with the page \"{title}\""),
            None => "its answer to a login is not OctoPrint's".to_owned(),
        },
    };
    let body: Body = serde_json::from_slice(&answer.body).map_err(|_| not_octoprint())?;
    match (body.name, body.session) {
        (Some(name), Some(session)) if !name.is_empty() && !session.is_empty() => {
            Ok(Login { name, session: Secret::new(session), groups: body.groups })
        }
        // A guest's answer: what a deactivated user, a session that has ended, or, before
        // 1.8, a wrong key is to OctoPrint.
        _ if body.needs.is_some() => Err(match attempt {
            Attempt::Key => LoginError::NoActiveUser,
            Attempt::Cookies | Attempt::Password => LoginError::WrongPassword,
        }),
        _ => Err(not_octoprint()),
    }
}

fn refusal(attempt: Attempt, answer: &Answer) -> LoginError {
    #[derive(Deserialize)]
    struct Body {
        error: Option<String>,
        mfa: Option<serde::de::IgnoredAny>,
    }
    let body: Option<Body> = serde_json::from_slice(&answer.body).ok();
    let status = answer.status.as_u16();
    match (status, body) {
        (429, _) => LoginError::RateLimited,
        (_, Some(Body { mfa: Some(_), .. })) => LoginError::SecondFactor,
        (400 | 401 | 403, Some(Body { error: Some(error), .. })) => {
            credentials_refused(attempt, status, &error)
        }
        (_, Some(Body { error: Some(error), .. })) if status != 404 => {
            LoginError::Unexpected { status, text: shown(&error) }
        }
        _ => LoginError::NotOctoPrint { seen: format!("HTTP status {status}: {}", answer.seen()) },
    }
}

/// OctoPrint 1.5 has no JSON for a wrong password, but these texts.
fn is_refusal_of_1_5(answer: &Answer) -> bool {
    let text = answer.seen();
    answer.status == StatusCode::FORBIDDEN
        && ["User unknown or password", "Your account is deactivated"]
            .iter()
            .any(|start| text.starts_with(start))
}

fn credentials_refused(attempt: Attempt, status: u16, error: &str) -> LoginError {
    let csrf = error.contains("CSRF");
    match attempt {
        Attempt::Key if csrf || status != 400 => LoginError::KeyRefused,
        Attempt::Cookies | Attempt::Password if status != 400 => LoginError::WrongPassword,
        Attempt::Key | Attempt::Cookies | Attempt::Password => {
            LoginError::Unexpected { status, text: shown(error) }
        }
    }
}

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
    /// What a failed login says with its causes, and of a refusal how many characters of the secret
    /// were sent: quotes or white space that crept in show in that, and the secret does not.
    pub fn told(&self, error: &LoginError) -> String {
        let (what, secret) = match self {
            Self::ApiKey(key) => ("a key", key),
            Self::Password { password, .. } => ("a password", password),
        };
        let of_octoprint = matches!(
            error,
            LoginError::KeyRefused | LoginError::NoActiveUser | LoginError::WrongPassword
        );
        let told = causes::text(error);
        match of_octoprint {
            true => format!("{told} ({what} of {} characters was sent)", secret.characters()),
            false => told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(attempt: Attempt, status: u16, body: &str) -> Result<Login, LoginError> {
        let (status, body) = (StatusCode::from_u16(status).unwrap(), body.to_owned().into());
        let location = status.is_redirection().then(|| "https://octopi.local/".to_owned());
        read(attempt, &Answer { status, location, challenge: None, body })
    }

    #[test]
    fn a_login_shows_no_session() {
        let body = r#"{"name":"admin","session":"deadbeef","apikey":"KEY","groups":["admins"]}"#;
        let login = answer(Attempt::Key, 200, body).unwrap();
        assert_eq!((login.name.as_str(), login.session.expose()), ("admin", "deadbeef"));
        assert!(!format!("{login:?}").contains("deadbeef"));
    }

    #[test]
    fn every_refusal_is_told_apart() {
        use Attempt::{Cookies, Key, Password};
        let csrf = r#"{"error":"CSRF validation failed"}"#;
        let guest = r#"{"needs":{"group":["guests"],"role":[]},"permissions":[]}"#;
        let wrong = r#"{"error":"User unknown or password invalid"}"#;
        let is = |attempt, status, body, error: LoginError| {
            let found = answer(attempt, status, body).unwrap_err();
            assert_eq!(found.to_string(), error.to_string(), "{status} {body}");
        };
        is(Key, 400, csrf, LoginError::KeyRefused);
        is(Key, 200, guest, LoginError::NoActiveUser);
        is(Cookies, 200, guest, LoginError::WrongPassword);
        is(Password, 403, wrong, LoginError::WrongPassword);
        is(Password, 403, r#"{"error":"x","mfa":["totp"]}"#, LoginError::SecondFactor);
        is(Password, 403, r#"{"mfa":["totp"]}"#, LoginError::SecondFactor);
        is(Key, 429, "", LoginError::RateLimited);
        let text = "Unauthorized".to_owned();
        is(Key, 401, "<html>", LoginError::ProxyRefused { status: 401, text });
        is(Password, 403, "User unknown or password incorrect", LoginError::WrongPassword);
        is(Password, 403, "Your account is deactivated", LoginError::WrongPassword);
        let location = "https://octopi.local/".to_owned();
        is(Key, 301, "", LoginError::Redirected { location });
        let text = "CSRF validation failed".to_owned();
        is(Password, 400, csrf, LoginError::Unexpected { status: 400, text });
        for (status, body) in [(404, "<html>"), (200, "<html>"), (200, "{}"), (405, ""), (200, "7")]
        {
            let error = answer(Key, status, body).unwrap_err();
            assert!(matches!(error, LoginError::NotOctoPrint { .. }), "{status} {error:?}");
            assert!(!error.refused());
        }
        for status in [501, 502, 503, 504] {
            let error = answer(Key, status, "<html>").unwrap_err();
            assert!(matches!(error, LoginError::NotUp { .. }), "{status} {error:?}");
        }
    }

    #[test]
    fn faults_and_proxies_are_told_as_what_they_are() {
        let told = |status: u16, challenge: Option<&str>, body: &str| {
            let (status, body) = (StatusCode::from_u16(status).unwrap(), body.to_owned().into());
            let challenge = challenge.map(ToOwned::to_owned);
            let answer = Answer { status, location: None, challenge, body };
            let error = read(Attempt::Key, &answer).unwrap_err();
            (error.refused(), error.to_string())
        };
        let page = "<html><head><title>500 Internal Server Error</title></head>";
        let expected = "OctoPrint answered 500: 500 Internal Server Error".to_owned();
        assert_eq!(told(500, None, page), (false, expected));
        assert_eq!(told(520, None, ""), (false, "OctoPrint answered 520: error".to_owned()));
        for body in ["", "<html>", r#"{"error":"unauthorized"}"#] {
            let (refused, text) = told(401, Some(r#"Basic realm="pi""#), body);
            assert!(refused && text.contains("a proxy in front of OctoPrint wants a login"));
            assert!(text.contains(r#"(401, Basic realm="pi")"#), "{text}");
        }
        let (refused, text) = told(403, None, "<title>403 Forbidden</title>");
        assert!(refused && text.contains("refuses access (403: 403 Forbidden)"), "{text}");
        let (_, text) = told(404, None, "<title>404 page not found</title>");
        assert!(text.contains("not OctoPrint (HTTP status 404: 404 page not found)"), "{text}");
        let (_, text) = told(200, None, "<title>Login - Authelia</title>");
        assert!(text.contains(r#"it answers a login with the page "Login - Authelia""#), "{text}");
    }

    #[test]
    fn a_refusal_says_how_many_characters_were_sent() {
        let key = Credentials::ApiKey(Secret::new("\"MARKER\""));
        let told = key.told(&LoginError::KeyRefused);
        assert!(told.contains("a key of 8 characters was sent"), "{told}");
        assert!(!told.contains("MARKER"), "{told}");
        assert_eq!(key.told(&LoginError::Timeout), LoginError::Timeout.to_string());
    }
}
