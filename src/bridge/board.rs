//! What the page shows of the bridge, and what it asks of it. The bridge's tasks write on the board;
//! the page reads it. There is none where no page is served.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::newcomer::PairRequest;
use crate::causes::Cause;
use crate::{clock, topic};

/// Number of points of a temperature's history.
const POINTS: usize = 120;
/// Shortest interval between two points.
const POINT_INTERVAL: Duration = Duration::from_secs(5);

/// One printer, as the page shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Card {
    /// The printer's id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Address of OctoPrint, without user and password.
    pub url: String,
    /// Whether it was added on the page or over MQTT, and can be changed there.
    pub added: bool,
    /// Whether OctoPrint is online.
    pub online: bool,
    /// State of the push socket, as in `B/P/socket`.
    pub socket: String,
    /// Why it is not connected.
    pub error: Option<String>,
    /// Interval at which OctoPrint pushes, in milliseconds.
    pub interval: Option<u64>,
    /// The printer's state, as in `B/P/printer`; `offline` while OctoPrint is.
    pub state: String,
    /// Name of the selected file.
    pub file: Option<String>,
    /// Completion of the print, in percent.
    pub completion: Option<f64>,
    /// Time left, in seconds.
    pub time_left: Option<u64>,
    /// Temperatures: of hotends, bed, chamber, and others.
    pub temperatures: Vec<CardHeater>,
    /// Type of the last print event, such as `print_done`.
    pub last_event: Option<String>,
    /// When it came, in RFC 3339.
    pub last_event_at: Option<String>,
    /// Enabled groups of commands, by name.
    pub commands: BTreeMap<String, bool>,
}

/// One heater's temperatures, in °C.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CardHeater {
    /// Its name, such as `tool0`.
    pub heater: String,
    /// Measured.
    pub actual: Option<f64>,
    /// Wanted.
    pub target: Option<f64>,
}

/// A picture as it was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardPicture {
    /// Its media type, such as `image/png`.
    pub media_type: &'static str,
    /// The picture.
    pub bytes: Bytes,
}

/// A printer that is being paired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PairingStatus {
    /// Address of OctoPrint, without user and password.
    pub url: String,
    /// The id that the printer will have.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where to click Allow if no page of OctoPrint is open.
    pub dialog: Option<String>,
    /// `waiting`, `allowed`, or why it failed.
    pub outcome: String,
}

/// The connection to the broker, as the page shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BrokerCard {
    /// The broker's address, without user and password.
    pub address: String,
    /// Connected and subscribed.
    pub connected: bool,
    /// Why there is no connection.
    pub error: Option<String>,
    /// Messages that wait for the broker, or are not acknowledged yet.
    pub waiting: usize,
    /// Messages dropped since the start, because too many waited.
    pub dropped: u64,
    /// Events held back until subscribers are back.
    pub for_subscribers: usize,
    /// Events held back until Home Assistant is back.
    pub for_home_assistant: usize,
}

/// What the page asks of the bridge.
#[derive(Debug, Clone, PartialEq)]
pub enum PageRequest {
    /// Finds OctoPrints in the network. The answer is that of `bridge/request/discover`.
    Discover,
    /// Asks an OctoPrint for a key. Answered as soon as OctoPrint asks its user.
    Pair(PairRequest),
    /// Ends the pairing that is under way.
    CancelPairing,
    /// Removes a printer that was added.
    Remove(String),
    /// Renames a printer that was added.
    Rename {
        /// Its id.
        id: String,
        /// Its new name.
        name: String,
    },
    /// Chooses the groups of commands of a printer that was added.
    Groups {
        /// Its id.
        id: String,
        /// Groups to enable or disable, by name.
        groups: BTreeMap<String, bool>,
    },
    /// Checks every OctoPrint and the broker, as `octoprint2mqtt check`: a list of
    /// `{"what", "ok", "text"}`.
    Check,
    /// Lets `discover`, `pair` and `remove` over MQTT for five minutes.
    AllowMqttPairing,
}

/// A request, and where its answer goes.
pub type AskedByPage = (PageRequest, oneshot::Sender<Result<Value, Cause>>);

#[derive(Debug, Default)]
struct Shown {
    card: Card,
    /// Revision of the board at the card's last change.
    revision: u64,
    picture: Option<CardPicture>,
    /// Changes with the picture.
    picture_mark: Option<u64>,
    /// Points of the temperatures, oldest first, in the order of the card's heaters.
    history: VecDeque<Vec<Option<f64>>>,
    /// Number of points so far.
    points: u64,
    next_point: Option<std::time::Instant>,
}

#[derive(Debug)]
struct BoardParts {
    printers: Mutex<BTreeMap<String, Shown>>,
    pairing: Mutex<Option<PairingStatus>>,
    broker: Mutex<BrokerCard>,
    revision: watch::Sender<u64>,
    requests: mpsc::Sender<AskedByPage>,
}

/// The board; cheap to clone.
#[derive(Debug, Clone)]
pub struct Board(Arc<BoardParts>);

/// A card with what came before.
#[derive(Debug, Clone, Serialize)]
pub struct CardUpdate {
    /// The card.
    #[serde(flatten)]
    pub card: Card,
    /// Temperatures of the last ten minutes, oldest first: a list for each point.
    pub history: Vec<Vec<Option<f64>>>,
    /// Number of points that the history has had: it is unchanged while this is.
    pub points: u64,
    /// Changes with the picture; `None`: there is none.
    pub picture: Option<u64>,
}

impl Board {
    /// An empty board, and the requests of the page.
    pub fn new() -> (Self, mpsc::Receiver<AskedByPage>) {
        let (requests, asked) = mpsc::channel(16);
        let parts = BoardParts {
            printers: Mutex::default(),
            pairing: Mutex::default(),
            broker: Mutex::default(),
            revision: watch::Sender::new(0),
            requests,
        };
        (Self(Arc::new(parts)), asked)
    }

    fn printers(&self) -> MutexGuard<'_, BTreeMap<String, Shown>> {
        self.0.printers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Shown) -> bool) {
        let mut printers = self.printers();
        let shown = printers.entry(id.to_owned()).or_default();
        if change(shown) {
            self.0.revision.send_modify(|revision| {
                *revision += 1;
                shown.revision = *revision;
            });
        }
    }

    /// Shows a printer.
    pub fn show(&self, card: Card) {
        let id = card.id.clone();
        self.change(&id, |shown| {
            let now = clock::now();
            let is_due = shown.next_point.is_none_or(|next| next <= now);
            if is_due && !card.temperatures.is_empty() {
                shown.next_point = Some(now + POINT_INTERVAL);
                if shown.history.len() >= POINTS {
                    shown.history.pop_front();
                }
                let point = card.temperatures.iter().map(|reading| reading.actual);
                shown.history.push_back(point.collect());
                shown.points += 1;
            }
            let is_new = shown.card != card;
            shown.card = card;
            is_new
        });
    }

    /// Shows a printer's picture, or none.
    pub fn show_picture(&self, id: &str, picture: Option<CardPicture>) {
        self.change(id, |shown| {
            let is_new = shown.picture != picture;
            let mark = |picture: &CardPicture| u64::from(topic::hash(&picture.bytes));
            shown.picture_mark = picture.as_ref().map(mark);
            shown.picture = picture;
            is_new
        });
    }

    /// Removes a printer.
    pub fn remove(&self, id: &str) {
        if self.printers().remove(id).is_some() {
            self.0.revision.send_modify(|revision| *revision += 1);
        }
    }

    /// Shows the pairing that is under way, or was last.
    pub fn show_pairing(&self, pairing: Option<PairingStatus>) {
        *self.0.pairing.lock().unwrap_or_else(PoisonError::into_inner) = pairing;
        self.0.revision.send_modify(|revision| *revision += 1);
    }

    /// Returns the pairing that is under way, or was last.
    pub fn pairing(&self) -> Option<PairingStatus> {
        self.0.pairing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows the connection to the broker.
    pub fn show_broker(&self, broker: BrokerCard) {
        let mut shown = self.0.broker.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != broker {
            *shown = broker;
            self.0.revision.send_modify(|revision| *revision += 1);
        }
    }

    /// Returns the connection to the broker.
    pub fn broker(&self) -> BrokerCard {
        self.0.broker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a page is open.
    pub fn is_watched(&self) -> bool {
        self.0.revision.receiver_count() > 0
    }

    /// Watches the board's revision, which grows with each change.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }

    /// Returns the ids of all printers, and the cards that changed after `revision`.
    pub fn since(&self, revision: u64) -> (Vec<String>, Vec<CardUpdate>) {
        self.news(revision, &BTreeMap::new())
    }

    /// Returns the same for a reader who knows the histories of these numbers of points, which are
    /// left out.
    pub fn news(
        &self,
        revision: u64,
        points: &BTreeMap<String, u64>,
    ) -> (Vec<String>, Vec<CardUpdate>) {
        let printers = self.printers();
        let changed = printers.values().filter(|shown| shown.revision > revision);
        let update = |shown: &Shown| CardUpdate {
            card: shown.card.clone(),
            history: match points.get(&shown.card.id) == Some(&shown.points) {
                true => Vec::new(),
                false => shown.history.iter().cloned().collect(),
            },
            points: shown.points,
            picture: shown.picture_mark,
        };
        (printers.keys().cloned().collect(), changed.map(update).collect())
    }

    /// Returns the picture of a printer.
    pub fn picture(&self, id: &str) -> Option<CardPicture> {
        self.printers().get(id)?.picture.clone()
    }

    /// Asks the bridge, and waits for its answer.
    ///
    /// # Errors
    /// What the bridge says, or that it is stopping.
    pub async fn ask(&self, request: PageRequest) -> Result<Value, Cause> {
        let (answer, answered) = oneshot::channel();
        let stopping = || Cause::from("the bridge is stopping");
        self.0.requests.send((request, answer)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }
}
