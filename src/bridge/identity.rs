//! The bridge's identity, and other bridges below the same base topic.
//!
//! A bridge is identified by its `mqtt.client_id` without the suffix of a shard: shards are one
//! bridge. The identity is in `B/bridge/info` and in each discovery message. A printer's topics
//! belong to the bridge that its discovery message names, and no other bridge removes them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::config::Mqtt;
use crate::mqtt::Incoming;
use crate::ordered;
use crate::store::{BRIDGE, Known, Store};

const IDENTITIES: &str = "identities";

/// A bridge's identity, and those it had with earlier client ids.
#[derive(Debug, Clone)]
pub struct Identity {
    current: String,
    earlier: BTreeSet<String>,
}

impl Identity {
    /// The identity `current`, with the earlier ones in `known`.
    pub fn recall(current: &str, known: &Known) -> Self {
        let mut earlier: BTreeSet<String> = known.get(BRIDGE, IDENTITIES).unwrap_or_default();
        earlier.remove(current);
        Self { current: current.to_owned(), earlier }
    }

    /// Persists all identities.
    pub fn persist(&self, store: &Store) {
        let all: BTreeSet<&String> = self.earlier.iter().chain([&self.current]).collect();
        store.persist(&BRIDGE.into(), IDENTITIES, &all);
    }
}

/// Returns the error message for another bridge below the same base topic.
pub fn conflict(other: &str, base: &str) -> String {
    format!(
        "another bridge, whose mqtt.client_id is {other:?}, runs below the same mqtt.base_topic {base:?}: they overwrite each other's topics; give one of them another mqtt.base_topic"
    )
}

/// Logs an error if `info`, a payload of `B/<place>/info`, is that of another bridge.
pub fn check_info(info: &[u8], own: &Mqtt) {
    if let Some(other) = identity_of(info).filter(|identity| *identity != own.identity) {
        tracing::error!("{}", conflict(&other, &own.base_topic));
    }
}

/// Reads the identity from an `info`. Earlier versions have only the client id there, perhaps with
/// the suffix of a shard.
fn identity_of(info: &[u8]) -> Option<String> {
    let info: Value = serde_json::from_slice(info).ok()?;
    if let Some(identity) = info["identity"].as_str() {
        return Some(identity.to_owned());
    }
    let config = &info["config"];
    let client_id = config["mqtt"]["client_id"].as_str()?;
    let suffix = config["shard"]["index"].as_u64().filter(|index| *index > 0);
    let suffix = suffix.map(|index| format!("-{index}")).unwrap_or_default();
    Some(client_id.strip_suffix(&suffix).unwrap_or(client_id).to_owned())
}

/// The bridges that own topics below a base topic.
#[derive(Debug, Clone)]
pub struct Owners {
    identity: Identity,
    others: BTreeSet<String>,
}

impl Owners {
    /// Reads the retained `B/+/info` and `B/+/state`: a bridge is alive if its state is online.
    pub fn read(identity: Identity, base: &str, retained: &[Incoming]) -> Self {
        let split = |topic: &str| {
            let (place, what) = topic.strip_prefix(base)?.strip_prefix('/')?.split_once('/')?;
            place.starts_with("bridge").then(|| (place.to_owned(), what.to_owned()))
        };
        let retained: BTreeMap<(String, String), &Incoming> =
            ordered::map(retained.iter().filter_map(|m| Some((split(&m.topic)?, m))));
        let is_alive = |place: &String| {
            let state = retained.get(&(place.clone(), "state".to_owned()));
            state.is_some_and(|state| &state.payload[..] == b"online")
        };
        let others = retained
            .iter()
            .filter(|((place, what), _)| what == "info" && is_alive(place))
            .filter_map(|(_, info)| identity_of(&info.payload))
            .filter(|other| *other != identity.current)
            .collect();
        Self { identity, others }
    }

    /// Returns the other live bridges below the same base topic: a configuration error.
    pub fn others(&self) -> &BTreeSet<String> {
        &self.others
    }

    /// Whether a discovery message with this `identity` belongs to this bridge. Messages of earlier
    /// versions have none, and are ours unless another bridge is alive here.
    pub fn own(&self, identity: Option<&str>) -> bool {
        let Some(identity) = identity else { return self.others.is_empty() };
        let was_ours = self.identity.earlier.contains(identity);
        identity == self.identity.current || (was_ours && !self.is_alive(identity))
    }

    /// Whether another bridge with this identity is alive below the same base topic.
    pub fn is_alive(&self, identity: &str) -> bool {
        self.others.contains(identity)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn retained(topic: &str, payload: &str) -> Incoming {
        let payload = bytes::Bytes::from(payload.to_owned());
        Incoming { topic: topic.to_owned(), payload, retained: true }
    }

    fn owners(earlier: &[&str], messages: &[(&str, &str)]) -> Owners {
        let earlier = earlier.iter().map(|name| (*name).to_owned()).collect();
        let identity = Identity { current: "ours".to_owned(), earlier };
        let messages: Vec<_> = messages.iter().map(|(t, p)| retained(t, p)).collect();
        Owners::read(identity, "o/p", &messages)
    }

    const THEIRS: (&str, &str) = ("o/p/bridge/info", r#"{"identity":"theirs"}"#);

    #[test]
    fn alone_it_owns_its_own_earlier_and_unnamed_messages() {
        let alone = owners(&["once"], &[]);
        assert!(alone.own(Some("ours")) && alone.own(Some("once")) && alone.own(None));
        assert!(!alone.own(Some("theirs")), "another bridge that is offline");
    }

    #[test]
    fn beside_a_live_bridge_it_owns_neither_unnamed_messages_nor_that_ones() {
        let both = owners(&["theirs"], &[THEIRS, ("o/p/bridge/state", "online")]);
        assert_eq!(both.others().len(), 1);
        assert!(both.own(Some("ours")) && !both.own(Some("theirs")) && !both.own(None));
        let conflict = conflict("theirs", "o/p");
        assert!(conflict.contains("\"theirs\"") && conflict.contains("mqtt.base_topic"));
    }

    #[test]
    fn an_offline_bridge_or_one_elsewhere_or_a_shard_of_ours_is_no_conflict() {
        for messages in [
            &[THEIRS, ("o/p/bridge/state", "offline")][..],
            &[THEIRS],
            &[THEIRS, ("o/p/bridge-1/state", "online")],
            &[("o/bridge/info", THEIRS.1), ("o/bridge/state", "online")],
            &[("o/p/mk3/info", THEIRS.1), ("o/p/mk3/state", "online")],
            &[("o/p/bridge-1/info", r#"{"identity":"ours"}"#), ("o/p/bridge-1/state", "online")],
            &[("o/p/bridge/info", "nonsense"), ("o/p/bridge/state", "online")],
        ] {
            let owners = owners(&[], messages);
            assert!(owners.others().is_empty() && owners.own(None), "{messages:?}");
        }
    }

    #[test]
    fn an_earlier_version_is_identified_by_its_client_id() {
        let info = |id: &str, shard: Value| {
            let config = json!({"mqtt": {"client_id": id}, "shard": shard});
            identity_of(json!({ "config": config }).to_string().as_bytes())
        };
        assert_eq!(info("a-1", Value::Null).as_deref(), Some("a-1"));
        assert_eq!(info("a-1", json!({"index": 1, "count": 2})).as_deref(), Some("a"));
        assert_eq!(info("a", json!({"index": 0, "count": 2})).as_deref(), Some("a"));
        assert_eq!(identity_of(b"{}"), None);
    }

    #[tokio::test]
    async fn identities_are_persisted() {
        let dir = tempfile::tempdir().unwrap();
        for (name, earlier) in [("one", &[][..]), ("two", &["one"]), ("one", &["two"])] {
            let (store, known) = Store::open(Some(dir.path()));
            let identity = Identity::recall(name, &known);
            assert!(identity.earlier.iter().eq(earlier), "{name}: {identity:?}");
            identity.persist(&store);
            store.close(std::time::Duration::from_secs(10)).await;
        }
    }
}
