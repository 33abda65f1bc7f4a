//! Health and metrics over HTTP, off unless `[http]` is configured.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::bridge::Vitals;
use crate::causes;

/// Pause after a failed accept, as when too many files are open.
const PAUSE: Duration = Duration::from_secs(1);

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

/// Serves for ever.
pub async fn serve(listener: TcpListener, vitals: Vitals) {
    let vitals = Arc::new(vitals);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Detached: it ends with its client, and a panic costs only this connection.
                tokio::spawn(connection(stream, Arc::clone(&vitals)));
            }
            Err(error) => {
                tracing::debug!("http.listen: a connection could not be taken: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, vitals: Arc<Vitals>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let vitals = Arc::clone(&vitals);
        async move { Ok::<_, Infallible>(answer(&request, &vitals).await) }
    });
    // The timer enables hyper's timeout for reading the request.
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("http.listen: a connection failed: {}", causes::text(&error));
    }
}

async fn answer(request: &Request<Incoming>, vitals: &Vitals) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/health" | "/metrics") {
        let text = "there are /health and /metrics\n".to_owned();
        return respond(StatusCode::NOT_FOUND, "text/plain", text);
    }
    // hyper omits the body of a response to HEAD.
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "GET and HEAD alone are known\n".to_owned();
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, "text/plain", text);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
        return response;
    }
    if path == "/health" { health(vitals).await } else { metrics(vitals).await }
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn health(vitals: &Vitals) -> Response<Full<Bytes>> {
    let (status, body) = match vitals.problem().await {
        None => {
            let degraded = vitals.degraded();
            let mut body = json!({"healthy": true});
            if !degraded.is_empty() {
                body["degraded"] = degraded.into();
            }
            (StatusCode::OK, body)
        }
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({"healthy": false, "reason": reason}))
        }
    };
    respond(status, "application/json", body.to_string())
}

async fn metrics(vitals: &Vitals) -> Response<Full<Bytes>> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match vitals.metrics().await {
        Ok(text) => respond(StatusCode::OK, kind, text),
        Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, kind, String::new()),
    }
}
