//! Finds the message that the broker rejects, so that it blocks no other (pure).
//!
//! A broker's only answer to a message it rejects is to end the connection. The message stays
//! unacknowledged, and would be sent first on every new connection, for ever. But connections end
//! for many reasons, and no message may be lost for those. So a message becomes suspect only if the
//! broker itself ended two connections in a row soon after it was sent. Then messages go out one at
//! a time, and one is rejected only if it was alone in flight, twice in a row, right after another
//! was acknowledged. A broker that was restarted meanwhile proves nothing.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::entry::{Slot, Token};
use crate::topic::Topic;

/// Longest time between sending a message and the end of the connection it may have caused.
const SOON: Duration = Duration::from_secs(5);
/// Age above which an acknowledgement proves nothing about the broker.
const FRESH: Duration = Duration::from_secs(1);
/// Time without anything held back on purpose after which all suspicion ends: the suspects are gone.
const HELD: Duration = Duration::from_secs(60);
/// Consecutive connections that a message must have ended alone to be rejected.
const TWICE: u8 = 2;
/// Time without publications on a topic that the broker rejects even empty.
const BANNED: Duration = Duration::from_secs(60 * 60);

/// A message that may have ended a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::mqtt) enum Suspect {
    /// An event, which is sent again until it is acknowledged.
    Event(Token),
    /// Anything else: a topic whose newest value counts, or whose messages are dropped with the
    /// connection.
    Topic(Topic),
}

impl Suspect {
    pub(in crate::mqtt) fn new(token: Token, topic: &Topic) -> Self {
        match token.slot {
            Slot::Event { .. } => Self::Event(token),
            Slot::State { .. } | Slot::Transient { .. } => Self::Topic(topic.clone()),
        }
    }
}

#[derive(Debug, Clone)]
pub(in crate::mqtt) struct InFlightMessage {
    pub(in crate::mqtt) token: Token,
    pub(in crate::mqtt) topic: Topic,
    pub(in crate::mqtt) bytes: usize,
    pub(in crate::mqtt) at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mqtt) enum RejectAction {
    /// It is sent without its payload.
    Strip,
    /// It is dropped, because it was rejected even without its payload.
    Drop,
}

#[derive(Debug, Clone)]
pub(in crate::mqtt) struct Rejection {
    pub(in crate::mqtt) message: InFlightMessage,
    pub(in crate::mqtt) action: RejectAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mqtt) enum EndCause {
    /// The broker closed or reset it; `soon`: within seconds of CONNACK.
    ByBroker { soon: bool },
    /// By a timeout, the network, or the bridge itself.
    Otherwise,
    /// The broker could not be reached.
    Unreachable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mqtt) enum SuspectedCause {
    Unknown,
    /// Another client with the same id: they end each other's connections.
    AnotherClient,
    /// One of the messages in flight.
    Message,
}

/// The evidence against one message.
#[derive(Debug)]
struct Case {
    message: InFlightMessage,
    /// Consecutive connections that it ended alone.
    times: u8,
}

#[derive(Debug, Default)]
pub(in crate::mqtt) struct Quarantine {
    /// Messages sent soon before the broker ended the last connection.
    last: HashSet<Suspect>,
    /// While there are any, messages go out one at a time.
    suspects: HashSet<Suspect>,
    case: Option<Case>,
    /// Messages rejected once: an event until it is acknowledged, a topic for an hour.
    stripped: HashMap<Suspect, Instant>,
    /// Topics without publications, and since when.
    banned: HashMap<Topic, Instant>,
    /// Since when nothing is held back on purpose on this connection.
    opened: Option<Instant>,
    acknowledged: Option<Instant>,
    /// How many proofs ended their connections.
    failed_proofs: usize,
    /// Consecutive connections that the broker ended soon, with nothing in flight.
    idle_ends: u32,
}

impl Quarantine {
    pub(in crate::mqtt) fn connected(&mut self) {
        self.opened = None;
        self.acknowledged = None;
    }

    /// Nothing is held back on purpose: what is suspected is sent.
    pub(in crate::mqtt) fn opened(&mut self, now: Instant) {
        self.opened.get_or_insert(now);
    }

    pub(in crate::mqtt) fn is_suspicious(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Whether a restart of the broker matters.
    pub(in crate::mqtt) fn is_wary(&self) -> bool {
        self.is_suspicious() || !self.last.is_empty()
    }

    pub(in crate::mqtt) fn may_send(&self, in_flight: usize) -> bool {
        in_flight == 0 || !self.is_suspicious()
    }

    /// Whether another publication must be acknowledged before the next one is sent.
    pub(in crate::mqtt) fn wants_proof(&self, now: Instant) -> bool {
        self.is_suspicious() && !self.is_proven(now)
    }

    /// Returns which of the possible proofs to use: another one after each that ended its connection,
    /// for that may be the message that the broker rejects.
    pub(in crate::mqtt) fn proof(&self) -> usize {
        self.failed_proofs
    }

    fn is_proven(&self, at: Instant) -> bool {
        self.acknowledged.is_some_and(|ack| at.saturating_duration_since(ack) <= FRESH)
    }

    /// The broker was restarted, so the end of the last connection says nothing about a message.
    pub(in crate::mqtt) fn broker_restarted(&mut self) {
        self.last.clear();
        self.case = None;
    }

    /// An acknowledgement arrived. `suspect` is called only if it matters.
    pub(in crate::mqtt) fn acknowledged(
        &mut self,
        suspect: impl FnOnce() -> Option<Suspect>,
        now: Instant,
    ) {
        self.acknowledged = Some(now);
        if !self.is_suspicious() && self.stripped.is_empty() {
            return;
        }
        let Some(innocent) = suspect() else { return };
        if self.case.as_ref().is_some_and(|case| case.suspect() == innocent) {
            self.case = None;
        }
        if matches!(innocent, Suspect::Event(_)) {
            self.stripped.remove(&innocent);
        }
        self.suspects.remove(&innocent);
        let since = self.opened.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if since >= HELD {
            self.suspects.clear();
        }
    }

    pub(in crate::mqtt) fn ended(
        &mut self,
        end: EndCause,
        in_flight: &[InFlightMessage],
        now: Instant,
    ) -> SuspectedCause {
        let recent: HashSet<Suspect> = in_flight
            .iter()
            .filter(|one| now.saturating_duration_since(one.at) <= SOON)
            .map(InFlightMessage::suspect)
            .collect();
        let EndCause::ByBroker { soon } = end else {
            // Not two in a row. An attempt that finds no broker means that it was restarted.
            self.broker_restarted();
            self.idle_ends = 0;
            return SuspectedCause::Unknown;
        };
        self.idle_ends = if soon && in_flight.is_empty() { self.idle_ends + 1 } else { 0 };
        if self.is_suspicious() {
            self.accuse(in_flight, &recent);
        } else {
            self.suspects = recent.intersection(&self.last).cloned().collect();
        }
        self.last = recent;
        match (self.is_suspicious(), self.idle_ends) {
            (true, _) => SuspectedCause::Message,
            (false, 2..) => SuspectedCause::AnotherClient,
            (false, _) => SuspectedCause::Unknown,
        }
    }

    fn accuse(&mut self, in_flight: &[InFlightMessage], recent: &HashSet<Suspect>) {
        let alone = match in_flight {
            [one] if recent.contains(&one.suspect()) && self.is_proven(one.at) => one,
            // The connection ended without the accused message.
            others => {
                self.failed_proofs += usize::from(others.len() == 1 && self.acknowledged.is_none());
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
        self.case = Some(Case { message: alone.clone(), times });
    }

    /// Whether a message was found, so that the next connection may last.
    pub(in crate::mqtt) fn is_settled(&self) -> bool {
        self.case.as_ref().is_some_and(|case| case.times >= TWICE)
    }

    /// Returns the rejected message, once. Must be called only when it is known whether the broker
    /// was restarted.
    pub(in crate::mqtt) fn rejection(&mut self, now: Instant) -> Option<Rejection> {
        let Case { message, .. } = self.case.take_if(|case| case.times >= TWICE)?;
        let suspect = message.suspect();
        self.stripped.retain(|suspect, at| {
            matches!(suspect, Suspect::Event(_)) || now.saturating_duration_since(*at) < BANNED
        });
        let action = match self.stripped.remove(&suspect) {
            None => {
                self.stripped.insert(suspect.clone(), now);
                RejectAction::Strip
            }
            Some(_) => {
                self.suspects.remove(&suspect);
                if let Suspect::Topic(topic) = suspect {
                    self.banned.insert(topic, now);
                }
                RejectAction::Drop
            }
        };
        Some(Rejection { message, action })
    }

    pub(in crate::mqtt) fn is_banned(&mut self, topic: &Topic, now: Instant) -> bool {
        // The usual case.
        if self.banned.is_empty() {
            return false;
        }
        self.banned.retain(|_, at| now.saturating_duration_since(*at) < BANNED);
        self.banned.contains_key(topic)
    }
}

impl InFlightMessage {
    fn suspect(&self) -> Suspect {
        Suspect::new(self.token, &self.topic)
    }
}

impl Case {
    fn suspect(&self) -> Suspect {
        self.message.suspect()
    }
}

#[cfg(test)]
mod tests;
