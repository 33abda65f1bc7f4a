//! `octoprint2mqtt`: a bridge between OctoPrint's push socket and MQTT.
//!
//! | module | purpose |
//! | --- | --- |
//! | [`config`] | the configuration as the user writes it, validated into typed settings |
//! | [`octoprint`] | everything that speaks to OctoPrint: push socket, login, REST; a client library by itself |
//! | [`mqtt`] | everything that speaks to the broker: the outbox and the connection |
//! | [`bridge`] | where the two sides meet: state, events, commands, the bridge's own topics |
//! | [`store`] | what survives a restart: a small database in `data_dir` |
//! | [`own_entity`] | entities that users define: what they show, and what they send |
//! | [`homeassistant`] | Home Assistant's device discovery: the entities as tables |
//! | [`gcode`] | G-code files read as a stream: layers, what the slicer wrote, thumbnails |
//! | [`http`] | health and metrics over HTTP |
//! | [`finding`] | finds the OctoPrints of the local network by multicast |
//! | [`http`] | health, metrics and the page over HTTP |
//! | [`shard`] | distribution of printers over several bridges |
//! | [`topic`] | the type of a valid MQTT topic |
//! | [`topics`] | every topic, in one place |
//! | [`receipt`] | how a message learns that its publications are acknowledged |
//! | [`journal`] | persistence of the events that wait for the broker |
//! | [`recent_log`] | the last warnings and errors of the log, for the page |
//! | [`metrics`] | counters and histograms |
//! | [`cli`] | the command line: one file per subcommand |
//! | [`causes`], [`heater`], [`secret`], [`tls`], [`names`], [`splice`], [`timestamp`] | small shared helpers |
//!
//! # Path of a message
//!
//! ```text
//! text frame -> octoprint::decode -> (Message, Receipt) -> the printer's task
//!    -> Snapshot::apply -> publications -> Outbox -> Broker -> PUBACK
//!    -> the receipt settles -> latency -> Throttle -> {"throttle": n} to OctoPrint
//! ```
//!
//! One direction, no shared mutable state: each task owns its data, channels connect them.

pub mod bridge;
pub mod causes;
pub mod cli;
mod clock;
pub mod config;
#[cfg(test)]
mod dead_address;
pub mod finding;
pub mod gcode;
pub mod heater;
pub mod homeassistant;
pub mod http;
pub mod journal;
pub mod lanes;
pub mod metrics;
pub mod mqtt;
pub mod names;
pub mod octoprint;
mod ordered;
pub mod own_entity;
pub mod receipt;
pub mod recent_log;
pub mod secret;
pub mod secret_file;
pub mod shard;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod splice;
pub mod store;
pub mod timestamp;
pub mod tls;
pub mod topic;
pub mod topics;
