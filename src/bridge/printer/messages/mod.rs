//! Maps one printer's messages to publications (pure).

pub mod event;
pub mod plugin_topics;

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use serde_json::value::RawValue;

use self::plugin_topics::OctoPrintMqtt;
use crate::bridge::printer::snapshot::{
    EventFields, NotAnObject, Now, Snapshot, StateChange, StateTopic,
};
use crate::config::{Printer, Publish};
use crate::heater::Heater;
use crate::mqtt::{Kind, Publication};
use crate::octoprint::{Event, EventKind, Message, MessageKind, Plugin};
use crate::receipt::Receipt;
use crate::topics::{PrinterTopics, Topic};

/// A plugin whose messages carry tokens with which anyone could grant an application key.
const SECRET_PLUGIN: &str = "appkeys";

/// A message of a known type with an unexpected payload.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// A `current`, `history` or `connected`.
    #[error(transparent)]
    NotAnObject(#[from] NotAnObject),
    /// An `event` or `plugin`.
    #[error("the message has no readable type")]
    NoType(#[from] serde_json::Error),
}

/// Maps the messages of one printer.
pub struct Mapping {
    lane: usize,
    topics: PrinterTopics,
    /// Cache of the heaters' topics, which are needed with each message.
    heater_topics: HashMap<Heater, Topic>,
    publish: Publish,
    /// The topics of the OctoPrint-MQTT plugin, if they are configured.
    plugin_topics: Option<OctoPrintMqtt>,
    /// The printer's state.
    pub snapshot: Snapshot,
}

/// The publications of one message.
struct Batch<'a> {
    lane: usize,
    received: Instant,
    receipt: &'a Receipt,
    publications: Vec<Publication>,
}

impl Batch<'_> {
    fn push(&mut self, topic: Topic, payload: Bytes, kind: Kind) {
        self.publications.push(Publication {
            lane: self.lane,
            topic,
            payload,
            make: None,
            kind,
            received: self.received,
            receipt: (kind != Kind::Unacknowledged).then(|| self.receipt.clone()),
            oversize: None,
            along: None,
        });
    }
}

impl Mapping {
    /// A mapping with an empty snapshot.
    pub fn new(lane: usize, topics: PrinterTopics, printer: &Printer) -> Self {
        let plugin_topics = printer.octoprint_mqtt_topic.as_deref().map(OctoPrintMqtt::new);
        let publish = printer.publish.clone();
        let heater_topics = HashMap::new();
        Self { lane, topics, heater_topics, publish, plugin_topics, snapshot: Snapshot::new() }
    }

    /// Returns the publications of `message`; each carries a clone of `receipt`.
    pub fn map(
        &mut self,
        message: &Message,
        receipt: &Receipt,
    ) -> (Vec<Publication>, Option<Malformed>) {
        let now = received(message);
        let mut batch = self.batch(now, receipt);
        let mapped = match message.kind() {
            MessageKind::Event => match message.json() {
                Ok(event) => {
                    let event: Event<'_> = event;
                    let fields = EventFields::read(&event.kind, event.payload);
                    return (self.map_event(message, &event, &fields, receipt), None);
                }
                Err(error) => Err(error.into()),
            },
            MessageKind::Plugin => self.map_plugin(message, &mut batch),
            MessageKind::Connected => self.map_connected(message, &mut batch),
            MessageKind::Current | MessageKind::History => self.map_state(message, now, &mut batch),
            kind => {
                if self.publish.messages.allows(kind.as_str()) {
                    let topic = self.topics.message(kind.as_str());
                    batch.push(topic, message.payload_bytes(), Kind::MESSAGE);
                }
                Ok(())
            }
        };
        (batch.publications, mapped.err())
    }

    /// Returns the publications of `event`, which was decoded from `message`, and its fields.
    pub fn map_event(
        &mut self,
        message: &Message,
        event: &Event<'_>,
        fields: &EventFields<'_>,
        receipt: &Receipt,
    ) -> Vec<Publication> {
        let now = received(message);
        let mut batch = self.batch(now, receipt);
        self.add_event(event, fields, now.wall, &mut batch);
        batch.publications
    }

    fn batch<'a>(&self, now: Now, receipt: &'a Receipt) -> Batch<'a> {
        Batch { lane: self.lane, received: now.instant, receipt, publications: Vec::new() }
    }

    /// Returns the publication of a state change that no message caused.
    pub fn state(&mut self, change: StateChange) -> Publication {
        let StateChange { topic, payload } = change;
        let removed = match &topic {
            StateTopic::Temperature(heater) if payload.is_empty() => Some(heater.clone()),
            _ => None,
        };
        let topic = self.state_topic(topic);
        if let Some(heater) = removed {
            self.heater_topics.remove(&heater);
        }
        Publication::new(self.lane, topic, payload, Kind::State)
    }

    /// Returns the publications of the printer's availability.
    pub fn availability(&self, online: bool) -> Vec<Publication> {
        let text = if online { "online" } else { "offline" };
        let own = (self.topics.availability.clone(), Bytes::from_static(text.as_bytes()));
        let plugins = self.plugin_topics.as_ref().map(|plugin| plugin.connection(online));
        [Some(own), plugins]
            .into_iter()
            .flatten()
            .map(|(topic, payload)| Publication::new(self.lane, topic, payload, Kind::State))
            .collect()
    }

    fn map_state(
        &mut self,
        message: &Message,
        now: Now,
        batch: &mut Batch<'_>,
    ) -> Result<(), Malformed> {
        let is_history = *message.kind() == MessageKind::History;
        let applied = match is_history {
            true => self.snapshot.apply_history(message.payload(), now),
            false => self.snapshot.apply(message.payload(), now),
        };
        let (changes, outcome) = match applied {
            Ok(changes) => (changes, Ok(())),
            Err(error) => (Vec::new(), Err(error.into())),
        };
        for StateChange { topic, payload } in changes {
            batch.push(self.state_topic(topic), payload, Kind::State);
        }
        if let Some(plugin) = &mut self.plugin_topics {
            let is_heater = |name: &str| self.snapshot.is_heater(name);
            for (topic, payload) in plugin.state(message.payload(), now.wall, is_heater) {
                batch.push(topic, payload, Kind::State);
            }
        }
        if self.publish.messages.allows(message.kind().as_str()) {
            let (topic, kind) = match is_history {
                true => (&self.topics.history, Kind::Unacknowledged),
                false => (&self.topics.current, Kind::Newest),
            };
            batch.push(topic.clone(), message.payload_bytes(), kind);
        }
        outcome
    }

    fn add_event(
        &mut self,
        event: &Event<'_>,
        fields: &EventFields<'_>,
        at: SystemTime,
        batch: &mut Batch<'_>,
    ) {
        let (kind, name) = (event::event_kind(&event.kind), event.kind.as_str());
        if self.publish.events.allows(name) {
            let payload = event::payload(event, at);
            if let Some(plugin) = &self.plugin_topics {
                batch.push(plugin.event_topic(name), payload.clone(), kind);
            }
            batch.push(self.topics.event(name), payload, kind);
        }
        let progress =
            self.plugin_topics.as_mut().and_then(|p| p.progress_of(&event.kind, fields, at));
        if let Some((topic, payload)) = progress {
            batch.push(topic, payload, Kind::State);
        }
        if let Some(print) = event::print(&event.kind, fields, at, self.snapshot.cause()) {
            batch.push(self.topics.print.clone(), print, event::PRINT);
        }
        // OctoPrint 2.0 repeats `FileSelected` after the print has started.
        let is_repeated =
            event.kind == EventKind::FileSelected && self.snapshot.is_selected_again(fields);
        if let Some(last) = event::last_event(&event.kind, at).filter(|_| !is_repeated) {
            batch.push(self.topics.last_event.clone(), last, Kind::State);
        }
        for change in self.snapshot.event(&event.kind, fields) {
            batch.push(self.state_topic(change.topic), change.payload, Kind::State);
        }
    }

    fn map_plugin(&self, message: &Message, batch: &mut Batch<'_>) -> Result<(), Malformed> {
        let plugin: Plugin<'_> = message.json()?;
        if plugin.plugin != SECRET_PLUGIN && self.publish.plugins.allows(&plugin.plugin) {
            let data = plugin.data.map_or(Bytes::from_static(b"null"), |data| {
                // The data borrows from the payload, so it is a slice of its bytes.
                message.payload_bytes().slice_ref(data.get().as_bytes())
            });
            batch.push(self.topics.plugin(&plugin.plugin), data, Kind::MESSAGE);
        }
        Ok(())
    }

    fn map_connected(&mut self, message: &Message, batch: &mut Batch<'_>) -> Result<(), Malformed> {
        let payload = without_api_key(message)?;
        if let Some(change) = self.snapshot.apply_server(message.payload())? {
            batch.push(self.state_topic(change.topic), change.payload, Kind::State);
        }
        if self.publish.messages.allows(message.kind().as_str()) {
            batch.push(self.topics.connected.clone(), payload, Kind::State);
        }
        Ok(())
    }

    fn state_topic(&mut self, topic: StateTopic) -> Topic {
        match topic {
            StateTopic::Printer => self.topics.printer.clone(),
            StateTopic::Job => self.topics.job.clone(),
            StateTopic::Progress => self.topics.progress.clone(),
            StateTopic::Temperature(heater) => {
                let make = |heater: &Heater| self.topics.temperature(heater);
                self.heater_topics.entry(heater).or_insert_with_key(make).clone()
            }
            StateTopic::Position => self.topics.position.clone(),
            StateTopic::Factors => self.topics.factors.clone(),
            StateTopic::Resends => self.topics.resends.clone(),
            StateTopic::Server => self.topics.server.clone(),
            StateTopic::Connection => self.topics.connection.clone(),
            StateTopic::Storage => self.topics.storage.clone(),
        }
    }
}

pub(super) fn received(message: &Message) -> Now {
    Now { instant: message.received().into_std(), wall: message.received_at() }
}

/// Returns OctoPrint's version from a `connected` message.
pub(super) fn version_of(connected: &Message) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Greeting {
        version: String,
    }
    connected.json::<Greeting>().map(|greeting| greeting.version).ok()
}

/// Returns the `connected` payload without the API key that older versions put there.
fn without_api_key(message: &Message) -> Result<Bytes, Malformed> {
    use std::collections::BTreeMap;
    let mut members: BTreeMap<&str, &RawValue> = match message.json() {
        Ok(members) => members,
        // Names with escapes cannot be borrowed; anything but an object is an error.
        Err(_) => {
            let mut members: BTreeMap<String, Box<RawValue>> =
                message.json().map_err(NotAnObject::from)?;
            members.remove("apikey");
            return Ok(serde_json::to_vec(&members)?.into());
        }
    };
    if members.remove("apikey").is_none() {
        return Ok(message.payload_bytes());
    }
    Ok(serde_json::to_vec(&members)?.into())
}
