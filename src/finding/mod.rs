//! Finds the OctoPrints of the local network. OctoPrint's plugin Discovery, which comes with it,
//! announces each as the service `_octoprint._tcp` by multicast (mDNS, DNS-SD).
//!
//! Whatever answers is not trusted: it is bounded in number and length, and checked.

mod announced;
mod configured;
mod reach;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use announced::Announcement;
pub use announced::FoundOctoPrint;
pub use configured::{ConfiguredOctoPrint, mark};
use mdns_sd::{Receiver, ResolvedService, ServiceEvent};
use serde::Serialize;
use tokio::time::timeout;
use url::Url;

use crate::names::{MULTICAST_PORT, MulticastError, Querier};

const SERVICE: &str = "_octoprint._tcp.local.";
/// Bounds the announcements that are kept.
const MAX_FOUND: usize = 200;

/// The network could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The multicast query could not be sent.
    #[error("the multicast query could not be sent")]
    Multicast(#[from] MulticastError),
    /// The thread that asks has ended.
    #[error("the multicast query ended by itself")]
    Ended,
}

/// What was found, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Discovered {
    /// The OctoPrints, sorted by name.
    pub octoprints: Vec<DiscoveredOctoPrint>,
    /// Why nothing was found, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One of the OctoPrints that were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiscoveredOctoPrint {
    /// Its name, or that of its host.
    pub name: String,
    /// Its address with the host's name.
    pub url: String,
    /// Its address with the IP address.
    pub address: Option<String>,
    /// Version of OctoPrint.
    pub version: Option<String>,
    /// Its id.
    pub uuid: Option<String>,
    /// The id of the printer of the configuration that it is.
    pub configured: Option<String>,
    /// Whether it wants a user and password in the address (Basic authentication).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub login: bool,
}

/// Asks the network, waits for answers for the time `within`, and says which of them is which of
/// the `configured` printers, of which it takes the ids and addresses.
///
/// # Errors
/// If the network cannot be asked. That nothing answers is no error.
pub async fn answer(
    configured: &[(String, Url)],
    within: Duration,
) -> Result<Discovered, FindError> {
    let own = reach::own_address().await;
    let (found, configured) =
        tokio::join!(find(within), configured::resolve(configured, own, within));
    let found = found?;
    let note = found.is_empty().then(|| reach::note(own).to_owned());
    let marks = mark(&found, &configured);
    let octoprints = found.iter().zip(marks).map(|(found, mark)| DiscoveredOctoPrint {
        name: found.name.clone(),
        url: found.url.to_string(),
        address: found.address.as_ref().map(Url::to_string),
        version: found.version.clone(),
        uuid: found.uuid.clone(),
        configured: mark.map(str::to_owned),
        login: found.wants_login,
    });
    Ok(Discovered { octoprints: octoprints.collect(), note })
}

/// Asks the network, and returns what answered within the time `within`, sorted by name: each
/// OctoPrint once, 200 at most.
///
/// # Errors
/// If the network cannot be asked. That nothing answers is no error.
pub async fn find(within: Duration) -> Result<Vec<FoundOctoPrint>, FindError> {
    find_at(MULTICAST_PORT, within).await
}

async fn find_at(port: u16, within: Duration) -> Result<Vec<FoundOctoPrint>, FindError> {
    let querier = Querier::start(port).await?;
    let events = querier.browse(SERVICE)?;
    let mut found = BTreeMap::new();
    match timeout(within, collect(&events, &mut found)).await {
        // Those who answer do not say that they were the last.
        Err(_) => Ok(announced::merged(found.into_values().collect())),
        Ok(()) => Err(FindError::Ended),
    }
}

/// Collects what is announced, by its name, until the channel is closed.
async fn collect(events: &Receiver<ServiceEvent>, found: &mut BTreeMap<String, FoundOctoPrint>) {
    while let Ok(event) = events.recv_async().await {
        keep(event, found);
    }
}

fn keep(event: ServiceEvent, found: &mut BTreeMap<String, FoundOctoPrint>) {
    match event {
        // It may be known already: another answer may have brought another address.
        ServiceEvent::ServiceResolved(service)
            if found.len() < MAX_FOUND || found.contains_key(&service.fullname) =>
        {
            if let Some(one) = announced::read(&announcement(&service)) {
                found.insert(service.fullname, one);
            }
        }
        ServiceEvent::ServiceRemoved(_, name) => {
            found.remove(&name);
        }
        _ => {}
    }
}

fn announcement(service: &ResolvedService) -> Announcement {
    let text = |key| service.get_property_val_str(key).map(str::to_owned);
    let name = &service.fullname;
    let instance = name.strip_suffix(SERVICE).and_then(|name| name.strip_suffix('.'));
    Announcement {
        instance: instance.unwrap_or_default().to_owned(),
        host: service.host.clone(),
        port: service.port,
        addresses: service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr).collect(),
        path: text("path"),
        version: text("version"),
        uuid: text("uuid"),
        wants_login: service.get_property("p").is_some(),
    }
}
