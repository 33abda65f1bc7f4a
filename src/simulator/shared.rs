//! Options and state shared by the parts of the simulated OctoPrint.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::model::Model;

/// Options of the simulated OctoPrint.
#[derive(Debug, Clone)]
pub struct SimulatorOptions {
    /// Address to listen on; port 0 means a free one.
    pub listen: SocketAddr,
    /// The API key of its only user.
    pub api_key: String,
    /// That user's name.
    pub user: String,
    /// That user's password.
    pub password: String,
    /// Speed factor of the printer; 1 prints the part in about two minutes.
    pub speed: f64,
    /// Print a part in a loop instead of waiting for commands.
    pub print_loop: bool,
    /// Number of extruders of the printer.
    pub extruders: usize,
}

impl Default for SimulatorOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            api_key: "SIMULATOR-KEY".to_owned(),
            user: "simon".to_owned(),
            password: "simulated".to_owned(),
            speed: 1.0,
            print_loop: false,
            extruders: 1,
        }
    }
}

/// Faults in force until they are set again.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Every login is answered with this status, such as 429.
    pub login_status: Option<u16>,
    /// The user is deactivated: a login yields neither name nor session.
    pub deactivated: bool,
    /// Still starting: any request is answered with a bare text, without an HTTP status line.
    pub starting: bool,
    /// The upgrade to WebSocket is refused, as a proxy would.
    pub refuse_upgrade: bool,
    /// Sockets stay open, but nothing is sent.
    pub silent: bool,
    /// Every REST call takes this long.
    pub rest_delay: Duration,
    /// Every REST call but the login is answered with this status.
    pub rest_status: Option<u16>,
    /// Every REST command is answered with success, and not carried out.
    pub rest_idle: bool,
}

/// The requests that the simulated OctoPrint received.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// REST commands, as (path, body).
    pub commands: Vec<(String, Value)>,
    /// Throttle factors requested by sockets.
    pub throttles: Vec<u64>,
    /// Subscriptions requested by sockets.
    pub subscriptions: Vec<Value>,
    /// Successful logins.
    pub logins: u64,
    /// Downloads of files, as a whole or in part.
    pub downloads: u64,
}

/// A message to all sockets.
#[derive(Debug, Clone)]
pub(super) enum Push {
    Event(String, Value),
    Plugin(String, Value),
    /// A message that every client gets: type and payload.
    Message(&'static str, Value),
    /// A frame to send unchanged.
    Raw(String),
}

/// State of the simulated OctoPrint.
pub(super) struct ServerState {
    pub(super) options: SimulatorOptions,
    pub(super) model: Mutex<Model>,
    pub(super) faults: Mutex<Faults>,
    pub(super) observed: Mutex<Observed>,
    pub(super) sessions: Mutex<BTreeSet<String>>,
    pub(super) sockets: Mutex<CancellationToken>,
    pub(super) stop: CancellationToken,
    pub(super) push: broadcast::Sender<Push>,
}

/// Locks, even after a test panicked while holding the lock.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
