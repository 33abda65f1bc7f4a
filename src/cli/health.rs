//! `octoprint2mqtt health`: asks the running bridge how it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::StatusCode;

use super::plain_http;
use super::subcommand::{Failure, block_on};
use crate::config::Config;

/// How long to wait for an answer.
const ASK: Duration = Duration::from_secs(5);

pub(super) fn command(config: &Config) -> Result<(), Failure> {
    let http = config.http.as_ref().ok_or_else(|| {
        Failure::text("health is not served: set http.listen, such as \"127.0.0.1:8099\"")
    })?;
    let how = block_on(async { ask(http.listen).await.map_err(Failure::text) })?;
    println!("{how}");
    Ok(())
}

/// Asks the bridge that serves at `listen` how it is. Yields for people how it is where it is
/// healthy.
///
/// # Errors
/// What is wrong, or that nobody answers.
pub async fn ask(listen: SocketAddr) -> Result<String, String> {
    let mut address = listen;
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let nobody = |why: &str| format!("no bridge answers at http.listen = {listen}: {why}");
    let url = format!("http://{address}/health");
    let (status, body) = plain_http::get(&url, None, ASK).await.map_err(|cause| nobody(&cause))?;
    let well = status == StatusCode::OK;
    let body: serde_json::Value =
        serde_json::from_slice(&body).map_err(|_| nobody("something else does"))?;
    match (well, body["reason"].as_str()) {
        (true, _) => Ok(match body["degraded"].as_object() {
            None => "healthy".to_owned(),
            Some(printers) => {
                let printers: Vec<&str> = printers.keys().map(String::as_str).collect();
                format!("healthy, but tasks of these printers failed: {}", printers.join(", "))
            }
        }),
        (false, Some(reason)) => Err(reason.to_owned()),
        (false, None) => Err(nobody("something else does")),
    }
}
