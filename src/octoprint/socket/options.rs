//! The options of a socket.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use super::backoff::{DEFAULT_TIMEOUTS, Turns};
use crate::octoprint::large::Sizes;
use crate::octoprint::rest::http::public_url;
use crate::octoprint::rest::login::Credentials;
use crate::octoprint::rest::options::RestOptions;

/// Which transport the socket may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportChoice {
    /// WebSocket, and XHR streaming if WebSocket is blocked.
    #[default]
    Auto,
    /// WebSocket only.
    WebSocket,
    /// XHR streaming only.
    XhrStreaming,
}

/// Options of a [`Socket`](super::handle::Socket).
#[derive(Clone)]
pub struct SocketOptions {
    /// Where OctoPrint is, and how to log in: the same for the socket and its REST calls.
    pub rest: RestOptions,
    /// Delays before consecutive attempts to reconnect. A stable connection restarts the list.
    pub timeouts: Vec<Duration>,
    /// After the last of the timeouts: `true` gives up (state `failed`), `false` repeats the last
    /// one.
    pub give_up: bool,
    /// Number of processing times in the throttle's sliding window.
    pub rate_sliding_window_size: usize,
    /// The largest throttle factor.
    pub max_rate_factor: u32,
    /// Spreads the connection attempts of the sockets that share it.
    pub turns: Option<Turns>,
    /// Which transport to use.
    pub transport: TransportChoice,
    /// The messages that OctoPrint pushes.
    pub subscription: Subscription,
    /// Size of a large message, in bytes. Larger ones are read one at a time in the process.
    pub large_message_bytes: usize,
    /// Maximum size of a message, in bytes. A larger one ends the connection, and the next attempt
    /// waits as after refused credentials.
    pub max_message_bytes: usize,
    /// Whether to check if OctoPrint is up again while it is unreachable and the next attempt is not
    /// near: every 2 s, after ten minutes every 5 s, without logging in.
    pub knock: bool,
    /// Silence after which OctoPrint is asked for a sign of life.
    pub ping_after: Duration,
    /// Silence after which the connection is dropped.
    pub dead_after: Duration,
    /// Time from the first `history` until a connection counts as stable.
    pub stable_after: Duration,
    /// Time in which OctoPrint must prove a renewed login with a `history`.
    pub proof_timeout: Duration,
}

impl SocketOptions {
    /// Creates options with the defaults of [`RestOptions::new`] and these:
    ///
    /// | option | default |
    /// | --- | --- |
    /// | `timeouts` | 1, 1, 2, 3, 5, 8, 13, 20, 40, 100 s |
    /// | `give_up` | `false` |
    /// | `rate_sliding_window_size` | 20 |
    /// | `max_rate_factor` | 20 |
    /// | `turns` | none |
    /// | `transport` | [`TransportChoice::Auto`] |
    /// | `subscription` | everything |
    /// | `large_message_bytes`, `max_message_bytes` | 16 MiB, 256 MiB |
    /// | `knock` | `true` |
    /// | `ping_after`, `dead_after`, `stable_after` | 15 s, 40 s, 10 s |
    /// | `proof_timeout` | 5 s |
    pub fn new(url: Url, credentials: Credentials, tls: Arc<rustls::ClientConfig>) -> Self {
        RestOptions::new(url, credentials, tls).into()
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes { large: self.large_message_bytes, max: self.max_message_bytes }
    }
}

impl From<RestOptions> for SocketOptions {
    /// Adds the defaults of [`SocketOptions::new`].
    fn from(rest: RestOptions) -> Self {
        Self {
            rest,
            timeouts: DEFAULT_TIMEOUTS.to_vec(),
            give_up: false,
            rate_sliding_window_size: 20,
            max_rate_factor: 20,
            turns: None,
            transport: TransportChoice::Auto,
            subscription: Subscription::default(),
            large_message_bytes: 16 * 1024 * 1024,
            max_message_bytes: 256 * 1024 * 1024,
            knock: true,
            ping_after: Duration::from_secs(15),
            dead_after: Duration::from_secs(40),
            stable_after: Duration::from_secs(10),
            proof_timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for SocketOptions {
    /// Shows only the address, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketOptions")
            .field("url", &public_url(&self.rest.url))
            .finish_non_exhaustive()
    }
}

/// The messages that OctoPrint pushes; by default all.
///
/// `connected`, `timelapse`, `slicingProgress`, `renderProgress` and `reauthRequired` are always
/// pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// `history` and `current`: the state, temperatures, the job.
    pub state: bool,
    /// Whether `state` includes the terminal's lines.
    pub logs: bool,
    /// Whether `state` includes the printer's messages.
    pub messages: bool,
    /// The types of events.
    pub events: Selection,
    /// The plugins whose messages are pushed.
    pub plugins: Selection,
}

impl Default for Subscription {
    fn default() -> Self {
        Self {
            state: true,
            logs: true,
            messages: true,
            events: Selection::All,
            plugins: Selection::All,
        }
    }
}

impl Subscription {
    /// Returns payloads of `subscribe` that make OctoPrint send a `history`: it does when the state is
    /// newly subscribed to, and does not answer an unchanged subscription.
    pub(super) fn history_request(&self) -> [Value; 2] {
        let without_state = Self { state: false, ..self.clone() };
        [without_state.payload(), self.payload()]
    }

    pub(super) fn payload(&self) -> Value {
        let state = match self.state {
            true => json!({"logs": self.logs, "messages": self.messages}),
            false => json!(false),
        };
        let (plugins, events) = (self.plugins.payload(), self.events.payload());
        json!({"state": state, "plugins": plugins, "events": events})
    }
}

/// A selection of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// None.
    Nothing,
    /// These and no others.
    Only(Vec<String>),
}

impl Selection {
    fn payload(&self) -> Value {
        match self {
            Self::All => json!(true),
            Self::Nothing => json!(false),
            Self::Only(names) => json!(names),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_subscribed_to() {
        let mut subscription = Subscription::default();
        let everything = json!({"state": {"logs": true, "messages": true},
            "plugins": true, "events": true});
        assert_eq!(subscription.payload(), everything);
        subscription.state = false;
        subscription.plugins = Selection::Nothing;
        subscription.events = Selection::Only(vec!["PrintDone".to_owned()]);
        let little = json!({"state": false, "plugins": false, "events": ["PrintDone"]});
        assert_eq!(subscription.payload(), little);
    }
}
