//! The page: who may see it, its paths, and what it asks of the bridge.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use askama::Template;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName,
    HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::Semaphore;

use super::answers::{self, HttpBody, JSON, TEXT, respond};
use super::asked::PageQuestion;
use super::assets::Asset;
use super::events::{EventStream, StreamLogin};
use super::guard::{CallerKind, PageGuard};
use super::login_queue::{LoginQueue, QueueIsFull};
use super::options::PageOptions;
use super::sessions::{self, PagePassword, PageSessions, TokenHash};
use super::views::{LoginView, MainView};
use crate::bridge::board::Board;
use crate::causes::{self, Cause};
use crate::clock;
use crate::recent_log::RecentLog;

/// Most pages that are open at a time.
const MOST_STREAMS: usize = 32;
/// Largest body of a request, in bytes.
const LARGEST_BODY: usize = 16 * 1024;
/// Time limit for reading a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for the bridge's answer: a check of many printers takes its time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Shortest interval between lines in the log about wrong passwords.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Media types of pictures. Others are not shown: some can hold scripts.
const PICTURES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

const HTML: &str = "text/html; charset=utf-8";
const FORM: &str = "application/x-www-form-urlencoded";
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The page.
pub struct Page {
    board: Board,
    log: RecentLog,
    guard: PageGuard,
    password: Option<PagePassword>,
    /// As configured.
    read_only: Option<bool>,
    sessions: Arc<PageSessions>,
    logins: LoginQueue,
    /// When a wrong password may be logged again.
    next_report: Mutex<Option<Instant>>,
    streams: Arc<Semaphore>,
    /// Name of the session's cookie. Browsers do not tell ports of a host apart.
    cookie: String,
}

/// A path of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'p> {
    Main,
    File(Asset),
    Events,
    Session,
    Picture(&'p str),
    Login,
    Logout,
    Ask,
}

impl<'p> Place<'p> {
    fn of(path: &'p str) -> Option<Self> {
        Some(match path {
            "/" => Self::Main,
            "/style.css" => Self::File(Asset::Style),
            "/page.js" => Self::File(Asset::Script),
            "/icon.svg" => Self::File(Asset::Icon),
            "/events" => Self::Events,
            "/session" => Self::Session,
            "/login" => Self::Login,
            "/logout" => Self::Logout,
            "/ask" => Self::Ask,
            _ => Self::Picture(path.strip_prefix("/picture/")?),
        })
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Login => "GET,HEAD,POST",
            Self::Logout | Self::Ask => "POST",
            _ => "GET,HEAD",
        }
    }
}

/// Whoever asks, once admitted.
#[derive(Clone, Copy)]
struct Visitor {
    kind: CallerKind,
    /// The session, if it is open.
    session: Option<TokenHash>,
}

impl Page {
    /// Makes the page, which shows a board and the last lines of the log.
    pub fn new(options: PageOptions, board: Board, log: RecentLog) -> Self {
        let is_open = options.is_open();
        let PageOptions { http, ingress } = options;
        Self {
            board,
            log,
            guard: PageGuard { hosts: http.hosts, ingress, is_open },
            password: http.password.as_ref().map(PagePassword::new),
            read_only: http.read_only,
            sessions: Arc::default(),
            logins: LoginQueue::default(),
            next_report: Mutex::default(),
            streams: Arc::new(Semaphore::new(MOST_STREAMS)),
            cookie: format!("octoprint2mqtt_{}", http.listen.port()),
        }
    }

    /// Answers a request that comes from the address `peer`.
    pub(super) async fn answer<B>(&self, request: Request<B>, peer: IpAddr) -> Response<HttpBody>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Cause>,
    {
        let (head, body) = request.into_parts();
        let Some(place) = Place::of(head.uri.path()) else {
            return respond(StatusCode::NOT_FOUND, TEXT, "there is no such page\n");
        };
        if !place.methods().split(',').any(|known| head.method == known) {
            return answers::wrong_method(place.methods());
        }
        let is_visit = matches!(place, Place::Main | Place::Login);
        let kind = match self.guard.check(peer, &head.method, &head.headers, is_visit) {
            Ok(kind) => kind,
            Err(error) => return respond(error.status(), TEXT, format!("{error}\n")),
        };
        let session = self.session(&head.headers);
        let visitor = Visitor { kind, session };
        let mut response = if head.method == Method::POST {
            match self.change(place, &head.headers, body, visitor).await {
                Ok(response) | Err(response) => response,
            }
        } else {
            match place {
                Place::File(asset) => asset.answer(head.uri.query(), &head.headers),
                _ => self.show(place, visitor),
            }
        };
        protect(&mut response, kind);
        response
    }

    /// Returns the session of a request, and renews it.
    fn session(&self, headers: &HeaderMap) -> Option<TokenHash> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| {
            let (name, token) = pair.trim().split_once('=')?;
            (name == self.cookie).then(|| TokenHash::of(token))
        });
        pairs.find(|hash| self.sessions.renew(*hash))
    }

    fn is_admitted(&self, visitor: Visitor) -> bool {
        visitor.kind == CallerKind::Ingress || self.password.is_none() || visitor.session.is_some()
    }

    /// Whether changes are refused: by default where nobody had to log in.
    fn is_read_only(&self, visitor: Visitor) -> bool {
        let is_anybody = visitor.kind == CallerKind::Browser && self.password.is_none();
        self.read_only.unwrap_or(is_anybody)
    }

    fn show(&self, place: Place<'_>, visitor: Visitor) -> Response<HttpBody> {
        match place {
            Place::Login => return redirect(),
            Place::Main if !self.is_admitted(visitor) => return login_form(StatusCode::OK, None),
            _ if !self.is_admitted(visitor) => return not_logged_in(),
            _ => {}
        }
        match place {
            Place::Events => self.events(visitor),
            Place::Session => respond(StatusCode::NO_CONTENT, TEXT, ""),
            Place::Picture(id) => self.picture(id),
            _ => {
                let is_read_only = self.is_read_only(visitor);
                let has_password = self.password.is_some();
                let has_session = visitor.kind == CallerKind::Browser && visitor.session.is_some();
                html(
                    StatusCode::OK,
                    &MainView::new(&self.board, is_read_only, has_password, has_session),
                )
            }
        }
    }

    fn events(&self, visitor: Visitor) -> Response<HttpBody> {
        let Ok(place) = Arc::clone(&self.streams).try_acquire_owned() else {
            let text = "too many pages are open; close one\n";
            let mut response = respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
            return response;
        };
        let hash = visitor.session.filter(|_| visitor.kind == CallerKind::Browser);
        let sessions = || Arc::clone(&self.sessions);
        let login = hash.map(|hash| StreamLogin { sessions: sessions(), hash });
        let stream = EventStream::new(self.board.clone(), self.log.clone(), login, place);
        // Home Assistant before 2026.2 compresses what is text, and holds events back until there
        // is much of them.
        let media_type = match visitor.kind {
            CallerKind::Browser => "text/event-stream",
            CallerKind::Ingress => "application/octet-stream",
        };
        let mut response = respond(StatusCode::OK, media_type, "");
        *response.body_mut() = stream.into_body();
        // nginx would otherwise collect events until a buffer is full.
        response.headers_mut().insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        response
    }

    fn picture(&self, id: &str) -> Response<HttpBody> {
        match self.board.picture(id).filter(|picture| PICTURES.contains(&picture.media_type)) {
            Some(picture) => respond(StatusCode::OK, picture.media_type, picture.bytes),
            None => respond(StatusCode::NOT_FOUND, TEXT, "there is no picture\n"),
        }
    }

    async fn change<B>(
        &self,
        place: Place<'_>,
        headers: &HeaderMap,
        body: B,
        visitor: Visitor,
    ) -> Result<Response<HttpBody>, Response<HttpBody>>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Cause>,
    {
        match place {
            Place::Login => {
                let body = read(headers, FORM, body).await?;
                self.login(&body, headers).await
            }
            Place::Logout => {
                if let Some(session) = visitor.session {
                    self.sessions.close(session);
                }
                Ok(redirect())
            }
            _ if !self.is_admitted(visitor) => Err(not_logged_in()),
            _ => {
                let body = read(headers, JSON, body).await?;
                self.ask(&body, visitor).await
            }
        }
    }

    async fn login(
        &self,
        body: &[u8],
        headers: &HeaderMap,
    ) -> Result<Response<HttpBody>, Response<HttpBody>> {
        let Some(password) = &self.password else { return Ok(redirect()) };
        let mut fields = url::form_urlencoded::parse(body);
        let given = fields.find_map(|(name, value)| (name == "password").then_some(value));
        let given = given.unwrap_or_default();
        match self.logins.login(|| password.is(&given)).await {
            Ok(true) => {}
            Ok(false) => {
                self.report_wrong_password();
                return Err(login_form(StatusCode::UNAUTHORIZED, Some("This password is wrong.")));
            }
            Err(QueueIsFull(wait)) => {
                let complaint = "Too many logins are being tried. Try again in a few seconds.";
                let mut form = login_form(StatusCode::TOO_MANY_REQUESTS, Some(complaint));
                form.headers_mut().insert(RETRY_AFTER, wait.as_secs().into());
                return Err(form);
            }
        }
        let failed = || respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "no random numbers\n");
        let token = self.sessions.open().map_err(|_| failed())?;
        let is_secure =
            headers.get(FORWARDED_PROTO).is_some_and(|by| by.as_bytes().starts_with(b"https"));
        // Without a path, it is the page's own, below whatever path a proxy has it.
        let cookie = format!(
            "{}={}; Max-Age={}; HttpOnly; SameSite=Strict{}",
            self.cookie,
            token.expose(),
            sessions::IDLE.as_secs(),
            if is_secure { "; Secure" } else { "" },
        );
        let mut cookie = HeaderValue::try_from(cookie).map_err(|_| failed())?;
        cookie.set_sensitive(true);
        let mut response = redirect();
        response.headers_mut().insert(SET_COOKIE, cookie);
        Ok(response)
    }

    /// Logs a wrong password, once in a while: somebody may try many.
    fn report_wrong_password(&self) {
        let now = clock::now();
        let mut next = self.next_report.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_none_or(|next| next <= now) {
            *next = Some(now + REPORT_INTERVAL);
            tracing::warn!("a login to the page was refused, because its password is wrong");
        }
    }

    async fn ask(
        &self,
        body: &[u8],
        visitor: Visitor,
    ) -> Result<Response<HttpBody>, Response<HttpBody>> {
        let refuse = |status, text: &str| answers::json(status, &json!({"error": text}));
        let question: PageQuestion = serde_json::from_slice(body).map_err(|_| {
            refuse(StatusCode::BAD_REQUEST, "this is no question that the page has")
        })?;
        if !question.is_reading() && self.is_read_only(visitor) {
            let text = "the page is read-only: set http.password, or http.read_only to false";
            return Err(refuse(StatusCode::FORBIDDEN, text));
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, self.board.ask(question.into())).await {
            Ok(Ok(answer)) => Ok(answers::json(StatusCode::OK, &json!({"ok": answer}))),
            Ok(Err(error)) => Err(refuse(StatusCode::CONFLICT, &causes::text(&*error))),
            Err(_) => Err(refuse(StatusCode::GATEWAY_TIMEOUT, "the bridge has not answered yet")),
        }
    }
}

/// Reads a body of this media type.
async fn read<B>(headers: &HeaderMap, kind: &str, body: B) -> Result<Bytes, Response<HttpBody>>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Cause>,
{
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split(';').next()).map(str::trim);
    if !given.is_some_and(|given| given.eq_ignore_ascii_case(kind)) {
        let text = format!("a body of the type {kind} is expected\n");
        return Err(respond(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT, text));
    }
    let whole = Limited::new(body, LARGEST_BODY).collect();
    match tokio::time::timeout(BODY_TIMEOUT, Box::pin(whole)).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(respond(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "the body is too large\n")),
        Err(_) => Err(respond(StatusCode::REQUEST_TIMEOUT, TEXT, "the body takes too long\n")),
    }
}

fn html(status: StatusCode, view: &impl Template) -> Response<HttpBody> {
    match view.render() {
        Ok(text) => respond(status, HTML, text),
        Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the page cannot be made\n"),
    }
}

fn login_form(status: StatusCode, complaint: Option<&'static str>) -> Response<HttpBody> {
    html(status, &LoginView::new(complaint))
}

fn not_logged_in() -> Response<HttpBody> {
    answers::json(StatusCode::UNAUTHORIZED, &json!({"error": "log in first"}))
}

/// Leads to the page, below whatever path it is.
fn redirect() -> Response<HttpBody> {
    let mut response = respond(StatusCode::SEE_OTHER, TEXT, "");
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("./"));
    response
}

/// Adds what keeps other sites and scripts out.
fn protect(response: &mut Response<HttpBody>, kind: CallerKind) {
    // Home Assistant shows the page in a frame.
    let (ancestors, frames) = match kind {
        CallerKind::Browser => ("'none'", "DENY"),
        CallerKind::Ingress => ("'self'", "SAMEORIGIN"),
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static(frames));
    // Not `no-referrer`, with which forms have no origin.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
