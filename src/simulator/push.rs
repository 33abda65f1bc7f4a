//! The push socket: SockJS framing over WebSocket, as OctoPrint does it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::shared::{Push, ServerState, locked};

const HEARTBEAT: Duration = Duration::from_secs(25);
const RATE_BASE: Duration = Duration::from_millis(500);

/// A client's subscription; everything before its first `subscribe`.
#[derive(Debug, Clone)]
enum Wanted {
    All,
    None,
    Only(Vec<String>),
}

impl Wanted {
    /// A missing value and `false` mean none.
    fn of(value: &Value) -> Self {
        match value {
            Value::Bool(true) => Self::All,
            Value::Array(names) => {
                Self::Only(names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect())
            }
            _ => Self::None,
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(names) => names.iter().any(|wanted| wanted == name),
        }
    }
}

struct PushSession {
    shared: Arc<ServerState>,
    socket: WebSocket,
    authenticated: bool,
    /// The subscription to the state, `false` without one.
    state: Value,
    events: Wanted,
    plugins: Wanted,
    factor: u32,
    /// The model's count of changes at the last `current`.
    shown: u64,
    temps_shown: u64,
}

/// The client misbehaved, or the socket is closed.
struct Gone;

/// Serves one socket until it closes.
pub(super) async fn serve(shared: Arc<ServerState>, socket: WebSocket) {
    let cut = locked(&shared.sockets).clone();
    let mut session = PushSession {
        shared,
        socket,
        authenticated: false,
        state: Value::Bool(true),
        events: Wanted::All,
        plugins: Wanted::All,
        factor: 1,
        shown: 0,
        temps_shown: 0,
    };
    tokio::select! {
        _ = session.run() => {}
        () = cut.cancelled() => {}
    }
}

impl PushSession {
    async fn run(&mut self) -> Result<(), Gone> {
        let mut pushes = self.shared.push.subscribe();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        let mut next_current = Instant::now();
        self.send("o".to_owned()).await?;
        self.message("connected", connected()).await?;
        loop {
            tokio::select! {
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Text(text))) => self.receive(text.as_str()).await?,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
                    Some(Ok(_)) => {}
                },
                push = pushes.recv() => match push {
                    Ok(push) => self.push(push).await?,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Err(Gone),
                },
                () = sleep_until(next_current) => {
                    next_current = Instant::now() + RATE_BASE * self.factor;
                    self.current().await?;
                }
                _ = heartbeat.tick() => self.send("h".to_owned()).await?,
            }
        }
    }

    async fn send(&mut self, frame: String) -> Result<(), Gone> {
        if locked(&self.shared.faults).silent {
            return Ok(());
        }
        self.socket.send(Message::text(frame)).await.map_err(|_| Gone)
    }

    async fn message(&mut self, kind: &str, payload: Value) -> Result<(), Gone> {
        // OctoPrint deviates from SockJS here: the elements are objects.
        self.send(format!("a[{}]", json!({ kind: payload }))).await
    }

    /// Processes a client's frame: an array of texts, or a bare text.
    async fn receive(&mut self, frame: &str) -> Result<(), Gone> {
        let texts: Vec<String> = serde_json::from_str(frame)
            .or_else(|_| serde_json::from_str(frame).map(|text| vec![text]))
            .unwrap_or_default();
        for text in texts {
            // Invalid JSON is ignored; a JSON value other than an object closes the connection.
            let Ok(message) = serde_json::from_str::<Value>(&text) else { continue };
            let Value::Object(message) = message else { return Err(Gone) };
            for (kind, payload) in message {
                match kind.as_str() {
                    "throttle" => self.throttle(&payload)?,
                    "subscribe" => self.subscribe(&payload).await?,
                    "auth" => self.authenticate(payload.as_str().ok_or(Gone)?).await?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn throttle(&mut self, payload: &Value) -> Result<(), Gone> {
        if payload.is_null() || payload.is_array() {
            return Err(Gone);
        }
        let factor = payload.as_u64().filter(|factor| *factor >= 1);
        if let Some(factor) = factor {
            locked(&self.shared.observed).throttles.push(factor);
            self.factor = u32::try_from(factor).unwrap_or(u32::MAX);
        }
        Ok(())
    }

    async fn subscribe(&mut self, payload: &Value) -> Result<(), Gone> {
        let wanted = payload.as_object().ok_or(Gone)?;
        locked(&self.shared.observed).subscriptions.push(payload.clone());
        let get = |key: &str| wanted.get(key).unwrap_or(&Value::Null);
        (self.events, self.plugins) = (Wanted::of(get("events")), Wanted::of(get("plugins")));
        let state = match get("state") {
            Value::Bool(true) => json!({"logs": true, "messages": false}),
            state @ Value::Object(_) => state.clone(),
            _ => Value::Bool(false),
        };
        // After the login, a changed subscription to the state causes a second history.
        let changed = std::mem::replace(&mut self.state, state) != self.state;
        if self.authenticated && changed && self.wants_state() {
            self.history().await
        } else {
            Ok(())
        }
    }

    fn wants_state(&self) -> bool {
        self.state != Value::Bool(false)
    }

    async fn authenticate(&mut self, auth: &str) -> Result<(), Gone> {
        // Silently ignored without exactly one colon.
        let mut parts = auth.split(':');
        let (Some(user), Some(session), None) = (parts.next(), parts.next(), parts.next()) else {
            return Ok(());
        };
        let known =
            user == self.shared.options.user && locked(&self.shared.sessions).contains(session);
        if !known {
            self.authenticated = false;
            return self.message("reauthRequired", json!({"reason": "stale"})).await;
        }
        let again = std::mem::replace(&mut self.authenticated, true);
        if !again {
            if self.wants_state() {
                self.history().await?;
            }
            self.message("timelapse", Value::Null).await?;
        }
        self.push(Push::Event("ClientAuthed".to_owned(), json!({}))).await
    }

    async fn history(&mut self) -> Result<(), Gone> {
        let history = {
            let model = locked(&self.shared.model);
            let mut history = model.snapshot();
            history.insert("temps".to_owned(), Value::from(model.temps.clone()));
            history.insert("logs".to_owned(), json!([]));
            history.insert("messages".to_owned(), json!([]));
            history
        };
        self.message("history", Value::Object(history)).await
    }

    async fn current(&mut self) -> Result<(), Gone> {
        if !self.authenticated || !self.wants_state() {
            return Ok(());
        }
        let current = {
            let model = locked(&self.shared.model);
            let newest = model.temps.last().and_then(|t| t["time"].as_u64()).unwrap_or(0);
            if model.changes == self.shown && newest == self.temps_shown {
                return Ok(());
            }
            let new = |entry: &&Value| entry["time"].as_u64() > Some(self.temps_shown);
            let temps: Vec<Value> = model.temps.iter().filter(new).cloned().collect();
            (self.shown, self.temps_shown) = (model.changes, newest);
            let mut current = model.snapshot();
            // One entry a second is enough; the model makes more.
            current.insert(
                "temps".to_owned(),
                Value::from(temps.last().cloned().map_or(vec![], |t| vec![t])),
            );
            current.insert("busyFiles".to_owned(), json!([]));
            current.insert("logs".to_owned(), json!([]));
            current.insert("messages".to_owned(), json!([]));
            current
        };
        self.message("current", Value::Object(current)).await
    }

    async fn push(&mut self, push: Push) -> Result<(), Gone> {
        match push {
            Push::Raw(frame) => self.send(frame).await,
            _ if !self.authenticated => Ok(()),
            Push::Event(kind, payload) if self.events.has(&kind) => {
                self.message("event", json!({"type": kind, "payload": payload})).await
            }
            Push::Plugin(id, data) if self.plugins.has(&id) => {
                self.message("plugin", json!({"plugin": id, "data": data})).await
            }
            Push::Message(kind, payload) => self.message(kind, payload).await,
            Push::Event(..) | Push::Plugin(..) => Ok(()),
        }
    }
}

fn connected() -> Value {
    json!({
        "version": "1.11.8", "display_version": "1.11.8", "branch": "HEAD",
        "python_version": "3.11.7", "plugin_hash": "d1e2", "config_hash": "c3b4",
        "debug": false, "safe_mode": null, "online": true,
        "permissions": [{"key": "STATUS", "name": "Status", "dangerous": false,
            "default_groups": ["users", "readonly"], "description": "", "needs": {"role": ["status"]}}],
    })
}
