//! Asking OctoPrint for an application key, which its user grants with a click on Allow.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::answer::Answer;
use super::error::{BuildError, RestError, RestErrorKind};
use super::http::{Http, public_url, success};
use super::login::{LoginError, in_between};
use crate::secret::Secret;

const PROBE: &str = "plugin/appkeys/probe";
const REQUEST: &str = "plugin/appkeys/request";
/// Shown in place of the path that holds a request's token.
const POLL: &str = "plugin/appkeys/request/…";

/// How often a decision is asked for. OctoPrint forgets a request that nobody asks for in 5 s.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long OctoPrint keeps a request open.
pub const REQUEST_LIFE: Duration = Duration::from_secs(600);

/// OctoPrint's application-keys plugin.
#[derive(Debug)]
pub struct AppKeys {
    http: Http,
}

/// A request that waits for the user.
pub struct KeyRequest {
    token: Secret,
    dialog: Url,
}

impl fmt::Debug for KeyRequest {
    /// Whoever has the token gets the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRequest").finish_non_exhaustive()
    }
}

/// What has become of a request.
#[derive(Debug)]
pub enum Decision {
    /// The user has not decided yet.
    Waiting,
    /// Granted: the key, which OctoPrint tells once.
    Granted(Secret),
    /// Denied, or no longer known to OctoPrint, which tells both alike.
    Refused,
}

/// Why no key can be asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppKeysError {
    /// The plugin is not there, or this is not OctoPrint.
    #[error(
        "{url}: no application keys here ({status}: {text}): check the address, with its path, and \
         that OctoPrint's plugin \"Application Keys\" is enabled"
    )]
    Missing {
        /// The address, without user and password.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the answer says of itself.
        text: String,
    },
    /// Something in between answers in its place, or OctoPrint fails.
    #[error("{url}")]
    InBetween {
        /// The address, without user and password.
        url: String,
        /// What was seen, and what to do about it.
        source: LoginError,
    },
    /// Asked too often.
    #[error("OctoPrint takes no more requests from this address for now: try again in an hour")]
    TooMany,
    /// Anything else.
    #[error(transparent)]
    Rest(#[from] RestError),
}

impl AppKeys {
    /// The plugin of the OctoPrint at `url`, whose path ends with `/`; with extra `headers`.
    ///
    /// # Errors
    /// Where the HTTP client cannot be built.
    pub fn new(
        url: Url,
        tls: &Arc<rustls::ClientConfig>,
        headers: &[(String, Secret)],
        connect_timeout: Duration,
    ) -> Result<Self, BuildError> {
        Ok(Self { http: Http::new(url, tls, headers, None, connect_timeout)? })
    }

    /// Asks for a key in the name of `app`; only `user` may grant it where one is named.
    ///
    /// # Errors
    /// Where the plugin is missing or takes no request.
    pub async fn request(&self, app: &str, user: Option<&str>) -> Result<KeyRequest, AppKeysError> {
        #[derive(Deserialize)]
        struct Created {
            app_token: String,
        }
        let probe = self.call(Method::GET, PROBE, PROBE, None).await?;
        if probe.status != StatusCode::NO_CONTENT {
            return Err(self.missing(&probe));
        }
        let body = match user {
            Some(user) => json!({"app": app, "user": user}),
            None => json!({ "app": app }),
        };
        let answer = self.call(Method::POST, REQUEST, REQUEST, Some(body)).await?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(AppKeysError::TooMany);
        }
        if let Some(cause) = in_between(&answer) {
            return Err(self.in_between(cause));
        }
        let body = success(answer, REQUEST)?;
        // What was wrong with it is not told: a token may be in that.
        let created: Created =
            serde_json::from_slice(&body).map_err(|_| shape(&Method::POST, REQUEST))?;
        // OctoPrint names the dialog's address too, but as it sees itself behind its proxies.
        let dialog = self.http.url(&format!("plugin/appkeys/auth/{}", created.app_token))?;
        Ok(KeyRequest { token: Secret::new(created.app_token), dialog })
    }

    /// Asks what has become of `request`: every [`POLL_INTERVAL`], for [`REQUEST_LIFE`] at most.
    ///
    /// # Errors
    /// Where OctoPrint gives no answer.
    pub async fn decision(&self, request: &KeyRequest) -> Result<Decision, AppKeysError> {
        #[derive(Deserialize)]
        struct Granted {
            api_key: String,
        }
        let path = format!("{REQUEST}/{}", request.token.expose());
        let answer = self.call(Method::GET, &path, POLL, None).await?;
        match answer.status {
            StatusCode::ACCEPTED => Ok(Decision::Waiting),
            StatusCode::NOT_FOUND => Ok(Decision::Refused),
            _ => {
                if let Some(cause) = in_between(&answer) {
                    return Err(self.in_between(cause));
                }
                let body = success(answer, POLL)?;
                // Nor is it told here: the key may be in that.
                let granted: Granted =
                    serde_json::from_slice(&body).map_err(|_| shape(&Method::GET, POLL))?;
                Ok(Decision::Granted(Secret::new(granted.api_key)))
            }
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        shown: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Answer, RestError> {
        let of = |error: RestError| error.of(&method);
        let mut request = self.http.request(method.clone(), path).map_err(of)?;
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.http.answer(shown, request).await.map_err(|error| of(error.at(shown)))
    }

    /// What an answer to the probe means that is not the plugin's.
    fn missing(&self, probe: &Answer) -> AppKeysError {
        match in_between(probe) {
            Some(cause) => self.in_between(cause),
            None => AppKeysError::Missing {
                url: public_url(self.http.base()),
                status: probe.status.as_u16(),
                text: probe.seen(),
            },
        }
    }

    fn in_between(&self, source: LoginError) -> AppKeysError {
        AppKeysError::InBetween { url: public_url(self.http.base()), source }
    }
}

fn shape(method: &Method, path: &str) -> RestError {
    RestError::new(RestErrorKind::Shape, path).of(method)
}

impl KeyRequest {
    /// The page on which a user can decide. It holds the request's token: it is for the user who
    /// asked, not for a log.
    pub fn dialog(&self) -> &Url {
        &self.dialog
    }
}
