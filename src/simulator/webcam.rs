//! The webcams of the simulated OctoPrint, and its settings that name them.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};

/// A picture of one grey pixel, which every browser shows.
const PICTURE: &[u8] = &[
    137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0,
    0, 0, 58, 126, 155, 85, 0, 0, 0, 10, 73, 68, 65, 84, 120, 218, 99, 104, 0, 0, 0, 130, 0, 129,
    218, 69, 8, 59, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130,
];

/// Answers `GET /api/settings`.
pub(super) async fn settings() -> Json<Value> {
    let webcam = |name: &str| {
        let snapshot = format!("/webcam/?action=snapshot&name={name}");
        json!({"name": name, "canSnapshot": true, "compat": {"stream": null, "snapshot": snapshot}})
    };
    let webcams = [webcam("classic"), webcam("top")];
    Json(json!({"webcam": {"webcams": webcams, "defaultWebcam": "classic"}}))
}

/// Answers with a picture.
pub(super) async fn picture() -> Response {
    ([(CONTENT_TYPE, "image/png")], PICTURE).into_response()
}
