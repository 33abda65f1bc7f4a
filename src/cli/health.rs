//! `octoprint2mqtt health`: asks the running bridge for its health.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::StatusCode;

use super::subcommand::{CommandFailure, Unanswered, block_on, http_get};
use crate::config::Config;

const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn command(config: &Config) -> Result<(), CommandFailure> {
    let http = config.http.as_ref().ok_or_else(|| {
        CommandFailure::text("health is not served: set http.listen, such as \"127.0.0.1:8099\"")
    })?;
    let how = block_on(async { Ok::<_, CommandFailure>(ask(http.listen).await?) })?;
    println!("{how}");
    Ok(())
}

/// Why the bridge is not known to be healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// No answer.
    #[error("no bridge answers at http.listen = {listen}")]
    Nobody {
        /// Where.
        listen: SocketAddr,
        /// Why.
        source: Unanswered,
    },
    /// The answer is not a bridge's.
    #[error("no bridge answers at http.listen = {0}: something else does")]
    Other(SocketAddr),
    /// The bridge is unhealthy, for this reason.
    #[error("{0}")]
    Unwell(String),
}

/// Asks the bridge that serves at `listen` for its health, and returns a text for people.
///
/// # Errors
/// If it is unhealthy or does not answer.
pub async fn ask(listen: SocketAddr) -> Result<String, HealthError> {
    let mut address = listen;
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let url = format!("http://{address}/health");
    let answer = http_get(&url, None, TIMEOUT).await;
    let (status, body) = answer.map_err(|source| HealthError::Nobody { listen, source })?;
    let well = status == StatusCode::OK;
    let body: serde_json::Value =
        serde_json::from_slice(&body).map_err(|_| HealthError::Other(listen))?;
    match (well, body["reason"].as_str()) {
        (true, _) => Ok(match body["degraded"].as_object() {
            None => "healthy".to_owned(),
            Some(printers) => {
                let printers: Vec<&str> = printers.keys().map(String::as_str).collect();
                format!("healthy, but tasks of these printers failed: {}", printers.join(", "))
            }
        }),
        (false, Some(reason)) => Err(HealthError::Unwell(reason.to_owned())),
        (false, None) => Err(HealthError::Other(listen)),
    }
}
