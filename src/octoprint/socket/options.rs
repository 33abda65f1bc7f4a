//! What a socket is told before it starts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use super::backoff::{DEFAULT_TIMEOUTS, Turns};
use crate::octoprint::rest::http::public_url;
use crate::octoprint::rest::login::Credentials;
use crate::octoprint::wire::large::Sizes;
use crate::secret::Secret;

/// Which transport the socket may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportChoice {
    /// WebSocket, and XHR streaming where WebSocket is blocked.
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
    /// The base address of OctoPrint, `http` or `https`; its path ends with `/`.
    pub url: Url,
    /// How to log in.
    pub credentials: Credentials,
    /// TLS for `https` and `wss`.
    pub tls: Arc<rustls::ClientConfig>,
    /// How long to wait before each consecutive attempt to reconnect. A connection that held
    /// starts the list anew.
    pub timeouts: Vec<Duration>,
    /// After the last of the timeouts: `true` gives up (state `failed`), `false` goes on at the
    /// last interval.
    pub give_up: bool,
    /// How many processing times the throttle looks at.
    pub rate_sliding_window_size: usize,
    /// The largest throttle factor.
    pub max_rate_factor: u32,
    /// How long each step of connecting may take: TCP and TLS, the WebSocket upgrade, the first
    /// message. The proof of the login may take twice as long.
    pub connect_timeout: Duration,
    /// Takes turns in connecting with the other sockets that share this.
    pub turns: Option<Turns>,
    /// Which transport to use.
    pub transport: TransportChoice,
    /// Extra headers for REST calls and the socket alike.
    pub headers: Vec<(String, Secret)>,
    /// An HTTP proxy on the way to OctoPrint, for REST calls and the socket alike.
    pub proxy: Option<Url>,
    /// What OctoPrint is to push.
    pub subscription: Subscription,
    /// A message that is larger waits for its turn: one such is read at a time in the process.
    pub large_message_bytes: usize,
    /// The largest message that is accepted; a larger one ends the connection, and the next attempt
    /// waits as after refused credentials.
    pub max_message_bytes: usize,
    /// While OctoPrint cannot be reached, and the next attempt is not near: ask every 2 s, and
    /// every 5 s after ten minutes, whether it is up again, without logging in.
    pub knock: bool,
    /// How long to wait after refused credentials.
    pub refused_pause: Duration,
    /// After how much silence OctoPrint is asked for a sign of life.
    pub ping_after: Duration,
    /// After how much silence the connection is dropped.
    pub dead_after: Duration,
    /// How long after its first `history` a connection counts as stable.
    pub stable_after: Duration,
    /// How long OctoPrint may take to prove a new login on a live connection with a `history`.
    pub proof_timeout: Duration,
}

impl SocketOptions {
    /// Options with these defaults:
    ///
    /// | option | default |
    /// | --- | --- |
    /// | `timeouts` | 1, 1, 2, 3, 5, 8, 13, 20, 40, 100 s |
    /// | `give_up` | `false` |
    /// | `rate_sliding_window_size` | 20 |
    /// | `max_rate_factor` | 20 |
    /// | `connect_timeout` | 5 s |
    /// | `turns` | none: connects whenever it wants |
    /// | `transport` | [`TransportChoice::Auto`] |
    /// | `headers`, `proxy` | none, whatever the environment says |
    /// | `subscription` | everything |
    /// | `large_message_bytes`, `max_message_bytes` | 16 MiB, 256 MiB |
    /// | `knock` | `true` |
    /// | `refused_pause` | 10 min |
    /// | `ping_after`, `dead_after`, `stable_after` | 15 s, 40 s, 10 s |
    /// | `proof_timeout` | 5 s |
    pub fn new(url: Url, credentials: Credentials, tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            url,
            credentials,
            tls,
            timeouts: DEFAULT_TIMEOUTS.to_vec(),
            give_up: false,
            rate_sliding_window_size: 20,
            max_rate_factor: 20,
            connect_timeout: Duration::from_secs(5),
            turns: None,
            transport: TransportChoice::Auto,
            headers: Vec::new(),
            proxy: None,
            subscription: Subscription::default(),
            large_message_bytes: 16 * 1024 * 1024,
            max_message_bytes: 256 * 1024 * 1024,
            knock: true,
            refused_pause: Duration::from_secs(600),
            ping_after: Duration::from_secs(15),
            dead_after: Duration::from_secs(40),
            stable_after: Duration::from_secs(10),
            proof_timeout: Duration::from_secs(5),
        }
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes { large: self.large_message_bytes, max: self.max_message_bytes }
    }
}

impl fmt::Debug for SocketOptions {
    /// Shows the address, without user and password, and nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketOptions").field("url", &public_url(&self.url)).finish_non_exhaustive()
    }
}

/// What OctoPrint is to push. The default is everything, as OctoPrint has it.
///
/// `connected`, `timelapse`, `slicingProgress`, `renderProgress` and `reauthRequired` always come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// `history` and `current`: the state, temperatures, the job.
    pub state: bool,
    /// With `state`: the terminal's lines too.
    pub logs: bool,
    /// With `state`: the printer's messages too.
    pub messages: bool,
    /// Which events.
    pub events: Selection,
    /// Messages of which plugins.
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
    /// The payload of the `subscribe` message.
    pub(super) fn payload(&self) -> Value {
        let state = match self.state {
            true => json!({"logs": self.logs, "messages": self.messages}),
            false => json!(false),
        };
        let (plugins, events) = (self.plugins.payload(), self.events.payload());
        json!({"state": state, "plugins": plugins, "events": events})
    }
}

/// A choice of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All, known today or not.
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
