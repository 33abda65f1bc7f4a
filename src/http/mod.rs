//! Health, metrics and the page over HTTP, off unless `[http]` is configured.
//!
//! The page shows the [`Board`](crate::bridge::board::Board), follows it by server-sent events, and
//! asks the bridge to find, add, rename and remove printers.

mod answers;
mod asked;
mod assets;
mod events;
mod guard;
mod login_queue;
mod options;
mod page;
mod sessions;
mod views;
mod vital_signs;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use self::answers::HttpBody;
pub use self::options::{PageChoice, PageOptions, SUPERVISOR};
pub use self::page::Page;
use crate::bridge::Vitals;
use crate::causes;

/// Pause after a failed accept, as when too many files are open.
const PAUSE: Duration = Duration::from_secs(1);
/// Most connections at a time; others wait until one ends.
const MOST_CONNECTIONS: usize = 256;
/// How long a connection may last. Browsers then make a new one.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Largest head of a request, and most that is buffered of an answer, in bytes.
const BUFFER: usize = 32 * 1024;

/// Why health and metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("http.listen: {address} cannot be listened on: {source}; choose another address or port")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Listens on `address`.
///
/// # Errors
/// If the address cannot be bound.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map_err(failed)
}

/// What is served.
pub struct Site {
    vitals: Vitals,
    page: Option<Page>,
}

impl From<Vitals> for Site {
    /// Health and metrics alone.
    fn from(vitals: Vitals) -> Self {
        Self { vitals, page: None }
    }
}

impl Site {
    /// Adds the page, if there is one.
    pub fn with_page(self, page: Option<Page>) -> Self {
        Self { page, ..self }
    }

    /// Answers a request that comes from the address `peer`.
    pub async fn answer<B>(&self, request: Request<B>, peer: IpAddr) -> Response<HttpBody>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<causes::Cause>,
    {
        let path = request.uri().path();
        if matches!(path, "/health" | "/metrics") {
            // hyper omits the body of a response to HEAD.
            if !matches!(*request.method(), Method::GET | Method::HEAD) {
                return answers::wrong_method("GET,HEAD");
            }
            return match path {
                "/health" => vital_signs::health(&self.vitals).await,
                _ => vital_signs::metrics(&self.vitals).await,
            };
        }
        match &self.page {
            Some(page) => page.answer(request, peer).await,
            None => {
                let text = "there are /health and /metrics\n";
                answers::respond(StatusCode::NOT_FOUND, answers::TEXT, text)
            }
        }
    }
}

/// Serves for ever. What is dropped with it are its connections, too.
pub async fn serve(listener: TcpListener, site: impl Into<Site>) {
    let site = Arc::new(site.into());
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // A panic costs only its connection.
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            Some(_) = connections.join_next() => {}
            (place, accepted) = accepted => match accepted {
                Ok((stream, peer)) => {
                    let site = Arc::clone(&site);
                    connections.spawn(async move {
                        connection(stream, peer.ip().to_canonical(), site).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!("http.listen: a connection could not be taken: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

async fn connection(stream: TcpStream, peer: IpAddr, site: Arc<Site>) {
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(request, peer).await) }
    });
    // The timer enables hyper's timeout for reading the head of a request.
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).max_buf_size(BUFFER);
    let served = http.serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(LIFETIME, served).await {
        tracing::debug!("http.listen: a connection failed: {}", causes::text(&error));
    }
}
