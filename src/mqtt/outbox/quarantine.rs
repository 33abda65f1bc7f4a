//! Which message the broker will not take, so that it stops no other (pure).
//!
//! A broker has one answer to a message that it does not take: it ends the connection. The message
//! is not acknowledged, and would come first again on the next one, for ever. But connections end
//! for many reasons, and no message is lost for those. So suspicion arises only where the broker
//! itself ended two connections in a row soon after the same message was handed over; then one
//! message at a time goes out; and guilty is only one that was alone in flight, twice in a row,
//! right after another was acknowledged. A broker that was restarted meanwhile proves nothing.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::entry::{Slot, Token};
use crate::topic::Topic;

/// A message that was handed over longer ago has not ended the connection.
const SOON: Duration = Duration::from_secs(5);
/// An acknowledgement that is older proves nothing of the broker.
const FRESH: Duration = Duration::from_secs(1);
/// A connection that lives for so long under suspicion ends it: the suspects are held back, or gone.
const HELD: Duration = Duration::from_secs(60);
/// How often one that was alone in flight is guilty.
const TWICE: u8 = 2;
/// For how long nothing is sent on a topic that the broker did not even take empty.
const BANNED: Duration = Duration::from_secs(60 * 60);

/// What may be guilty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::mqtt) enum Suspect {
    /// One event, which is sent again until it is acknowledged.
    Event(Token),
    /// What has no second of its own: a topic whose newest value counts, or whose messages are
    /// dropped with the connection.
    Topic(Topic),
}

impl Suspect {
    /// What was handed over as `token`.
    pub(in crate::mqtt) fn new(token: Token, topic: &Topic) -> Self {
        match token.slot {
            Slot::Event { .. } => Self::Event(token),
            Slot::State { .. } | Slot::Passing { .. } => Self::Topic(topic.clone()),
        }
    }
}

/// One that was handed over and not acknowledged.
#[derive(Debug, Clone)]
pub(in crate::mqtt) struct InFlight {
    pub(in crate::mqtt) token: Token,
    pub(in crate::mqtt) topic: Topic,
    /// Of the whole packet.
    pub(in crate::mqtt) bytes: usize,
    pub(in crate::mqtt) at: Instant,
}

/// What becomes of a guilty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mqtt) enum Sentence {
    /// It is sent without its payload.
    Strip,
    /// It is not sent: that ended the same way.
    Drop,
}

/// A guilty one.
#[derive(Debug, Clone)]
pub(in crate::mqtt) struct Verdict {
    pub(in crate::mqtt) guilty: InFlight,
    pub(in crate::mqtt) sentence: Sentence,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mqtt) enum End {
    /// The broker closed or reset it; `soon`: within seconds of CONNACK.
    ByBroker {
        /// See above.
        soon: bool,
    },
    /// A time limit, the network, the bridge itself.
    Otherwise,
    /// There was none: the broker could not be reached.
    Unreachable,
}

/// What is likely to have ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mqtt) enum Cause {
    /// Not known.
    Unknown,
    /// Another client of the same id: they end each other's connections.
    AnotherClient,
    /// One of the messages that were in flight.
    Message,
}

/// How far the case against one has come.
#[derive(Debug)]
struct Case {
    guilty: InFlight,
    times: u8,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(in crate::mqtt) struct Quarantine {
    /// What was handed over soon before the broker ended the last connection.
    last: HashSet<Suspect>,
    /// While there are any, one message at a time goes out.
    suspects: HashSet<Suspect>,
    case: Option<Case>,
    /// Those that were found guilty once: an event until it is acknowledged, a topic for an hour.
    stripped: HashMap<Suspect, Instant>,
    /// Topics that nothing is sent on, since when.
    banned: HashMap<Topic, Instant>,
    connected: Option<Instant>,
    /// When the last acknowledgement came on this connection.
    acknowledged: Option<Instant>,
    /// Connections in a row that the broker ended soon, with nothing unacknowledged.
    idle_ends: u32,
}

impl Quarantine {
    /// A new connection is there.
    pub(in crate::mqtt) fn connected(&mut self, now: Instant) {
        self.connected = Some(now);
        self.acknowledged = None;
    }

    /// Whether messages go out one at a time.
    pub(in crate::mqtt) fn is_suspicious(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Whether it matters if the broker was restarted.
    pub(in crate::mqtt) fn is_wary(&self) -> bool {
        self.is_suspicious() || !self.last.is_empty()
    }

    /// Whether one more may be handed over with `in_flight` unacknowledged.
    pub(in crate::mqtt) fn may_hand_over(&self, in_flight: usize) -> bool {
        in_flight == 0 || !self.is_suspicious()
    }

    /// Whether another publication is to be acknowledged before the next one is handed over.
    pub(in crate::mqtt) fn wants_proof(&self, now: Instant) -> bool {
        self.is_suspicious() && !self.is_proven(now)
    }

    fn is_proven(&self, at: Instant) -> bool {
        self.acknowledged.is_some_and(|ack| at.saturating_duration_since(ack) <= FRESH)
    }

    /// The broker was restarted since the last connection: that it ended says nothing of a message.
    pub(in crate::mqtt) fn broker_restarted(&mut self) {
        self.last.clear();
        self.case = None;
    }

    /// An acknowledgement came. `whose` is asked only where it matters.
    pub(in crate::mqtt) fn acknowledged(
        &mut self,
        whose: impl FnOnce() -> Option<Suspect>,
        now: Instant,
    ) {
        self.acknowledged = Some(now);
        if !self.is_suspicious() && self.stripped.is_empty() {
            return;
        }
        let Some(innocent) = whose() else { return };
        if self.case.as_ref().is_some_and(|case| case.suspect() == innocent) {
            self.case = None;
        }
        if matches!(innocent, Suspect::Event(_)) {
            self.stripped.remove(&innocent);
        }
        self.suspects.remove(&innocent);
        let since = self.connected.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if since >= HELD {
            self.suspects.clear();
        }
    }

    /// A connection, or an attempt, has ended with `in_flight` unacknowledged.
    pub(in crate::mqtt) fn ended(
        &mut self,
        end: End,
        in_flight: &[InFlight],
        now: Instant,
    ) -> Cause {
        let recent: HashSet<Suspect> = in_flight
            .iter()
            .filter(|one| now.saturating_duration_since(one.at) <= SOON)
            .map(InFlight::suspect)
            .collect();
        let End::ByBroker { soon } = end else {
            // Not in a row. An attempt that finds no broker says that it was restarted.
            self.broker_restarted();
            self.idle_ends = 0;
            return Cause::Unknown;
        };
        self.idle_ends = if soon && in_flight.is_empty() { self.idle_ends + 1 } else { 0 };
        if self.is_suspicious() {
            self.accuse(in_flight, &recent);
        } else {
            self.suspects = recent.intersection(&self.last).cloned().collect();
        }
        self.last = recent;
        match (self.is_suspicious(), self.idle_ends) {
            (true, _) => Cause::Message,
            (false, 2..) => Cause::AnotherClient,
            (false, _) => Cause::Unknown,
        }
    }

    fn accuse(&mut self, in_flight: &[InFlight], recent: &HashSet<Suspect>) {
        let alone = match in_flight {
            [one] if recent.contains(&one.suspect()) && self.is_proven(one.at) => one,
            // It ends without the one that stands accused, too.
            _ => {
                self.case = None;
                return;
            }
        };
        let suspect = alone.suspect();
        let times = match &self.case {
            Some(case) if case.suspect() == suspect => case.times + 1,
            _ => 1,
        };
        self.suspects.insert(suspect);
        self.case = Some(Case { guilty: alone.clone(), times });
    }

    /// Whether somebody is found guilty, so that the next connection may hold.
    pub(in crate::mqtt) fn is_settled(&self) -> bool {
        self.case.as_ref().is_some_and(|case| case.times >= TWICE)
    }

    /// Who is guilty, once: to be asked when it is known whether the broker was restarted.
    pub(in crate::mqtt) fn verdict(&mut self, now: Instant) -> Option<Verdict> {
        let Case { guilty, .. } = self.case.take_if(|case| case.times >= TWICE)?;
        let suspect = guilty.suspect();
        self.stripped.retain(|suspect, at| {
            matches!(suspect, Suspect::Event(_)) || now.saturating_duration_since(*at) < BANNED
        });
        let sentence = match self.stripped.remove(&suspect) {
            None => {
                self.stripped.insert(suspect.clone(), now);
                Sentence::Strip
            }
            Some(_) => {
                self.suspects.remove(&suspect);
                if let Suspect::Topic(topic) = suspect {
                    self.banned.insert(topic, now);
                }
                Sentence::Drop
            }
        };
        Some(Verdict { guilty, sentence })
    }

    /// Whether nothing is to be sent on `topic` now.
    pub(in crate::mqtt) fn is_banned(&mut self, topic: &Topic, now: Instant) -> bool {
        // Mostly there are none.
        if self.banned.is_empty() {
            return false;
        }
        self.banned.retain(|_, at| now.saturating_duration_since(*at) < BANNED);
        self.banned.contains_key(topic)
    }
}

impl InFlight {
    fn suspect(&self) -> Suspect {
        Suspect::new(self.token, &self.topic)
    }
}

impl Case {
    fn suspect(&self) -> Suspect {
        self.guilty.suspect()
    }
}

#[cfg(test)]
mod tests;
