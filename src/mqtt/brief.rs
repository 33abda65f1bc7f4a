//! Short-lived connections beside the bridge's own: with a client id of their own and no last will,
//! so that they never disturb a running bridge.

use std::collections::BTreeSet;
use std::time::Duration;

use super::broker::connection::Connection;
use super::broker::lost::Lost;
use super::broker::options::Options;
use super::outbox::entry::{Outgoing, Slot, Token};
use crate::clock;
use crate::mqtt::publication::Incoming;
use crate::topics::Topic;

/// Largest message that is read back, in bytes: other programs' messages are not ours to bound.
const MAX_INCOMING: usize = 64 * 1024 * 1024;
/// Packet ids, at least: one publication is in flight at a time.
const PACKET_IDS: u16 = 16;
/// For how long nothing comes when all retained messages have come. Some brokers send them some
/// time after the acknowledgement of the subscription.
const QUIET: Duration = Duration::from_millis(50);
/// Bound on the whole.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads what is retained below `filters`.
///
/// # Errors
/// Why it could not be read.
pub async fn retained(options: &Options, filters: &[&str]) -> Result<Vec<Incoming>, Lost> {
    within(async {
        let mut connection = open(options, filters.len()).await?;
        let filters: BTreeSet<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
        connection.subscribe(&filters).await?;
        let mut read = connection.take_early();
        while let Ok(arrived) = tokio::time::timeout(QUIET, connection.next()).await {
            read.extend(arrived?.incoming);
        }
        connection.disconnect().await;
        read.retain(|message| message.retained && !message.payload.is_empty());
        Ok(read)
    })
    .await
}

/// Clears what is retained on `topics`, and waits until the broker has it.
///
/// # Errors
/// Why it could not be cleared.
pub async fn clear(options: &Options, topics: &[Topic]) -> Result<(), Lost> {
    within(async {
        let mut connection = open(options, 0).await?;
        for (topic, sequence) in topics.iter().zip(0..) {
            let token = Some(Token { lane: 0, slot: Slot::Passing { sequence } });
            let topic = topic.clone();
            let payload = bytes::Bytes::new();
            connection.publish(Outgoing { token, topic, payload, retain: true }, clock::now())?;
            while connection.next().await?.acknowledged.is_none() {}
        }
        connection.disconnect().await;
        Ok(())
    })
    .await
}

/// `filters` is how many will be subscribed to, with all packets in flight together.
async fn open(options: &Options, filters: usize) -> Result<Connection, Lost> {
    let mut options = options.clone();
    options.client_id = short_lived_client_id(&options.client_id);
    options.last_will = None;
    options.max_incoming = MAX_INCOMING;
    options.packet_ids = u16::try_from(filters).unwrap_or(u16::MAX).max(PACKET_IDS);
    Connection::open(&options, &BTreeSet::new(), false).await
}

async fn within<T>(work: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
    tokio::time::timeout(LIMIT, work).await.unwrap_or(Err(Lost::TimedOut))
}

/// A client id that disturbs no running bridge.
fn short_lived_client_id(client_id: &str) -> String {
    format!("{client_id}-{:08x}", fastrand::u32(..))
}
