//! Home Assistant's presence, for which print events wait.
//!
//! Home Assistant publishes to its status topic when it has started (its birth) and when it is gone
//! (its will). Neither is retained as a rule, so either may be missed. `B/P/print` waits for it in
//! two degrees:
//!
//! - *Away*: its will was seen, and the bridge was subscribed without a gap since; or the bridge
//!   was subscribed so soon after the broker's start that no birth can have been missed. Waits for
//!   the birth, at most for [`config::HomeAssistant::wait`].
//! - *Perhaps away*: the broker or the host was restarted, or the will is known from before the
//!   bridge's start. A birth may have been missed, so this waits for two minutes at most.
//!
//! Nothing waits for a Home Assistant that was never seen. After a wait that timed out, nothing
//! waits again until a birth is seen.
//!
//! [`Presence`] decides, with time as an argument; [`HomeAssistantAttendance`] reads the status
//! topic and persists what is known.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::mqtt::{Attendance, AttendanceStatus, Incoming, Subscribed};
use crate::store::{BRIDGE, Known, Store};

const PRESENCE: &str = "home_assistant";

/// Longest wait for a Home Assistant whose birth may have been missed.
const PERHAPS: Duration = Duration::from_secs(2 * 60);
/// Uptime of a broker below which the bridge cannot have missed a birth: Home Assistant tries to
/// connect every ten seconds, and waits for five before its birth.
const JUST_STARTED: Duration = Duration::from_secs(10);
/// Maximum age of the broker's uptime, which it publishes every ten or eleven seconds.
const STALE: Duration = Duration::from_secs(11);
/// How long births are collected before republishing: reconnects come in bursts.
const BIRTHS: Duration = Duration::from_millis(500);
/// Time for Home Assistant to process discovery once the broker has it.
const DISCOVERED: Duration = Duration::from_secs(2);
/// Time for the broker to take discovery after a birth, however late in the wait that comes.
const RETURN: Duration = Duration::from_secs(60);

/// What is persisted about Home Assistant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PresenceRecord {
    pub seen: bool,
    pub away: bool,
    /// Whether a wait timed out, with no birth since.
    pub given_up: bool,
}

/// A message on the status topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LifeSign {
    /// It has started or reconnected.
    Birth,
    Will,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PresenceState {
    /// Present, or not waited for.
    Open,
    /// Awaited from `since` until `until` at most.
    Awaited { certain: bool, since: Instant, until: Instant },
    /// It is back: discovery and state are published before print events.
    Returning { step: Step, until: Instant },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Further births are collected until this time.
    Collecting(Instant),
    /// Discovery is being sent to the broker.
    Announcing,
    /// Home Assistant processes discovery until this time.
    Discovering(Instant),
}

/// Decides how long print events wait for Home Assistant.
#[derive(Debug)]
pub(crate) struct Presence {
    wait: Duration,
    record: PresenceRecord,
    state: PresenceState,
    /// When to republish discovery and state after a birth while nothing waits.
    republish_at: Option<Instant>,
    birth: Option<Instant>,
}

impl Presence {
    /// Starts from `record`. `wait` is the longest wait; zero disables waiting.
    pub(crate) fn new(wait: Duration, record: PresenceRecord) -> Self {
        Self { wait, record, state: PresenceState::Open, republish_at: None, birth: None }
    }

    pub(crate) fn record(&self) -> PresenceRecord {
        self.record
    }

    /// Returns the state in one word; `unknown` is one that was never seen.
    pub(crate) fn word(&self) -> &'static str {
        match self.state {
            PresenceState::Awaited { certain: true, .. } => "away",
            PresenceState::Awaited { certain: false, .. } => "perhaps_away",
            PresenceState::Returning { .. } => "returning",
            PresenceState::Open if !self.record.seen => "unknown",
            PresenceState::Open if self.record.given_up => "given_up",
            PresenceState::Open if self.record.away => "away",
            PresenceState::Open => "online",
        }
    }

    pub(crate) fn waits(&self) -> bool {
        !self.wait.is_zero()
    }

    fn may_wait(&self) -> bool {
        self.record.seen && !self.record.given_up && self.waits()
    }

    /// Notes a new connection that is subscribed.
    pub(crate) fn subscribed(&mut self, subscribed: Subscribed, now: Instant) {
        self.expire(now);
        if !self.may_wait() {
            return;
        }
        let Subscribed { uptime, restarted } = subscribed;
        if uptime.is_some_and(|uptime| uptime < JUST_STARTED && !self.was_born_since(uptime, now)) {
            self.await_from(now, true, now);
            return;
        }
        if restarted {
            self.await_from(now, false, now);
            return;
        }
        self.state = match self.state {
            // A birth may have been missed in the gap.
            PresenceState::Awaited { since, until, .. } => {
                let until = until.min(now + PERHAPS);
                PresenceState::Awaited { certain: false, since, until }
            }
            // A new connection publishes everything again.
            PresenceState::Returning { until, .. } => {
                PresenceState::Returning { step: Step::Collecting(now), until }
            }
            PresenceState::Open if self.record.away => {
                self.await_from(now, false, now);
                return;
            }
            PresenceState::Open => PresenceState::Open,
        };
    }

    /// Whether a birth was seen during this run of the broker: then only the bridge's connection
    /// was lost, or the broker was restarted twice.
    fn was_born_since(&self, uptime: Duration, now: Instant) -> bool {
        self.birth.is_some_and(|birth| now.duration_since(birth) <= uptime + STALE)
    }

    fn await_from(&mut self, since: Instant, certain: bool, now: Instant) {
        let limit = if certain { self.wait } else { self.wait.min(PERHAPS) };
        self.record.away = true;
        self.state = PresenceState::Awaited { certain, since, until: since + limit };
        self.expire(now);
    }

    pub(crate) fn hear(&mut self, status: LifeSign, retained: bool, now: Instant) {
        match status {
            // A retained birth may be of any age.
            LifeSign::Birth if retained => {}
            LifeSign::Birth => self.born(now),
            LifeSign::Will => self.lost(retained, now),
        }
    }

    fn born(&mut self, now: Instant) {
        self.record = PresenceRecord { seen: true, away: false, given_up: false };
        self.republish_at = None;
        self.birth = Some(now);
        let step = Step::Collecting(now + BIRTHS);
        self.state = match self.state {
            PresenceState::Awaited { until, .. } | PresenceState::Returning { until, .. } => {
                PresenceState::Returning { step, until: until.max(now + RETURN) }
            }
            PresenceState::Open => {
                self.republish_at = Some(now + BIRTHS);
                PresenceState::Open
            }
        };
    }

    fn lost(&mut self, retained: bool, now: Instant) {
        self.record.seen = true;
        self.record.away = true;
        if !self.may_wait() {
            return;
        }
        let since = match self.state {
            // Already known: the wait continues.
            PresenceState::Awaited { since, certain, .. } if retained || certain => since,
            _ => now,
        };
        self.await_from(since, true, now);
    }

    /// Notes that the broker has acknowledged what was republished.
    pub(crate) fn announced(&mut self, now: Instant) {
        if let PresenceState::Returning { step: step @ Step::Announcing, .. } = &mut self.state {
            *step = Step::Discovering(now + DISCOVERED);
        }
    }

    fn expire(&mut self, now: Instant) {
        match self.state {
            PresenceState::Awaited { until, .. } if until <= now => {
                self.state = PresenceState::Open;
                self.record.given_up = true;
            }
            PresenceState::Returning { until, .. } if until <= now => {
                self.state = PresenceState::Open;
            }
            PresenceState::Returning { step: Step::Discovering(at), .. } if at <= now => {
                self.state = PresenceState::Open;
            }
            _ => {}
        }
    }

    /// Returns whether print events may be sent, and what to do next.
    pub(crate) fn status(&mut self, now: Instant) -> AttendanceStatus {
        self.expire(now);
        let mut republish = false;
        if let PresenceState::Returning { step: step @ Step::Collecting(_), .. } = &mut self.state
            && matches!(step, Step::Collecting(at) if *at <= now)
        {
            *step = Step::Announcing;
            republish = true;
        }
        if self.republish_at.is_some_and(|at| at <= now) {
            self.republish_at = None;
            republish = true;
        }
        let due = match self.state {
            PresenceState::Open => None,
            PresenceState::Awaited { until, .. } => Some(until),
            PresenceState::Returning { step, until } => Some(match step {
                Step::Collecting(at) | Step::Discovering(at) => at.min(until),
                Step::Announcing => until,
            }),
        };
        let due = [due, self.republish_at].into_iter().flatten().min();
        AttendanceStatus { present: self.state == PresenceState::Open, republish, due }
    }
}

/// Answers the broker's connection whether Home Assistant is present.
pub(crate) struct HomeAssistantAttendance {
    presence: Presence,
    topics: BTreeSet<String>,
    online: String,
    offline: String,
    store: Store,
    persisted: PresenceRecord,
}

impl HomeAssistantAttendance {
    /// Starts from the record in `known`; `None` if Home Assistant is not used.
    pub(crate) fn new(
        settings: &config::HomeAssistant,
        store: Store,
        known: &Known,
    ) -> Option<Self> {
        if !settings.enabled {
            return None;
        }
        let persisted: PresenceRecord = known.get(BRIDGE, PRESENCE).unwrap_or_default();
        Some(Self {
            presence: Presence::new(settings.wait, persisted),
            topics: status_topics(settings),
            online: settings.online.clone(),
            offline: settings.offline.clone(),
            store,
            persisted,
        })
    }

    pub(crate) fn filters(&self) -> &BTreeSet<String> {
        &self.topics
    }

    fn persist(&mut self) {
        let record = self.presence.record();
        if record != self.persisted {
            self.persisted = record;
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

    fn concerns(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    fn hear(&mut self, message: &Incoming, now: Instant) {
        let is = |word: &str| message.payload == word.as_bytes();
        let status = match () {
            () if is(&self.online) => Some(LifeSign::Birth),
            () if is(&self.offline) => Some(LifeSign::Will),
            () => None,
        };
        if let Some(status) = status {
            self.presence.hear(status, message.retained, now);
        }
    }

    fn announced(&mut self, now: Instant) {
        self.presence.announced(now);
    }

    fn status(&mut self, now: Instant) -> AttendanceStatus {
        let before = self.presence.word();
        let status = self.presence.status(now);
        self.persist();
        if before != "given_up" && self.presence.word() == "given_up" {
            tracing::warn!("Home Assistant did not come back; print events no longer wait for it");
        }
        status
    }

    fn state(&self) -> &'static str {
        self.presence.word()
    }
}

/// The configured status topic; else Home Assistant's default, which does not depend on the
/// discovery prefix, and the same topic below that prefix for users who moved both.
fn status_topics(settings: &config::HomeAssistant) -> BTreeSet<String> {
    match &settings.status_topic {
        Some(topic) => [topic.clone()].into(),
        None => {
            let prefixed = format!("{}/status", settings.discovery_prefix);
            [prefixed, config::STATUS_TOPIC.to_owned()].into()
        }
    }
}

#[cfg(test)]
mod tests;
