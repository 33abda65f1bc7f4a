//! Reads the sources into the typed configuration.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::address::{BrokerAddress, broker_address};
use super::log_filter::log_filter;
use super::source::{Section, Sources};
use super::types::{Config, HomeAssistant, Http, Log, LogFormat, Mqtt, OutboxBounds, Printer};
use super::values::{strict_text, text};
use super::{printer, values};
use crate::shard::Shard;
use crate::topic::is_carried;

const HOUR: Duration = Duration::from_secs(60 * 60);
/// Smallest `mqtt.max_packet_size`, in bytes. Discovery messages are larger and are then skipped
/// with an error in the log; brokers with such a limit accept no larger ones either.
const MIN_PACKET: usize = 1_000;
/// Default of `mqtt.max_packet_size`, in bytes.
const DEFAULT_PACKET: usize = 1_900_000;
/// Largest `mqtt.max_packet_size`, in bytes: MQTT has no larger packets.
const MAX_PACKET: usize = 268_435_455;
/// Longest `base_topic`, in bytes: the rest of a topic has at most 274 more.
const MAX_BASE_TOPIC: usize = 128;

/// Default of `mqtt.base_topic`.
const DEFAULT_BASE: &str = "octoprint2mqtt";

/// Reads the configuration; mistakes are collected in `sources`.
pub(super) fn config(sources: &Sources, warnings: &mut Vec<String>) -> Option<Config> {
    let root = sources.root();
    root.only(&[
        "data_dir",
        "pairing",
        "mqtt",
        "homeassistant",
        "http",
        "log",
        "outbox",
        "shard",
        "printers",
    ]);
    let data_dir = data_dir(&root);
    let mqtt = mqtt(&root.section("mqtt"), warnings);
    let homeassistant = homeassistant(&root.section("homeassistant"));
    let http = http(&root.section("http"), warnings);
    let log = log(&root.section("log"));
    let outbox = outbox(&root.section("outbox"));
    let shard = shard(&root.section("shard"));
    let max_packet_size = mqtt.as_ref().map_or(DEFAULT_PACKET, |mqtt| mqtt.max_packet_size);
    let base_topic = mqtt.as_ref().map_or(DEFAULT_BASE, |mqtt| mqtt.base_topic.as_str());
    let mut printers = printer::printers(&root, (base_topic, max_packet_size), warnings);
    if let (Some(mqtt), prefix) = (&mqtt, &homeassistant.discovery_prefix)
        && mqtt.base_topic == *prefix
    {
        let found = format!("{prefix:?}, which is also homeassistant.discovery_prefix");
        let section = root.section("mqtt");
        let source = section.get("base_topic").map_or_else(String::new, |found| found.source);
        section.complain(source, "base_topic", &found, "two different topics");
    }
    if data_dir.is_none() && printers.iter().any(|printer| !printer.maintenance.is_empty()) {
        warnings.push(
            "maintenance counters begin again at each start of the bridge, because data_dir is not set"
                .to_owned(),
        );
    }
    let mut mqtt = mqtt?;
    check_octoprint_mqtt_topics(&root, &printers, &mqtt.base_topic);
    let all_printers = printers.iter().map(|printer| printer.id.clone()).collect();
    if let Some(shard) = shard {
        printers.retain(|printer| shard.serves(&printer.id));
        mqtt.client_id += &shard.suffix();
    }
    let printers = printers.into_iter().map(Arc::new).collect();
    let pairing = root.flag("pairing", false);
    Some(Config {
        data_dir,
        pairing,
        mqtt,
        homeassistant,
        http,
        log,
        outbox,
        shard,
        printers,
        all_printers,
    })
}

pub(super) fn data_dir(root: &Section<'_>) -> Option<PathBuf> {
    root.text("data_dir", "the path of a directory").map(Into::into)
}

fn mqtt(section: &Section<'_>, warnings: &mut Vec<String>) -> Option<Mqtt> {
    section.only(&[
        "url",
        "username",
        "password",
        "password_file",
        "client_id",
        "base_topic",
        "keep_alive",
        "max_packet_size",
        "tls",
    ]);
    let address = match section.get("url") {
        None => Some(BrokerAddress::default()),
        Some(_) => section.optional(
            "url",
            "an address such as mqtt://broker:1883, or mqtts:// for TLS, without a path, or ws://broker/path or wss:// for MQTT over WebSocket; user and password in mqtt.username and mqtt.password",
            |value| broker_address(&strict_text(value)?),
        ),
    };
    let username = section.optional(
        "username",
        "a user name of at most 1024 bytes, without control characters and Unicode noncharacters",
        |value| text(value).filter(|name| carried(name, 1024)),
    );
    let password = section.secret("password", warnings);
    if password.is_some() && username.is_none() {
        section.missing("username", "the user name that goes with the password");
    }
    let tls = values::tls(&section.section("tls"), true, warnings);
    if address.as_ref().is_some_and(|address| !address.secure) && tls.is_some() {
        section.missing_tls();
    }
    let client_id = section
        .optional(
            "client_id",
            "a text of 1…256 bytes, without control characters and Unicode noncharacters",
            |value| strict_text(value).filter(|id| carried(id, 256)),
        )
        .unwrap_or_else(|| "octoprint2mqtt".to_owned());
    let base_topic = values::topic_within(section, "base_topic", MAX_BASE_TOPIC, DEFAULT_BASE);
    let max_packet_size = section.size("max_packet_size", MIN_PACKET..=MAX_PACKET, DEFAULT_PACKET);
    let keep_alive = section.duration(
        "keep_alive",
        Duration::from_secs(1)..=Duration::from_secs(60 * 60),
        Duration::from_secs(20),
    );
    let BrokerAddress { host, port, secure, websocket } = address?;
    let tls = secure.then(|| tls.unwrap_or_default());
    Some(Mqtt {
        host,
        port,
        tls,
        websocket,
        username,
        password,
        // The shard's suffix is added later.
        identity: client_id.clone(),
        client_id,
        base_topic,
        keep_alive,
        max_packet_size,
    })
}

impl Section<'_> {
    fn missing_tls(&self) {
        let source = self.get("url").map_or_else(|| "the default".to_owned(), |found| found.source);
        self.complain(
            source,
            "url",
            "an address without TLS, together with mqtt.tls",
            "mqtts:// or wss://, or no mqtt.tls",
        );
    }
}

/// Whether a text has 1 to `most` bytes and is valid in MQTT: brokers end the connection at others.
fn carried(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.chars().all(is_carried)
}

fn homeassistant(section: &Section<'_>) -> HomeAssistant {
    section.only(&[
        "enabled",
        "discovery_prefix",
        "climate",
        "status_topic",
        "online",
        "offline",
        "wait",
    ]);
    let (online, offline) = (payload(section, "online"), payload(section, "offline"));
    if online == offline {
        let source = section.get("offline").or_else(|| section.get("online"));
        let source = source.map_or_else(String::new, |found| found.source);
        section.complain(source, "offline", &format!("{offline:?}, as online"), "another payload");
    }
    HomeAssistant {
        enabled: section.flag("enabled", true),
        discovery_prefix: values::topic(section, "discovery_prefix", "homeassistant"),
        climate: section.flag("climate", false),
        status_topic: section
            .get("status_topic")
            .map(|_| values::topic(section, "status_topic", "")),
        online,
        offline,
        wait: section.duration("wait", Duration::ZERO..=values::DAY, Duration::from_secs(10 * 60)),
    }
}

/// Reads the payload of Home Assistant's birth or will; its default is the name of the key.
fn payload(section: &Section<'_>, key: &str) -> String {
    let expected = "the payload as set in Home Assistant's MQTT integration, not empty";
    section
        .optional(key, expected, |value| strict_text(value).filter(|text| !text.is_empty()))
        .unwrap_or_else(|| key.to_owned())
}

fn http(section: &Section<'_>, warnings: &mut Vec<String>) -> Option<Http> {
    section.only(&["listen", "page", "password", "password_file", "hosts", "read_only"]);
    if !section.in_file() && !section.in_environment() {
        return None;
    }
    let listen = section
        .optional("listen", "an address and port such as 127.0.0.1:8099", |value| {
            strict_text(value)?.parse().ok()
        })
        .unwrap_or_else(|| std::net::SocketAddr::from(([127, 0, 0, 1], 8099)));
    Some(Http {
        listen,
        page: section.flag("page", true),
        password: section.secret("password", warnings),
        hosts: section.hosts("hosts"),
        read_only: section.get("read_only").map(|_| section.flag("read_only", true)),
    })
}

fn shard(section: &Section<'_>) -> Option<Shard> {
    section.only(&["index", "count"]);
    let [index, count] = ["index", "count"].map(|key| section.get(key));
    match (index, count) {
        (None, None) => None,
        (Some(_), None) => {
            section.missing("count", "how many bridges share the printers, with index");
            None
        }
        (None, Some(_)) => {
            section.missing("index", "which of the bridges this is, from 0, with count");
            None
        }
        (Some(_), Some(_)) => {
            let count = section.whole("count", 1..=1000, 1);
            let index = section.whole("index", 0..=count - 1, 0);
            // Both are at most a thousand.
            Some(Shard { index: index as u32, count: count as u32 })
        }
    }
}

fn log(section: &Section<'_>) -> Log {
    section.only(&["level", "format"]);
    let level = section
        .optional("level", "error, warn, info, debug, trace, or a tracing filter", |value| {
            let level = strict_text(value)?;
            log_filter(&level).map(|_| level)
        })
        .unwrap_or_else(|| "info".to_owned());
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    Log { level, format: section.word("format", &formats, LogFormat::Text) }
}

fn outbox(section: &Section<'_>) -> OutboxBounds {
    section.only(&["max_events", "max_bytes", "settle"]);
    let max_events = section.whole("max_events", 1..=10_000_000, 10_000);
    OutboxBounds {
        max_events: usize::try_from(max_events).unwrap_or(usize::MAX),
        max_bytes: section.size("max_bytes", 1024..=usize::MAX, 16 * 1024 * 1024),
        settle: section.duration("settle", Duration::ZERO..=HOUR, Duration::from_secs(15)),
    }
}

/// First levels of OctoPrint-MQTT's topics below their prefix.
const BELOW_PREFIX: &[&str] = &["event", "progress", "temperature", "mqtt"];

/// Reports every `octoprint_mqtt_topic` that another printer has too, or that overlaps with the
/// bridge's own topics: publications there could be taken for state, or for a command.
fn check_octoprint_mqtt_topics(root: &Section<'_>, printers: &[Printer], base: &str) {
    for (index, printer) in printers.iter().enumerate() {
        let Some(prefix) = &printer.octoprint_mqtt_topic else { continue };
        let twin = printers[..index]
            .iter()
            .find(|other| other.octoprint_mqtt_topic.as_ref() == Some(prefix))
            .map(|twin| format!("{prefix:?}, the topic of printers.{} too", twin.id));
        let own = own_topic(prefix, printers, base)
            .map(|whose| format!("{prefix:?}, where the bridge has topics of its own ({whose})"));
        for found in twin.into_iter().chain(own) {
            let section = root.section("printers").section(&printer.id);
            let key = "octoprint_mqtt_topic";
            let source = section.get(key).map_or_else(String::new, |found| found.source);
            let expected = "a topic for this printer alone, outside of those of mqtt.base_topic";
            section.complain(source, key, &found, expected);
        }
    }
}

fn own_topic(prefix: &str, printers: &[Printer], base: &str) -> Option<String> {
    let below = prefix.strip_prefix(base)?.strip_prefix('/')?;
    let first = below.split('/').next().unwrap_or_default();
    let is_printer = |name: &str| printers.iter().any(|printer| printer.id == name);
    if first.is_empty() {
        let clash = BELOW_PREFIX.iter().find(|name| is_printer(name))?;
        return Some(format!("{base}/{clash}/…"));
    }
    (first.starts_with("bridge") || is_printer(first)).then(|| format!("{base}/{first}/…"))
}
