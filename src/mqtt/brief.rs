//! Short-lived connections beside the bridge's own: with a client id of their own and no last will,
//! so that they never disturb a running bridge.

use std::collections::BTreeSet;
use std::time::Duration;

use rumqttc::QoS;

use super::broker::connection::Connection;
use super::broker::lost::Lost;
use super::broker::options::Options;
use super::outbox::entry::{Outgoing, Slot, Token};
use super::reading;
use crate::clock;
use crate::mqtt::publication::Incoming;
use crate::topics::Topic;

/// Largest message that is read back, in bytes: other programs' messages are not ours to bound.
const MAX_INCOMING: usize = 64 * 1024 * 1024;
/// Packet ids: more than are in flight at a time.
const PACKET_IDS: u16 = 256;
/// How long the broker may take over one answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads what is retained below `filters`. `marker` is a topic that this user may write and read:
/// what is published there tells when all has come.
///
/// # Errors
/// Why it could not be read, or not to its end.
pub async fn retained(
    options: &Options,
    filters: &[&str],
    marker: &Topic,
) -> Result<Vec<Incoming>, Lost> {
    let options = short_lived(options);
    let mut connection = Connection::open(&options, &BTreeSet::new(), false).await?;
    let filters = filters.iter().copied().chain([marker.as_str()]).map(str::to_owned).collect();
    // Of what a broker must queue until it is acknowledged, Mosquitto drops what exceeds a thousand
    // messages.
    within(connection.subscribe(&filters, QoS::AtMostOnce)).await?;
    let read = reading::read(&mut connection, marker, &options.client_id).await?;
    connection.disconnect().await;
    Ok(read)
}

/// Clears what is retained on `topics`, and waits until the broker has it.
///
/// # Errors
/// Why it could not be cleared.
pub async fn clear(options: &Options, topics: &[Topic]) -> Result<(), Lost> {
    let mut connection = Connection::open(&short_lived(options), &BTreeSet::new(), false).await?;
    for (topic, sequence) in topics.iter().zip(0..) {
        let token = Some(Token { lane: 0, slot: Slot::Passing { sequence } });
        let (topic, payload) = (topic.clone(), bytes::Bytes::new());
        connection.publish(Outgoing { token, topic, payload, retain: true }, clock::now())?;
        within(async {
            while connection.next().await?.acknowledged.is_none() {}
            Ok(())
        })
        .await?;
    }
    connection.disconnect().await;
    Ok(())
}

/// Options of a client that disturbs no running bridge.
fn short_lived(options: &Options) -> Options {
    let client_id = format!("{}-{:08x}", options.client_id, fastrand::u32(..));
    Options {
        client_id,
        last_will: None,
        max_incoming: MAX_INCOMING,
        packet_ids: PACKET_IDS,
        ..options.clone()
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
    tokio::time::timeout(LIMIT, answer).await.unwrap_or(Err(Lost::TimedOut))
}
