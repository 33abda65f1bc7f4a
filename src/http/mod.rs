//! Health and metrics over HTTP, off unless `[http]` is configured.

pub mod metrics;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::mqtt::Broker;
use crate::plain_http;

/// How long the bridge's loops may take to say that they are alive.
const ALIVE: Duration = Duration::from_secs(2);
/// For how long the broker may be away before the bridge is unhealthy: restarts pass.
const BROKER_AWAY: Duration = Duration::from_secs(60);
/// How long `octoprint2mqtt health` waits for an answer.
const ASK: Duration = Duration::from_secs(5);

/// Asks the hub for a sign of life.
pub type HubPing = oneshot::Sender<()>;

/// What is served.
pub struct Served {
    /// For signs of life of the hub.
    pub hub: mpsc::Sender<HubPing>,
    /// The connection to the broker.
    pub broker: Broker,
    /// When the bridge was started.
    pub started: std::time::Instant,
    /// The metrics.
    pub registry: Registry,
    /// Where they find what waits for the broker.
    pub queues: metrics::Queues,
    /// The printers whose tasks failed lately. They do not make the bridge unhealthy: the other
    /// printers must not be restarted for one.
    pub degraded: Box<dyn Fn() -> Map<String, Value> + Send + Sync>,
}

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
/// Where it cannot be listened on.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map_err(failed)
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, served: Served) {
    let router = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(served));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("health and metrics are not served any more: {error}");
    }
}

async fn health(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let (status, body) = match unwell(&served).await {
        None => {
            let degraded = (served.degraded)();
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
    (status, [(CONTENT_TYPE, "application/json")], body.to_string())
}

/// What is wrong: an event loop that does not turn, or a broker that has been away for long. An
/// OctoPrint that is away is as it should be at night.
async fn unwell(served: &Served) -> Option<String> {
    let (tell, told) = oneshot::channel();
    let hub = async { served.hub.send(tell).await.is_ok() && told.await.is_ok() };
    if tokio::time::timeout(ALIVE, hub).await != Ok(true) {
        return Some("the bridge's event loop does not turn".to_owned());
    }
    if tokio::time::timeout(ALIVE, served.broker.ping()).await != Ok(true) {
        return Some("the event loop of the broker's connection does not turn".to_owned());
    }
    let status = served.broker.status();
    let status = status.borrow();
    let since = status.since.unwrap_or(served.started);
    if status.connected || since.elapsed() < BROKER_AWAY {
        return None;
    }
    let error = status.error.as_deref().unwrap_or("no connection yet");
    Some(format!("the broker has been away for {} s: {error}", since.elapsed().as_secs()))
}

async fn metrics(State(served): State<Arc<Served>>) -> impl IntoResponse {
    if let Ok(Some(waiting)) = tokio::time::timeout(ALIVE, served.broker.waiting()).await {
        served.queues.set(waiting);
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let encoded = prometheus_client::encoding::text::encode(&mut text, &served.registry);
    let status = if encoded.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (status, [(CONTENT_TYPE, kind)], text)
}

/// Asks the bridge that serves at `listen` how it is. Yields for people how it is where it is
/// healthy.
///
/// # Errors
/// What is wrong, or that nobody answers.
pub async fn ask(listen: SocketAddr) -> Result<String, String> {
    let mut address = listen;
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let nobody = |why: &str| format!("no bridge answers at http.listen = {listen}: {why}");
    let url = format!("http://{address}/health");
    let (status, body) = plain_http::get(&url, None, ASK).await.map_err(|cause| nobody(&cause))?;
    let well = status == StatusCode::OK;
    let body: serde_json::Value =
        serde_json::from_slice(&body).map_err(|_| nobody("something else does"))?;
    match (well, body["reason"].as_str()) {
        (true, _) => Ok(match body["degraded"].as_object() {
            None => "healthy".to_owned(),
            Some(printers) => {
                let printers: Vec<&str> = printers.keys().map(String::as_str).collect();
                format!("healthy, but tasks of these printers failed: {}", printers.join(", "))
            }
        }),
        (false, Some(reason)) => Err(reason.to_owned()),
        (false, None) => Err(nobody("something else does")),
    }
}
