//! Reads and clears retained messages, over short-lived connections beside the bridge's own. They
//! have a client id of their own and no last will, so they never disturb a running bridge.
//!
//! MQTT does not say when all retained messages have arrived, and silence does not either: the
//! broker may be busy. So the bridge publishes markers to itself.
//!
//! A broker sends retained messages when it accepts the subscription, and later publications after
//! them; once a marker comes back, all of them have arrived. Some brokers (EMQX) look retained
//! messages up in parallel. So another marker follows after a pause, for as long as retained
//! messages arrived before the last one. A slow or frozen broker returns its markers late, so the
//! reading takes as long as the broker needs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rumqttc::QoS;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::broker::api::Options;
use super::broker::connection::{Arrived, Connection};
use super::broker::lost::Lost;
use super::outbox::entry::{Outgoing, Slot, Token};
use super::publication::Incoming;
use crate::clock;
use crate::topics::Topic;

/// Largest message read, in bytes: other programs' messages are not ours to bound.
const MAX_INCOMING: usize = 64 * 1024 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two markers: time for a broker that sends retained messages a little later.
const PAUSE: Duration = Duration::from_millis(50);
/// Interval after which a missing marker is published again, unless retained messages arrive: a
/// broker whose queue for this client is full drops messages.
const REPEAT: Duration = Duration::from_secs(1);
/// Markers acknowledged without one coming back after which this user is taken to lack the
/// permission to read or write them.
const MUTE: u64 = 10;
/// Silence after which the broker is taken to be gone.
const SILENCE: Duration = Duration::from_secs(30);
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// A short-lived connection.
pub struct Visit {
    connection: Connection,
    client_id: String,
}

impl Visit {
    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn open(options: &Options) -> Result<Self, Lost> {
        let options = short_lived(options);
        let connection = Connection::open(&options, &BTreeSet::new(), false).await?;
        Ok(Self { connection, client_id: options.client_id })
    }

    /// Reads the retained messages of `filters`. `marker` is a topic that this user may write and
    /// read. To be called once.
    ///
    /// # Errors
    /// Why they could not be read, or not completely.
    pub async fn retained(
        &mut self,
        filters: &[&str],
        marker: &Topic,
    ) -> Result<Vec<Incoming>, Lost> {
        let filters = filters.iter().copied().chain([marker.as_str()]).map(str::to_owned).collect();
        // QoS 0: of messages that need acknowledging, Mosquitto queues a thousand and drops the rest.
        within(self.connection.subscribe(&filters, QoS::AtMostOnce)).await?;
        read(&mut self.connection, marker, &self.client_id).await
    }

    /// Clears the retained messages on `topics`, and waits for the broker's acknowledgements.
    ///
    /// # Errors
    /// Why they could not be cleared.
    pub async fn clear(&mut self, topics: &[Topic]) -> Result<(), Lost> {
        for (topic, sequence) in topics.iter().zip(0..) {
            let token = Some(Token { lane: 0, slot: Slot::Transient { sequence } });
            let payload = bytes::Bytes::new();
            let outgoing = Outgoing { token, topic: topic.clone(), payload, retain: true };
            self.connection.publish(outgoing, clock::now())?;
            within(async {
                // The last marker may be acknowledged only now.
                let is_cleared = |arrived: Arrived| {
                    arrived.acknowledged.is_some_and(|message| message.topic == *topic)
                };
                while !is_cleared(self.connection.next().await?) {}
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Disconnects.
    pub async fn end(mut self) {
        self.connection.disconnect().await;
    }
}

/// Reads the retained messages of `filters` over a connection of its own: see [`Visit::retained`].
///
/// # Errors
/// Why they could not be read, or not completely.
pub async fn retained(
    options: &Options,
    filters: &[&str],
    marker: &Topic,
) -> Result<Vec<Incoming>, Lost> {
    let mut visit = Visit::open(options).await?;
    let read = visit.retained(filters, marker).await?;
    visit.end().await;
    Ok(read)
}

fn short_lived(options: &Options) -> Options {
    let client_id = format!("{}-{:08x}", options.client_id, fastrand::u32(..));
    Options { client_id, last_will: None, max_incoming: MAX_INCOMING, ..options.clone() }
}

async fn within<T>(answer: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.unwrap_or(Err(Lost::TimedOut))
}

#[derive(Debug, Serialize, Deserialize)]
struct Marker<'a> {
    /// The client that published it: others publish markers, too.
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    /// Counts up from 1.
    number: u64,
}

/// Reads retained messages from a connection of `client_id` that has subscribed to them and to
/// `topic`, the topic of its markers.
async fn read(
    connection: &mut Connection,
    topic: &Topic,
    client_id: &str,
) -> Result<Vec<Incoming>, Lost> {
    let early = connection.take_early();
    let mut reader = RetainedReader {
        connection,
        topic,
        client_id,
        sent: 0,
        acknowledged: 0,
        returned: 0,
        has_gap: false,
        news: false,
        read: Vec::new(),
    };
    early.into_iter().for_each(|incoming| reader.take_incoming(incoming));
    tokio::time::timeout(READ_TIMEOUT, reader.finish()).await.unwrap_or(Err(Lost::NotReadBack))?;
    if reader.has_gap {
        tracing::warn!(
            "the broker dropped messages to the bridge, so it may not have sent all retained messages, and removed entities may stay in Home Assistant; raise its limit of queued messages (max_queued_messages of Mosquitto)"
        );
    }
    Ok(reader.read)
}

struct RetainedReader<'a> {
    connection: &'a mut Connection,
    topic: &'a Topic,
    client_id: &'a str,
    sent: u64,
    acknowledged: u64,
    /// Number of the last marker that came back.
    returned: u64,
    /// Whether a marker came back before an earlier one.
    has_gap: bool,
    /// Whether a retained message has arrived since the last marker came back.
    news: bool,
    read: Vec<Incoming>,
}

impl RetainedReader<'_> {
    async fn finish(&mut self) -> Result<(), Lost> {
        let mut seen = self.until_marked().await?;
        while seen {
            self.news = false;
            self.take_for(PAUSE).await?;
            seen = self.until_marked().await?;
            if !self.news {
                break;
            }
        }
        if !seen {
            tracing::warn!(topic = %self.topic, "the broker does not send the bridge what it publishes here, so the bridge assumes that it has all retained messages after ten seconds of silence; check the broker's access rules for this user, who must write and read everything below mqtt.base_topic");
        }
        Ok(())
    }

    /// Publishes a marker and receives until it is back; returns `false` if none ever comes back.
    async fn until_marked(&mut self) -> Result<bool, Lost> {
        let mut due = self.publish_marker()?;
        while self.returned < self.sent {
            match self.next_by(due).await? {
                Some(arrived) => {
                    let before = self.read.len();
                    self.take(arrived);
                    if self.read.len() > before {
                        due = clock::now() + REPEAT;
                    }
                }
                None if self.returned == 0 && self.acknowledged >= MUTE => return Ok(false),
                None => {
                    let silent =
                        clock::now().saturating_duration_since(self.connection.last_heard());
                    if silent > SILENCE {
                        return Err(Lost::NotReadBack);
                    }
                    due = self.publish_marker()?;
                }
            }
        }
        Ok(true)
    }

    async fn take_for(&mut self, pause: Duration) -> Result<(), Lost> {
        let until = clock::now() + pause;
        while let Some(arrived) = self.next_by(until).await? {
            self.take(arrived);
        }
        Ok(())
    }

    async fn next_by(&mut self, until: Instant) -> Result<Option<Arrived>, Lost> {
        tokio::time::timeout_at(until.into(), self.connection.next()).await.ok().transpose()
    }

    /// Publishes a marker and returns when the next one is due.
    fn publish_marker(&mut self) -> Result<Instant, Lost> {
        let now = clock::now();
        self.sent += 1;
        let token = Some(Token { lane: 0, slot: Slot::Transient { sequence: self.sent } });
        let marker = Marker { client_id: self.client_id.into(), number: self.sent };
        let (topic, payload) = (self.topic.clone(), json!(marker).to_string().into());
        self.connection.publish(Outgoing { token, topic, payload, retain: false }, now)?;
        Ok(now + REPEAT)
    }

    fn take(&mut self, arrived: Arrived) {
        self.acknowledged += u64::from(arrived.acknowledged.is_some());
        if let Some(incoming) = arrived.incoming {
            self.take_incoming(incoming);
        }
    }

    fn take_incoming(&mut self, incoming: Incoming) {
        if incoming.topic == *self.topic {
            self.take_marker(&incoming.payload);
        } else if incoming.retained && !incoming.payload.is_empty() {
            self.news = true;
            self.read.push(incoming);
        }
    }

    fn take_marker(&mut self, payload: &[u8]) {
        let Ok(Marker { client_id, number }) = serde_json::from_slice(payload) else { return };
        if client_id == self.client_id && number > self.returned {
            self.has_gap |= number > self.returned + 1;
            self.returned = number;
        }
    }
}

#[cfg(test)]
mod tests;
