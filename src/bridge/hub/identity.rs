//! What is this bridge's own, and which other bridges live below the same base topic (pure).
//!
//! A bridge is its `mqtt.client_id`, without the suffix of a shard: shards are one bridge. It stands
//! in `B/bridge/info`, and in each discovery message. A printer's topics belong to the bridge that
//! its discovery message names, and nobody else removes them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::config::Mqtt;
use crate::mqtt::Incoming;
use crate::ordered;
use crate::store::{BRIDGE, Known, Store};

const IDENTITIES: &str = "identities";

/// Who a bridge is, and who it was under earlier client ids.
#[derive(Debug, Clone)]
pub struct Identity {
    now: String,
    earlier: BTreeSet<String>,
}

impl Identity {
    /// A bridge that is called `now`, and was called what `known` has.
    pub fn recall(now: &str, known: &Known) -> Self {
        let mut earlier: BTreeSet<String> = known.get(BRIDGE, IDENTITIES).unwrap_or_default();
        earlier.remove(now);
        Self { now: now.to_owned(), earlier }
    }

    /// Keeps all its names over a restart.
    pub fn persist(&self, store: &Store) {
        let names: BTreeSet<&String> = self.earlier.iter().chain([&self.now]).collect();
        store.persist(&BRIDGE.into(), IDENTITIES, &names);
    }
}

/// What is wrong where the bridge `other` lives below the same base topic, and what to do.
pub fn complaint(other: &str, base: &str) -> String {
    format!(
        "another bridge, whose mqtt.client_id is {other:?}, runs below the same mqtt.base_topic {base:?}: they overwrite each other's topics; give one of them another mqtt.base_topic"
    )
}

/// Complains of another bridge than this one, where `info` is what it says of itself.
pub fn complain(info: &[u8], own: &Mqtt) {
    if let Some(other) = identity_of(info).filter(|identity| *identity != own.identity) {
        tracing::error!("{}", complaint(&other, &own.base_topic));
    }
}

/// Which bridge `B/<place>/info` speaks of; `None` where it speaks of none. An earlier version has
/// no `identity`, but its client id, perhaps with the suffix of its shard.
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

/// Whose the topics below a base topic are.
#[derive(Debug, Clone)]
pub struct Owners {
    identity: Identity,
    others: BTreeSet<String>,
}

impl Owners {
    /// From what is retained as `B/+/info` and `B/+/state`: a bridge lives whose state is online.
    pub fn read(identity: Identity, base: &str, retained: &[Incoming]) -> Self {
        let of = |topic: &str| {
            let (place, what) = topic.strip_prefix(base)?.strip_prefix('/')?.split_once('/')?;
            place.starts_with("bridge").then(|| (place.to_owned(), what.to_owned()))
        };
        let told: BTreeMap<(String, String), &Incoming> =
            ordered::map(retained.iter().filter_map(|m| Some((of(&m.topic)?, m))));
        let lives = |place: &String| {
            let state = told.get(&(place.clone(), "state".to_owned()));
            state.is_some_and(|state| &state.payload[..] == b"online")
        };
        let others = told
            .iter()
            .filter(|((place, what), _)| what == "info" && lives(place))
            .filter_map(|(_, info)| identity_of(&info.payload))
            .filter(|other| *other != identity.now)
            .collect();
        Self { identity, others }
    }

    /// The other bridges that live below the same base topic: a mistake of the user's.
    pub fn others(&self) -> &BTreeSet<String> {
        &self.others
    }

    /// Whether what a discovery message with this `identity` speaks of is this bridge's own.
    /// Messages of earlier versions have none, and are ours unless another bridge lives here.
    pub fn own(&self, identity: Option<&str>) -> bool {
        let Some(identity) = identity else { return self.others.is_empty() };
        let once = self.identity.earlier.contains(identity);
        identity == self.identity.now || (once && !self.lives(identity))
    }

    /// Whether another bridge of this identity lives below the same base topic.
    pub fn lives(&self, identity: &str) -> bool {
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
        let identity = Identity { now: "ours".to_owned(), earlier };
        let messages: Vec<_> = messages.iter().map(|(t, p)| retained(t, p)).collect();
        Owners::read(identity, "o/p", &messages)
    }

    const THEIRS: (&str, &str) = ("o/p/bridge/info", r#"{"identity":"theirs"}"#);

    #[test]
    fn alone_it_owns_its_own_what_it_was_and_what_says_nothing() {
        let alone = owners(&["once"], &[]);
        assert!(alone.own(Some("ours")) && alone.own(Some("once")) && alone.own(None));
        assert!(!alone.own(Some("theirs")), "one that is away only");
    }

    #[test]
    fn a_bridge_that_lives_here_keeps_what_says_nothing_and_what_is_its_own() {
        let both = owners(&["theirs"], &[THEIRS, ("o/p/bridge/state", "online")]);
        assert_eq!(both.others().len(), 1);
        assert!(both.own(Some("ours")) && !both.own(Some("theirs")) && !both.own(None));
        let complaint = complaint("theirs", "o/p");
        assert!(complaint.contains("\"theirs\"") && complaint.contains("mqtt.base_topic"));
    }

    #[test]
    fn one_that_is_away_or_somewhere_else_or_a_shard_of_ours_is_no_other() {
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
    fn an_earlier_version_is_known_by_its_client_id() {
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
    async fn names_are_remembered() {
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
