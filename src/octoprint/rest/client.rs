//! OctoPrint's REST calls: login, state, commands.

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
use super::error::{CallError, RestError, RestErrorKind};
use super::http::{Http, argument, sensitive, success};
use super::login::{self, Attempt, Credentials, Login, LoginError};
use super::net_error::shared;

/// REST calls to one OctoPrint with one login. Cheap to clone; clones share the login.
///
/// With user and password the calls log in by themselves when they have to. A refused login is not
/// tried again by a call before the pause after a refused login is over, lest OctoPrint lock out
/// this address.
#[derive(Clone)]
pub struct Rest {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    credentials: Credentials,
    refused_pause: Duration,
    /// One login at a time; and what is known of the last one.
    session: tokio::sync::Mutex<Session>,
    /// The cookies of the last login that worked: for who cannot wait for another login's end.
    worked: Mutex<Option<Cookies>>,
}

#[derive(Default)]
struct Session {
    logged_in: bool,
    refused: Option<(Instant, LoginError)>,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

/// Who the calls act as, as OctoPrint sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CurrentUser {
    /// The user's name; `None` is a guest: the credentials are not known.
    pub name: Option<String>,
    /// The permissions in effect: `STATUS`, `PRINT`, …
    #[serde(default)]
    pub permissions: Vec<String>,
    /// The user's groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

impl Rest {
    pub(in crate::octoprint) fn new(
        http: Http,
        credentials: Credentials,
        refused_pause: Duration,
    ) -> Self {
        let (session, worked) = Default::default();
        Self { inner: Arc::new(Inner { http, credentials, refused_pause, session, worked }) }
    }

    pub(in crate::octoprint) fn http(&self) -> &Http {
        &self.inner.http
    }

    /// Logs in: passively with an API key, or with user and password.
    ///
    /// # Errors
    /// [`LoginError`] says why not, and what to do.
    pub async fn login(&self) -> Result<Login, LoginError> {
        let mut session = self.inner.session.lock().await;
        self.full_login(&mut session).await
    }

    /// Asks for a session on the strength of what is there: the API key, or the cookies of an
    /// earlier login. Where those cookies are no good any more, logs in.
    ///
    /// # Errors
    /// As [`Rest::login`].
    pub async fn passive_login(&self) -> Result<Login, LoginError> {
        let mut session = self.inner.session.lock().await;
        if session.logged_in && matches!(self.inner.credentials, Credentials::Password { .. }) {
            let passive = self.caller().post_login(Attempt::Cookies, &passive()).await;
            if !matches!(
                passive,
                Err(LoginError::WrongPassword | LoginError::Unexpected { status: 400, .. })
            ) {
                return passive;
            }
        }
        self.full_login(&mut session).await
    }

    async fn full_login(&self, session: &mut Session) -> Result<Login, LoginError> {
        let login = self.caller().log_in().await;
        session.logged_in = login.is_ok();
        session.refused = match &login {
            Err(error) if error.refused() => Some((Instant::now(), error.clone())),
            _ => None,
        };
        if login.is_ok() {
            self.remember(&self.inner.http.cookies);
        }
        login
    }

    /// Remembers the cookies of a login that worked.
    pub(in crate::octoprint) fn remember(&self, cookies: &Cookies) {
        *self.inner.worked.lock().unwrap_or_else(PoisonError::into_inner) = Some(cookies.copy());
    }

    /// The cookies of the last login that worked.
    pub(in crate::octoprint) fn remembered(&self) -> Option<Cookies> {
        let worked = self.inner.worked.lock().unwrap_or_else(PoisonError::into_inner);
        worked.as_ref().map(Cookies::copy)
    }

    /// Why OctoPrint cannot be reached, where an attempt of the last two seconds found that: a
    /// call, the socket's, or a look whether it is back.
    pub fn unreached_lately(&self) -> Option<String> {
        self.inner.http.reach().missed_lately(Instant::now())
    }

    pub(in crate::octoprint) fn credentials(&self) -> &Credentials {
        &self.inner.credentials
    }

    fn caller(&self) -> Caller<'_> {
        Caller { http: &self.inner.http, credentials: &self.inner.credentials }
    }

    /// OctoPrint's version, such as `1.11.8`.
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

    /// Who these calls act as. Always succeeds where OctoPrint answers: wrong credentials are a
    /// guest, which has no name.
    ///
    /// # Errors
    /// [`RestError`] where there is no answer, or one that is not OctoPrint's.
    pub async fn current_user(&self) -> Result<CurrentUser, RestError> {
        self.get_json("api/currentuser").await
    }

    /// `GET` of a path relative to the base address, such as `api/printerprofiles`. Bodies over
    /// 8 MiB are refused. In JSON, the numbers that JSON does not have are null, and halves of
    /// surrogate pairs are U+FFFD.
    ///
    /// # Errors
    /// [`RestError`] for everything but a success.
    pub async fn get(&self, path: &str) -> Result<Bytes, RestError> {
        self.call(Method::GET, path, None).await
    }

    /// `POST` of a JSON body to a path relative to the base address.
    ///
    /// # Errors
    /// [`RestError`] for everything but a success.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Bytes, RestError> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(in crate::octoprint) async fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<T, RestError> {
        json_of(&self.get(path).await?, path).map_err(|error| error.of(&Method::GET))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, RestError> {
        let answer = self.exchange(&method, path, body, None).await?;
        success(answer, path).map_err(|error| error.of(&method))
    }

    /// A call and its answer, whatever its status. `api_version` is the shape that it asks for:
    /// OctoPrint knows such since 2.0, and before that pays no heed to it.
    pub(in crate::octoprint) async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        api_version: Option<&'static str>,
    ) -> Result<Answer, RestError> {
        let exchanged = self.try_exchange(method, path, body, api_version).await;
        exchanged.map_err(|error| error.of(method))
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
        // It was refused, so it was not carried out: sending it once more is safe.
        self.inner.session.lock().await.logged_in = false;
        self.ensure_session().await?;
        send().await.map_err(|e| e.at(path))
    }

    /// Logs in where calls need cookies and there are none yet.
    async fn ensure_session(&self) -> Result<(), RestError> {
        if matches!(self.inner.credentials, Credentials::ApiKey(_)) {
            return Ok(());
        }
        let mut session = self.inner.session.lock().await;
        if session.logged_in {
            return Ok(());
        }
        match &session.refused {
            Some((at, error)) if at.elapsed() < self.inner.refused_pause => {
                Err(error.clone().into())
            }
            _ => Ok(self.full_login(&mut session).await.map(drop)?),
        }
    }

    /// Whether an answer is a refusal because the login behind the cookies is gone, rather than
    /// because the user lacks a permission: OctoPrint's texts do not tell.
    async fn session_ended(&self, answer: &Answer) -> bool {
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

/// One client with one login, for one call after another.
pub(in crate::octoprint) struct Caller<'a> {
    pub(in crate::octoprint) http: &'a Http,
    pub(in crate::octoprint) credentials: &'a Credentials,
}

impl Caller<'_> {
    /// Logs in from the start.
    pub(in crate::octoprint) async fn log_in(&self) -> Result<Login, LoginError> {
        match self.credentials {
            Credentials::ApiKey(_) => self.post_login(Attempt::Key, &passive()).await,
            Credentials::Password { username, password } => {
                self.http.cookies.clear();
                self.csrf_cookie().await?;
                let body = json!({"user": username, "pass": password.expose(), "remember": true});
                self.post_login(Attempt::Password, &body).await
            }
        }
    }

    /// Fetches the login page for the CSRF cookie that comes with it.
    async fn csrf_cookie(&self) -> Result<(), LoginError> {
        let path = "login/";
        let request = self.http.request(Method::GET, path).map_err(not_sendable)?;
        let answer = self.http.answer(path, request).await?;
        // OctoPrint asks for it since 1.8. Before, there is none: the login itself will tell.
        if answer.status == StatusCode::OK || self.http.cookies.csrf_token().is_some() {
            return Ok(());
        }
        login::read(Attempt::Password, &answer).map(|_| ())
    }

    async fn post_login(&self, attempt: Attempt, body: &Value) -> Result<Login, LoginError> {
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
        let mut request = http.request(method.clone(), path).map_err(SendError::Rest)?;
        match self.credentials {
            Credentials::ApiKey(key) => {
                let key = sensitive(key).ok_or_else(|| {
                    SendError::Rest(argument(path, "the API key is no header value"))
                })?;
                request = request.header("X-Api-Key", key);
            }
            Credentials::Password { .. } if *method != Method::GET => {
                if let Some(token) = http.cookies.csrf_token() {
                    request = request.header("X-CSRF-Token", token);
                }
            }
            Credentials::Password { .. } => {}
        }
        if let Some(version) = api_version {
            request = request.header("X-OctoPrint-Api-Version", version);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        http.answer(path, request).await.map_err(SendError::Call)
    }
}

/// A login on the strength of the key or the cookies that come with it.
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

/// What an answer of JSON says.
pub(in crate::octoprint) fn json_of<T: DeserializeOwned>(
    body: &[u8],
    path: &str,
) -> Result<T, RestError> {
    serde_json::from_slice(body)
        .map_err(|error| RestError::new(RestErrorKind::Shape, path).because(error))
}

fn not_sendable(error: RestError) -> LoginError {
    LoginError::NotSendable(shared(error))
}
