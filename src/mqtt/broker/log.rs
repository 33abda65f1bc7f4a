//! Log lines about the connection to the broker, with limits on how often each repeats.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rumqttc::SubscribeReasonCode;

use crate::clock;
use crate::mqtt::outbox::quarantine::{RejectAction, Rejection, SuspectedCause};
use crate::topic::Topic;

/// Shortest interval between log lines about drops, or about the same connection error.
const INTERVAL: Duration = Duration::from_secs(60);
/// Shortest interval between log lines about one topic.
const TOPIC_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Most topics remembered for that.
const TOPICS: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct BrokerLog {
    drops: Option<(u64, Instant)>,
    lost: Option<Instant>,
    oversize: LogLimit,
}

impl BrokerLog {
    /// Logs that there is no connection: a new reason at once, a `known` one once a minute.
    pub(super) fn lost(&mut self, lost: &str, known: bool, pause: Duration) {
        let recent = self.lost.is_some_and(|at| at.elapsed() < INTERVAL);
        let pause = pause.as_secs_f32();
        if known && recent {
            tracing::debug!("{lost}; next attempt in {pause:.1} s");
            return;
        }
        self.lost = Some(clock::now());
        tracing::warn!("{lost}; next attempt in {pause:.1} s");
    }

    /// Logs that a message is too large, once per topic and hour.
    pub(super) fn oversize(&mut self, topic: &Topic, bytes: usize, limit: usize, left_out: bool) {
        if !self.oversize.admits(topic, clock::now()) {
            return;
        }
        let max_packet_size = limit;
        if left_out {
            tracing::error!(%topic, bytes, max_packet_size, "skipped a message that is too large for the broker; see mqtt.max_packet_size");
        } else {
            tracing::warn!(%topic, bytes, max_packet_size, "shortened a message that is too large for the broker; see mqtt.max_packet_size");
        }
    }

    /// Logs that events are being dropped: at once, then once a minute.
    pub(super) fn drops(&mut self, dropped: u64) {
        let quiet = self.drops.is_some_and(|(_, at)| at.elapsed() < INTERVAL);
        let logged = self.drops.map_or(0, |(logged, _)| logged);
        if dropped > logged && !quiet {
            self.drops = Some((dropped, clock::now()));
            tracing::warn!(
                dropped = dropped - logged,
                "the outbox is full: events were dropped, the least worth first; see outbox.max_events and outbox.max_bytes"
            );
        }
    }
}

pub(super) fn rejection(rejection: &Rejection) {
    let Rejection { message, action } = rejection;
    let (topic, bytes) = (&message.topic, message.bytes);
    let cause = "each time that it was given this message alone, the broker ended the connection; it may be larger than the broker takes (see mqtt.max_packet_size), or the broker's access rules may forbid the topic";
    match action {
        RejectAction::Strip => {
            tracing::error!(%topic, bytes, "sent an event without its payload: {cause}");
        }
        RejectAction::Drop => {
            tracing::error!(%topic, bytes, "dropped an event that is rejected even without its payload: {cause}");
        }
    }
}

pub(super) fn refused_filters(filters: &[String], codes: &[SubscribeReasonCode]) {
    let refused = |(_, code): &(_, &SubscribeReasonCode)| **code == SubscribeReasonCode::Failure;
    for (filter, _) in filters.iter().zip(codes).filter(refused) {
        tracing::error!(%filter, "the broker refused the subscription, so what is published there does not arrive; allow this user to read these topics in the broker's access rules");
    }
}

pub(super) fn suspicion_hint(cause: SuspectedCause) -> &'static str {
    match cause {
        SuspectedCause::Unknown => "",
        SuspectedCause::AnotherClient => {
            "; so soon after the start, twice, another client may be using the same mqtt.client_id"
        }
        SuspectedCause::Message => {
            "; the broker may not take one of the messages; they go out one at a time until it is found"
        }
    }
}

#[derive(Debug, Default)]
struct LogLimit(HashMap<Topic, Instant>);

impl LogLimit {
    fn admits(&mut self, topic: &Topic, now: Instant) -> bool {
        let lately = |at: &Instant| now.saturating_duration_since(*at) < TOPIC_INTERVAL;
        if self.0.get(topic).is_some_and(lately) {
            return false;
        }
        if self.0.len() >= TOPICS {
            self.0.retain(|_, at| lately(at));
        }
        // Topics are made of names from outside, so their number is not bounded otherwise.
        let room = self.0.len() < TOPICS;
        if room {
            self.0.insert(topic.clone(), now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_logged_once_an_hour() {
        let (mut limit, start) = (LogLimit::default(), Instant::now());
        let (a, b) = (Topic::from("a"), Topic::from("b"));
        assert!(limit.admits(&a, start) && limit.admits(&b, start));
        assert!(!limit.admits(&a, start + TOPIC_INTERVAL - Duration::from_secs(1)));
        assert!(limit.admits(&a, start + TOPIC_INTERVAL));
        let count = (0..3 * TOPICS).filter(|n| limit.admits(&n.to_string().into(), start)).count();
        assert_eq!(count, TOPICS - 2, "and it stays bounded");
        assert!(limit.admits(&"later".into(), start + 2 * TOPIC_INTERVAL));
    }
}
