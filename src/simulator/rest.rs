//! The REST calls of the simulated OctoPrint.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, Request, State, WebSocketUpgrade};
use axum::http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{AppendHeaders, Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::gcode;
use super::model::{Conflict, Model};
use super::push;
use super::shared::{ServerState, locked};
use super::webcam;

/// The listed files; any other can be selected too.
const FILES: [&str; 2] = ["calibration_cube.gcode", "vase.gcode"];

type Here = State<Arc<ServerState>>;

pub(super) fn router(shared: Arc<ServerState>) -> Router {
    let guarded = Router::new()
        .route("/api/version", get(version))
        .route("/api/job", get(job).post(job_command))
        .route("/api/printer", get(printer))
        .route("/api/printer/tool", post(tool))
        .route("/api/printer/bed", post(bed))
        .route("/api/printer/chamber", post(no_chamber))
        .route("/api/printer/printhead", post(printhead))
        .route("/api/printer/command", post(command))
        .route("/api/files", get(files))
        .route("/api/system/commands/core", get(system_commands))
        .route("/api/system/commands/core/{action}", post(no_system_command))
        .route("/api/connection", get(connection_state).post(connection))
        .route("/api/printerprofiles", get(profiles))
        .route("/api/settings", get(webcam::settings))
        .route("/api/files/{origin}/{*path}", get(file_info).post(file_command))
        .route("/downloads/files/local/{*path}", get(gcode::download))
        .layer(from_fn_with_state(shared.clone(), guard));
    Router::new()
        .route("/login/", get(login_page))
        .route("/webcam/", get(webcam::picture))
        .route("/api/login", post(login))
        .route("/api/currentuser", get(current_user))
        .route("/sockjs/info", get(info))
        .route("/sockjs/{server}/{session}/websocket", get(websocket))
        .merge(guarded)
        .layer(from_fn_with_state(shared.clone(), starting))
        .with_state(shared)
}

/// Answers like OctoPrint's stand-in server during the start. New connections do not get this far: see
/// `Acceptor`.
async fn starting(State(shared): Here, request: Request, next: Next) -> Response {
    if locked(&shared.faults).starting {
        let page = Html("<html>501 Unsupported method</html>");
        return (StatusCode::NOT_IMPLEMENTED, page).into_response();
    }
    next.run(request).await
}

fn error(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

fn key_of(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    text("x-api-key").or_else(|| text(AUTHORIZATION.as_str())?.strip_prefix("Bearer "))
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(found, _)| found.starts_with(name))
        .map(|(_, value)| value)
}

/// OctoPrint's double submit: the token in both a cookie and a header.
fn csrf(headers: &HeaderMap) -> bool {
    let token = headers.get("x-csrf-token").and_then(|value| value.to_str().ok());
    token.is_some() && token == cookie(headers, "csrf_token")
}

fn has_key(shared: &ServerState, headers: &HeaderMap) -> bool {
    key_of(headers) == Some(shared.options.api_key.as_str())
}

/// A deactivated user may log in, anonymously, but call nothing.
fn may_call(shared: &ServerState, headers: &HeaderMap) -> bool {
    has_key(shared, headers) && !locked(&shared.faults).deactivated
}

fn has_session(shared: &ServerState, headers: &HeaderMap) -> bool {
    let sessions = locked(&shared.sessions);
    cookie(headers, "session").is_some_and(|session| sessions.contains(session))
}

/// Checks permissions, injects faults, and records commands.
async fn guard(State(shared): Here, request: Request, next: Next) -> Response {
    let faults = locked(&shared.faults).clone();
    tokio::time::sleep(faults.rest_delay).await;
    if let Some(status) = faults.rest_status {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return error(status, "a fault was asked for");
    }
    let headers = request.headers();
    if !may_call(&shared, headers) {
        if !has_session(&shared, headers) {
            let text = "You don't have the permission to access the requested resource. It is either read-protected or not readable by the server.";
            return error(StatusCode::FORBIDDEN, text);
        }
        if request.method() != Method::GET && !csrf(headers) {
            return error(StatusCode::BAD_REQUEST, "CSRF validation failed");
        }
    }
    if request.method() == Method::GET {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let command = serde_json::from_slice(&body).unwrap_or(Value::Null);
    locked(&shared.observed).commands.push((parts.uri.path().to_owned(), command));
    if faults.rest_idle {
        return StatusCode::NO_CONTENT.into_response();
    }
    next.run(Request::from_parts(parts, body.into())).await
}

async fn login_page(State(shared): Here) -> impl IntoResponse {
    let cookies = AppendHeaders([
        (SET_COOKIE, format!("csrf_token_P{}={}; Path=/", shared.options.listen.port(), token())),
        (SET_COOKIE, format!("session_P{}={}; Path=/", shared.options.listen.port(), token())),
    ]);
    (cookies, Html("<html>login</html>"))
}

fn token() -> String {
    (0..4).map(|_| format!("{:016x}", fastrand::u64(..))).collect()
}

async fn login(State(shared): Here, headers: HeaderMap, body: Bytes) -> Response {
    let faults = locked(&shared.faults).clone();
    tokio::time::sleep(faults.rest_delay).await;
    if let Some(status) = faults.login_status {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return error(status, "a fault was asked for");
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let passive = body["passive"] == true;
    if !has_key(&shared, &headers) && !csrf(&headers) {
        return error(StatusCode::BAD_REQUEST, "CSRF validation failed");
    }
    if faults.deactivated {
        return Json(json!({"needs": {"group": ["guests"]}})).into_response();
    }
    let options = &shared.options;
    if !passive {
        if body["user"].is_null() {
            let text = "Neither user and pass attributes nor passive flag present";
            return error(StatusCode::BAD_REQUEST, text);
        }
        if body["user"] != *options.user || body["pass"] != *options.password {
            return error(StatusCode::FORBIDDEN, "User unknown or password invalid");
        }
    }
    let session = token();
    locked(&shared.sessions).insert(session.clone());
    locked(&shared.observed).logins += 1;
    let answer = json!({
        "name": options.user, "session": session, "active": true, "admin": true, "user": true,
        "apikey": options.api_key, "groups": ["admins"], "needs": {"group": [], "role": []},
        "permissions": [], "roles": [], "settings": {}, "_login_mechanism": "apikey",
        "_is_external_client": false,
    });
    if passive {
        return Json(answer).into_response();
    }
    let cookie = format!("session_P{}={session}; Path=/", options.listen.port());
    (AppendHeaders([(SET_COOKIE, cookie)]), Json(answer)).into_response()
}

async fn current_user(State(shared): Here, headers: HeaderMap) -> Json<Value> {
    let known = has_key(&shared, &headers) || has_session(&shared, &headers);
    Json(if known && !locked(&shared.faults).deactivated {
        json!({"name": shared.options.user, "groups": ["admins"], "permissions":
            ["ADMIN", "STATUS", "CONTROL", "PRINT", "CONNECTION", "FILES_LIST", "FILES_SELECT"]})
    } else {
        json!({"name": null, "groups": ["guests"], "permissions": []})
    })
}

async fn info() -> Json<Value> {
    let entropy = fastrand::u32(..);
    Json(json!({"websocket": true, "cookie_needed": false, "origins": ["*:*"], "entropy": entropy}))
}

async fn websocket(
    State(shared): Here,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    match upgrade {
        Ok(upgrade) if !locked(&shared.faults).refuse_upgrade => {
            upgrade.on_upgrade(move |socket| push::serve(shared, socket))
        }
        _ => (StatusCode::BAD_REQUEST, "Can \"Upgrade\" only to \"WebSocket\".").into_response(),
    }
}

async fn version() -> Json<Value> {
    Json(json!({"api": "0.1", "server": "1.11.8", "text": "OctoPrint 1.11.8"}))
}

async fn job(State(shared): Here) -> Json<Value> {
    let model = locked(&shared.model);
    Json(json!({"job": model.job(), "progress": model.progress(), "state": model.state.text()}))
}

async fn printer(State(shared): Here) -> Response {
    let model = locked(&shared.model);
    if !model.state.is_connected() {
        return error(StatusCode::CONFLICT, "Printer is not operational");
    }
    Json(json!({"state": model.state_object(), "temperature": model.temperatures()}))
        .into_response()
}

async fn profiles(State(shared): Here) -> Json<Value> {
    Json(locked(&shared.model).profiles())
}

fn done(outcome: Result<(), Conflict>, why: &str) -> Response {
    match outcome {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(Conflict) => error(StatusCode::CONFLICT, why),
    }
}

async fn job_command(State(shared): Here, Json(body): Json<Value>) -> Response {
    let mut model = locked(&shared.model);
    let printing = model.state == super::model::State::Printing;
    let outcome = match (body["command"].as_str(), body["action"].as_str().unwrap_or("toggle")) {
        (Some("start"), _) => model.start(),
        (Some("cancel"), _) => model.cancel(),
        (Some("restart"), _) => model.restart(),
        (Some("pause"), "pause") => model.pause(),
        (Some("pause"), "resume") => model.resume(),
        (Some("pause"), "toggle") if printing => model.pause(),
        (Some("pause"), "toggle") => model.resume(),
        _ => return error(StatusCode::BAD_REQUEST, "Unknown command or action"),
    };
    done(outcome, "Printer is not in a state that allows this")
}

/// Makes a call that needs a connected printer.
fn on_printer(shared: &ServerState, act: impl FnOnce(&mut Model) -> Option<()>) -> Response {
    let mut model = locked(&shared.model);
    if !model.state.is_connected() {
        return error(StatusCode::CONFLICT, "Printer is not operational");
    }
    match act(&mut model) {
        Some(()) => StatusCode::NO_CONTENT.into_response(),
        None => error(StatusCode::BAD_REQUEST, "Invalid value"),
    }
}

async fn tool(State(shared): Here, Json(body): Json<Value>) -> Response {
    if body["command"] == "extrude" && is_printing(&shared) {
        return error(StatusCode::CONFLICT, PRINTING);
    }
    on_printer(&shared, |model| match body["command"].as_str()? {
        "target" => {
            for (tool, target) in body["targets"].as_object()? {
                model.set_targets(&[(tool, target.as_f64()?)]);
            }
            Some(())
        }
        "offset" => body["offsets"].as_object().map(drop),
        "flowrate" => body["factor"].as_f64().map(drop),
        "extrude" => body["amount"].as_f64().map(drop),
        _ => None,
    })
}

async fn printhead(State(shared): Here, Json(body): Json<Value>) -> Response {
    let moves = matches!(body["command"].as_str(), Some("jog" | "home"));
    if moves && is_printing(&shared) {
        return error(StatusCode::CONFLICT, PRINTING);
    }
    on_printer(&shared, |_| match body["command"].as_str()? {
        "jog" => ["x", "y", "z"].iter().any(|axis| body[axis].is_number()).then_some(()),
        "home" => body["axes"].as_array().map(drop),
        "feedrate" => body["factor"].as_f64().map(drop),
        _ => None,
    })
}

const PRINTING: &str = "Printer is currently printing, cannot do that";

fn is_printing(shared: &ServerState) -> bool {
    locked(&shared.model).state == super::model::State::Printing
}

async fn no_chamber() -> Response {
    error(StatusCode::CONFLICT, "Printer does not have a heated chamber")
}

async fn files() -> Json<Value> {
    let file =
        |path: &str| json!({"type": "machinecode", "origin": "local", "path": path, "name": path});
    Json(json!({"files": FILES.map(file)}))
}

async fn system_commands() -> Json<Value> {
    Json(json!([]))
}

async fn no_system_command() -> Response {
    error(StatusCode::NOT_FOUND, "Command not found")
}

async fn bed(State(shared): Here, Json(body): Json<Value>) -> Response {
    on_printer(&shared, |model| {
        if body["command"] == "offset" {
            return body["offset"].as_f64().map(drop);
        }
        model.set_targets(&[("bed", body["target"].as_f64()?)]);
        Some(())
    })
}

async fn command(State(shared): Here, Json(body): Json<Value>) -> Response {
    on_printer(&shared, |model| {
        let one = body["command"].as_str().map(|command| vec![command]);
        let many =
            || body["commands"].as_array().map(|c| c.iter().filter_map(Value::as_str).collect());
        for command in one.or_else(many)? {
            if command == "M112" {
                model.disconnect(Some("Closing serial port due to emergency stop M112."));
            }
        }
        Some(())
    })
}

/// In the form of OctoPrint 1.11.
async fn connection_state(State(shared): Here) -> Json<Value> {
    let model = locked(&shared.model);
    Json(json!({
        "current": {"state": model.state.text(), "port": "VIRTUAL", "baudrate": 115_200,
            "printerProfile": "_default"},
        "options": {"ports": ["VIRTUAL"], "baudrates": [115_200], "portPreference": "VIRTUAL",
            "printerProfiles": [{"id": "_default", "name": "Simulated"}]},
    }))
}

async fn connection(State(shared): Here, Json(body): Json<Value>) -> Response {
    let mut model = locked(&shared.model);
    match body["command"].as_str() {
        Some("connect") => model.connect(),
        Some("disconnect") => model.disconnect(None),
        _ => return error(StatusCode::BAD_REQUEST, "Unknown command"),
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn file_info(Path((origin, path)): Path<(String, String)>) -> Json<Value> {
    let size = gcode::part().len();
    Json(json!({"type": "machinecode", "origin": origin, "path": path, "name": path, "size": size}))
}

async fn file_command(
    State(shared): Here,
    Path((_, path)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    if body["command"] != "select" {
        return error(StatusCode::BAD_REQUEST, "Unknown command");
    }
    let mut model = locked(&shared.model);
    let outcome = model
        .select(&path)
        .and_then(|()| if body["print"] == true { model.start() } else { Ok(()) });
    done(outcome, "Printer is already printing, cannot select a new file")
}
