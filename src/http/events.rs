//! The board as server-sent events: all of it first, then what changed. Nothing is prepared before
//! the reader takes it, so that a slow one holds up nothing.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::answers::HttpBody;
use super::sessions::{PageSessions, TokenHash};
use crate::bridge::board::{Board, BrokerCard, CardUpdate, PairingStatus};
use crate::clock;
use crate::recent_log::RecentLog;

/// Shortest interval between two batches.
const INTERVAL: Duration = Duration::from_millis(500);
/// Longest interval without a line, so that proxies do not end the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a stream lasts; the browser then opens the next.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// The login that a stream depends on.
pub(super) struct StreamLogin {
    pub(super) sessions: Arc<PageSessions>,
    pub(super) hash: TokenHash,
}

/// What one reader has been sent.
pub(super) struct EventStream {
    board: Board,
    log: RecentLog,
    login: Option<StreamLogin>,
    changes: watch::Receiver<u64>,
    lines: watch::Receiver<u64>,
    end: Instant,
    next_batch: Option<Instant>,
    sent: Option<SentState>,
    /// Counts the streams.
    _place: OwnedSemaphorePermit,
}

#[derive(Default)]
struct SentState {
    revision: u64,
    ids: Vec<String>,
    /// Number of points of each printer's history.
    points: BTreeMap<String, u64>,
    line: u64,
    pairing: Option<PairingStatus>,
    broker: BrokerCard,
}

impl EventStream {
    pub(super) fn new(
        board: Board,
        log: RecentLog,
        login: Option<StreamLogin>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            changes: board.revision(),
            lines: log.last(),
            end: clock::now() + LIFETIME,
            next_batch: None,
            sent: None,
            board,
            log,
            login,
            _place: place,
        }
    }

    pub(super) fn into_body(self) -> HttpBody {
        let frames = stream::unfold(self, |mut events| async move {
            let batch = events.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(batch))), events))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    /// Waits for the next batch; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        let keep_alive = clock::now() + KEEP_ALIVE;
        let batch = loop {
            clock::sleep_until(self.next_batch).await;
            let batch = self.batch();
            self.next_batch = Some(clock::now() + INTERVAL);
            if !batch.is_empty() {
                break batch;
            }
            tokio::select! {
                _ = self.changes.changed() => {}
                _ = self.lines.changed() => {}
                () = clock::sleep_until(Some(keep_alive)) => break ":\n\n".to_owned(),
            }
        };
        let is_logged_in =
            self.login.as_ref().is_none_or(|login| login.sessions.is_open(login.hash));
        (is_logged_in && clock::now() < self.end).then_some(batch)
    }

    /// Returns what changed, as events; empty if nothing did.
    fn batch(&mut self) -> String {
        let is_first = self.sent.is_none();
        let sent = self.sent.get_or_insert_default();
        let mut batch = String::new();
        let revision = *self.changes.borrow_and_update();
        let (ids, changed) = self.board.news(sent.revision, &sent.points);
        // A picture may come before its printer.
        let changed = changed.into_iter().filter(|update| !update.card.id.is_empty());
        let cards: Vec<Value> = changed.map(|update| card(update, &mut sent.points)).collect();
        sent.revision = revision;
        if is_first || !cards.is_empty() || ids != sent.ids {
            sent.points.retain(|id, _| ids.contains(id));
            add(&mut batch, "cards", &json!({"ids": ids, "cards": cards}));
            sent.ids = ids;
        }
        let pairing = self.board.pairing();
        if is_first || pairing != sent.pairing {
            add(&mut batch, "pairing", &pairing);
            sent.pairing = pairing;
        }
        let broker = self.board.broker();
        if is_first || broker != sent.broker {
            add(&mut batch, "broker", &broker);
            sent.broker = broker;
        }
        self.lines.mark_unchanged();
        let lines = self.log.after(sent.line);
        if let Some(last) = lines.last() {
            add(&mut batch, "log", &lines);
            sent.line = last.number;
        }
        batch
    }
}

/// Returns a card, with its history where that has new points.
fn card(update: CardUpdate, points: &mut BTreeMap<String, u64>) -> Value {
    let id = update.card.id.clone();
    let has_new = points.get(&id) != Some(&update.points);
    points.insert(id, update.points);
    // Texts and numbers only, so this cannot fail.
    let mut card = serde_json::to_value(update).unwrap_or_default();
    if let Some(card) = card.as_object_mut() {
        card.remove("points");
        if !has_new {
            card.remove("history");
        }
    }
    card
}

/// Adds an event. JSON has no line ends of its own.
fn add(batch: &mut String, name: &str, data: &impl Serialize) {
    let data = serde_json::to_string(data).unwrap_or_default();
    *batch += &format!("event: {name}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::bridge::board::{Card, CardHeater, CardPicture};

    fn shown(id: &str, file: &str) -> Card {
        let heater = CardHeater { heater: "bed".to_owned(), actual: Some(60.5), target: None };
        let (id, file) = (id.to_owned(), Some(file.to_owned()));
        Card { id, file, temperatures: vec![heater], ..Card::default() }
    }

    fn stream(board: &Board, log: &RecentLog, login: Option<StreamLogin>) -> EventStream {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        EventStream::new(board.clone(), log.clone(), login, place)
    }

    /// The events of a batch: name and data.
    fn read(batch: &str) -> Vec<(String, Value)> {
        let events = batch.strip_suffix("\n\n").unwrap().split("\n\n");
        let event = |event: &str| {
            let (name, data) = event.split_once('\n').unwrap();
            let name = name.strip_prefix("event: ").unwrap().to_owned();
            (name, serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap())
        };
        events.map(event).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn first_everything_then_what_changed() {
        let ((board, _asked), log) = (Board::new(), RecentLog::default());
        board.show(shown("a", "line\nend \u{2028} <script>"));
        board.show(shown("b", "x"));
        log.add("WARN", None, "early".to_owned());
        let mut events = stream(&board, &log, None);
        let first = read(&events.next().await.unwrap());
        let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["cards", "pairing", "broker", "log"]);
        assert_eq!(first[0].1["ids"], json!(["a", "b"]));
        assert_eq!(first[0].1["cards"][0]["file"], "line\nend \u{2028} <script>");
        assert_eq!(first[0].1["cards"][0]["history"], json!([[60.5]]));
        // A change, soon after: it waits, and the history is not repeated.
        let at = clock::now();
        board.show(shown("b", "y"));
        board.show(shown("b", "z"));
        let second = read(&events.next().await.unwrap());
        assert_eq!(clock::now() - at, INTERVAL);
        assert_eq!(second.len(), 1);
        let cards = second[0].1["cards"].as_array().unwrap();
        assert_eq!((cards.len(), &cards[0]["file"]), (1, &json!("z")));
        assert!(cards[0].get("history").is_none());
        board.remove("a");
        log.add("ERROR", Some("b".to_owned()), "late".to_owned());
        let third = read(&events.next().await.unwrap());
        assert_eq!(third[0].1, json!({"ids": ["b"], "cards": []}));
        assert_eq!(third[1].1[0]["text"], "late");
        // A picture may come before its printer.
        board.show_picture("c", Some(CardPicture { media_type: "image/png", bytes: "p".into() }));
        let fourth = read(&events.next().await.unwrap());
        assert_eq!(fourth[0].1, json!({"ids": ["b", "c"], "cards": []}));
        let at = clock::now();
        assert_eq!(events.next().await.unwrap(), ":\n\n");
        assert!(clock::now() - at >= KEEP_ALIVE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_session_and_in_time() {
        let ((board, _asked), log) = (Board::new(), RecentLog::default());
        let sessions = Arc::new(PageSessions::default());
        let hash = TokenHash::of(sessions.open().unwrap().expose());
        let login = StreamLogin { sessions: Arc::clone(&sessions), hash };
        let mut events = stream(&board, &log, Some(login));
        assert!(events.next().await.is_some());
        sessions.close(hash);
        board.show(shown("a", "secret"));
        assert_eq!(events.next().await, None);
        let (start, mut events) = (clock::now(), stream(&board, &log, None));
        while events.next().await.is_some() {}
        assert!(clock::now() - start >= LIFETIME);
    }
}
