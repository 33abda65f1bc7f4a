//! Turns the configuration into options for the broker, the sockets and discovery.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use tracing::Span;

use crate::causes::Cause;
use crate::config::{self, Config, Filter, Mqtt, Printer};
use crate::homeassistant::Settings;
use crate::mqtt::{MAX_INCOMING, Options, PacketLimit};
use crate::octoprint::{
    BuildError, EventKind, PROMPT_PLUGIN, PSU_PLUGIN, Rest, RestOptions, Selection, Socket,
    SocketOptions, Subscription, Turns, UPDATE_PLUGIN,
};
use crate::own_entity::Source;
use crate::tls::{self, TlsError};
use crate::topics::BridgeTopics;

/// What is said where no printer is configured.
pub const NO_PRINTER: &str = "none is configured yet; add one on the bridge's page, or a table [printers.<id>] with url and api_key to the configuration file (octoprint2mqtt discover finds addresses, octoprint2mqtt authorize gets a key)";

/// Changes the log level until the next restart.
pub type SetLogLevel = Arc<dyn Fn(&str) -> Result<(), Cause> + Send + Sync>;

/// Why the bridge cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The broker's TLS settings are invalid.
    #[error("mqtt.tls")]
    BrokerTls(#[source] TlsError),
    /// The TLS settings of a printer are invalid.
    #[error("printers.{id}.tls")]
    PrinterTls {
        /// The printer's id.
        id: String,
        /// The reason.
        source: TlsError,
    },
    /// The socket or the REST client of a printer cannot be built.
    #[error("printers.{id}")]
    Printer {
        /// The printer's id.
        id: String,
        /// The reason.
        source: BuildError,
    },
}

/// Returns the options of the connection to the broker.
///
/// # Errors
/// If the TLS settings are invalid.
pub fn broker_options(
    mqtt: &Mqtt,
    last_will: Option<(String, String)>,
) -> Result<Options, SetupError> {
    let tls = mqtt
        .tls
        .as_ref()
        .map(|settings| tls::client_config(settings, true))
        .transpose()
        .map_err(SetupError::BrokerTls)?;
    Ok(Options {
        host: mqtt.host.clone(),
        port: mqtt.port,
        tls,
        websocket: mqtt.websocket.clone(),
        login: mqtt.username.clone().zip(mqtt.password.clone()),
        client_id: mqtt.client_id.clone(),
        keep_alive: mqtt.keep_alive,
        last_will,
        max_incoming: MAX_INCOMING,
        limit: PacketLimit::new(mqtt.max_packet_size),
    })
}

/// Returns the discovery settings that all printers share.
pub fn discovery_settings(config: &Config) -> Settings {
    Settings {
        prefix: config.homeassistant.discovery_prefix.clone(),
        climate: config.homeassistant.climate,
        topics: BridgeTopics::named(&config.mqtt.base_topic, &config.bridge_name()),
        identity: config.mqtt.identity.clone(),
    }
}

/// Builds the socket of one printer, without connecting it.
///
/// # Errors
/// If the TLS settings or the options are invalid.
pub fn socket(printer: &Printer) -> Result<Socket, SetupError> {
    socket_with(printer, &mut SharedBySockets::default())
}

/// Builds the REST client of one printer, without a socket.
///
/// # Errors
/// If the TLS settings or the options are invalid.
pub fn rest(printer: &Printer) -> Result<Rest, SetupError> {
    Rest::new(rest_options(printer, &mut TrustSettings::default())?)
        .map_err(|source| SetupError::Printer { id: printer.id.clone(), source })
}

/// The span of one printer's tasks, which adds the printer's id to their log lines.
pub fn printer_span(id: &str) -> Span {
    tracing::info_span!(parent: None, "printer", id)
}

/// Builds the sockets of all printers, which share TLS configurations and turns; cheap to clone.
#[derive(Clone)]
pub struct SocketMaker(Arc<Mutex<SharedBySockets>>);

impl Default for SocketMaker {
    fn default() -> Self {
        let turns = Some(Turns::new(MAX_CONNECTING));
        Self(Arc::new(Mutex::new(SharedBySockets { turns, ..SharedBySockets::default() })))
    }
}

impl SocketMaker {
    /// Builds the socket of one printer, without connecting it.
    ///
    /// # Errors
    /// If the TLS settings or the options are invalid.
    pub fn make(&self, printer: &Printer) -> Result<Socket, SetupError> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The socket's task runs in the span in which it is made.
        printer_span(&printer.id).in_scope(|| socket_with(printer, &mut shared))
    }

    /// Checks what a socket of the printer needs, without building one.
    ///
    /// # Errors
    /// If the TLS settings are invalid.
    pub fn check(&self, printer: &Printer) -> Result<(), SetupError> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rest_options(printer, &mut shared.trust).map(drop)
    }
}

/// Maximum number of sockets that connect at the same time.
const MAX_CONNECTING: usize = 8;

#[derive(Default)]
struct SharedBySockets {
    trust: TrustSettings,
    turns: Option<Turns>,
}

/// One rustls configuration per trust setting: each reads the system's roots, caches sessions.
#[derive(Default)]
struct TrustSettings(Vec<(config::Tls, bool, Arc<ClientConfig>)>);

impl TrustSettings {
    fn get(&mut self, tls: &config::Tls, wanted: bool) -> Result<Arc<ClientConfig>, TlsError> {
        let known = self.0.iter().find(|(known, used, _)| known == tls && *used == wanted);
        if let Some((_, _, config)) = known {
            return Ok(config.clone());
        }
        let config = tls::client_config(tls, wanted)?;
        self.0.push((tls.clone(), wanted, config.clone()));
        Ok(config)
    }
}

fn rest_options(printer: &Printer, trust: &mut TrustSettings) -> Result<RestOptions, SetupError> {
    let wanted = printer.url.scheme() == "https";
    let tls = trust
        .get(&printer.tls, wanted)
        .map_err(|source| SetupError::PrinterTls { id: printer.id.clone(), source })?;
    let mut options = RestOptions::new(printer.url.clone(), printer.credentials.clone(), tls);
    let socket = &printer.socket;
    options.connect_timeout = socket.connect_timeout;
    options.headers =
        socket.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(options)
}

fn socket_with(printer: &Printer, shared: &mut SharedBySockets) -> Result<Socket, SetupError> {
    let mut options = SocketOptions::from(rest_options(printer, &mut shared.trust)?);
    let socket = &printer.socket;
    options.timeouts = socket.timeouts.clone();
    options.give_up = socket.give_up;
    options.rate_sliding_window_size = socket.rate_sliding_window_size;
    options.max_rate_factor = socket.max_rate_factor;
    options.knock = socket.knock;
    options.turns = shared.turns.clone();
    options.transport = socket.transport;
    options.subscription = subscription(printer);
    Socket::new(options).map_err(|source| SetupError::Printer { id: printer.id.clone(), source })
}

/// Events that the bridge itself needs, whether or not they are published.
const NEEDED_EVENTS: &[EventKind] = &[
    EventKind::CommandSuppressed,
    EventKind::Connected,
    EventKind::Connecting,
    EventKind::Disconnected,
    EventKind::Disconnecting,
    EventKind::EStop,
    EventKind::Error,
    EventKind::FilamentChange,
    EventKind::FileDeselected,
    EventKind::FileSelected,
    EventKind::MetadataStatisticsUpdated,
    EventKind::MovieDone,
    EventKind::MovieFailed,
    EventKind::PrintCancelled,
    EventKind::PrintDone,
    EventKind::PrintFailed,
    EventKind::PrintPaused,
    EventKind::PrintResumed,
    EventKind::PrintStarted,
    EventKind::PrinterControlsChanged,
    EventKind::PrinterProfileAdded,
    EventKind::PrinterProfileModified,
    EventKind::PrinterReset,
    EventKind::SettingsUpdated,
    EventKind::ToolChange,
    EventKind::UpdatedFiles,
];

/// Plugins whose messages the bridge itself needs.
const NEEDED_PLUGINS: &[&str] = &[PROMPT_PLUGIN, PSU_PLUGIN, UPDATE_PLUGIN];

fn subscription(printer: &Printer) -> Subscription {
    let readings = printer.entities.iter().filter_map(|entity| entity.reading.as_ref());
    let sources = readings.flat_map(|reading| &reading.sources);
    let events = sources.clone().filter_map(|source| match source {
        Source::Event(kind) => Some(kind.as_str()),
        _ => None,
    });
    let plugins = sources.filter_map(|source| match source {
        Source::Plugin(id) => Some(id.as_str()),
        _ => None,
    });
    let needed_events = NEEDED_EVENTS.iter().map(EventKind::as_str);
    Subscription {
        state: true,
        logs: printer.socket.terminal,
        messages: printer.socket.terminal,
        events: selection(&printer.publish.events, needed_events.chain(events)),
        plugins: selection(&printer.publish.plugins, plugins.chain(NEEDED_PLUGINS.iter().copied())),
    }
}

/// What to subscribe to: everything if the filter has `*` or `!`, which OctoPrint does not know.
fn selection<'a>(filter: &Filter, needed: impl IntoIterator<Item = &'a str>) -> Selection {
    let Some(names) = filter.names() else { return Selection::All };
    let mut chosen: Vec<String> = names.to_vec();
    chosen.extend(needed.into_iter().map(str::to_owned));
    chosen.sort();
    chosen.dedup();
    if chosen.is_empty() { Selection::Nothing } else { Selection::Only(chosen) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_are_subscribed_only_without_star_and_bang() {
        assert_eq!(selection(&Filter::new(&["*"]), ["A"]), Selection::All);
        assert_eq!(selection(&Filter::new(&["!X"]), ["A"]), Selection::All);
        assert_eq!(selection(&Filter::new::<&str>(&[]), []), Selection::Nothing);
        assert_eq!(
            selection(&Filter::new(&["B", "A"]), ["A"]),
            Selection::Only(vec!["A".to_owned(), "B".to_owned()])
        );
    }

    #[test]
    fn what_an_entity_needs_is_subscribed_though_it_is_not_published() {
        let config = config::from_toml(
            "[printers.p]\nurl = \"http://h\"\napi_key = \"k\"\npublish = { events = [], plugins = [\"b\"] }\n[printers.p.entities.x]\ntype = \"sensor\"\nvalue = \"/v\"\nfrom = [\"plugin/a\", \"event/Mine\", \"message/current\"]\n",
        )
        .unwrap();
        let subscription = subscription(&config.printers[0]);
        let plugins =
            ["a", "action_command_prompt", "b", "psucontrol", "softwareupdate"].map(str::to_owned);
        assert_eq!(subscription.plugins, Selection::Only(plugins.into()));
        let Selection::Only(events) = subscription.events else { panic!("all events") };
        assert!(events.contains(&"Mine".to_owned()) && events.contains(&"PrintDone".to_owned()));
    }
}
