//! `octoprint2mqtt demo`: the bridge at work, with nothing to install.
//!
//! Runs an embedded MQTT broker, a simulated OctoPrint that prints in a loop, and the bridge between
//! them, and prints what is published.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

use super::logging;
use super::run::{BridgeError, bridge};
use super::subcommand::{self, CommandFailure, block_on};
use crate::bridge::SetLogLevel;
use crate::causes;
use crate::config;
use crate::simulator::{Simulator, SimulatorOptions};

/// Maximum length of a printed payload, in characters.
const SHOWN: usize = 160;
/// Time that the embedded broker may take to listen.
const START: Duration = Duration::from_secs(5);
/// Maximum payload of the embedded broker, in bytes.
const MAX_PAYLOAD: usize = 32 * 1024 * 1024;

/// Why the demo cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The port is in use, or not allowed.
    #[error("cannot listen on 127.0.0.1:{port}: {source}; choose another port with --port")]
    Port {
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The embedded broker's thread cannot be started.
    #[error("the embedded broker does not start")]
    Broker(#[source] std::io::Error),
    /// The embedded broker's thread runs, but does not listen.
    #[error("the embedded broker does not start: it does not listen")]
    Silent,
    /// The simulated OctoPrint cannot be started.
    #[error("the simulated OctoPrint does not start")]
    Simulator(#[source] std::io::Error),
    /// The bridge failed.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// Its configuration is invalid.
    #[error(transparent)]
    Config(#[from] config::ConfigErrors),
    /// The signals that stop it cannot be handled.
    #[error("cannot watch for the end")]
    Signals(#[source] std::io::Error),
}

/// Starts an MQTT broker on 127.0.0.1 that runs until the process ends. It stores retained messages in
/// memory, and sends last wills.
///
/// # Errors
/// If the port is in use, or the broker does not listen within five seconds.
pub fn start_broker(port: u16) -> Result<(), DemoError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // rumqttd reports a port in use only in its log.
    drop(TcpListener::bind(address).map_err(|source| DemoError::Port { port, source })?);
    let mut broker = Broker::new(broker_config(address));
    // If the broker panics, the bridge sees and logs a broker that is down.
    std::thread::Builder::new()
        .name("broker".to_owned())
        .spawn(move || {
            if let Err(error) = broker.start() {
                tracing::error!("the embedded broker has ended: {}", causes::text(&error));
            }
        })
        .map_err(DemoError::Broker)?;
    let deadline = Instant::now() + START;
    while TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            return Err(DemoError::Silent);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn broker_config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 60_000,
        max_payload_size: MAX_PAYLOAD,
        max_inflight_count: 500,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "demo".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    Config {
        id: 0,
        router: RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 1000,
            max_segment_size: 16 * 1024 * 1024,
            max_segment_count: 4,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("demo".to_owned(), server)])),
        ..Config::default()
    }
}

pub(super) fn command(port: u16) -> Result<(), CommandFailure> {
    let log = config::Log { level: "warn".to_owned(), format: config::LogFormat::Text };
    let set_log_level = logging::start(&log, None)?;
    block_on(async { Ok(run(port, set_log_level).await?) })
}

/// Runs the demo until SIGINT or SIGTERM.
///
/// # Errors
/// If one of its parts does not start.
pub async fn run(port: u16, set_log_level: SetLogLevel) -> Result<(), DemoError> {
    start_broker(port)?;
    let options = SimulatorOptions { print_loop: true, ..SimulatorOptions::default() };
    let key = options.api_key.clone();
    let simulator = Simulator::start(options).await.map_err(DemoError::Simulator)?;
    let config = config::from_toml(&format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n[outbox]\nsettle = \"0s\"\n[homeassistant]\nwait = \"0s\"\n[printers.demo]\nname = \"Simulated printer\"\nurl = \"{}\"\napi_key = \"{key}\"\n",
        simulator.url()
    ))?;
    println!("broker:    mqtt://127.0.0.1:{port}");
    println!("OctoPrint: {} (simulated)", simulator.url());
    println!("try:       mosquitto_sub -p {port} -t 'octoprint2mqtt/#' -v");
    println!("           mosquitto_pub -p {port} -t octoprint2mqtt/demo/set/job -m pause");
    println!("messages of OctoPrint (octoprint2mqtt/demo/message/…) are left out below\n");
    // It only prints: a panic of it is visible by itself.
    let show = tokio::spawn(show(port));
    let stop = subcommand::stop().map_err(DemoError::Signals)?;
    let ended = bridge(config, set_log_level, stop).await;
    show.abort();
    simulator.stop();
    Ok(ended?)
}

/// Prints what is published, one line per message.
async fn show(port: u16) {
    let mut options = MqttOptions::new("octoprint2mqtt-demo-show", "127.0.0.1", port);
    options.set_max_packet_size(MAX_PAYLOAD, MAX_PAYLOAD);
    let (client, mut events) = AsyncClient::new(options, 10);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                // The queue has room: this is the only request.
                let _ = client.try_subscribe("#", QoS::AtMostOnce);
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                if let Some(line) = line(&publish.topic, &publish.payload) {
                    println!("{line}");
                }
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// The line to print; `None` for OctoPrint's own messages, which are long and come twice a second, and
/// for the count of lines sent.
fn line(topic: &str, payload: &[u8]) -> Option<String> {
    if topic.contains("/message/") || topic.ends_with("/resends") {
        return None;
    }
    let text = String::from_utf8_lossy(payload).replace('\n', " ");
    let shown: String = text.chars().take(SHOWN).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    Some(format!("{topic} {shown}{cut}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_port_in_use_names_the_option() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = start_broker(taken.local_addr().unwrap().port()).unwrap_err();
        assert!(error.to_string().contains("--port"), "{error}");
    }

    #[test]
    fn long_payloads_are_truncated_and_octoprints_messages_left_out() {
        assert_eq!(line("o/demo/message/current", b"{}"), None);
        let shown = line("o/demo/job", "ü".repeat(1000).as_bytes()).unwrap();
        assert!(shown.chars().count() < 200 && shown.ends_with('…'), "{shown}");
    }
}
