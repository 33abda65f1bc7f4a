//! Health and metrics over HTTP, off unless `[http]` is configured.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use crate::bridge::Vitals;

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
pub async fn serve(listener: TcpListener, vitals: Vitals) {
    let router = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(vitals));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("health and metrics are not served any more: {error}");
    }
}

async fn health(State(vitals): State<Arc<Vitals>>) -> impl IntoResponse {
    let (status, body) = match vitals.unwell().await {
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
    (status, [(CONTENT_TYPE, "application/json")], body.to_string())
}

async fn metrics(State(vitals): State<Arc<Vitals>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match vitals.metrics().await {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, kind)], text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, kind)], String::new()),
    }
}
