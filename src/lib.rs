//! `octoprint2mqtt`: a bridge between OctoPrint's push socket and MQTT.

pub mod config;
pub mod octoprint;
pub mod secret;
