//! The printers of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use super::address::{OCTOPRINT_ADDRESS, OctoPrintAddress, octoprint_address};
use super::camera::camera;
use super::entities::entities;
use super::headers::headers;
use super::id::is_id;
use super::maintenance::counters;
use super::power::power;
use super::source::Section;
use super::types::{Commands, Filter, Printer, Publish, Socket, Tls};
use super::values::{self, strict_text};
use crate::heater::Limits;
use crate::octoprint::{Credentials, TransportChoice};
use crate::secret::Secret;

const KEYS: &[&str] = &[
    "name",
    "url",
    "api_key",
    "api_key_file",
    "username",
    "password",
    "password_file",
    "tls",
    "offline_after",
    "octoprint_mqtt_topic",
    "layers",
    "max_gcode_size",
    "thumbnails",
    "filament_price",
    "maintenance",
    "power",
    "auto_off",
    "power_on_to_print",
    "limits",
    "publish",
    "socket",
    "commands",
    "camera",
    "entities",
];

const AUTHORIZATION: &str = "authorization";

/// Default timeouts in seconds, as documented by OctoPrint.
const TIMEOUTS: &[u64] = &[1, 1, 2, 3, 5, 8, 13, 20, 40, 100];

pub(super) fn printers(
    root: &Section<'_>,
    (base_topic, max_packet_size): (&str, usize),
    warnings: &mut Vec<String>,
) -> Vec<Printer> {
    let section = root.section("printers");
    let mut ids = section.file_keys();
    // A variable's name has no hyphen: `my_mk3` in a variable is `my-mk3` if the file has that.
    let of_file: Vec<String> = ids.iter().map(|id| id.replace('-', "_")).collect();
    ids.extend(
        section.sources.printers_of_environment().into_iter().filter(|id| !of_file.contains(id)),
    );
    ids.sort();
    for (index, id) in ids.iter().enumerate() {
        let twin =
            ids[..index].iter().find(|other| other.replace('-', "_") == id.replace('-', "_"));
        if let Some(twin) = twin {
            let source = source_of(&section, id);
            let found = format!("an id that differs from {twin} only in - and _");
            section.complain(source, id, &found, "ids that differ in more");
        }
    }
    let mut printers: Vec<Printer> = ids
        .iter()
        .filter_map(|id| printer(&section, id, (base_topic, max_packet_size), warnings))
        .collect();
    check_urls(&section, &mut printers, warnings);
    printers
}

/// Reports printers with the url of another. Of two, one that was added is not used: it must not
/// keep the bridge from starting.
fn check_urls(section: &Section<'_>, printers: &mut Vec<Printer>, warnings: &mut Vec<String>) {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for printer in printers.iter().filter(|printer| !printer.added) {
        if let Some(other) = seen.insert(printer.url.to_string(), printer.id.clone()) {
            let section = section.section(&printer.id);
            let (source, found) =
                (source_of(&section, "url"), format!("the url of printers.{other}"));
            section.complain(source, "url", &found, "a url of its own for each printer");
        }
    }
    printers.retain(|printer| {
        let twin = match seen.get(printer.url.as_str()) {
            Some(twin) if printer.added && *twin != printer.id => twin,
            _ => {
                seen.insert(printer.url.to_string(), printer.id.clone());
                return true;
            }
        };
        warnings.push(format!(
            "{}: printers.{} is not used, because printers.{twin} has its url",
            section.section(&printer.id).file_name(),
            printer.id
        ));
        false
    });
}

fn source_of(section: &Section<'_>, key: &str) -> String {
    section.get(key).map_or_else(|| "the environment".to_owned(), |found| found.source)
}

fn printer(
    printers: &Section<'_>,
    id: &str,
    (base_topic, max_packet_size): (&str, usize),
    warnings: &mut Vec<String>,
) -> Option<Printer> {
    let section = printers.section(id);
    if !is_id(id) {
        let expected = "an id of at most 64 letters, of a-z, 0-9, _ and - that begins and ends with a letter or digit, without __, not beginning with bridge";
        printers.complain(source_of(printers, id), id, &format!("the id {id:?}"), expected);
    }
    section.only(KEYS);
    let name = section.text("name", "a name").unwrap_or_else(|| id.to_owned());
    let access = access(&section, warnings);
    let credentials = credentials(&section, warnings);
    let offline_after =
        section.duration("offline_after", Duration::ZERO..=values::DAY, Duration::from_secs(10));
    let octoprint_mqtt_topic = section.optional(
        "octoprint_mqtt_topic",
        "a topic prefix such as \"octoPrint/\", of at most 256 bytes, without +, # and empty levels",
        |value| {
            let topic = strict_text(value)?;
            let topic = topic.strip_suffix('/').unwrap_or(&topic);
            values::is_topic(topic, values::MAX_PREFIX).then(|| format!("{topic}/"))
        },
    );
    let camera = camera(&section.section("camera"), max_packet_size, warnings);
    let max_gcode_size = section.size("max_gcode_size", 1..=usize::MAX, 50_000_000);
    let filament_price =
        section.optional("filament_price", "the price of a kilogram, above 0", |value| {
            values::number(value).filter(|price| *price > 0.0 && *price <= 1e9)
        });
    let access = access?;
    let commands = commands(&section.section("commands"));
    let entities = entities(&section.section("entities"), commands, warnings);
    Some(Printer {
        id: id.to_owned(),
        added: section.sources.is_added(id),
        name,
        url: access.url,
        credentials: credentials?,
        tls: access.tls,
        offline_after,
        octoprint_mqtt_topic,
        layers: section.flag("layers", true),
        // Wider than any size of memory.
        max_gcode_size: max_gcode_size as u64,
        thumbnails: section.flag("thumbnails", true),
        filament_price,
        maintenance: counters(&section.section("maintenance")),
        power: power(&section.section("power"), base_topic),
        auto_off: section.flag("auto_off", false),
        power_on_to_print: section.flag("power_on_to_print", false),
        limits: limits(&section.section("limits")),
        publish: publish(&section.section("publish")),
        camera,
        socket: socket(&section.section("socket"), access.headers),
        commands,
        entities: entities.into(),
    })
    .filter(|_| is_id(id))
}

/// How to reach an OctoPrint, without credentials.
#[derive(Debug, Clone)]
pub struct Access {
    /// Base address of OctoPrint, without user and password; its path ends with `/`.
    pub url: Url,
    /// Trust setting.
    pub tls: Tls,
    /// Extra request headers, including Basic authentication from the address.
    pub headers: BTreeMap<String, Secret>,
}

/// Reads how to reach the OctoPrint of the printer `id`, which need not have a key yet.
pub(super) fn access_of(
    root: &Section<'_>,
    id: &str,
    warnings: &mut Vec<String>,
) -> Option<Access> {
    let printers = root.section("printers");
    let mut ids = printers.file_keys();
    ids.extend(root.sources.printers_of_environment());
    if ids.iter().any(|known| known == id) {
        return access(&printers.section(id), warnings);
    }
    let expected = format!("--printer with one of: {}", ids.join(", "));
    printers.complain(root.sources.file_name().to_owned(), id, "no such printer", &expected);
    None
}

fn access(section: &Section<'_>, warnings: &mut Vec<String>) -> Option<Access> {
    let address = address(section);
    let tls = values::tls(&section.section("tls"), false, warnings).unwrap_or_default();
    let mut headers = headers(&section.section("socket").section("headers"), warnings);
    let OctoPrintAddress { url, authorization } = address?;
    if let Some(authorization) = authorization
        && headers.insert(AUTHORIZATION.to_owned(), authorization).is_some()
    {
        let source = source_of(section, "url");
        let found = "user and password, beside the header Authorization";
        section.complain(source, "url", found, "one of the two");
    }
    Some(Access { url, tls, headers })
}

fn address(section: &Section<'_>) -> Option<OctoPrintAddress> {
    let expected = OCTOPRINT_ADDRESS;
    if section.get("url").is_none() {
        section.missing("url", expected);
    }
    section.optional("url", expected, |value| octoprint_address(&strict_text(value)?))
}

fn credentials(section: &Section<'_>, warnings: &mut Vec<String>) -> Option<Credentials> {
    let given = |keys: [&str; 2]| keys.iter().any(|key| section.get(key).is_some());
    let key_given = given(["api_key", "api_key_file"]);
    let password_given = given(["password", "password_file"]);
    let user_given = section.get("username").is_some();
    let api_key = section.secret("api_key", warnings);
    let password = section.secret("password", warnings);
    let username = section.optional(
        "username",
        "a user name without a colon, which OctoPrint cannot take",
        |value| strict_text(value).filter(|name| !name.is_empty() && !name.contains(':')),
    );
    if key_given && (user_given || password_given) {
        let source = source_of(section, if user_given { "username" } else { "password" });
        section.complain(
            source,
            "username",
            "a login beside api_key",
            "api_key, or username and password",
        );
        return None;
    }
    if key_given {
        return api_key.map(Credentials::ApiKey);
    }
    match (user_given, password_given) {
        (false, false) => section.missing(
            "api_key",
            "an application key of OctoPrint (api_key or api_key_file), or username and password",
        ),
        (true, false) => section.missing("password", "the password that goes with username"),
        (false, true) => section.missing("username", "the user name that goes with password"),
        (true, true) => {}
    }
    Some(Credentials::Password { username: username?, password: password? })
}

fn limits(section: &Section<'_>) -> Limits {
    section.only(&["tool", "bed", "chamber"]);
    Limits {
        tool: section.celsius("tool", 300.0),
        bed: section.celsius("bed", 120.0),
        chamber: section.celsius("chamber", 80.0),
    }
}

fn publish(section: &Section<'_>) -> Publish {
    section.only(&["events", "plugins", "messages"]);
    let filter = |key| Filter::new(&section.texts(key, &["*"]));
    Publish { events: filter("events"), plugins: filter("plugins"), messages: filter("messages") }
}

fn socket(section: &Section<'_>, headers: BTreeMap<String, Secret>) -> Socket {
    section.only(&[
        "timeouts",
        "give_up",
        "rate_sliding_window_size",
        "max_rate_factor",
        "connect_timeout",
        "transport",
        "headers",
        "knock",
        "terminal",
    ]);
    let transports = [
        ("auto", TransportChoice::Auto),
        ("websocket", TransportChoice::WebSocket),
        ("xhr-streaming", TransportChoice::XhrStreaming),
    ];
    let window = section.whole("rate_sliding_window_size", 1..=10_000, 20);
    let factor = section.whole("max_rate_factor", 1..=1_000, 20);
    Socket {
        timeouts: section.seconds("timeouts", TIMEOUTS),
        give_up: section.flag("give_up", false),
        // Both are in range.
        rate_sliding_window_size: usize::try_from(window).unwrap_or(20),
        max_rate_factor: u32::try_from(factor).unwrap_or(20),
        connect_timeout: section.duration(
            "connect_timeout",
            Duration::from_millis(100)..=Duration::from_secs(300),
            Duration::from_secs(5),
        ),
        transport: section.word("transport", &transports, TransportChoice::Auto),
        headers,
        knock: section.flag("knock", true),
        terminal: section.flag("terminal", false),
    }
}

fn commands(section: &Section<'_>) -> Commands {
    section.only(&[
        "bridge",
        "job",
        "temperature",
        "motion",
        "connection",
        "power",
        "gcode",
        "system",
    ]);
    Commands {
        bridge: section.flag("bridge", true),
        job: section.flag("job", true),
        temperature: section.flag("temperature", true),
        motion: section.flag("motion", true),
        connection: section.flag("connection", true),
        power: section.flag("power", true),
        gcode: section.flag("gcode", false),
        system: section.flag("system", false),
    }
}
