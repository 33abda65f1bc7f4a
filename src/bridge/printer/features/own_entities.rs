//! Entities of the user's own: their states, read from messages or assumed after commands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Background, Feature, FeatureParts, Scene};
use crate::bridge::printer::commands::executor::Effect;
use crate::bridge::printer::persisted::Persisted;
use crate::clock;
use crate::mqtt::{Audience, Kind, Worth};
use crate::octoprint::{Event, Message, MessageKind, Plugin};
use crate::own_entity::{OwnEntity, Payload, Role, Source, ValueReading};
use crate::timestamp;
use crate::topic::hash;
use crate::topics::Topic;

/// Interval at which changed states are persisted: some change every second.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// Delay before the topics of entities that no longer exist are cleared: Home Assistant must have
/// removed the entities by then, or it would log errors about empty states.
const CLEAR_AFTER: Duration = Duration::from_secs(10);
/// Largest payload that an event carries, in bytes: Home Assistant stores 16 KiB of attributes.
const LARGEST_DATA: usize = 4096;
/// Kind of the events, on which automations depend.
const EVENT: Kind =
    Kind::Event { worth: Worth::Event, audience: Audience::HomeAssistant, stamped: true };

/// What survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// States by key, without those that expire.
    values: BTreeMap<String, Value>,
    /// Keys of the entities that have a retained state.
    topics: Vec<String>,
    /// A hash of where each of the values was read.
    readings: BTreeMap<String, u32>,
}

/// The state of one entity.
struct OwnState {
    value: Value,
    expires: Option<Instant>,
}

/// The entities of one printer, and their states.
pub(super) struct OwnEntities {
    entities: Arc<[OwnEntity]>,
    /// In the order of the entities.
    states: Vec<OwnState>,
    kept: Persisted<Kept>,
    /// When states may be persisted again.
    keep_next: Instant,
    is_changed: bool,
    /// Topics of entities that no longer exist, and when to clear them.
    clears: Option<(Instant, Vec<String>)>,
}

#[derive(Serialize)]
struct StatePayload<'a> {
    value: &'a Value,
}

#[derive(Serialize)]
struct EventPayload<'a> {
    event_type: &'a str,
    data: Option<&'a RawValue>,
    timestamp: u64,
}

impl OwnEntities {
    pub(super) fn make(parts: &FeatureParts<'_>) -> Option<Box<dyn Feature>> {
        let printer = &parts.printer;
        let kept: Persisted<Kept> =
            Persisted::restore("entities", &printer.id, parts.known, parts.store.clone());
        if printer.entities.is_empty() && kept.get() == &Kept::default() {
            return None;
        }
        Some(Box::new(Self::new(printer.entities.clone(), kept)))
    }

    fn new(entities: Arc<[OwnEntity]>, mut kept: Persisted<Kept>) -> Self {
        let has_state = |key: &String| {
            entities.iter().any(|entity| entity.key == *key && entity.role.has_state())
        };
        let gone: Vec<String> =
            kept.get().topics.iter().filter(|key| !has_state(key)).cloned().collect();
        let now = clock::now();
        let clears = (!gone.is_empty()).then(|| (now + CLEAR_AFTER, gone));
        let states = remembered(&entities, kept.get());
        kept.set(of_states(&entities, &states, clears.as_ref()));
        Self { entities, states, kept, keep_next: now, is_changed: false, clears }
    }

    /// Applies a message of `source` to all entities that read it.
    fn apply(
        &mut self,
        is_source: impl Fn(&Source) -> bool,
        payload: Payload<'_>,
        scene: &mut Scene<'_>,
    ) {
        let entities = self.entities.clone();
        for (index, entity) in entities.iter().enumerate() {
            let Some(reading) = &entity.reading else { continue };
            if !reading.sources.iter().any(&is_source) {
                continue;
            }
            let Some(value) = reading.read(payload) else { continue };
            match &entity.role {
                Role::Event(types) => publish_event(entity, types, &value, payload, scene),
                _ => {
                    let expires = reading.expire_after.map(|age| scene.now.instant + age);
                    self.states[index].expires = expires.filter(|_| !value.is_null());
                    self.set(index, value, scene);
                }
            }
        }
    }

    /// Sets a state, and publishes it if it has changed.
    fn set(&mut self, index: usize, value: Value, scene: &mut Scene<'_>) {
        if self.states[index].value != value {
            self.states[index].value = value;
            self.is_changed |= is_kept(&self.entities[index]);
            self.publish(index, scene);
            self.keep(scene.now.instant);
        }
    }

    fn publish(&self, index: usize, scene: &mut Scene<'_>) {
        let topic = scene.topics.entity(&self.entities[index].key);
        let payload = StatePayload { value: &self.states[index].value };
        if let Ok(payload) = serde_json::to_vec(&payload) {
            scene.publish_state(&topic, payload);
        }
    }

    /// Persists the states, unless that was done lately.
    fn keep(&mut self, now: Instant) {
        if self.is_changed && now >= self.keep_next {
            self.kept.set(of_states(&self.entities, &self.states, self.clears.as_ref()));
            self.is_changed = false;
            self.keep_next = now + KEEP_EVERY;
        }
    }
}

/// Whether the state of an entity survives a restart: one that expires is soon there again.
fn is_kept(entity: &OwnEntity) -> bool {
    let expires = entity.reading.as_ref().is_some_and(|reading| reading.expire_after.is_some());
    entity.role.has_state() && !expires
}

/// The states at the start.
fn remembered(entities: &[OwnEntity], kept: &Kept) -> Vec<OwnState> {
    let state = |entity: &OwnEntity| {
        // The configuration may have changed since.
        let is_same = kept.readings.get(&entity.key).is_none_or(|hash| *hash == origin(entity));
        let value = kept.values.get(&entity.key).filter(|value| is_same && entity.takes(value));
        let value = value.cloned();
        let initial = || entity.reading.as_ref().map(ValueReading::initial);
        let value = value.or_else(initial).unwrap_or_default();
        OwnState { value, expires: None }
    };
    entities.iter().map(state).collect()
}

/// A hash of where the state of an entity is read, and how.
fn origin(entity: &OwnEntity) -> u32 {
    hash(format!("{:?}", entity.reading).as_bytes())
}

/// What to persist.
fn of_states(
    entities: &[OwnEntity],
    states: &[OwnState],
    clears: Option<&(Instant, Vec<String>)>,
) -> Kept {
    let with_state = || entities.iter().zip(states).filter(|(entity, _)| entity.role.has_state());
    let known = with_state().filter(|(entity, state)| is_kept(entity) && !state.value.is_null());
    let known: Vec<_> = known.collect();
    let readings = known.iter().map(|(entity, _)| (entity.key.clone(), origin(entity))).collect();
    let values = known.iter().map(|(entity, state)| (entity.key.clone(), state.value.clone()));
    let values = values.collect();
    let gone = clears.iter().flat_map(|(_, keys)| keys.iter().cloned());
    let topics = with_state().map(|(entity, _)| entity.key.clone()).chain(gone).collect();
    Kept { values, topics, readings }
}

fn publish_event(
    entity: &OwnEntity,
    types: &[String],
    value: &Value,
    payload: Payload<'_>,
    scene: &mut Scene<'_>,
) {
    let is_typed = entity.reading.as_ref().is_some_and(|reading| reading.value.is_some());
    let event_type = match is_typed {
        true => types.iter().find(|known| value == *known),
        false => types.first(),
    };
    // A type that Home Assistant does not know would be an error in its log.
    let Some(event_type) = event_type else { return };
    let data = Some(payload.json).filter(|json| json.len() <= LARGEST_DATA && *json != "null");
    let event = EventPayload {
        event_type,
        data: data.and_then(|json| serde_json::from_str(json).ok()),
        timestamp: timestamp::unix(scene.now.wall),
    };
    let topic: Topic = scene.topics.entity(&entity.key);
    if let Ok(event) = serde_json::to_vec(&event) {
        scene.publish(&topic, event, EVENT);
    }
}

impl Feature for OwnEntities {
    fn start(&mut self, scene: &mut Scene<'_>) {
        for index in 0..self.entities.len() {
            if self.entities[index].role.has_state() {
                self.publish(index, scene);
            }
        }
    }

    fn availability(&mut self, is_online: bool, _: &mut Scene<'_>) {
        // The bridge may end: a state that waits for its turn would be lost, and the one before it
        // published at the next start.
        if !is_online && self.is_changed {
            self.kept.set(of_states(&self.entities, &self.states, self.clears.as_ref()));
            self.is_changed = false;
        }
    }

    fn event(&mut self, event: &Event<'_>, scene: &mut Scene<'_>) {
        let kind = event.kind.as_str();
        let is_source = |source: &Source| matches!(source, Source::Event(name) if name == kind);
        let json = event.payload.map_or("null", RawValue::get);
        self.apply(is_source, Payload { json, event: Some(kind) }, scene);
    }

    fn message(&mut self, message: &Message, scene: &mut Scene<'_>) {
        // What plugins send is read by their names.
        if *message.kind() == MessageKind::Plugin {
            return;
        }
        let kind = message.kind().as_str();
        let is_source = |source: &Source| matches!(source, Source::Message(name) if name == kind);
        self.apply(is_source, Payload { json: message.payload(), event: None }, scene);
    }

    fn plugin(&mut self, plugin: &Plugin<'_>, scene: &mut Scene<'_>) {
        let Plugin { plugin, data } = plugin;
        let is_source = |source: &Source| matches!(source, Source::Plugin(id) if *id == *plugin);
        let json = data.map_or("null", RawValue::get);
        self.apply(is_source, Payload { json, event: None }, scene);
    }

    fn effect(&mut self, effect: &Effect, scene: &mut Scene<'_>) {
        let Effect::Entity { key, value } = effect else { return };
        let index = self.entities.iter().position(|entity| entity.key == *key);
        // A state that is read is not assumed.
        let is_assumed = |entity: &OwnEntity| entity.reading.is_none() && entity.role.has_state();
        if let Some(index) = index.filter(|index| is_assumed(&self.entities[*index])) {
            self.set(index, value.clone(), scene);
        }
    }

    fn due(&self) -> Option<Instant> {
        let expiries = self.states.iter().filter_map(|state| state.expires);
        let keep = self.is_changed.then_some(self.keep_next);
        let clear = self.clears.as_ref().map(|(at, _)| *at);
        expiries.chain(keep).chain(clear).min()
    }

    fn flush(&mut self, scene: &mut Scene<'_>) {
        let now = scene.now.instant;
        for index in 0..self.states.len() {
            if self.states[index].expires.take_if(|at| now >= *at).is_some() {
                self.set(index, Value::Null, scene);
            }
        }
        if let Some((_, keys)) = self.clears.take_if(|(at, _)| now >= *at) {
            keys.iter().for_each(|key| scene.publish_state(&scene.topics.entity(key), Vec::new()));
            self.kept.set(of_states(&self.entities, &self.states, None));
        }
        self.keep(now);
    }

    fn restart(&mut self, _: &Background) {
        self.states = remembered(&self.entities, self.kept.get());
        self.is_changed = false;
    }
}

#[cfg(test)]
mod tests;
