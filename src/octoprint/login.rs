//! Logging in: what OctoPrint answers, and what that means.

use std::fmt;

use reqwest::StatusCode;
use serde::Deserialize;

use super::net_error::NetError;
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The API key is wrong or missing. OctoPrint says `400 CSRF validation failed` then.
    #[error("OctoPrint does not know this API key: check it, or create a new one")]
    KeyRefused,
    /// The key belongs to a user that has been deactivated.
    #[error("the user of this API key is deactivated: activate the user in OctoPrint's settings")]
    Deactivated,
    /// User name or password is wrong.
    #[error("OctoPrint refuses user name or password: check both")]
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
    /// Something in front of OctoPrint asks for a login of its own.
    #[error(
        "something in front of OctoPrint refuses access ({status}): its own login is needed, for \
         instance in an extra header"
    )]
    ProxyRefused {
        /// The HTTP status.
        status: u16,
    },
    /// Nothing listens there, or OctoPrint is still starting.
    #[error("OctoPrint is not up ({reason})")]
    NotUp {
        /// What was seen.
        reason: String,
    },
    /// Something answers there, but it is not OctoPrint.
    #[error("this is not OctoPrint ({reason}): check the address, with its path")]
    NotOctoPrint {
        /// What was seen.
        reason: String,
    },
    /// The server sends its visitors elsewhere. Not followed, lest the key go astray.
    #[error("OctoPrint is at another address: use {location} in the configuration")]
    Redirected {
        /// The address it names, without query and user.
        location: String,
    },
    /// The TLS handshake failed.
    #[error("TLS failed ({reason}): check certificate, CA file and that the address is https")]
    Tls {
        /// What was seen.
        reason: String,
    },
    /// The host name is unknown.
    #[error("the host name cannot be resolved ({reason}): check the address")]
    Dns {
        /// What was seen.
        reason: String,
    },
    /// There is no route to the host.
    #[error("no route to OctoPrint's host ({reason}): check the network and the address")]
    Unreachable {
        /// What was seen.
        reason: String,
    },
    /// No answer in time.
    #[error("OctoPrint did not answer in time")]
    Timeout,
    /// An answer that no OctoPrint known today gives.
    #[error("OctoPrint answers a login with {status}: {text}")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// Its error text.
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
                | Self::Deactivated
                | Self::WrongPassword
                | Self::SecondFactor
                | Self::RateLimited
                | Self::ProxyRefused { .. }
        )
    }

    /// Whether OctoPrint could not be reached: it is not up, or it is not known where it is.
    pub(super) fn unreached(&self) -> bool {
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
            NetError::Dns(reason) => Self::Dns { reason },
            NetError::Tls(reason) => Self::Tls { reason },
            NetError::Unreachable(reason) => Self::Unreachable { reason },
            NetError::Down(reason) | NetError::Unreadable(reason) => Self::NotUp { reason },
        }
    }
}

/// Which credentials an answer was given to; the same status means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Passive login with an API key.
    Key,
    /// Passive login with a session's cookies.
    Cookies,
    /// User name and password.
    Password,
}

/// An HTTP answer to a login, reduced to what tells the cases apart.
pub(super) struct Answer<'a> {
    pub(super) status: StatusCode,
    /// The `Location` of a redirect, fit to be shown.
    pub(super) location: Option<String>,
    pub(super) body: &'a [u8],
}

/// Reads the answer to `POST api/login`.
pub(super) fn read(attempt: Attempt, answer: &Answer<'_>) -> Result<Login, LoginError> {
    if answer.status == StatusCode::OK {
        return logged_in(attempt, answer.body);
    }
    if answer.status.is_redirection() {
        let location = answer.location.clone().unwrap_or_else(|| "(none named)".to_owned());
        return Err(LoginError::Redirected { location });
    }
    Err(refusal(attempt, answer))
}

fn logged_in(attempt: Attempt, body: &[u8]) -> Result<Login, LoginError> {
    #[derive(Deserialize)]
    struct Body {
        name: Option<String>,
        session: Option<String>,
        #[serde(default)]
        groups: Vec<String>,
        needs: Option<serde::de::IgnoredAny>,
    }
    let not_octoprint = || LoginError::NotOctoPrint {
        reason: "its answer to a login is not OctoPrint's".to_owned(),
    };
    let body: Body = serde_json::from_slice(body).map_err(|_| not_octoprint())?;
    match (body.name, body.session) {
        (Some(name), Some(session)) if !name.is_empty() && !session.is_empty() => {
            Ok(Login { name, session: Secret::new(session), groups: body.groups })
        }
        // A guest's answer: what a deactivated user, or a session that has ended, is to OctoPrint.
        _ if body.needs.is_some() => Err(match attempt {
            Attempt::Key => LoginError::Deactivated,
            Attempt::Cookies | Attempt::Password => LoginError::WrongPassword,
        }),
        _ => Err(not_octoprint()),
    }
}

fn refusal(attempt: Attempt, answer: &Answer<'_>) -> LoginError {
    #[derive(Deserialize)]
    struct Body {
        error: Option<String>,
        mfa: Option<serde::de::IgnoredAny>,
    }
    let body: Option<Body> = serde_json::from_slice(answer.body).ok();
    let status = answer.status.as_u16();
    match (status, body) {
        (429, _) => LoginError::RateLimited,
        (501..=504, _) => LoginError::NotUp { reason: format!("HTTP status {status}") },
        (_, Some(Body { mfa: Some(_), .. })) => LoginError::SecondFactor,
        (400 | 401 | 403, Some(Body { error: Some(error), .. })) => {
            credentials_refused(attempt, status, &error)
        }
        (401 | 403 | 407, _) => LoginError::ProxyRefused { status },
        (_, Some(Body { error: Some(error), .. })) if status != 404 => {
            LoginError::Unexpected { status, text: shown(&error) }
        }
        _ => LoginError::NotOctoPrint { reason: format!("HTTP status {status}") },
    }
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

/// A text from outside, fit for one log line.
pub(super) fn shown(text: &str) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    if text.chars().nth(200).is_some() {
        line.push('…');
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(attempt: Attempt, status: u16, body: &str) -> Result<Login, LoginError> {
        let status = StatusCode::from_u16(status).unwrap();
        let location = status.is_redirection().then(|| "https://octopi.local/".to_owned());
        read(attempt, &Answer { status, location, body: body.as_bytes() })
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
            assert_eq!(answer(attempt, status, body).unwrap_err(), error, "{status} {body}");
        };
        is(Key, 400, csrf, LoginError::KeyRefused);
        is(Key, 200, guest, LoginError::Deactivated);
        is(Cookies, 200, guest, LoginError::WrongPassword);
        is(Password, 403, wrong, LoginError::WrongPassword);
        is(Password, 403, r#"{"error":"x","mfa":["totp"]}"#, LoginError::SecondFactor);
        is(Key, 429, "", LoginError::RateLimited);
        is(Key, 401, "<html>", LoginError::ProxyRefused { status: 401 });
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
    fn what_is_shown_fits_a_line() {
        assert_eq!(shown("a\nb\u{7}"), "a b");
        assert_eq!(shown(&"ä".repeat(300)).chars().count(), 201);
    }
}
