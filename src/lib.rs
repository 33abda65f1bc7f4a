//! `octoprint2mqtt`: a bridge between OctoPrint's push socket and MQTT.

pub mod bridge;
pub mod config;
pub mod mqtt;
pub mod octoprint;
pub mod secret;
pub mod splice;
pub mod topics;
