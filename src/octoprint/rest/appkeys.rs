//! Requests an application key, which a user grants in OctoPrint's web interface.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::answer::Answer;
use super::error::{BuildError, LoginError, RestError, RestErrorKind};
use super::http::{HttpClient, public_url, success};
use super::login::intermediary_error;
use crate::secret::Secret;

const PROBE: &str = "plugin/appkeys/probe";
const REQUEST: &str = "plugin/appkeys/request";
/// Path for messages: the real one contains the request's token.
const POLL: &str = "plugin/appkeys/request/…";

/// Interval between polls for a decision. OctoPrint drops a request that is not polled for 5 s.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long OctoPrint waits for a user's decision.
pub const REQUEST_LIFE: Duration = Duration::from_secs(600);

/// OctoPrint's application-keys plugin.
#[derive(Debug)]
pub struct AppKeys {
    http: HttpClient,
}

/// A request that waits for a user's decision.
pub struct KeyRequest {
    token: Secret,
    dialog: Url,
}

impl fmt::Debug for KeyRequest {
    /// Hides the token: whoever has it gets the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRequest").finish_non_exhaustive()
    }
}

/// The state of a request.
#[derive(Debug)]
pub enum Decision {
    /// The user has not decided yet.
    Waiting,
    /// Granted, with the key, which OctoPrint sends only once.
    Granted(Secret),
    /// Denied, or no longer known to OctoPrint; the answers are the same.
    Refused,
}

/// Why no key can be requested.
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
        /// Summary of the answer.
        text: String,
    },
    /// A proxy answered, or OctoPrint failed.
    #[error("{url}")]
    Intermediary {
        /// The address, without user and password.
        url: String,
        /// The cause, and what to do about it.
        source: LoginError,
    },
    /// Too many requests.
    #[error("OctoPrint takes no more requests from this address for now: try again in an hour")]
    TooMany,
    /// Any other failure.
    #[error(transparent)]
    Rest(#[from] RestError),
}

impl AppKeys {
    /// Creates a client for the plugin of the OctoPrint at `url`, whose path ends with `/`.
    ///
    /// # Errors
    /// [`BuildError`] if the HTTP client cannot be built.
    pub fn new(
        url: Url,
        tls: &Arc<rustls::ClientConfig>,
        headers: &[(String, Secret)],
        connect_timeout: Duration,
    ) -> Result<Self, BuildError> {
        Ok(Self { http: HttpClient::new(url, tls, headers, None, connect_timeout)? })
    }

    /// Requests a key in the name of `app`; if `user` is given, only that user may grant it.
    ///
    /// # Errors
    /// [`AppKeysError`] if the plugin is missing or accepts no request.
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
        if let Some(cause) = intermediary_error(&answer) {
            return Err(self.intermediary_error(cause));
        }
        let body = success(answer, REQUEST)?;
        // The parse error is dropped: it may contain the token.
        let created: Created =
            serde_json::from_slice(&body).map_err(|_| shape(&Method::POST, REQUEST))?;
        // OctoPrint sends the dialog's address too, but it may be wrong behind a proxy.
        let dialog = self.http.url(&format!("plugin/appkeys/auth/{}", created.app_token))?;
        Ok(KeyRequest { token: Secret::new(created.app_token), dialog })
    }

    /// Polls for the decision on `request`. To be called every [`POLL_INTERVAL`], for
    /// [`REQUEST_LIFE`] at most.
    ///
    /// # Errors
    /// [`AppKeysError`] if OctoPrint gives no answer.
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
                if let Some(cause) = intermediary_error(&answer) {
                    return Err(self.intermediary_error(cause));
                }
                let body = success(answer, POLL)?;
                // The parse error is dropped: it may contain the key.
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
        let of = |error: RestError| error.with_method(&method);
        let mut request = self.http.request(method.clone(), path).map_err(of)?;
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.http.answer(shown, request).await.map_err(|error| of(error.at(shown)))
    }

    /// Returns the error for an answer to the probe that is not the plugin's.
    fn missing(&self, probe: &Answer) -> AppKeysError {
        match intermediary_error(probe) {
            Some(cause) => self.intermediary_error(cause),
            None => AppKeysError::Missing {
                url: public_url(self.http.base()),
                status: probe.status.as_u16(),
                text: probe.summary(),
            },
        }
    }

    fn intermediary_error(&self, source: LoginError) -> AppKeysError {
        AppKeysError::Intermediary { url: public_url(self.http.base()), source }
    }
}

fn shape(method: &Method, path: &str) -> RestError {
    RestError::new(RestErrorKind::Shape, path).with_method(method)
}

impl KeyRequest {
    /// Returns the page on which a user can decide. It contains the request's token, so it must not
    /// be logged.
    pub fn dialog(&self) -> &Url {
        &self.dialog
    }
}
