//! Home Assistant's presence as the connection to the broker asks for it: reads its status topic,
//! and keeps what is known over a restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::presence::{LifeSign, Presence, PresenceRecord};
use crate::config;
use crate::mqtt::{Attendance, AttendanceStatus, Incoming, Subscribed};
use crate::store::{BRIDGE, Known, Store};

const PRESENCE: &str = "home_assistant";

/// See the module's text.
pub(crate) struct HomeAssistantAttendance {
    presence: Presence,
    topics: BTreeSet<String>,
    online: String,
    offline: String,
    store: Store,
    kept: PresenceRecord,
}

impl HomeAssistantAttendance {
    /// Goes on from what `known` has; `None` where Home Assistant is not used.
    pub(crate) fn new(
        settings: &config::HomeAssistant,
        store: Store,
        known: &Known,
    ) -> Option<Self> {
        if !settings.enabled {
            return None;
        }
        let kept: PresenceRecord = known.get(BRIDGE, PRESENCE).unwrap_or_default();
        Some(Self {
            presence: Presence::new(settings.wait, kept),
            topics: status_topics(settings),
            online: settings.online.clone(),
            offline: settings.offline.clone(),
            store,
            kept,
        })
    }

    /// The topics on which Home Assistant says that it has started or is gone.
    pub(crate) fn filters(&self) -> &BTreeSet<String> {
        &self.topics
    }

    fn persist(&mut self) {
        let record = self.presence.record();
        if record != self.kept {
            self.kept = record;
            self.store.persist(&Arc::from(BRIDGE), PRESENCE, &record);
        }
    }
}

impl Attendance for HomeAssistantAttendance {
    fn waits(&self) -> bool {
        self.presence.waits()
    }

    fn subscribed(&mut self, subscribed: Subscribed, now: Instant) {
        self.presence.subscribed(subscribed, now);
    }

    fn hear(&mut self, message: &Incoming, now: Instant) -> bool {
        if !self.topics.contains(&message.topic) {
            return false;
        }
        let says = |word: &str| message.payload == word.as_bytes();
        let status = match () {
            () if says(&self.online) => Some(LifeSign::Birth),
            () if says(&self.offline) => Some(LifeSign::Will),
            () => None,
        };
        if let Some(status) = status {
            self.presence.hear(status, message.retained, now);
        }
        true
    }

    fn announced(&mut self, now: Instant) {
        self.presence.announced(now);
    }

    fn status(&mut self, now: Instant) -> AttendanceStatus {
        let before = self.presence.word();
        let verdict = self.presence.verdict(now);
        self.persist();
        if before != "given_up" && self.presence.word() == "given_up" {
            tracing::warn!("Home Assistant did not come back; print events no longer wait for it");
        }
        verdict
    }

    fn state(&self) -> &'static str {
        self.presence.word()
    }
}

/// Where Home Assistant says that it has started: as configured, else below its own name, whatever
/// the prefix of discovery is, and below that prefix for those who moved everything.
fn status_topics(settings: &config::HomeAssistant) -> BTreeSet<String> {
    match &settings.status_topic {
        Some(topic) => [topic.clone()].into(),
        None => {
            let prefixed = format!("{}/status", settings.discovery_prefix);
            [prefixed, config::STATUS_TOPIC.to_owned()].into()
        }
    }
}
