//! The HTTP client for one OctoPrint: addresses, headers, cookies and limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Method;
use reqwest::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use tokio::time::Instant;
use url::Url;

use super::answer::{Answer, challenge, one_line};
use super::cookies::Cookies;
use super::error::{BodyError, BuildError, CallError, RestError, RestErrorKind, without_query};
use super::login::proxy_login;
use super::reach::{Reach, Resolver};
use crate::causes::HttpFault;
use crate::octoprint::lenient;
use crate::secret::Secret;

/// The largest body that is read, in bytes.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// How long a call may take.
pub(in crate::octoprint) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Connect timeout of a knock: shorter than the interval between two knocks.
const KNOCK_CONNECT: Duration = Duration::from_millis(1500);

/// An HTTP client with its own cookies, which follows no redirects and opens a connection per call.
///
/// OctoPrint before 1.10 closes a connection after an answer without announcing it, and so may any
/// proxy. A call on a reused connection can be lost, and then nobody knows whether a command was
/// carried out. So connections are never reused.
#[derive(Debug)]
pub(in crate::octoprint) struct HttpClient {
    client: reqwest::Client,
    endpoint: Arc<Endpoint>,
    pub(in crate::octoprint) cookies: Cookies,
    reach: Arc<Reach>,
}

/// Where one OctoPrint is, and how to connect to it.
struct Endpoint {
    base: Url,
    tls: Arc<rustls::ClientConfig>,
    headers: HeaderMap,
    proxy: Option<Url>,
    connect_timeout: Duration,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("base", &public_url(&self.base)).finish_non_exhaustive()
    }
}

impl Endpoint {
    fn client(
        &self,
        change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<reqwest::Client, BuildError> {
        // Ignores the environment's proxy: OctoPrint is usually on the local network.
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

impl HttpClient {
    pub(in crate::octoprint) fn new(
        base: Url,
        tls: &Arc<rustls::ClientConfig>,
        headers: &[(String, Secret)],
        proxy: Option<&Url>,
        connect_timeout: Duration,
    ) -> Result<Self, BuildError> {
        let endpoint = Arc::new(Endpoint {
            base,
            tls: Arc::clone(tls),
            headers: header_map(headers)?,
            proxy: proxy.cloned(),
            connect_timeout,
        });
        let client = endpoint.client(|builder| builder)?;
        Ok(Self { client, endpoint, cookies: Cookies::default(), reach: Arc::default() })
    }

    pub(in crate::octoprint) fn with_cookies(&self, cookies: Cookies) -> Result<Self, BuildError> {
        self.with_client(cookies, |builder| builder)
    }

    /// Creates a client for knocks: without cookies, with a short timeout and cached addresses.
    pub(in crate::octoprint) fn knocker(&self) -> Result<Self, BuildError> {
        let limit = self.endpoint.connect_timeout.min(KNOCK_CONNECT);
        self.with_client(Cookies::default(), |builder| {
            builder.connect_timeout(limit).dns_resolver(Resolver::default())
        })
    }

    /// Returns a client for `url`: with the configured headers if that is OctoPrint's own origin,
    /// without them for any other.
    pub(in crate::octoprint) fn client_for(
        &self,
        url: &Url,
    ) -> Result<reqwest::Client, BuildError> {
        if url.origin() == self.base().origin() {
            return Ok(self.client.clone());
        }
        let Endpoint { base, tls, proxy, connect_timeout, .. } = &*self.endpoint;
        let foreign = Endpoint {
            base: base.clone(),
            tls: Arc::clone(tls),
            headers: HeaderMap::new(),
            proxy: proxy.clone(),
            connect_timeout: *connect_timeout,
        };
        foreign.client(|builder| builder)
    }

    fn with_client(
        &self,
        cookies: Cookies,
        change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, BuildError> {
        let (endpoint, reach) = (Arc::clone(&self.endpoint), Arc::clone(&self.reach));
        Ok(Self { client: endpoint.client(change)?, endpoint, cookies, reach })
    }

    pub(in crate::octoprint) fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(in crate::octoprint) fn base(&self) -> &Url {
        &self.endpoint.base
    }

    /// Returns the address of `path` under the base address; an error if it is outside.
    pub(in crate::octoprint) fn url(&self, path: &str) -> Result<Url, RestError> {
        let outside = || invalid_argument(&one_line(path), "no path of OctoPrint");
        let base = self.base();
        let text = format!("{base}{}", path.trim_start_matches('/'));
        let url = Url::parse(&text).map_err(|_| outside())?;
        let same = url.origin() == base.origin() && url.path().starts_with(base.path());
        if same { Ok(url) } else { Err(outside()) }
    }

    pub(in crate::octoprint) fn request(
        &self,
        method: Method,
        path: &str,
    ) -> Result<reqwest::RequestBuilder, RestError> {
        Ok(self.request_without_timeout(method, path)?.timeout(CALL_TIMEOUT))
    }

    pub(in crate::octoprint) fn request_without_timeout(
        &self,
        method: Method,
        path: &str,
    ) -> Result<reqwest::RequestBuilder, RestError> {
        let request = self.client.request(method, self.url(path)?);
        // A cookie from the configuration, as for a proxy, replaces ours.
        let ours = self.cookies.header().filter(|_| !self.endpoint.headers.contains_key(COOKIE));
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
        let sent = request.send().await.map_err(CallError::from_send);
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
        self.read(path, response).await
    }

    /// Reads the whole answer, whatever its status.
    pub(in crate::octoprint) async fn read(
        &self,
        path: &str,
        response: reqwest::Response,
    ) -> Result<Answer, CallError> {
        let status = response.status();
        let location = response.headers().get(LOCATION).and_then(|to| self.location(to, path));
        let challenge = challenge(response.headers());
        let body = body(response, path, MAX_BODY).await;
        let body = body.map_err(|source| CallError::Body { status: status.as_u16(), source })?;
        Ok(Answer { status, location, challenge, body: lenient::repaired_body(body) })
    }

    /// Returns a `Location` for messages: absolute, without secrets, and without the requested
    /// path, because the user needs OctoPrint's base address.
    fn location(&self, header: &HeaderValue, path: &str) -> Option<String> {
        let mut url = self.base().join(header.to_str().ok()?).ok()?;
        if let Some(base) = url.path().strip_suffix(without_query(path)).map(ToOwned::to_owned) {
            url.set_path(&base);
        }
        url.set_query(None);
        url.set_fragment(None);
        Some(public_url(&url))
    }
}

pub(in crate::octoprint) fn public_url(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for addresses that can have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Returns the body of a success, or the error for the status.
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
        Some(proxy) => failed(proxy.to_string()).caused_by(proxy),
        None => failed(answer.summary()),
    })
}

pub(in crate::octoprint) fn invalid_argument(path: &str, what: &'static str) -> RestError {
    RestError::new(RestErrorKind::Argument(what), path)
}

fn header_map(headers: &[(String, Secret)]) -> Result<HeaderMap, BuildError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = || BuildError::NotSendable { name: format!("header {name:?}") };
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        map.append(parsed, sensitive_value(value).ok_or_else(bad)?);
    }
    Ok(map)
}

/// Creates a header value that `Debug` hides; `None` if the text is not a valid one.
pub(in crate::octoprint) fn sensitive_value(value: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Reads at most `limit` bytes of a body.
pub(super) async fn body(
    mut response: reqwest::Response,
    path: &str,
    limit: usize,
) -> Result<Bytes, BodyError> {
    let path = without_query(path);
    let broken_off =
        |error| BodyError::BrokenOff { path: one_line(path), source: HttpFault::from(error) };
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(broken_off)? {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge { path: one_line(path), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::dead_address::DeadAddress;
    use crate::octoprint::large::Sizes;
    use crate::octoprint::rest::client::Rest;
    use crate::octoprint::rest::login::Credentials;
    use crate::octoprint::wire::transport::{Transport, open_websocket, open_xhr};
    use crate::simulator::{Simulator, SimulatorOptions};

    /// The default of the configuration. The tests' host has a dead IPv6 address before a live IPv4
    /// one, as in many homes.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    const SIZES: Sizes = Sizes { large: 1 << 20, max: 1 << 24 };

    /// Creates a client of an OctoPrint at these addresses, the first one preferred.
    fn http(addresses: &[SocketAddr], connect_timeout: Duration) -> HttpClient {
        crate::tls::install_provider();
        let tls = crate::tls::client_config(&crate::config::Tls::default(), false).unwrap();
        // Without a port here, the port of the address is used.
        let base = "http://octopi.example/".parse().unwrap();
        let http = HttpClient::new(base, &tls, &[], None, connect_timeout).unwrap();
        let resolver = Resolver::with_addresses(addresses.to_vec());
        http.with_client(Cookies::default(), |builder| builder.dns_resolver(resolver)).unwrap()
    }

    /// Answers every call with 200 and the beginning of a SockJS stream.
    async fn serve(listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no\n").await.unwrap();
        }
    }

    async fn get(http: &HttpClient) -> Result<Answer, CallError> {
        http.answer("api/version", http.request(Method::GET, "api/version").unwrap()).await
    }

    #[tokio::test]
    async fn calls_and_streams_get_past_a_dead_address() {
        let dead = DeadAddress::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let living = listener.local_addr().unwrap();
        tokio::spawn(serve(listener));
        let alone = get(&http(&[dead.v6()], Duration::from_secs(1))).await;
        assert!(matches!(alone, Err(CallError::NotSent(_))), "it is dead");

        let both = http(&[dead.v6(), living], CONNECT_TIMEOUT);
        assert_eq!(get(&both).await.ok().unwrap().status, 200);
        let key = Credentials::ApiKey(Secret::new("KEY"));
        let rest = Rest::with_http(both, key, Duration::ZERO);
        let link = open_xhr(&rest, CONNECT_TIMEOUT, SIZES).await.unwrap();
        assert_eq!(link.transport(), Transport::XhrStreaming);
    }

    #[tokio::test]
    async fn a_websocket_gets_past_a_dead_address() {
        let dead = DeadAddress::new().await;
        let octoprint = Simulator::start(SimulatorOptions::default()).await.unwrap();
        let living = SocketAddr::from(([127, 0, 0, 1], octoprint.port()));
        let both = http(&[dead.v6(), living], CONNECT_TIMEOUT);
        let link = open_websocket(&both, CONNECT_TIMEOUT, SIZES).await.unwrap();
        assert_eq!(link.transport(), Transport::WebSocket);
    }
}
