//! `octoprint2mqtt dashboard`: prints a dashboard for all printers.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::discovery::of_printer;
use super::subcommand::{CommandFailure, block_on};
use crate::bridge::setup;
use crate::causes::{self, Cause};
use crate::config::Config;
use crate::homeassistant::{self, Components, DashboardParts, Settings};
use crate::mqtt;
use crate::shard::Shard;
use crate::topics::BridgeTopics;

/// Time limit for reading what is published.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// A card that is none of Home Assistant's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CustomCard {
    /// Graphs, here of the temperatures.
    MiniGraphCard,
}

pub(super) fn command(config: &Config, cards: &[CustomCard]) -> Result<(), CommandFailure> {
    block_on(async {
        let (dashboard, warnings) = dashboard(config, cards).await;
        warnings.iter().for_each(|warning| eprintln!("{warning}"));
        print!("{dashboard}");
        Ok(())
    })
}

/// Returns a dashboard for all configured printers as YAML, and warnings. It is made from the
/// discovery messages that the broker has; an OctoPrint whose printer has none is asked for its
/// heaters, for two seconds at most. `cards`: those that Home Assistant has beside its own.
pub async fn dashboard(config: &Config, cards: &[CustomCard]) -> (String, Vec<String>) {
    let settings = setup::discovery_settings(config);
    let mut warnings = Vec::new();
    let mut published = published(config, &settings).await.unwrap_or_else(|error| {
        warnings.push(format!(
            "cannot read from the broker what is published, so each OctoPrint is asked: {}",
            causes::text(&*error)
        ));
        BTreeMap::new()
    });
    let mut tasks = tokio::task::JoinSet::new();
    for printer in &config.printers {
        let topic = homeassistant::printer_topic(&settings, &printer.id);
        if !published.contains_key(topic.as_str()) {
            let (settings, base) = (settings.clone(), config.mqtt.base_topic.clone());
            let printer = printer.clone();
            let rest = setup::rest(&printer)
                .inspect_err(|error| {
                    warnings.push(format!("printers.{}: {}", printer.id, causes::text(error)));
                })
                .ok();
            tasks.spawn(async move {
                (topic.to_string(), of_printer(&settings, &base, &printer, rest).await.payload)
            });
        }
    }
    // Propagates panics.
    published.extend(tasks.join_all().await);
    let mut parts = DashboardParts {
        bridges: bridges(config),
        printers: Vec::new(),
        has_mini_graph_card: cards.contains(&CustomCard::MiniGraphCard),
    };
    for id in &config.all_printers {
        match published.get(homeassistant::printer_topic(&settings, id).as_str()) {
            Some(message) => parts.printers.push((id.clone(), message.to_vec())),
            None => warnings.push(format!(
                "printers.{id} is left out: its bridge has not announced it yet, see shard.index"
            )),
        }
    }
    (homeassistant::dashboard(&parts), warnings)
}

/// Returns the retained discovery messages that are not empty, by topic.
async fn published(config: &Config, settings: &Settings) -> Result<BTreeMap<String, Bytes>, Cause> {
    let options = setup::broker_options(&config.mqtt, None)?;
    let filter = homeassistant::device_filter(settings);
    let marker = BridgeTopics::marker(&config.mqtt.base_topic);
    let filters = [filter.as_str()];
    let read = mqtt::retained(&options, &filters, &marker);
    let found = tokio::time::timeout(READ_TIMEOUT, read).await??;
    let ours = |payload: &[u8]| homeassistant::published_anywhere(payload).is_some();
    let found = found.into_iter().filter(|message| ours(&message.payload));
    Ok(found.map(|message| (message.topic, message.payload)).collect())
}

/// Returns the discovery messages of the bridges that share the printers.
fn bridges(config: &Config) -> Vec<Vec<u8>> {
    let count = config.shard.map_or(1, |shard| shard.count);
    let of = |index: u32| {
        let shard = config.shard.map(|shard| Shard { index, ..shard });
        let config = Config { shard, printers: Vec::new(), ..config.clone() };
        let settings = setup::discovery_settings(&config);
        homeassistant::bridge(&settings, &Components::new()).payload.to_vec()
    };
    (0..count).map(of).collect()
}
