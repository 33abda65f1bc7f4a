//! A hostile OctoPrint server that records what it did in a ledger.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::answers;
use super::dice::Dice;
use super::peer::{Peer, Wire};
use super::wire::{Frames, Request, http, write};

/// One push connection, as its server knows it.
#[derive(Debug, Clone)]
pub struct Connection {
    session: String,
    /// How often the client has logged in on it.
    pub auths: u32,
    /// When it carried a `history` last.
    pub proof_sent: Option<Instant>,
    /// When a `history` should have come for the login that followed one on the live connection.
    pub proof_due: Option<Instant>,
    /// Since when the server neither reads nor writes.
    pub frozen: Option<Instant>,
    pub open: bool,
}

/// How long a client may take with a login.
const LOGIN: Duration = Duration::from_secs(20);
/// How long a client may wait for the proof of one, and a bit.
pub const PROOF: Duration = Duration::from_secs(7);

/// What the server did.
#[derive(Debug, Default)]
pub struct Ledger {
    pub logins: u32,
    pub connections: Vec<Connection>,
    /// What was sent and received, the newest last.
    told: VecDeque<String>,
    started: Option<Instant>,
}

/// How much is remembered of what was sent and received.
const TOLD: usize = 60;

impl Ledger {
    fn login(&mut self) {
        self.logins += 1;
        let due = self.connections.last_mut().and_then(|connection| connection.proof_due.as_mut());
        if let Some(due) = due {
            // A new login takes its time, and then has a proof of its own.
            *due = Instant::now() + LOGIN + PROOF;
        }
    }

    fn is_frozen(&self, session: &str) -> bool {
        let mut connections = self.connections.iter();
        connections.any(|connection| connection.session == session && connection.frozen.is_some())
    }

    pub fn tell(&mut self, what: &str, bytes: &[u8]) {
        let at = self.started.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        self.told.push_back(format!("{at:.3} {what} {text:?}"));
        if self.told.len() > TOLD {
            self.told.pop_front();
        }
    }

    /// What was sent and received last, a line each.
    pub fn story(&self) -> String {
        let told: Vec<&str> = self.told.iter().map(String::as_str).collect();
        told.join("\n")
    }
}

pub struct Shared {
    dice: Mutex<Dice>,
    honest: AtomicBool,
    ledger: Mutex<Ledger>,
    /// What clients send over XHR, by session.
    inboxes: Mutex<HashMap<String, mpsc::UnboundedSender<String>>>,
}

impl Shared {
    pub fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_honest(&self) -> bool {
        self.honest.load(Ordering::Relaxed)
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection; yields its number. Another stream of a session is the same connection.
    fn opened(&self, session: &str) -> usize {
        let mut ledger = self.ledger();
        let known = ledger.connections.iter().position(|connection| connection.session == session);
        if let Some(known) = known {
            let connection = &mut ledger.connections[known];
            (connection.open, connection.frozen) = (true, None);
            return known;
        }
        let session = session.to_owned();
        let (auths, proof_sent, proof_due, frozen) = Default::default();
        ledger.connections.push(Connection {
            session,
            auths,
            proof_sent,
            proof_due,
            frozen,
            open: true,
        });
        ledger.connections.len() - 1
    }

    pub fn note(&self, number: usize, change: impl FnOnce(&mut Connection)) {
        change(&mut self.ledger().connections[number]);
    }
}

/// A hostile OctoPrint. It ends with the runtime.
pub struct OctoPrint {
    pub url: String,
    shared: Arc<Shared>,
}

impl OctoPrint {
    pub async fn start(dice: Dice) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (honest, ledger, inboxes) = Default::default();
        let shared = Arc::new(Shared { dice: Mutex::new(dice), honest, ledger, inboxes });
        let all = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // What is sent must be there before simulated time goes on.
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(Arc::clone(&all), stream));
            }
        });
        Self { url, shared }
    }

    /// Chance, which the server shares with who drives its client.
    pub fn dice(&self) -> MutexGuard<'_, Dice> {
        self.shared.dice()
    }

    /// From now on it does what OctoPrint does.
    pub fn be_honest(&self) {
        self.shared.honest.store(true, Ordering::Relaxed);
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }
}

async fn serve(shared: Arc<Shared>, mut stream: TcpStream) {
    let Some(request) = Request::read(&mut stream).await else { return };
    let path = request.path().to_owned();
    shared.ledger().tell("asked", request.head.lines().next().unwrap_or_default().as_bytes());
    if path == "/api/login" {
        shared.ledger().login();
    }
    if path.starts_with("/sockjs/") && path != "/sockjs/info" {
        return push(shared, stream, &request, &path).await;
    }
    if !shared.is_honest() && shared.dice().chance(4) {
        // Time enough for pushes to come first.
        let pause = shared.dice().below(3000);
        tokio::time::sleep(Duration::from_millis(pause as u64)).await;
    }
    let answer = match shared.is_honest() {
        true => answers::other(&path, &mut Dice::new(&[])),
        false => answers::other(&path, &mut shared.dice()),
    };
    send(&mut stream, answer).await;
}

async fn send(stream: &mut TcpStream, answer: answers::Answer) {
    match answer {
        // The client goes first where it does not care.
        Some(answer) => drop(write(stream, answer.as_bytes()).await),
        // Longer than anyone waits.
        None => tokio::time::sleep(Duration::from_secs(3600)).await,
    }
}

/// A call of SockJS.
async fn push(shared: Arc<Shared>, mut stream: TcpStream, request: &Request, path: &str) {
    let (session, call) = path.rsplit_once('/').unwrap_or_default();
    let refused = !shared.is_honest() && shared.dice().chance(2);
    if refused {
        let answer = match shared.dice().below(6) {
            0 => Some(http(400, "", "Can \"Upgrade\" only to \"WebSocket\".")),
            1 => Some(http(500, "", "")),
            2 => Some(http(401, "", "")),
            3 => Some(
                "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_owned(),
            ),
            4 => Some(String::new()),
            _ => None,
        };
        return send(&mut stream, answer).await;
    }
    let wire = match call {
        "websocket" => {
            if write(&mut stream, request.switch().as_bytes()).await.is_err() {
                return;
            }
            Wire::WebSocket(stream, Frames::default())
        }
        "xhr_streaming" => {
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            if write(&mut stream, head.as_bytes()).await.is_err() {
                return;
            }
            let (inbox, texts) = mpsc::unbounded_channel();
            shared.inboxes.lock().unwrap().insert(session.to_owned(), inbox);
            Wire::Xhr(stream, texts)
        }
        "xhr_send" => {
            if shared.ledger().is_frozen(session) {
                return send(&mut stream, None).await;
            }
            let inbox = shared.inboxes.lock().unwrap().get(session).cloned();
            let known = inbox.is_some_and(|inbox| inbox.send(request.body.clone()).is_ok());
            let status = if known { 204 } else { 404 };
            return send(&mut stream, Some(http(status, "", ""))).await;
        }
        _ => return send(&mut stream, Some(http(404, "", ""))).await,
    };
    let number = shared.opened(session);
    Peer { shared: Arc::clone(&shared), wire, number, subscribed: true }.run().await;
    shared.note(number, |connection| connection.open = false);
}
