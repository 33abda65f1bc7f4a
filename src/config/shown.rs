//! The configuration as `B/bridge/info` shows it: without secrets (pure).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::counter::Counter;
use super::types::{Config, Http, Mqtt, Printer, STATUS_TOPIC, Tls};
use crate::octoprint::{Credentials, PictureSource, TransportChoice};
use crate::ordered;

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

fn tls(tls: &Tls) -> Value {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    json!({
        "ca_file": path(&tls.ca_file),
        "cert_file": path(&tls.cert_file),
        "key_file": path(&tls.key_file),
        "insecure": tls.insecure,
    })
}

impl Config {
    /// Returns the effective configuration in the structure of the file, without secrets and
    /// without the values of headers.
    pub fn without_secrets(&self) -> Value {
        let named = |printer: &Arc<Printer>| (printer.id.clone(), printer.without_secrets());
        let printers: Map<String, Value> = ordered::map(self.printers.iter().map(named));
        json!({
            "data_dir": self.data_dir.as_ref().map(|path| path.display().to_string()),
            "pairing": self.pairing,
            "mqtt": self.mqtt.without_secrets(),
            "homeassistant": {
                "enabled": self.homeassistant.enabled,
                "discovery_prefix": self.homeassistant.discovery_prefix,
                "climate": self.homeassistant.climate,
                "status_topic": self.homeassistant.status_topic.as_deref().unwrap_or(STATUS_TOPIC),
                "online": self.homeassistant.online,
                "offline": self.homeassistant.offline,
                "wait": duration(self.homeassistant.wait),
            },
            "http": self.http.as_ref().map(Http::without_secrets),
            "log": {"level": self.log.level},
            "outbox": {
                "max_events": self.outbox.max_events,
                "max_bytes": self.outbox.max_bytes,
                "settle": duration(self.outbox.settle),
            },
            "shard": self.shard.map(|shard| json!({"index": shard.index, "count": shard.count})),
            "printers": printers,
        })
    }
}

impl Http {
    fn without_secrets(&self) -> Value {
        json!({
            "listen": self.listen.to_string(),
            "page": self.page,
            "hosts": self.hosts,
            "read_only": self.read_only,
        })
    }
}

impl Mqtt {
    fn without_secrets(&self) -> Value {
        let scheme = match (&self.websocket, &self.tls) {
            (None, None) => "mqtt",
            (None, Some(_)) => "mqtts",
            (Some(_), None) => "ws",
            (Some(_), Some(_)) => "wss",
        };
        let path = self.websocket.as_deref().unwrap_or_default();
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        json!({
            "url": format!("{scheme}://{host}:{}{path}", self.port),
            "username": self.username,
            "client_id": self.client_id,
            "base_topic": self.base_topic,
            "keep_alive": duration(self.keep_alive),
            "max_packet_size": self.max_packet_size,
            "tls": self.tls.as_ref().map(tls),
        })
    }
}

impl Printer {
    fn without_secrets(&self) -> Value {
        let username = match &self.credentials {
            Credentials::ApiKey(_) => None,
            Credentials::Password { username, .. } => Some(username),
        };
        let socket = &self.socket;
        let commands = &self.commands;
        let counter = |counter: &Counter| (counter.name.clone(), counter.to_string().into());
        let maintenance: Map<String, Value> = ordered::map(self.maintenance.iter().map(counter));
        let maintenance = (!maintenance.is_empty()).then_some(maintenance);
        // Not the payloads.
        let power = self.power.as_ref().map(|switch| {
            json!({"state_topic": switch.state_topic, "command_topic": switch.command_topic})
        });
        json!({
            "name": self.name,
            "url": self.url.as_str(),
            "username": username,
            "tls": tls(&self.tls),
            "offline_after": duration(self.offline_after),
            "octoprint_mqtt_topic": self.octoprint_mqtt_topic,
            "layers": self.layers,
            "max_gcode_size": self.max_gcode_size,
            "thumbnails": self.thumbnails,
            "filament_price": self.filament_price,
            "maintenance": maintenance,
            "power": power,
            "auto_off": self.auto_off,
            "power_on_to_print": self.power_on_to_print,
            "limits": {
                "tool": self.limits.tool, "bed": self.limits.bed, "chamber": self.limits.chamber,
            },
            "publish": {
                "events": self.publish.events.entries(),
                "plugins": self.publish.plugins.entries(),
                "messages": self.publish.messages.entries(),
            },
            "camera": {
                "enabled": self.camera.enabled,
                "url": self.camera.source.as_ref().map(PictureSource::public_url),
                "username": self.camera.source.as_ref().and_then(|source| Some(&source.login.as_ref()?.0)),
                "at": self.camera.at.iter().map(|at| at.name()).collect::<Vec<_>>(),
                "every": self.camera.every.map(duration),
                "every_layers": self.camera.every_layers,
                "max_size": self.camera.max_size,
            },
            "socket": {
                "timeouts": socket.timeouts.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
                "give_up": socket.give_up,
                "rate_sliding_window_size": socket.rate_sliding_window_size,
                "max_rate_factor": socket.max_rate_factor,
                "connect_timeout": duration(socket.connect_timeout),
                "transport": match socket.transport {
                    TransportChoice::Auto => "auto",
                    TransportChoice::WebSocket => "websocket",
                    TransportChoice::XhrStreaming => "xhr-streaming",
                },
                "headers": socket.headers.keys().collect::<Vec<_>>(),
                "knock": socket.knock,
                "terminal": socket.terminal,
            },
            "commands": BTreeMap::from(commands.by_name()),
            // Only their keys: what they send may contain passwords.
            "entities": self.entities.iter().map(|entity| &entity.key).collect::<Vec<_>>(),
        })
    }
}
