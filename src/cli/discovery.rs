//! `octoprint2mqtt discovery`: prints the discovery messages, or removes the published ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::subcommand::{CommandFailure, block_on};
use crate::bridge::identity::{Identity, Owners};
use crate::bridge::printer::discovery::device;
use crate::bridge::printer::discovery::facts::{Fact, Question, QuestionScope, answer};
use crate::bridge::printer::discovery::schedule::PROFILE_WAIT;
use crate::bridge::setup::{self, SetupError};
use crate::causes;
use crate::config::{Config, Printer};
use crate::heater::Heater;
use crate::homeassistant::{self, Components, DiscoveryMessage, Profile, Settings};
use crate::mqtt::{self, Lost};
use crate::octoprint::Rest;
use crate::store;
use crate::topics::{BridgeTopics, PrinterTopics, Topic};

pub(super) fn command(config: &Config, remove: bool) -> Result<(), CommandFailure> {
    block_on(async {
        if !remove {
            let lines = lines(config, |error| eprintln!("{}", causes::text(error))).await;
            lines.iter().for_each(|line| println!("{line}"));
            return Ok(());
        }
        let removed = self::remove(config).await?;
        removed.topics.iter().for_each(|topic| println!("removed {topic}"));
        for (topic, owner) in &removed.left {
            let owner = owner.as_deref().unwrap_or("not known");
            println!("left {topic}: another bridge published it (its mqtt.client_id is {owner})");
        }
        Ok(())
    })
}

/// Why discovery could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// The settings of the broker.
    #[error(transparent)]
    SetUp(#[from] SetupError),
    /// The broker.
    #[error("the broker {address}")]
    Broker {
        /// The broker's address.
        address: String,
        /// Why.
        source: Lost,
    },
}

/// Returns the messages that the bridge publishes for `config`, as JSON lines with `topic` and
/// `payload`. Queries each printer for the facts its entities depend on; one that does not answer
/// within two seconds gets the entities that nearly every printer has, as does one whose settings
/// are wrong, which `report` gets.
pub async fn lines(config: &Config, mut report: impl FnMut(&SetupError)) -> Vec<String> {
    let settings = setup::discovery_settings(config);
    let mut tasks = tokio::task::JoinSet::new();
    for (index, printer) in config.printers.iter().cloned().enumerate() {
        let (settings, base) = (settings.clone(), config.mqtt.base_topic.clone());
        let rest = setup::rest(&printer).inspect_err(&mut report).ok();
        tasks.spawn(async move { (index, of_printer(&settings, &base, &printer, rest).await) });
    }
    // Propagates panics.
    let mut messages = tasks.join_all().await;
    messages.sort_by_key(|(index, _)| *index);
    let bridge = homeassistant::bridge(&settings, &Components::new());
    std::iter::once(&bridge).chain(messages.iter().map(|(_, message)| message)).map(line).collect()
}

fn line(message: &DiscoveryMessage) -> String {
    // The payload is always valid JSON.
    let payload: serde_json::Value = serde_json::from_slice(&message.payload).unwrap_or_default();
    json!({"topic": message.topic, "payload": payload}).to_string()
}

/// Returns the discovery message of a printer, of which its OctoPrint is asked with `rest`.
pub(super) async fn of_printer(
    settings: &Settings,
    base: &str,
    printer: &Printer,
    rest: Option<Rest>,
) -> DiscoveryMessage {
    let profile = match rest {
        Some(rest) => profile(&rest, printer).await,
        None => Profile { heaters: Heater::assumed(), ..Profile::default() },
    };
    let topics = PrinterTopics::new(base, &printer.id);
    let device = device(printer, profile);
    homeassistant::printer(settings, &topics, &device, &Components::new())
}

async fn profile(rest: &Rest, printer: &Printer) -> Profile {
    let ask = |question: Question| async move {
        let limit: Duration = PROFILE_WAIT;
        tokio::time::timeout(limit, answer(&question, rest)).await.ok().and_then(Result::ok)
    };
    let (facts, version) = tokio::join!(
        join_all(Question::of_entities(QuestionScope::of(printer, true)).map(ask)),
        tokio::time::timeout(PROFILE_WAIT, rest.server_version()),
    );
    let mut profile = Profile { heaters: Heater::assumed(), ..Profile::default() };
    for fact in facts.into_iter().flatten() {
        if let Fact::Profile(Some(found)) = &fact {
            profile.heaters.clone_from(&found.heaters);
        }
        fact.apply_to(&mut profile);
    }
    profile.octoprint_version = version.ok().and_then(Result::ok);
    profile
}

/// Result of a removal.
#[derive(Debug, Default)]
pub struct Removed {
    /// Cleared topics.
    pub topics: Vec<Topic>,
    /// Topics of this bridge's printers that belong to another bridge, with its client id if known.
    pub left: Vec<(Topic, Option<String>)>,
}

/// Removes the bridge, the configured printers, and those that an earlier bridge with the same base
/// topic and client id left behind; never messages of another bridge. The entities come back when a
/// bridge with discovery runs.
///
/// # Errors
/// If the broker cannot be reached.
pub async fn remove(config: &Config) -> Result<Removed, DiscoverError> {
    let settings = setup::discovery_settings(config);
    let options = setup::broker_options(&config.mqtt, None)?;
    let failed = |source| DiscoverError::Broker { address: options.address(), source };
    let base = &config.mqtt.base_topic;
    let filters = [
        homeassistant::device_filter(&settings),
        BridgeTopics::info_filter(base),
        BridgeTopics::state_filter(base),
    ];
    let filters = filters.each_ref().map(String::as_str);
    let mut visit = mqtt::Visit::open(&options).await.map_err(failed)?;
    let marker = BridgeTopics::marker(base);
    let retained = visit.retained(&filters, &marker).await.map_err(failed)?;
    let known = store::look(config.data_dir.as_deref());
    let owners = Owners::read(Identity::recall(&config.mqtt.identity, &known), base, &retained);
    let (mut topics, mut foreign) = (BTreeSet::new(), BTreeMap::new());
    for message in &retained {
        let Some(found) = homeassistant::published_anywhere(&message.payload) else { continue };
        let Some(topic) = message.own_topic() else { continue };
        let here = found.bridge_state == *settings.topics.state;
        if owners.own(found.identity.as_deref()) {
            topics.extend(here.then_some(topic));
        } else {
            foreign.insert(topic, found.identity);
        }
    }
    let configured = config.printers.iter().map(|p| homeassistant::printer_topic(&settings, &p.id));
    // The bridge goes last, since it is the printers' parent device.
    let bridge = homeassistant::bridge_topic(&settings);
    topics.extend(configured);
    topics.remove(&bridge);
    let wanted = topics.into_iter().chain([bridge]);
    let mut removed = Removed::default();
    for topic in wanted {
        match foreign.remove(&topic) {
            Some(identity) => removed.left.push((topic, identity)),
            None => removed.topics.push(topic),
        }
    }
    visit.clear(&removed.topics).await.map_err(failed)?;
    visit.end().await;
    Ok(removed)
}
