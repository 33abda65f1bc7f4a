//! The configuration after every check: types that need no further question.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use url::Url;

use crate::heater::Limits;
use crate::octoprint::{Credentials, TransportChoice};
use crate::secret::Secret;
use crate::shard::Shard;

/// The whole configuration of one bridge.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where what must survive a restart is kept; `None`: nothing is kept.
    pub data_dir: Option<PathBuf>,
    /// The broker.
    pub mqtt: Mqtt,
    /// Home Assistant's discovery.
    pub homeassistant: HomeAssistant,
    /// Health and metrics over HTTP; `None`: off.
    pub http: Option<Http>,
    /// What is logged and how.
    pub log: Log,
    /// Bounds of what waits for the broker, for each printer.
    pub outbox: OutboxBounds,
    /// Which of several bridges this is; `None`: the only one.
    pub shard: Option<Shard>,
    /// The printers that this bridge serves, in the order of their ids; at least one without
    /// `shard`.
    pub printers: Vec<Printer>,
    /// The ids of all printers that are configured, those of other bridges included.
    pub all_printers: Vec<String>,
}

impl Config {
    /// The bridge's own part of its topics: `bridge`, or `bridge-<index>` for an index above 0.
    pub fn bridge_name(&self) -> String {
        format!("bridge{}", self.shard.map(Shard::suffix).unwrap_or_default())
    }
}

/// How to reach the broker.
#[derive(Debug, Clone)]
pub struct Mqtt {
    /// Host name or address of the broker; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `Some` for `mqtts://` and `wss://`.
    pub tls: Option<Tls>,
    /// `Some` for `ws://` and `wss://`: path and query, beginning with `/`.
    pub websocket: Option<String>,
    /// User name, if the broker asks for one.
    pub username: Option<String>,
    /// Password that goes with `username`.
    pub password: Option<Secret>,
    /// MQTT client id, with the suffix of the shard.
    pub client_id: String,
    /// Whose this bridge's printers are: the client id without the suffix, which all shards share.
    pub identity: String,
    /// First part of every topic, without a slash at either end.
    pub base_topic: String,
    /// Interval of MQTT pings; 1 s at least.
    pub keep_alive: Duration,
    /// Largest packet that is sent, in bytes: topic, payload and what MQTT adds.
    pub max_packet_size: usize,
}

/// One trust setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of a private CA, trusted in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of a client certificate (mutual TLS); goes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the client certificate's key.
    pub key_file: Option<PathBuf>,
    /// Accept any certificate.
    pub insecure: bool,
}

/// Where Home Assistant publishes its birth and its will where nobody moved them.
pub(crate) const STATUS_TOPIC: &str = "homeassistant/status";

/// Home Assistant's discovery.
#[derive(Debug, Clone)]
pub struct HomeAssistant {
    /// Publish discovery at all.
    pub enabled: bool,
    /// The prefix set in Home Assistant's MQTT integration.
    pub discovery_prefix: String,
    /// Also a climate entity for each heater.
    pub climate: bool,
    /// Where Home Assistant publishes its birth and its will; `None`: `homeassistant/status`, and
    /// `status` below the discovery prefix.
    pub status_topic: Option<String>,
    /// The payload of its birth.
    pub online: String,
    /// The payload of its will.
    pub offline: String,
    /// How long print events wait for a Home Assistant that is away; zero is not at all.
    pub wait: Duration,
}

/// Where health and metrics are served.
#[derive(Debug, Clone)]
pub struct Http {
    /// Address to listen on.
    pub listen: SocketAddr,
}

/// What is logged and how.
#[derive(Debug, Clone)]
pub struct Log {
    /// A level or a tracing filter, checked to parse.
    pub level: String,
    /// Form of a log line.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Bounds of what waits for the broker, for each printer by itself.
#[derive(Debug, Clone, Copy)]
pub struct OutboxBounds {
    /// Most events that wait.
    pub max_events: usize,
    /// Most bytes of events that wait.
    pub max_bytes: usize,
    /// How long events wait after a broker came back, so that subscribers are back too.
    pub settle: Duration,
}

/// One printer.
#[derive(Debug, Clone)]
pub struct Printer {
    /// The key in the configuration; part of topics and unique ids.
    pub id: String,
    /// Name for people; the id where none is given.
    pub name: String,
    /// Base address of OctoPrint; its path always ends with `/`.
    pub url: Url,
    /// How to log in.
    pub credentials: Credentials,
    /// Trust for REST, socket and camera alike.
    pub tls: Tls,
    /// How long the socket may be away before the printer is called offline.
    pub offline_after: Duration,
    /// Topic prefix under which OctoPrint-MQTT's topics are published as well.
    pub octoprint_mqtt_topic: Option<String>,
    /// Highest targets accepted.
    pub limits: Limits,
    /// What is published.
    pub publish: Publish,
    /// The push socket.
    pub socket: Socket,
    /// Which groups of commands are obeyed.
    pub commands: Commands,
}

/// What is published, by name; never touches state, discovery or recovery.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Events, by type.
    pub events: Filter,
    /// Plugin messages, by plugin id.
    pub plugins: Filter,
    /// All other message types.
    pub messages: Filter,
}

/// The push socket of one printer.
#[derive(Debug, Clone)]
pub struct Socket {
    /// Waits before each consecutive attempt to reconnect; not empty.
    pub timeouts: Vec<Duration>,
    /// Stop after the last timeout instead of going on at that interval.
    pub give_up: bool,
    /// Measurements the throttle looks at; 1 at least.
    pub rate_sliding_window_size: usize,
    /// Slowest push rate, in steps of 500 ms; 1 at least.
    pub max_rate_factor: u32,
    /// Bound on connecting.
    pub connect_timeout: Duration,
    /// Which transport.
    pub transport: TransportChoice,
    /// Extra request headers; values are never printed.
    pub headers: BTreeMap<String, Secret>,
    /// While OctoPrint cannot be reached, ask every 2 s whether it is up, without logging in.
    pub knock: bool,
    /// Also the printer's terminal lines.
    pub terminal: bool,
}

/// Which groups of commands are obeyed.
#[derive(Debug, Clone, Copy)]
pub struct Commands {
    /// `reconnect`, `rate`.
    pub bridge: bool,
    /// `job`, `select`, `print`, `message`, `emergency_stop`.
    pub job: bool,
    /// `temperature`, `offset`.
    pub temperature: bool,
    /// `feedrate`, `flowrate`, `home`, `jog`, `extrude`.
    pub motion: bool,
    /// `connection`.
    pub connection: bool,
    /// `gcode`.
    pub gcode: bool,
    /// `system`.
    pub system: bool,
}

/// A choice of names: `*` is all, `!Name` leaves one out, only `!…` is all but these, empty is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub(super) all: bool,
    pub(super) names: Vec<String>,
    pub(super) left_out: Vec<String>,
}

impl Filter {
    /// Reads the entries of a list as the user writes it.
    pub fn new<S: AsRef<str>>(entries: &[S]) -> Self {
        let mut filter = Self { all: false, names: Vec::new(), left_out: Vec::new() };
        for entry in entries.iter().map(|entry| entry.as_ref().trim()) {
            match entry.strip_prefix('!') {
                Some(name) => filter.left_out.push(name.to_owned()),
                None if entry == "*" => filter.all = true,
                None => filter.names.push(entry.to_owned()),
            }
        }
        if filter.names.is_empty() && !filter.left_out.is_empty() {
            filter.all = true;
        }
        filter
    }

    /// Whether `name` is chosen.
    pub fn allows(&self, name: &str) -> bool {
        (self.all || self.names.iter().any(|chosen| chosen == name))
            && !self.left_out.iter().any(|left| left == name)
    }

    /// The chosen names where they are plainly listed; `None` where `*` or `!` is in the list.
    pub fn names(&self) -> Option<&[String]> {
        (!self.all && self.left_out.is_empty()).then_some(&self.names[..])
    }
}
