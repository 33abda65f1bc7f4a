//! The REST client: sends calls and logs in when they need it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::Answer;
use super::cookies::Cookies;
use super::error::{BuildError, CallError, LoginError, RestError, RestErrorKind, shared};
use super::http::{HttpClient, invalid_argument, sensitive_value, success};
use super::login::{self, Credentials, Login, LoginMethod};
use super::options::RestOptions;

/// API version of the calls that OctoPrint 2.0 added.
pub(in crate::octoprint) const API_VERSION: &str = "2.0.0";

/// REST calls to one OctoPrint with one login. Cheap to clone; clones share the login.
///
/// With user and password, calls log in when they have to. After a refused login no call tries again
/// until the pause after refused credentials is over; OctoPrint would lock out this address.
#[derive(Clone)]
pub struct Rest {
    inner: Arc<Inner>,
}

struct Inner {
    http: HttpClient,
    credentials: Credentials,
    refused_pause: Duration,
    /// Serializes logins, and holds the result of the last one.
    session: tokio::sync::Mutex<LoginState>,
    /// The cookies of the last successful login, for calls that cannot wait for a login in progress.
    last_cookies: Mutex<Option<Cookies>>,
}

#[derive(Default)]
struct LoginState {
    logged_in: bool,
    /// Why the last login failed, and when.
    failed: Option<(Instant, LoginError)>,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

/// The user that OctoPrint attributes the calls to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CurrentUser {
    /// The user's name; `None` for a guest, whose credentials OctoPrint does not know.
    pub name: Option<String>,
    /// The permissions in effect: `STATUS`, `PRINT`, …
    #[serde(default)]
    pub permissions: Vec<String>,
    /// The user's groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

impl Rest {
    /// Creates a client that has not logged in yet.
    ///
    /// # Errors
    /// [`BuildError`] if an option is invalid.
    pub fn new(options: RestOptions) -> Result<Self, BuildError> {
        options.check()?;
        let RestOptions { url, credentials, tls, headers, proxy, connect_timeout, refused_pause } =
            options;
        let http = HttpClient::new(url, &tls, &headers, proxy.as_ref(), connect_timeout)?;
        Ok(Self::with_http(http, credentials, refused_pause))
    }

    pub(super) fn with_http(
        http: HttpClient,
        credentials: Credentials,
        refused_pause: Duration,
    ) -> Self {
        let (session, last_cookies) = Default::default();
        Self { inner: Arc::new(Inner { http, credentials, refused_pause, session, last_cookies }) }
    }

    pub(in crate::octoprint) fn http(&self) -> &HttpClient {
        &self.inner.http
    }

    /// Logs in: passively with an API key, or with user and password.
    ///
    /// # Errors
    /// [`LoginError`], with the reason and what to do about it.
    pub async fn login(&self) -> Result<Login, LoginError> {
        let mut session = self.inner.session.lock().await;
        self.full_login(&mut session).await
    }

    /// Requests a session with the API key, or with the cookies of an earlier login. Logs in if
    /// those cookies are no longer valid.
    ///
    /// # Errors
    /// As [`Rest::login`].
    pub async fn passive_login(&self) -> Result<Login, LoginError> {
        let mut session = self.inner.session.lock().await;
        if session.logged_in && matches!(self.inner.credentials, Credentials::Password { .. }) {
            let passive = self.caller().post_login(LoginMethod::Cookies, &passive()).await;
            if !matches!(
                passive,
                Err(LoginError::WrongPassword | LoginError::Unexpected { status: 400, .. })
            ) {
                return passive;
            }
        }
        self.full_login(&mut session).await
    }

    async fn full_login(&self, session: &mut LoginState) -> Result<Login, LoginError> {
        let login = self.caller().log_in().await;
        session.logged_in = login.is_ok();
        session.failed = login.as_ref().err().map(|error| (Instant::now(), error.clone()));
        if login.is_ok() {
            self.remember(&self.inner.http.cookies);
        }
        login
    }

    pub(in crate::octoprint) fn remember(&self, cookies: &Cookies) {
        *self.inner.last_cookies.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(cookies.copy());
    }

    pub(in crate::octoprint) fn remembered(&self) -> Option<Cookies> {
        let last_cookies = self.inner.last_cookies.lock().unwrap_or_else(PoisonError::into_inner);
        last_cookies.as_ref().map(Cookies::copy)
    }

    /// Returns why OctoPrint is unreachable, if an attempt failed in the last two seconds: a call, a
    /// connection of the socket, or a knock.
    pub fn unreached_lately(&self) -> Option<String> {
        self.inner.http.reach().missed_lately(Instant::now())
    }

    pub(in crate::octoprint) fn credentials(&self) -> &Credentials {
        &self.inner.credentials
    }

    pub(in crate::octoprint) fn caller(&self) -> Caller<'_> {
        Caller { http: &self.inner.http, credentials: &self.inner.credentials }
    }

    /// Returns OctoPrint's version, such as `1.11.8`.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn server_version(&self) -> Result<String, RestError> {
        #[derive(Deserialize)]
        struct Version {
            server: String,
        }
        self.get_json::<Version>("api/version").await.map(|version| version.server)
    }

    /// Returns the user that these calls act as. Wrong credentials are no error: they make a guest,
    /// who has no name.
    ///
    /// # Errors
    /// [`RestError`] if there is no answer, or not one of OctoPrint's.
    pub async fn current_user(&self) -> Result<CurrentUser, RestError> {
        self.get_json("api/currentuser").await
    }

    /// Sends a `GET` for a path relative to the base address, such as `api/printerprofiles`. Bodies
    /// over 8 MiB are refused. In JSON, `NaN` and infinities become null, and lone surrogates
    /// become U+FFFD.
    ///
    /// # Errors
    /// [`RestError`] unless the status is a success.
    pub async fn get(&self, path: &str) -> Result<Bytes, RestError> {
        self.call(Method::GET, path, None).await
    }

    /// Sends a `GET` that asks for the format of OctoPrint 2.0; older versions answer in theirs.
    /// Otherwise as [`Rest::get`].
    ///
    /// # Errors
    /// [`RestError`] for everything but a success.
    pub async fn get_as_of_2_0(&self, path: &str) -> Result<Bytes, RestError> {
        success(self.exchange(&Method::GET, path, None, Some(API_VERSION)).await?, path)
    }

    /// Sends a `POST` with a JSON body to a path relative to the base address.
    ///
    /// # Errors
    /// [`RestError`] unless the status is a success.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Bytes, RestError> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(in crate::octoprint) async fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<T, RestError> {
        json_of(&self.get(path).await?, path).map_err(|error| error.with_method(&Method::GET))
    }

    pub(in crate::octoprint) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, RestError> {
        let answer = self.exchange(&method, path, body, None).await?;
        success(answer, path).map_err(|error| error.with_method(&method))
    }

    /// Sends a call and returns its answer, whatever the status. `api_version` requests a version of
    /// the answer's format; OctoPrint before 2.0 ignores it.
    pub(in crate::octoprint) async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        api_version: Option<&'static str>,
    ) -> Result<Answer, RestError> {
        let exchanged = self.try_exchange(method, path, body, api_version).await;
        exchanged.map_err(|error| error.with_method(method))
    }

    async fn try_exchange(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        api_version: Option<&'static str>,
    ) -> Result<Answer, RestError> {
        self.ensure_session().await?;
        let caller = self.caller();
        let send = || caller.send_as(method, path, body, api_version);
        let answer = send().await.map_err(|e| e.at(path))?;
        if !self.session_ended(&answer).await {
            return Ok(answer);
        }
        // The call was refused, so it was not carried out and is safe to repeat.
        self.renew_session().await?;
        send().await.map_err(|e| e.at(path))
    }

    /// Logs in again after [`Rest::session_ended`].
    pub(in crate::octoprint) async fn renew_session(&self) -> Result<(), RestError> {
        self.inner.session.lock().await.logged_in = false;
        self.ensure_session().await
    }

    pub(in crate::octoprint) async fn ensure_session(&self) -> Result<(), RestError> {
        if matches!(self.inner.credentials, Credentials::ApiKey(_)) {
            return Ok(());
        }
        let asked = Instant::now();
        let mut session = self.inner.session.lock().await;
        if session.logged_in {
            return Ok(());
        }
        match &session.failed {
            // Another call's login failed meanwhile, and this one would take as long.
            Some((at, error)) if *at >= asked => Err(error.clone().into()),
            Some((at, error)) if error.refused() && at.elapsed() < self.inner.refused_pause => {
                Err(error.clone().into())
            }
            _ => Ok(self.full_login(&mut session).await.map(drop)?),
        }
    }

    /// Whether a call was refused because the session has ended, rather than because the user lacks a
    /// permission: OctoPrint's error texts are the same.
    pub(in crate::octoprint) async fn session_ended(&self, answer: &Answer) -> bool {
        if matches!(self.inner.credentials, Credentials::ApiKey(_))
            || !matches!(answer.status.as_u16(), 400 | 401 | 403)
        {
            return false;
        }
        let csrf = answer.body.windows(4).any(|window| window == b"CSRF");
        let path = "api/currentuser";
        csrf || match self.caller().send(&Method::GET, path, None).await {
            Ok(user) => serde_json::from_slice::<CurrentUser>(&user.body)
                .is_ok_and(|user| user.name.is_none()),
            Err(_) => false,
        }
    }
}

/// An HTTP client with the credentials to use.
pub(in crate::octoprint) struct Caller<'a> {
    pub(in crate::octoprint) http: &'a HttpClient,
    pub(in crate::octoprint) credentials: &'a Credentials,
}

impl Caller<'_> {
    pub(in crate::octoprint) async fn log_in(&self) -> Result<Login, LoginError> {
        match self.credentials {
            Credentials::ApiKey(_) => self.post_login(LoginMethod::Key, &passive()).await,
            Credentials::Password { username, password } => {
                self.http.cookies.clear();
                self.csrf_cookie().await?;
                let body = json!({"user": username, "pass": password.expose(), "remember": true});
                self.post_login(LoginMethod::Password, &body).await
            }
        }
    }

    /// Fetches the login page for the CSRF cookie that comes with it.
    async fn csrf_cookie(&self) -> Result<(), LoginError> {
        let path = "login/";
        let request = self.http.request(Method::GET, path).map_err(not_sendable)?;
        let answer = self.http.answer(path, request).await?;
        // OctoPrint requires the cookie since 1.8. Before, there is none and none is needed.
        if answer.status == StatusCode::OK || self.http.cookies.csrf_token().is_some() {
            return Ok(());
        }
        login::read(LoginMethod::Password, &answer).map(|_| ())
    }

    async fn post_login(&self, attempt: LoginMethod, body: &Value) -> Result<Login, LoginError> {
        let answer = self.send(&Method::POST, "api/login", Some(body)).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(SendError::Call(error)) => return Err(error.into()),
            Err(SendError::Rest(error)) => return Err(not_sendable(error)),
        };
        login::read(attempt, &answer)
    }

    pub(in crate::octoprint) async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, SendError> {
        self.send_as(method, path, body, None).await
    }

    async fn send_as(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        api_version: Option<&'static str>,
    ) -> Result<Answer, SendError> {
        let http = self.http;
        let request = http.request(method.clone(), path).map_err(SendError::Rest)?;
        let mut request = self.authorized(method, path, request).map_err(SendError::Rest)?;
        if let Some(version) = api_version {
            request = request.header("X-OctoPrint-Api-Version", version);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        http.answer(path, request).await.map_err(SendError::Call)
    }

    /// Adds the credentials to a request.
    pub(in crate::octoprint) fn authorized(
        &self,
        method: &Method,
        path: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::RequestBuilder, RestError> {
        Ok(match self.credentials {
            Credentials::ApiKey(key) => {
                let key = sensitive_value(key)
                    .ok_or_else(|| invalid_argument(path, "the API key is no header value"))?;
                request.header("X-Api-Key", key)
            }
            Credentials::Password { .. } if *method != Method::GET => {
                match self.http.cookies.csrf_token() {
                    Some(token) => request.header("X-CSRF-Token", token),
                    None => request,
                }
            }
            Credentials::Password { .. } => request,
        })
    }
}

fn passive() -> Value {
    json!({"passive": true})
}

pub(in crate::octoprint) enum SendError {
    Rest(RestError),
    Call(CallError),
}

impl SendError {
    pub(in crate::octoprint) fn at(self, path: &str) -> RestError {
        match self {
            Self::Rest(error) => error,
            Self::Call(error) => error.at(path),
        }
    }
}

pub(in crate::octoprint) fn json_of<T: DeserializeOwned>(
    body: &[u8],
    path: &str,
) -> Result<T, RestError> {
    serde_json::from_slice(body)
        .map_err(|error| RestError::new(RestErrorKind::Shape, path).caused_by(error))
}

fn not_sendable(error: RestError) -> LoginError {
    LoginError::NotSendable(shared(error))
}
