//! What the parts of the simulated OctoPrint share.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::model::Model;

/// How the simulated OctoPrint is to be.
#[derive(Debug, Clone)]
pub struct SimulatorOptions {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The API key of its only user.
    pub api_key: String,
    /// The name of that user.
    pub user: String,
    /// The password of that user.
    pub password: String,
    /// How much faster than life the printer is; 1 prints the part in about two minutes.
    pub speed: f64,
    /// Prints a part again and again instead of waiting for commands.
    pub print_loop: bool,
    /// How many extruders the printer has.
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

/// What goes wrong, until it is set otherwise.
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
    /// Sockets stay open and nothing is sent any more.
    pub silent: bool,
    /// Every REST call takes this long.
    pub rest_delay: Duration,
    /// Every REST call but the login is answered with this status.
    pub rest_status: Option<u16>,
}

/// What the simulated OctoPrint has seen.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// REST commands, as (path, body).
    pub commands: Vec<(String, Value)>,
    /// Throttle factors that sockets asked for.
    pub throttles: Vec<u64>,
    /// Subscriptions that sockets asked for.
    pub subscriptions: Vec<Value>,
    /// Successful logins.
    pub logins: u64,
}

/// Something for all sockets at once.
#[derive(Debug, Clone)]
pub(super) enum Push {
    Event(String, Value),
    Plugin(String, Value),
    /// A message that nobody can unsubscribe from: type and payload.
    Message(&'static str, Value),
    /// A frame as it is.
    Raw(String),
}

/// What its parts share.
pub(super) struct Shared {
    pub(super) options: SimulatorOptions,
    pub(super) model: Mutex<Model>,
    pub(super) faults: Mutex<Faults>,
    pub(super) observed: Mutex<Observed>,
    pub(super) sessions: Mutex<BTreeSet<String>>,
    pub(super) sockets: Mutex<CancellationToken>,
    pub(super) stop: CancellationToken,
    pub(super) push: broadcast::Sender<Push>,
}

/// A lock that a panicking test left behind is as good as any.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
