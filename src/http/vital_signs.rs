//! `/health` and `/metrics`.

use hyper::{Response, StatusCode};
use serde_json::json;

use super::answers::{self, HttpBody, respond};
use crate::bridge::Vitals;

pub(super) async fn health(vitals: &Vitals) -> Response<HttpBody> {
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
    answers::json(status, &body)
}

pub(super) async fn metrics(vitals: &Vitals) -> Response<HttpBody> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match vitals.metrics().await {
        Ok(text) => respond(StatusCode::OK, kind, text),
        Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, kind, String::new()),
    }
}
