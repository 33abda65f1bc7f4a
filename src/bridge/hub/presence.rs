//! Whether Home Assistant is there to hear print events (pure): time is an argument.
//!
//! Home Assistant says on its status topic that it has started (its birth) and that it is gone
//! (its will). Neither is retained as a rule, so either may be missed. `B/P/print` waits for it in
//! two degrees:
//!
//! - *Away*: its will was seen, and the bridge was subscribed without a gap since; or the bridge was
//!   subscribed so soon after the broker's start that no birth can have been missed. Until the
//!   birth, [`Settings::wait`] at most.
//! - *Perhaps away*: the broker or the host was restarted, or the will is only remembered. A birth
//!   may have been missed, so this is for two minutes at most.
//!
//! A Home Assistant that was never seen is not waited for. A wait that ran out is not repeated
//! until a birth is seen.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::mqtt::{AttendanceStatus, Subscribed};

/// How long a Home Assistant is awaited whose birth may have been missed.
const PERHAPS: Duration = Duration::from_secs(2 * 60);
/// A broker that runs for less than this had no time to hear a birth before the bridge was
/// subscribed: Home Assistant connects within ten seconds, and waits for five before it.
const JUST_STARTED: Duration = Duration::from_secs(10);
/// How old the broker's word of how long it runs may be: it says it every ten or eleven seconds.
const STALE: Duration = Duration::from_secs(11);
/// How long births are collected: reconnects come in bursts.
const BIRTHS: Duration = Duration::from_millis(500);
/// How long Home Assistant has for discovery once the broker has it.
const DISCOVERED: Duration = Duration::from_secs(2);

/// What is known of Home Assistant over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PresenceRecord {
    /// It was seen, ever.
    pub seen: bool,
    /// It was away.
    pub away: bool,
    /// It was awaited in vain, and no birth was seen since.
    pub given_up: bool,
}

/// What its status topic says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LifeSign {
    /// It has started, or is connected again.
    Birth,
    /// It is gone.
    Will,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There, or not waited for.
    Open,
    /// Awaited since then, at most until then.
    Awaited { certain: bool, since: Instant, until: Instant },
    /// It is back: discovery and state come first.
    Returning { step: Step, until: Instant },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Further births are collected until then.
    Collecting(Instant),
    /// Discovery is on its way to the broker.
    Announcing,
    /// Home Assistant takes it in until then.
    Discovering(Instant),
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Presence {
    wait: Duration,
    record: PresenceRecord,
    state: Phase,
    /// A birth while nothing waits: discovery and state are published again then.
    republish_at: Option<Instant>,
    /// When the last birth was heard.
    birth: Option<Instant>,
}

impl Presence {
    /// Goes on from `record`. Home Assistant is awaited for `wait`; zero is not at all.
    pub(crate) fn new(wait: Duration, record: PresenceRecord) -> Self {
        Self { wait, record, state: Phase::Open, republish_at: None, birth: None }
    }

    /// What is to be kept over a restart.
    pub(crate) fn record(&self) -> PresenceRecord {
        self.record
    }

    /// The state in one word: `unknown` (never seen), `online`, `away`, `perhaps_away`, `returning`,
    /// `given_up`.
    pub(crate) fn word(&self) -> &'static str {
        match self.state {
            Phase::Awaited { certain: true, .. } => "away",
            Phase::Awaited { certain: false, .. } => "perhaps_away",
            Phase::Returning { .. } => "returning",
            Phase::Open if !self.record.seen => "unknown",
            Phase::Open if self.record.given_up => "given_up",
            Phase::Open if self.record.away => "away",
            Phase::Open => "online",
        }
    }

    /// Whether Home Assistant may ever be awaited.
    pub(crate) fn waits(&self) -> bool {
        !self.wait.is_zero()
    }

    fn is_awaited_at_all(&self) -> bool {
        self.record.seen && !self.record.given_up && self.waits()
    }

    /// A connection is there and subscribed.
    pub(crate) fn subscribed(&mut self, subscribed: Subscribed, now: Instant) {
        self.expire(now);
        if !self.is_awaited_at_all() {
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
            Phase::Awaited { since, until, .. } => {
                let until = until.min(now + PERHAPS);
                Phase::Awaited { certain: false, since, until }
            }
            // A new connection publishes all of it again.
            Phase::Returning { until, .. } => {
                Phase::Returning { step: Step::Collecting(now), until }
            }
            Phase::Open if self.record.away => {
                self.await_from(now, false, now);
                return;
            }
            Phase::Open => Phase::Open,
        };
    }

    /// Whether a birth was heard that may be of this run of the broker: then it is the line that
    /// was cut, or the broker was restarted twice.
    fn was_born_since(&self, uptime: Duration, now: Instant) -> bool {
        self.birth.is_some_and(|birth| now.duration_since(birth) <= uptime + STALE)
    }

    fn await_from(&mut self, since: Instant, certain: bool, now: Instant) {
        let limit = if certain { self.wait } else { self.wait.min(PERHAPS) };
        self.record.away = true;
        self.state = Phase::Awaited { certain, since, until: since + limit };
        self.expire(now);
    }

    /// Its status topic says something.
    pub(crate) fn hear(&mut self, status: LifeSign, retained: bool, now: Instant) {
        match status {
            // One of some time or other.
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
            Phase::Awaited { until, .. } | Phase::Returning { until, .. } => {
                Phase::Returning { step, until }
            }
            Phase::Open => {
                self.republish_at = Some(now + BIRTHS);
                Phase::Open
            }
        };
    }

    fn lost(&mut self, retained: bool, now: Instant) {
        self.record.seen = true;
        self.record.away = true;
        if !self.is_awaited_at_all() {
            return;
        }
        let since = match self.state {
            // Known already: the wait goes on.
            Phase::Awaited { since, certain, .. } if retained || certain => since,
            _ => now,
        };
        self.await_from(since, true, now);
    }

    /// The broker has what was to be published again.
    pub(crate) fn announced(&mut self, now: Instant) {
        if let Phase::Returning { step: step @ Step::Announcing, .. } = &mut self.state {
            *step = Step::Discovering(now + DISCOVERED);
        }
    }

    fn expire(&mut self, now: Instant) {
        match self.state {
            Phase::Awaited { until, .. } if until <= now => {
                self.state = Phase::Open;
                self.record.given_up = true;
            }
            Phase::Returning { until, .. } if until <= now => self.state = Phase::Open,
            Phase::Returning { step: Step::Discovering(at), .. } if at <= now => {
                self.state = Phase::Open;
            }
            _ => {}
        }
    }

    /// Whether print events may go out, and what is to be done.
    pub(crate) fn verdict(&mut self, now: Instant) -> AttendanceStatus {
        self.expire(now);
        let mut republish = false;
        if let Phase::Returning { step: step @ Step::Collecting(_), .. } = &mut self.state
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
            Phase::Open => None,
            Phase::Awaited { until, .. } => Some(until),
            Phase::Returning { step, until } => Some(match step {
                Step::Collecting(at) | Step::Discovering(at) => at.min(until),
                Step::Announcing => until,
            }),
        };
        let due = [due, self.republish_at].into_iter().flatten().min();
        AttendanceStatus { present: self.state == Phase::Open, republish, due }
    }
}

#[cfg(test)]
mod tests;
