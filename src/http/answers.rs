//! Answers over HTTP: their body, and headers that several have.

use std::convert::Infallible;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde_json::Value;

/// A body that is whole, or a stream of events.
pub type HttpBody = UnsyncBoxBody<Bytes, Infallible>;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// Returns an answer with a whole body.
pub(super) fn respond(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<HttpBody> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Returns an answer in JSON.
pub(super) fn json(status: StatusCode, body: &Value) -> Response<HttpBody> {
    respond(status, JSON, body.to_string())
}

/// Returns the answer to a method that a path does not have; `known` are those that it has.
pub(super) fn wrong_method(known: &'static str) -> Response<HttpBody> {
    let text = format!("{} alone are known\n", known.replace(',', " and "));
    let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(known));
    response
}
