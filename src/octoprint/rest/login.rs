//! Credentials, and how OctoPrint's answers to a login are read.

use std::fmt;

use reqwest::StatusCode;
use serde::Deserialize;

use super::answer::{Answer, one_line};
use super::error::{LoginError, shared};
use crate::causes;
use crate::secret::Secret;

/// A successful login: the data of the socket's `auth` message.
#[derive(Clone)]
pub struct Login {
    /// The user's name (`_api` for the global key of the settings).
    pub name: String,
    /// The server's session of this login.
    pub session: Secret,
    /// The user's groups.
    pub groups: Vec<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How the login was attempted. The same status means different things for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::octoprint) enum LoginMethod {
    /// Passive login with an API key.
    Key,
    /// Passive login with a session's cookies.
    Cookies,
    /// User name and password.
    Password,
}

pub(in crate::octoprint) fn read(
    attempt: LoginMethod,
    answer: &Answer,
) -> Result<Login, LoginError> {
    if answer.status == StatusCode::OK {
        return logged_in(attempt, answer);
    }
    if attempt == LoginMethod::Password && is_refusal_of_1_5(answer) {
        return Err(LoginError::WrongPassword);
    }
    Err(intermediary_error(answer).unwrap_or_else(|| refusal(attempt, answer)))
}

/// Returns the error for an answer that does not depend on the request: a redirect, a refusal by a
/// proxy, or a server error.
pub(in crate::octoprint) fn intermediary_error(answer: &Answer) -> Option<LoginError> {
    let status = answer.status.as_u16();
    if answer.status.is_redirection() {
        let location = answer.location.clone().unwrap_or_else(|| "(none named)".to_owned());
        return Some(LoginError::Redirected { location });
    }
    proxy_login(answer).or_else(|| match status {
        // OctoPrint refuses with a JSON object.
        401 | 403 | 407 if !answer.is_object() => {
            Some(LoginError::ProxyRefused { status, text: answer.summary() })
        }
        501..=504 => Some(LoginError::NotUp { source: shared(HttpStatus(status)) }),
        500.. => Some(LoginError::Unexpected { status, text: answer.summary() }),
        _ => None,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("HTTP status {0}")]
struct HttpStatus(u16);

pub(in crate::octoprint) fn proxy_login(answer: &Answer) -> Option<LoginError> {
    match (answer.status.as_u16(), &answer.challenge) {
        (status @ (401 | 407), Some(challenge)) => {
            Some(LoginError::ProxyLogin { status, challenge: challenge.clone() })
        }
        _ => None,
    }
}

fn logged_in(attempt: LoginMethod, answer: &Answer) -> Result<Login, LoginError> {
    #[derive(Deserialize)]
    struct LoginBody {
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
    let body: LoginBody = serde_json::from_slice(&answer.body).map_err(|_| not_octoprint())?;
    match (body.name, body.session) {
        (Some(name), Some(session)) if !name.is_empty() && !session.is_empty() => {
            Ok(Login { name, session: Secret::new(session), groups: body.groups })
        }
        // The answer for a guest: the user is deactivated, the session has ended, or, before 1.8,
        // the key is wrong.
        _ if body.needs.is_some() => Err(match attempt {
            LoginMethod::Key => LoginError::NoActiveUser,
            LoginMethod::Cookies | LoginMethod::Password => LoginError::WrongPassword,
        }),
        _ => Err(not_octoprint()),
    }
}

fn refusal(attempt: LoginMethod, answer: &Answer) -> LoginError {
    #[derive(Deserialize)]
    struct RefusalBody {
        error: Option<String>,
        mfa: Option<serde::de::IgnoredAny>,
    }
    let body: Option<RefusalBody> = serde_json::from_slice(&answer.body).ok();
    let status = answer.status.as_u16();
    match (status, body) {
        (429, _) => LoginError::RateLimited,
        (_, Some(RefusalBody { mfa: Some(_), .. })) => LoginError::SecondFactor,
        (400 | 401 | 403, Some(RefusalBody { error: Some(error), .. })) => {
            credentials_refused(attempt, status, &error)
        }
        (_, Some(RefusalBody { error: Some(error), .. })) if status != 404 => {
            LoginError::Unexpected { status, text: one_line(&error) }
        }
        _ => {
            LoginError::NotOctoPrint { seen: format!("HTTP status {status}: {}", answer.summary()) }
        }
    }
}

/// Whether OctoPrint 1.5 refused a password: it answers with plain text instead of JSON.
fn is_refusal_of_1_5(answer: &Answer) -> bool {
    let text = answer.summary();
    answer.status == StatusCode::FORBIDDEN
        && ["User unknown or password", "Your account is deactivated"]
            .iter()
            .any(|start| text.starts_with(start))
}

fn credentials_refused(attempt: LoginMethod, status: u16, error: &str) -> LoginError {
    let csrf = error.contains("CSRF");
    match attempt {
        LoginMethod::Key if csrf || status != 400 => LoginError::KeyRefused,
        LoginMethod::Cookies | LoginMethod::Password if status != 400 => LoginError::WrongPassword,
        LoginMethod::Key | LoginMethod::Cookies | LoginMethod::Password => {
            LoginError::Unexpected { status, text: one_line(error) }
        }
    }
}

/// How to log in to OctoPrint.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Describes a failed login with its causes. For refused credentials, adds the length of the
    /// secret: it reveals stray quotes or white space, but not the secret.
    pub fn describe_failure(&self, error: &LoginError) -> String {
        let (what, secret) = match self {
            Self::ApiKey(key) => ("a key", key),
            Self::Password { password, .. } => ("a password", password),
        };
        let is_refusal = matches!(
            error,
            LoginError::KeyRefused | LoginError::NoActiveUser | LoginError::WrongPassword
        );
        let text = causes::text(error);
        match is_refusal {
            true => format!("{text} ({what} of {} characters was sent)", secret.characters()),
            false => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(attempt: LoginMethod, status: u16, body: &str) -> Result<Login, LoginError> {
        let (status, body) = (StatusCode::from_u16(status).unwrap(), body.to_owned().into());
        let location = status.is_redirection().then(|| "https://octopi.local/".to_owned());
        read(attempt, &Answer { status, location, challenge: None, body })
    }

    #[test]
    fn a_login_shows_no_session() {
        let body = r#"{"name":"admin","session":"deadbeef","apikey":"KEY","groups":["admins"]}"#;
        let login = answer(LoginMethod::Key, 200, body).unwrap();
        assert_eq!((login.name.as_str(), login.session.expose()), ("admin", "deadbeef"));
        assert!(!format!("{login:?}").contains("deadbeef"));
    }

    #[test]
    fn each_refusal_has_its_own_error() {
        use LoginMethod::{Cookies, Key, Password};
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
    fn server_errors_and_proxies_are_recognised() {
        let error_for = |status: u16, challenge: Option<&str>, body: &str| {
            let (status, body) = (StatusCode::from_u16(status).unwrap(), body.to_owned().into());
            let challenge = challenge.map(ToOwned::to_owned);
            let answer = Answer { status, location: None, challenge, body };
            let error = read(LoginMethod::Key, &answer).unwrap_err();
            (error.refused(), error.to_string())
        };
        let page = "<html><head><title>500 Internal Server Error</title></head>";
        let expected = "OctoPrint answered 500: 500 Internal Server Error".to_owned();
        assert_eq!(error_for(500, None, page), (false, expected));
        assert_eq!(error_for(520, None, ""), (false, "OctoPrint answered 520: error".to_owned()));
        for body in ["", "<html>", r#"{"error":"unauthorized"}"#] {
            let (refused, text) = error_for(401, Some(r#"Basic realm="pi""#), body);
            assert!(refused && text.contains("a proxy in front of OctoPrint wants a login"));
            assert!(text.contains(r#"(401, Basic realm="pi")"#), "{text}");
        }
        let (refused, text) = error_for(403, None, "<title>403 Forbidden</title>");
        assert!(refused && text.contains("refuses access (403: 403 Forbidden)"), "{text}");
        let (_, text) = error_for(404, None, "<title>404 page not found</title>");
        assert!(text.contains("not OctoPrint (HTTP status 404: 404 page not found)"), "{text}");
        let (_, text) = error_for(200, None, "<title>Login - Authelia</title>");
        assert!(text.contains(r#"it answers a login with the page "Login - Authelia""#), "{text}");
    }

    #[test]
    fn a_refusal_includes_the_length_of_the_secret() {
        let key = Credentials::ApiKey(Secret::new("\"MARKER\""));
        let text = key.describe_failure(&LoginError::KeyRefused);
        assert!(text.contains("a key of 8 characters was sent"), "{text}");
        assert!(!text.contains("MARKER"), "{text}");
        assert_eq!(key.describe_failure(&LoginError::Timeout), LoginError::Timeout.to_string());
    }
}
