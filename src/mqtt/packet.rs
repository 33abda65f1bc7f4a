//! How large a packet is, and which are too large (pure).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::topic::Topic;

/// How often the log is told of one topic.
const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Most topics that are remembered for it.
const TOPICS: usize = 1_000;

/// The largest packet that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketLimit(usize);

impl PacketLimit {
    /// At most `bytes`: topic, payload and what MQTT adds.
    pub fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    /// In bytes.
    pub fn bytes(self) -> usize {
        self.0
    }

    /// The bytes of a PUBLISH, where they are too many.
    pub fn exceeded_by(self, topic: &str, payload: usize) -> Option<usize> {
        Some(packet_bytes(topic, payload)).filter(|bytes| *bytes > self.0)
    }
}

/// The bytes of a PUBLISH of QoS 1; one of QoS 0 has two less.
pub fn packet_bytes(topic: &str, payload: usize) -> usize {
    let remaining = 2 + topic.len() + 2 + payload;
    let length = match remaining {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    };
    1 + length + remaining
}

/// Of which topics the log was told lately: each once an hour.
#[derive(Debug, Default)]
pub(super) struct LogLimit(HashMap<Topic, Instant>);

impl LogLimit {
    /// Whether the log is to be told of `topic` now.
    pub(super) fn admits(&mut self, topic: &Topic, now: Instant) -> bool {
        let lately = |at: &Instant| now.saturating_duration_since(*at) < INTERVAL;
        if self.0.get(topic).is_some_and(lately) {
            return false;
        }
        if self.0.len() >= TOPICS {
            self.0.retain(|_, at| lately(at));
        }
        // Names from outside are as many as somebody likes: beyond the bound, nothing is said.
        let room = self.0.len() < TOPICS;
        if room {
            self.0.insert(topic.clone(), now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rumqttc::{Packet, Publish, QoS};

    use super::*;

    proptest! {
        #[test]
        fn the_size_is_that_of_the_packet(topic in "[a-z]{1,300}", payload in 0..20_000_usize) {
            let mut publish = Publish::new(&topic, QoS::AtLeastOnce, vec![b'x'; payload]);
            publish.pkid = 1;
            let mut written = bytes::BytesMut::new();
            Packet::Publish(publish).write(&mut written, usize::MAX).unwrap();
            prop_assert_eq!(packet_bytes(&topic, payload), written.len());
            let limit = PacketLimit::new(written.len());
            prop_assert_eq!(limit.exceeded_by(&topic, payload), None);
            prop_assert!(limit.exceeded_by(&topic, payload + 1).is_some());
        }
    }

    #[test]
    fn the_log_is_told_once_a_topic_and_hour() {
        let (mut limit, start) = (LogLimit::default(), Instant::now());
        let (a, b) = (Topic::from("a"), Topic::from("b"));
        assert!(limit.admits(&a, start) && limit.admits(&b, start));
        assert!(!limit.admits(&a, start + INTERVAL - Duration::from_secs(1)));
        assert!(limit.admits(&a, start + INTERVAL));
        let count = (0..3 * TOPICS).filter(|n| limit.admits(&n.to_string().into(), start)).count();
        assert_eq!(count, TOPICS - 2, "and it stays bounded");
        assert!(limit.admits(&"later".into(), start + 2 * INTERVAL));
    }
}
