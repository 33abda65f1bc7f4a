//! The typed configuration, and its form without secrets for `B/bridge/info`.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use url::Url;

use super::counter::Counter;
use super::power_switch::PowerSwitch;
use crate::heater::Limits;
use crate::octoprint::{Credentials, PictureSource, TransportChoice};
use crate::own_entity::OwnEntity;
use crate::secret::Secret;
use crate::shard::Shard;

/// The whole configuration of one bridge.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of the database; `None`: nothing survives a restart.
    pub data_dir: Option<PathBuf>,
    /// Whether clients of the broker may find, add and remove printers.
    pub pairing: bool,
    /// The broker.
    pub mqtt: Mqtt,
    /// Home Assistant's discovery.
    pub homeassistant: HomeAssistant,
    /// Health, metrics and the page over HTTP; `None`: off.
    pub http: Option<Http>,
    /// Level and format of the log.
    pub log: Log,
    /// Bounds of the outbox, for each printer.
    pub outbox: OutboxBounds,
    /// Which of several bridges this is; `None` for the only one.
    pub shard: Option<Shard>,
    /// The printers that this bridge serves, sorted by id; none at first, where nothing is configured.
    pub printers: Vec<Arc<Printer>>,
    /// The ids of all configured printers, including those of other bridges.
    pub all_printers: Vec<String>,
}

impl Config {
    /// Returns the bridge's level in its topics: `bridge`, or `bridge-<index>` for an index above
    /// 0.
    pub fn bridge_name(&self) -> String {
        format!("bridge{}", self.shard.map(Shard::suffix).unwrap_or_default())
    }

    /// Returns the names of what differs in `other` and counts at the start of the bridge only, but
    /// for `data_dir` and `shard`, which decide which printers there are.
    pub fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("pairing", self.pairing != other.pairing),
            ("mqtt", self.mqtt != other.mqtt),
            ("homeassistant", self.homeassistant != other.homeassistant),
            ("http", self.http != other.http),
            ("log.format", self.log.format != other.log.format),
            ("outbox", self.outbox != other.outbox),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// How to reach the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mqtt {
    /// Host name or address of the broker; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Trust setting, for `mqtts://` and `wss://`.
    pub tls: Option<Tls>,
    /// Path and query starting with `/`, for `ws://` and `wss://`.
    pub websocket: Option<String>,
    /// User name, if the broker asks for one.
    pub username: Option<String>,
    /// Password that goes with `username`.
    pub password: Option<Secret>,
    /// MQTT client id, with the suffix of the shard.
    pub client_id: String,
    /// Owner of this bridge's printers: the client id without the suffix, the same for all shards.
    pub identity: String,
    /// First part of every topic, without a slash at either end.
    pub base_topic: String,
    /// Interval of MQTT pings; 1 s at least.
    pub keep_alive: Duration,
    /// Largest packet that is sent, in bytes: topic, payload and MQTT's overhead.
    pub max_packet_size: usize,
}

/// A trust setting.
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

/// Home Assistant's default topic of its birth and its will.
pub(crate) const STATUS_TOPIC: &str = "homeassistant/status";

/// Home Assistant's discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeAssistant {
    /// Whether to publish discovery.
    pub enabled: bool,
    /// Prefix set in Home Assistant's MQTT integration.
    pub discovery_prefix: String,
    /// Whether to add a climate entity for each heater.
    pub climate: bool,
    /// Topic of Home Assistant's birth and will; `None`: `homeassistant/status`, and `status` below
    /// the discovery prefix.
    pub status_topic: Option<String>,
    /// Payload of its birth.
    pub online: String,
    /// Payload of its will.
    pub offline: String,
    /// How long print events wait for Home Assistant while it is away; zero for not at all.
    pub wait: Duration,
}

/// Health, metrics and the page over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Whether to serve the page, where that is safe.
    pub page: bool,
    /// Password of the page.
    pub password: Option<Secret>,
    /// Names by which browsers may reach the page, beside IP addresses and `localhost`; in lower
    /// case, without a port.
    pub hosts: Vec<String>,
    /// Whether the page refuses changes; `None`: without a password.
    pub read_only: Option<bool>,
}

/// Level and format of the log.
#[derive(Debug, Clone)]
pub struct Log {
    /// A level or a valid tracing filter.
    pub level: String,
    /// Format of a log line.
    pub format: LogFormat,
}

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Bounds of the outbox, for each printer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxBounds {
    /// Most waiting events.
    pub max_events: usize,
    /// Most bytes of waiting events.
    pub max_bytes: usize,
    /// How long events wait for subscribers to return after a broker restart.
    pub settle: Duration,
}

/// One printer.
#[derive(Debug, Clone, PartialEq)]
pub struct Printer {
    /// Key in the configuration; part of topics and unique ids.
    pub id: String,
    /// Whether it was added on the page or over MQTT, not in the file or by variables.
    pub added: bool,
    /// Name for people; the id by default.
    pub name: String,
    /// Base address of OctoPrint; its path always ends with `/`.
    pub url: Url,
    /// Login.
    pub credentials: Credentials,
    /// Trust setting for REST and the push socket.
    pub tls: Tls,
    /// How long the socket may be disconnected before the printer counts as offline.
    pub offline_after: Duration,
    /// Topic prefix for additional topics as OctoPrint-MQTT publishes them.
    pub octoprint_mqtt_topic: Option<String>,
    /// Read the G-code files for layers and what the slicer wrote.
    pub layers: bool,
    /// Largest G-code file that is read as a whole, in bytes.
    pub max_gcode_size: u64,
    /// Publish the thumbnail of the selected file.
    pub thumbnails: bool,
    /// Price of a kilogram of filament, in any currency.
    pub filament_price: Option<f64>,
    /// Maintenance counters, sorted by name.
    pub maintenance: Vec<Counter>,
    /// The switch of its power; `None`: that of PSU Control, if OctoPrint has it.
    pub power: Option<PowerSwitch>,
    /// Switch the power off after a print.
    pub auto_off: bool,
    /// Switch the power on to print.
    pub power_on_to_print: bool,
    /// Highest targets accepted.
    pub limits: Limits,
    /// What is published.
    pub publish: Publish,
    /// Pictures of its camera.
    pub camera: Camera,
    /// The push socket.
    pub socket: Socket,
    /// Enabled groups of commands.
    pub commands: Commands,
    /// Entities of the user's own, sorted by key.
    pub entities: Arc<[OwnEntity]>,
}

/// Pictures of a printer's camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    /// Whether pictures are taken at all.
    pub enabled: bool,
    /// Where pictures come from; `None`: OctoPrint's webcams.
    pub source: Option<PictureSource>,
    /// At which moments of a print pictures are taken.
    pub at: Vec<PictureMoment>,
    /// Interval between pictures during a print; `None`: none are taken.
    pub every: Option<Duration>,
    /// Layers between pictures during a print; `None`: none are taken.
    pub every_layers: Option<u32>,
    /// Largest picture, in bytes.
    pub max_size: usize,
}

impl Camera {
    /// Whether pictures are those of OctoPrint's webcams.
    pub fn uses_webcams(&self) -> bool {
        self.enabled && self.source.is_none()
    }
}

/// A moment of a print at which a picture is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureMoment {
    /// It starts.
    Start,
    /// It is done.
    End,
    /// It failed, or was cancelled.
    Failure,
    /// It pauses.
    Pause,
}

impl PictureMoment {
    /// All moments.
    pub const ALL: [Self; 4] = [Self::Start, Self::End, Self::Failure, Self::Pause];

    /// Returns its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
            Self::Failure => "failure",
            Self::Pause => "pause",
        }
    }
}

/// What is published, by name; does not affect state, discovery or recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Events, by type.
    pub events: Filter,
    /// Plugin messages, by plugin id.
    pub plugins: Filter,
    /// All other message types.
    pub messages: Filter,
}

/// The push socket of one printer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Pause before each consecutive attempt to reconnect; not empty.
    pub timeouts: Vec<Duration>,
    /// Stop after the last timeout instead of continuing at that interval.
    pub give_up: bool,
    /// Number of measurements in the throttle's window; at least 1.
    pub rate_sliding_window_size: usize,
    /// Slowest push rate, in steps of 500 ms; at least 1.
    pub max_rate_factor: u32,
    /// Timeout for connecting.
    pub connect_timeout: Duration,
    /// Transport to use.
    pub transport: TransportChoice,
    /// Extra request headers; values are never printed.
    pub headers: BTreeMap<String, Secret>,
    /// Check every 2 s, without logging in, whether an unreachable OctoPrint is up.
    pub knock: bool,
    /// Also publish the printer's terminal lines.
    pub terminal: bool,
}

/// Enabled groups of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commands {
    /// `reconnect`, `rate`, `snapshot`, `maintenance`.
    pub bridge: bool,
    /// `job`, `select`, `print`, `message`, `emergency_stop`.
    pub job: bool,
    /// `temperature`, `offset`.
    pub temperature: bool,
    /// `feedrate`, `flowrate`, `home`, `jog`, `extrude`.
    pub motion: bool,
    /// `connection`.
    pub connection: bool,
    /// `power`.
    pub power: bool,
    /// `gcode`.
    pub gcode: bool,
    /// `system`.
    pub system: bool,
}

impl Commands {
    /// Returns the groups by name.
    pub fn by_name(&self) -> [(&'static str, bool); 8] {
        [
            ("bridge", self.bridge),
            ("job", self.job),
            ("temperature", self.temperature),
            ("motion", self.motion),
            ("connection", self.connection),
            ("power", self.power),
            ("gcode", self.gcode),
            ("system", self.system),
        ]
    }
}

/// A choice of names: `*` is all, `!Name` excludes one, only `!…` is all but these, empty is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    all: bool,
    names: Vec<String>,
    excluded: Vec<String>,
}

impl Filter {
    /// Parses the entries of a list.
    pub fn new<S: AsRef<str>>(entries: &[S]) -> Self {
        let mut filter = Self { all: false, names: Vec::new(), excluded: Vec::new() };
        for entry in entries.iter().map(|entry| entry.as_ref().trim()) {
            match entry.strip_prefix('!') {
                Some(name) => filter.excluded.push(name.to_owned()),
                None if entry == "*" => filter.all = true,
                None => filter.names.push(entry.to_owned()),
            }
        }
        if filter.names.is_empty() && !filter.excluded.is_empty() {
            filter.all = true;
        }
        filter
    }

    /// Whether `name` is chosen.
    pub fn allows(&self, name: &str) -> bool {
        (self.all || self.names.iter().any(|chosen| chosen == name))
            && !self.excluded.iter().any(|left| left == name)
    }

    /// Returns the chosen names; `None` if the list has `*` or `!`.
    pub fn names(&self) -> Option<&[String]> {
        (!self.all && self.excluded.is_empty()).then_some(&self.names[..])
    }

    pub(super) fn entries(&self) -> Vec<String> {
        let all = self.all.then(|| "*".to_owned());
        let excluded = self.excluded.iter().map(|name| format!("!{name}"));
        all.into_iter().chain(self.names.iter().cloned()).chain(excluded).collect()
    }
}
