//! Any number of simulated OctoPrints at one address, each below its own path. They do what the bridge
//! needs to connect, and then send recorded messages on a schedule.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};

use crate::frames::{self, Moving, Recorded, VALUES};
use crate::sent::Sent;

const HEARTBEAT: Duration = Duration::from_secs(25);
/// How often an idle printer says how warm it is.
const IDLE: Duration = Duration::from_secs(2);

/// Running simulated OctoPrints.
pub struct Printers {
    /// How many there are.
    count: usize,
    /// Where they listen.
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// Made beforehand, as all frames: who measures takes little of the machine.
    history: Utf8Bytes,
    idle: Utf8Bytes,
    /// In turn; what moves in them comes round again.
    printing: Vec<Utf8Bytes>,
    /// Nanoseconds between two messages of one printer that prints.
    interval: AtomicU64,
    /// When the prints begin, each a little later than the one before.
    begin: OnceLock<Begin>,
    /// What is downloaded as the printed file, if there is one.
    file: Option<Bytes>,
    /// Sockets that are logged in.
    live: AtomicUsize,
    sent: Arc<Sent>,
}

/// When the prints begin.
#[derive(Debug, Clone, Copy)]
struct Begin {
    first: Instant,
    /// Between one printer and the next.
    step: Duration,
}

impl Printers {
    /// Starts `count` idle printers; what they will print has the terminal's lines in it if wanted.
    /// `file` is what they print.
    pub async fn start(
        count: usize,
        terminal: bool,
        moving: Moving,
        file: Option<Bytes>,
        sent: Arc<Sent>,
    ) -> Self {
        let (idle, printing) = (Recorded::idle(), Recorded::printing(terminal));
        let frame = |sequence| printing.frame("current", sequence, moving).into();
        let shared = Arc::new(Shared {
            history: frames::history(&idle).into(),
            idle: idle.frame("current", 0, Moving::Nothing).into(),
            printing: (0..VALUES).map(frame).collect(),
            interval: AtomicU64::new(0),
            begin: OnceLock::new(),
            file,
            live: AtomicUsize::new(0),
            sent,
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        // Small frames go out at once, as OctoPrint's do.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let router = router(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { count, port, shared }
    }

    /// The address of printer `index`.
    pub fn url(&self, index: usize) -> String {
        format!("http://127.0.0.1:{}/p{index}", self.port)
    }

    /// Lets all of them print, with such a pause between two messages of one printer.
    pub fn print(&self, interval: Duration) {
        self.print_within(Duration::ZERO, interval);
    }

    /// The same, but the prints begin one after the other within `span`.
    pub fn print_within(&self, span: Duration, interval: Duration) {
        self.shared.interval.store(nanos(interval), Ordering::Relaxed);
        let step = span.div_f64(self.count as f64);
        self.shared.begin.get_or_init(|| Begin { first: Instant::now(), step });
    }

    /// Waits until all are logged in to.
    pub async fn all_live(&self) {
        self.live(|live| live >= self.count).await;
    }

    /// Waits until none is connected.
    pub async fn none_live(&self) {
        self.live(|live| live == 0).await;
    }

    async fn live(&self, is: impl Fn(usize) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !is(self.shared.live.load(Ordering::Relaxed)) {
            let live = self.shared.live.load(Ordering::Relaxed);
            assert!(Instant::now() < deadline, "{live} of {} printers are connected", self.count);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn nanos(interval: Duration) -> u64 {
    u64::try_from(interval.as_nanos()).expect("an interval of less than centuries")
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/{printer}/api/login", post(login))
        .route("/{printer}/api/printerprofiles", get(profiles))
        .route("/{printer}/api/files", get(|| async { Json(json!({"files": []})) }))
        .route("/{printer}/downloads/files/local/{*path}", get(download))
        .route("/{printer}/sockjs/{server}/{session}/websocket", get(upgrade))
        .with_state(shared)
}

/// The file, or the part of it that is asked for.
async fn download(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let Some(file) = &shared.file else { return StatusCode::NOT_FOUND.into_response() };
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let Some(range) = range.and_then(|range| range.strip_prefix("bytes=")) else {
        return file.clone().into_response();
    };
    let last = file.len() - 1;
    let (from, to) = match range.split_once('-') {
        Some(("", count)) => (file.len() - count.parse().unwrap_or(0), last),
        Some((from, to)) => (from.parse().unwrap_or(0), to.parse().unwrap_or(last).min(last)),
        None => return StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
    };
    let part = file.slice(from..=to);
    let length = format!("bytes {from}-{to}/{}", file.len());
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, length)], part).into_response()
}

async fn login() -> Json<Value> {
    Json(json!({
        "name": "bench", "session": "5e551011", "active": true, "admin": true, "user": true,
        "apikey": null, "groups": ["admins"], "needs": {"group": [], "role": []},
        "permissions": [], "roles": [], "settings": {}, "_login_mechanism": "apikey",
    }))
}

async fn profiles() -> Json<Value> {
    Json(json!({"profiles": {"_default": {
        "id": "_default", "name": "Default", "model": "Generic RepRap Printer", "current": true,
        "default": true, "heatedBed": true, "heatedChamber": false,
        "extruder": {"count": 1, "sharedNozzle": false, "nozzleDiameter": 0.4},
    }}}))
}

async fn upgrade(
    State(shared): State<Arc<Shared>>,
    Path((printer, _, _)): Path<(String, String, String)>,
    upgrade: WebSocketUpgrade,
) -> impl IntoResponse {
    let index = printer.trim_start_matches('p').parse().unwrap_or(0);
    upgrade.on_upgrade(move |socket| async move {
        let mut session = Session { shared, index, socket };
        if session.log_in().await.is_some() {
            session.shared.live.fetch_add(1, Ordering::Relaxed);
            session.run().await;
            session.shared.live.fetch_sub(1, Ordering::Relaxed);
        }
    })
}

struct Session {
    shared: Arc<Shared>,
    index: usize,
    socket: WebSocket,
}

impl Session {
    async fn send(&mut self, frame: impl Into<Utf8Bytes>) -> Option<()> {
        self.socket.send(Message::Text(frame.into())).await.ok()
    }

    /// `None`: the client left.
    async fn log_in(&mut self) -> Option<()> {
        self.send("o").await?;
        self.send(frames::greeting()).await?;
        loop {
            if let Message::Text(text) = self.socket.recv().await?.ok()?
                && text.contains("auth")
            {
                break;
            }
        }
        self.send(self.shared.history.clone()).await?;
        self.send("a[{\"timelapse\":null}]").await
    }

    fn prints(&self) -> bool {
        let begin = self.shared.begin.get();
        begin.is_some_and(|begin| {
            begin.first + begin.step.mul_f64(self.index as f64) <= Instant::now()
        })
    }

    fn interval(&self) -> Duration {
        if self.prints() {
            Duration::from_nanos(self.shared.interval.load(Ordering::Relaxed))
        } else {
            IDLE
        }
    }

    fn frame(&self, sequence: usize) -> Utf8Bytes {
        let Shared { idle, printing, .. } = &*self.shared;
        if self.prints() { printing[sequence % printing.len()].clone() } else { idle.clone() }
    }

    async fn run(&mut self) -> Option<()> {
        let mut sequence = 0;
        // Each printer has a beat of its own.
        let mut next = Instant::now() + self.interval().mul_f64(fastrand::f64());
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                received = self.socket.recv() => drop(received?.ok()?),
                () = sleep_until(next) => {
                    sequence += 1;
                    let frame = self.frame(sequence);
                    // What an idle printer says changes nothing, so that nothing arrives.
                    if self.prints() {
                        self.shared.sent.leaves(self.index, sequence as u64);
                    }
                    self.send(frame).await?;
                    // One that is late does not send in bursts to catch up.
                    next = (next + self.interval()).max(Instant::now());
                }
                _ = heartbeat.tick() => self.send("h").await?,
            }
        }
    }
}
