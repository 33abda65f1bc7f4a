//! What the log is told of the connection to the broker, and what it was told lately.

use std::time::{Duration, Instant};

use rumqttc::SubscribeReasonCode;

use crate::clock;
use crate::mqtt::outbox::quarantine::{Cause, Sentence, Verdict};
use crate::mqtt::packet::LogLimit;
use crate::topic::Topic;

/// How often the log is told of drops, and of one reason why there is no connection, at most.
const INTERVAL: Duration = Duration::from_secs(60);

/// What the log was told lately.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// How many drops it was told of, and when.
    drops: Option<(u64, Instant)>,
    /// When it was told last that there is no connection.
    lost: Option<Instant>,
    oversize: LogLimit,
}

impl Said {
    /// Says that there is no connection: at once where that is news, and else once a minute.
    pub(super) fn lost(&mut self, lost: &str, known: bool, pause: Duration) {
        let told = self.lost.is_some_and(|at| at.elapsed() < INTERVAL);
        let pause = pause.as_secs_f32();
        if known && told {
            tracing::debug!("{lost}; next attempt in {pause:.1} s");
            return;
        }
        self.lost = Some(clock::now());
        tracing::warn!("{lost}; next attempt in {pause:.1} s");
    }

    /// Says that a message is too large, once a topic and hour.
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

    /// Says that events are being dropped: at once, and then once a minute.
    pub(super) fn drops(&mut self, dropped: u64) {
        let quiet = self.drops.is_some_and(|(_, at)| at.elapsed() < INTERVAL);
        let told = self.drops.map_or(0, |(told, _)| told);
        if dropped > told && !quiet {
            self.drops = Some((dropped, clock::now()));
            tracing::warn!(
                dropped = dropped - told,
                "the outbox is full: events were dropped, the least worth first; see outbox.max_events and outbox.max_bytes"
            );
        }
    }
}

/// Says what becomes of a message that the broker does not take.
pub(super) fn sentence(verdict: &Verdict) {
    let Verdict { guilty, sentence } = verdict;
    let (topic, bytes) = (&guilty.topic, guilty.bytes);
    let cause = "each time that it was given this message alone, the broker ended the connection; it may be larger than the broker takes (see mqtt.max_packet_size), or the broker's access rules may forbid the topic";
    match sentence {
        Sentence::Strip => {
            tracing::error!(%topic, bytes, "sent an event without its payload: {cause}");
        }
        Sentence::Drop => {
            tracing::error!(%topic, bytes, "dropped an event that is rejected even without its payload: {cause}");
        }
    }
}

/// Says which of these filters the broker refused.
pub(super) fn refused(filters: &[&String], codes: &[SubscribeReasonCode]) {
    let refused = |(_, code): &(_, &SubscribeReasonCode)| **code == SubscribeReasonCode::Failure;
    for (filter, _) in filters.iter().zip(codes).filter(refused) {
        tracing::error!(%filter, "the broker refused the subscription, so what is published there does not arrive; allow this user to read these topics in the broker's access rules");
    }
}

/// What may have ended a connection, to be said after why it ended.
pub(super) fn hint(cause: Cause) -> &'static str {
    match cause {
        Cause::Unknown => "",
        Cause::AnotherClient => {
            "; so soon after the start, twice, another client may be using the same mqtt.client_id"
        }
        Cause::Message => {
            "; the broker may not take one of the messages; they go out one at a time until it is found"
        }
    }
}
