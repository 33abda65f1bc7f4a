//! Reading back what is retained. MQTT does not say when all of it has come, and a silence does not
//! either: a broker may be busy. So the bridge publishes markers to itself.
//!
//! A broker sends what is retained when it takes the subscription, and what is published after that
//! behind it; so where a marker comes back, all of it has come. Some brokers (EMQX) look retained
//! messages up beside that. So a second marker follows after a pause, and another one for as long as
//! retained messages came before it. A marker comes back late from a broker that is slow, frozen or
//! swapped out, and so the reading takes as long as that broker needs.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::broker::connection::{Arrived, Connection};
use super::broker::lost::Lost;
use super::outbox::entry::{Outgoing, Slot, Token};
use super::publication::Incoming;
use crate::clock;
use crate::topics::Topic;

/// Between two markers: time for a broker that sends what is retained some moments later.
const PAUSE: Duration = Duration::from_millis(50);
/// After how long without its return and without a retained message a marker is published again: a
/// broker whose queue for this client is full drops messages.
const REPEAT: Duration = Duration::from_secs(1);
/// After so many markers that the broker has acknowledged and sent back none of, it does not let
/// this user read or write them.
const MUTE: u64 = 10;
/// A broker from which nothing comes for so long does not answer any more.
const SILENCE: Duration = Duration::from_secs(30);
/// Bound on the whole.
const LIMIT: Duration = Duration::from_secs(120);

/// What is published as a marker.
#[derive(Debug, Serialize, Deserialize)]
struct Marker<'a> {
    /// Whose it is: other clients publish markers, too.
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    /// Counts up from 1.
    number: u64,
}

/// Reads what is retained from a connection of `client_id` that has subscribed to it and to
/// `topic`, where its markers go.
///
/// # Errors
/// Why it could not be read to its end.
pub(super) async fn read(
    connection: &mut Connection,
    topic: &Topic,
    client_id: &str,
) -> Result<Vec<Incoming>, Lost> {
    let read = connection.take_early();
    let mut reading = Reading {
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
    read.into_iter().for_each(|incoming| reading.take_incoming(incoming));
    tokio::time::timeout(LIMIT, reading.finish()).await.unwrap_or(Err(Lost::NotReadBack))?;
    if reading.has_gap {
        tracing::warn!(
            "the broker dropped messages to the bridge, so it may not have sent all that is retained, and what is gone may stay in Home Assistant; raise its limit of queued messages (max_queued_messages of Mosquitto)"
        );
    }
    Ok(reading.read)
}

struct Reading<'a> {
    connection: &'a mut Connection,
    /// Where its markers go.
    topic: &'a Topic,
    client_id: &'a str,
    /// How many markers were published.
    sent: u64,
    acknowledged: u64,
    /// The number of the last one that came back.
    returned: u64,
    /// Whether one came back and an earlier one did not.
    has_gap: bool,
    /// Whether a retained message has come since the last marker came back.
    news: bool,
    read: Vec<Incoming>,
}

impl Reading<'_> {
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
            tracing::warn!(topic = %self.topic, "the broker does not send the bridge what it publishes here, which would tell when all that is retained has come: a silence of ten seconds is taken for it; check the broker's access rules for this user, who must write and read everything below mqtt.base_topic");
        }
        Ok(())
    }

    /// Publishes a marker, and takes in what comes until it is back; `false` where none ever is.
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
                    let silent = clock::now().saturating_duration_since(self.connection.heard());
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

    /// Yields when the next one is due.
    fn publish_marker(&mut self) -> Result<Instant, Lost> {
        let now = clock::now();
        self.sent += 1;
        let token = Some(Token { lane: 0, slot: Slot::Passing { sequence: self.sent } });
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
