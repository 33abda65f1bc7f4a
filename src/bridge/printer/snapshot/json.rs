//! JSON in and out of the snapshot (pure).
//!
//! In: members of a message, each decoded separately and only as far as needed. Out: a state topic
//! and its new payload, if it differs from the last one.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, de};
use serde_json::value::RawValue;

use crate::heater::Heater;

/// Maximum of a duration: ten years, in seconds.
pub(crate) const MAX_SECONDS: f64 = 10.0 * 366.0 * 86_400.0;
/// Maximum of a size in bytes or of a count: about what an `f64` represents exactly.
pub(crate) const MAX_BYTES: f64 = 9e15;

/// A member of an object as raw JSON; `None` if missing or null.
pub(crate) type Raw<'a> = Option<&'a RawValue>;

/// A member that distinguishes missing from null.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Present<'a>(Option<&'a RawValue>);

impl<'a> Present<'a> {
    pub(super) fn is_present(self) -> bool {
        self.0.is_some()
    }

    /// Returns the member; `None` if it is missing.
    pub(super) fn raw(self) -> Raw<'a> {
        self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Present<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw)))
    }
}

/// A value passed through as received, or one derived in its place.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum ReceivedOr<'a, T> {
    Received(Raw<'a>),
    Derived(Option<T>),
}

/// The payload of a message is not a JSON object.
#[derive(Debug, thiserror::Error)]
#[error("the payload is not a JSON object")]
pub struct NotAnObject(#[from] serde_json::Error);

/// Decodes a member; `None` if it is missing, null or of another type.
pub(crate) fn member<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// Decodes a member that must be an object; the default if it is not.
pub(crate) fn object<'a, T: Deserialize<'a> + Default>(raw: Raw<'a>) -> T {
    // serde also reads a struct from an array, by position.
    raw.filter(|raw| raw.get().starts_with('{'))
        .and_then(|raw| member(Some(raw)))
        .unwrap_or_default()
}

/// Decodes a number within bounds, both included; `None` for anything else.
pub(crate) fn number(raw: Raw<'_>, (least, most): (f64, f64)) -> Option<f64> {
    member(raw).filter(|number| (least..=most).contains(number))
}

/// Passes through a number within bounds.
pub(super) fn raw_number(raw: Raw<'_>, bounds: (f64, f64)) -> Raw<'_> {
    raw.filter(|raw| number(Some(raw), bounds).is_some())
}

pub(super) fn raw_text(raw: Raw<'_>) -> Raw<'_> {
    raw.filter(|raw| raw.get().starts_with('"'))
}

pub(super) fn raw_object(raw: Raw<'_>) -> Raw<'_> {
    raw.filter(|raw| raw.get().starts_with('{'))
}

/// Decodes a payload that must be an object.
pub(super) fn whole_object<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<T, NotAnObject> {
    if !payload.trim_start().starts_with('{') {
        return Err(NotAnObject(de::Error::custom("it is of another type")));
    }
    Ok(serde_json::from_str(payload)?)
}

pub(super) fn last_element(raw: Raw<'_>) -> Raw<'_> {
    member::<LastElement<'_>>(raw)?.0
}

/// Returns the members of an object, in their order.
pub(super) fn members(raw: Raw<'_>) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    member::<Members<'_>>(raw).map(|Members(members)| members)
}

/// A hash of the last text of a member, so that an unchanged one is not decoded again.
#[derive(Debug, Default)]
pub(super) struct LastRaw(Option<u64>);

impl LastRaw {
    pub(super) fn differs(&mut self, raw: Raw<'_>) -> bool {
        let mut hasher = DefaultHasher::new();
        raw.map(RawValue::get).hash(&mut hasher);
        let hash = Some(hasher.finish());
        std::mem::replace(&mut self.0, hash) != hash
    }
}

/// A copy of the last text of a member, for what arrives separately.
#[derive(Debug, Default)]
pub(super) struct LastMember {
    raw: Option<Box<RawValue>>,
    received: bool,
}

impl LastMember {
    /// Stores `raw`; returns whether it differs from the last one. Does not allocate otherwise.
    pub(super) fn update(&mut self, raw: Raw<'_>) -> bool {
        if self.received && raw.map(RawValue::get) == self.raw().map(RawValue::get) {
            return false;
        }
        *self = Self { raw: raw.map(ToOwned::to_owned), received: true };
        true
    }

    pub(super) fn raw(&self) -> Raw<'_> {
        self.raw.as_deref()
    }
}

struct LastElement<'a>(Raw<'a>);

impl<'de> Deserialize<'de> for LastElement<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LastOf;
        impl<'de> Visitor<'de> for LastOf {
            type Value = LastElement<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut last = None;
                while let Some(element) = array.next_element()? {
                    last = Some(element);
                }
                Ok(LastElement(last))
            }
        }
        deserializer.deserialize_seq(LastOf)
    }
}

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = object.next_key::<MemberName<'de>>()? {
                    members.push((name.0, object.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A name that is borrowed unless it has escapes: a plain [`Cow`] would never borrow here.
#[derive(Deserialize)]
#[serde(transparent)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

/// A state topic of one printer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateTopic {
    /// `printer`
    Printer,
    /// `job`
    Job,
    /// `progress`
    Progress,
    /// `temperature/<heater>`
    Temperature(Heater),
    /// `position`
    Position,
    /// `factors`
    Factors,
    /// `resends`
    Resends,
    /// `server`
    Server,
    /// `connection`
    Connection,
    /// `storage`
    Storage,
}

/// A state topic and its new payload; an empty payload clears the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The topic.
    pub topic: StateTopic,
    /// The payload.
    pub payload: Bytes,
}

/// When a message was received.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// On the monotonic clock, for durations.
    pub instant: Instant,
    /// On the wall clock, for published times.
    pub wall: SystemTime,
}

/// The last payload of a topic.
#[derive(Debug, Default)]
pub(super) struct LastPayload(Bytes);

impl LastPayload {
    /// Returns the new payload, if it differs from the last. Does not allocate otherwise.
    pub(super) fn change(
        &mut self,
        topic: StateTopic,
        value: &impl Serialize,
    ) -> Option<StateChange> {
        if self.is(value) {
            return None;
        }
        // Serialising plain structs of numbers and strings does not fail.
        self.0 = serde_json::to_vec(value).ok()?.into();
        Some(StateChange { topic, payload: self.0.clone() })
    }

    fn is(&self, value: &impl Serialize) -> bool {
        let mut compared = Compared { rest: &self.0 };
        serde_json::to_writer(&mut compared, value).is_ok() && compared.rest.is_empty()
    }
}

/// A writer that fails on the first byte that differs from `rest`.
struct Compared<'a> {
    rest: &'a [u8],
}

impl Write for Compared<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let differs = || io::Error::from(io::ErrorKind::InvalidData);
        self.rest = self.rest.strip_prefix(bytes).ok_or_else(differs)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
