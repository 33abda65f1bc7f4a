//! HTTP to one OctoPrint: one client, its addresses, its limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Method;
use reqwest::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use tokio::time::Instant;
use url::Url;

use super::answer::{Answer, challenge, shown};
use super::cookies::Cookies;
use super::error::{BodyError, BuildError, CallError, RestError, RestErrorKind};
use super::login::proxy_login;
use super::reach::Reach;
use super::resolver::Resolver;
use crate::causes::HttpFault;
use crate::octoprint::wire::lenient;
use crate::secret::Secret;

/// The largest answer that is read.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// How long a REST call may take from start to end.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a knock may take to get through: shorter than the pause between two.
const KNOCK_CONNECT: Duration = Duration::from_millis(1500);

/// The client: its own cookies, no redirect followed, and a connection of its own for each call.
///
/// OctoPrint before 1.10 closes a connection after an answer without announcing it, and any proxy
/// may: a call on a connection that was used before can be lost, and whether a command was can not
/// be told. So none is used twice.
#[derive(Debug)]
pub(in crate::octoprint) struct Http {
    client: reqwest::Client,
    line: Arc<Line>,
    pub(in crate::octoprint) cookies: Cookies,
    /// Whether OctoPrint could be reached lately; of all clients on this line.
    reach: Arc<Reach>,
}

/// The way to one OctoPrint.
struct Line {
    base: Url,
    tls: Arc<rustls::ClientConfig>,
    headers: HeaderMap,
    proxy: Option<Url>,
    connect_timeout: Duration,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("base", &public_url(&self.base)).finish_non_exhaustive()
    }
}

impl Line {
    fn client(
        &self,
        change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<reqwest::Client, BuildError> {
        // Never the proxy of the environment: OctoPrint is mostly in the house.
        let mut builder = reqwest::Client::builder().no_proxy();
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy.clone()).map_err(HttpFault::from)?);
        }
        let builder = builder
            .tls_backend_preconfigured((*self.tls).clone())
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(crate::names::Names))
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(self.connect_timeout)
            .pool_max_idle_per_host(0)
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .default_headers(self.headers.clone());
        Ok(change(builder).build().map_err(HttpFault::from)?)
    }
}

impl Http {
    pub(in crate::octoprint) fn new(
        base: Url,
        tls: &Arc<rustls::ClientConfig>,
        headers: &[(String, Secret)],
        proxy: Option<&Url>,
        connect_timeout: Duration,
    ) -> Result<Self, BuildError> {
        let line = Arc::new(Line {
            base,
            tls: Arc::clone(tls),
            headers: header_map(headers)?,
            proxy: proxy.cloned(),
            connect_timeout,
        });
        let client = line.client(|builder| builder)?;
        Ok(Self { client, line, cookies: Cookies::default(), reach: Arc::default() })
    }

    /// Another client on the same line, with other cookies.
    pub(in crate::octoprint) fn beside(&self, cookies: Cookies) -> Result<Self, BuildError> {
        self.another(cookies, |builder| builder)
    }

    /// A client that knocks: without cookies, impatient, and it keeps the host's address for a
    /// while.
    pub(in crate::octoprint) fn knocker(&self) -> Result<Self, BuildError> {
        let limit = self.line.connect_timeout.min(KNOCK_CONNECT);
        self.another(Cookies::default(), |builder| {
            builder.connect_timeout(limit).dns_resolver(Resolver::default())
        })
    }

    fn another(
        &self,
        cookies: Cookies,
        change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, BuildError> {
        let (line, reach) = (Arc::clone(&self.line), Arc::clone(&self.reach));
        Ok(Self { client: line.client(change)?, line, cookies, reach })
    }

    /// Whether OctoPrint could be reached lately.
    pub(in crate::octoprint) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// The base address.
    pub(in crate::octoprint) fn base(&self) -> &Url {
        &self.line.base
    }

    /// The address of `path` under the base address, never outside of it.
    pub(in crate::octoprint) fn url(&self, path: &str) -> Result<Url, RestError> {
        let outside = || argument(&shown(path), "no path of OctoPrint");
        let base = self.base();
        let text = format!("{base}{}", path.trim_start_matches('/'));
        let url = Url::parse(&text).map_err(|_| outside())?;
        let same = url.origin() == base.origin() && url.path().starts_with(base.path());
        if same { Ok(url) } else { Err(outside()) }
    }

    /// A request for `path`, to which credentials and body may be added.
    pub(in crate::octoprint) fn request(
        &self,
        method: Method,
        path: &str,
    ) -> Result<reqwest::RequestBuilder, RestError> {
        Ok(self.endless(method, path)?.timeout(CALL_TIMEOUT))
    }

    /// A request whose answer may go on for ever.
    pub(in crate::octoprint) fn endless(
        &self,
        method: Method,
        path: &str,
    ) -> Result<reqwest::RequestBuilder, RestError> {
        let request = self.client.request(method, self.url(path)?);
        // A cookie that the user gave, for a proxy, is the only one.
        let ours = self.cookies.header().filter(|_| !self.line.headers.contains_key(COOKIE));
        Ok(match ours {
            Some(cookies) => request.header(COOKIE, cookies),
            None => request,
        })
    }

    /// Sends the request and waits for the head of the answer, whatever its status.
    pub(in crate::octoprint) async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, CallError> {
        let sent = request.send().await.map_err(CallError::of_send);
        match &sent {
            Ok(response) => {
                response.headers().get_all(SET_COOKIE).iter().for_each(|set| self.cookies.set(set));
                self.reach.answered(response.status().as_u16(), Instant::now());
            }
            Err(error) => self.reach.unanswered(error, Instant::now()),
        }
        sent
    }

    /// Sends the request and reads the whole answer, whatever its status.
    pub(in crate::octoprint) async fn answer(
        &self,
        path: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<Answer, CallError> {
        let response = self.send(request).await?;
        let status = response.status();
        let location = response.headers().get(LOCATION).and_then(|to| self.location(to, path));
        let challenge = challenge(response.headers());
        let body = body(response, path, MAX_BODY).await;
        let body = body.map_err(|source| CallError::Body { status: status.as_u16(), source })?;
        Ok(Answer { status, location, challenge, body: lenient::body(body) })
    }

    /// A `Location` fit to be shown: whole, without what may be secret in it, and without the path
    /// that was asked for, for who reads it wants OctoPrint's base address.
    fn location(&self, header: &HeaderValue, path: &str) -> Option<String> {
        let mut url = self.base().join(header.to_str().ok()?).ok()?;
        if let Some(base) = url.path().strip_suffix(path).map(ToOwned::to_owned) {
            url.set_path(&base);
        }
        url.set_query(None);
        url.set_fragment(None);
        Some(public_url(&url))
    }
}

/// An address without user and password.
pub(in crate::octoprint) fn public_url(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for addresses that cannot have either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// The body of a success, or the error that the status means.
pub(in crate::octoprint) fn success(answer: Answer, path: &str) -> Result<Bytes, RestError> {
    let status = answer.status.as_u16();
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    if answer.status.is_redirection() {
        let location = answer.location.unwrap_or_else(|| "(none named)".to_owned());
        return Err(RestError::new(RestErrorKind::Redirected { status, location }, path));
    }
    let failed = |text| RestError::new(RestErrorKind::Status { status, text }, path);
    Err(match proxy_login(&answer) {
        Some(proxy) => failed(proxy.to_string()).because(proxy),
        None => failed(answer.seen()),
    })
}

/// The error of a call that cannot be made.
pub(in crate::octoprint) fn argument(path: &str, what: &'static str) -> RestError {
    RestError::new(RestErrorKind::Argument(what), path)
}

fn header_map(headers: &[(String, Secret)]) -> Result<HeaderMap, BuildError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = || BuildError::NotSendable { name: format!("header {name:?}") };
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        map.append(parsed, sensitive(value).ok_or_else(bad)?);
    }
    Ok(map)
}

/// A header value that no `Debug` shows; `None` where the text cannot be one.
pub(in crate::octoprint) fn sensitive(value: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn body(
    mut response: reqwest::Response,
    path: &str,
    limit: usize,
) -> Result<Bytes, BodyError> {
    let broken_off =
        |error| BodyError::BrokenOff { path: shown(path), source: HttpFault::from(error) };
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(broken_off)? {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge { path: shown(path), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests;
