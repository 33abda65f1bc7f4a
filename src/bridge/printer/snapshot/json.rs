//! Members of a payload, each decoded by itself, and as little of them as is needed (pure).

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, de};
use serde_json::value::RawValue;

/// A longer time than ten years is none.
pub(super) const MOST_SECONDS: f64 = 10.0 * 366.0 * 86_400.0;
/// A larger file than this is none, and a larger number than this is not exact.
pub(super) const MOST_BYTES: f64 = 9e15;

/// A member of an object that is wanted as raw JSON, `None` where missing or null.
pub(crate) type Raw<'a> = Option<&'a RawValue>;

/// A member of which it matters whether it is there, be it null.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Present<'a>(Option<&'a RawValue>);

impl<'a> Present<'a> {
    pub(super) fn is_present(self) -> bool {
        self.0.is_some()
    }

    /// The member; `None` where it is missing.
    pub(super) fn raw(self) -> Raw<'a> {
        self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Present<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw)))
    }
}

/// A value that is passed through as it came, or what else is known in its place.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Known<'a, T> {
    AsItCame(Raw<'a>),
    Found(Option<T>),
}

/// A payload that is no JSON object, where one must be.
#[derive(Debug, thiserror::Error)]
#[error("the payload is not a JSON object")]
pub struct NotAnObject(#[from] serde_json::Error);

/// A member of any type; `None` where it is missing, null or of another type.
pub(crate) fn member<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// A member that must be an object; nothing of it is known where it is not.
pub(crate) fn object<'a, T: Deserialize<'a> + Default>(raw: Raw<'a>) -> T {
    // serde reads a struct from an array as well, by position.
    raw.filter(|raw| raw.get().starts_with('{'))
        .and_then(|raw| member(Some(raw)))
        .unwrap_or_default()
}

/// A number within bounds, both included; `None` for all else.
pub(super) fn number(raw: Raw<'_>, (least, most): (f64, f64)) -> Option<f64> {
    member(raw).filter(|number| (least..=most).contains(number))
}

/// What is passed through as it came if it is a number within bounds.
pub(super) fn raw_number(raw: Raw<'_>, bounds: (f64, f64)) -> Raw<'_> {
    raw.filter(|raw| number(Some(raw), bounds).is_some())
}

/// What is passed through as it came if it is a text.
pub(super) fn raw_text(raw: Raw<'_>) -> Raw<'_> {
    raw.filter(|raw| raw.get().starts_with('"'))
}

/// What is passed through as it came if it is an object.
pub(super) fn raw_object(raw: Raw<'_>) -> Raw<'_> {
    raw.filter(|raw| raw.get().starts_with('{'))
}

/// A payload that must be an object.
pub(super) fn whole_object<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<T, NotAnObject> {
    if !payload.trim_start().starts_with('{') {
        return Err(NotAnObject(de::Error::custom("it is of another type")));
    }
    Ok(serde_json::from_str(payload)?)
}

/// The last element of an array.
pub(super) fn last_element(raw: Raw<'_>) -> Raw<'_> {
    member::<LastElement<'_>>(raw)?.0
}

/// The members of an object, in their order.
pub(super) fn members(raw: Raw<'_>) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    member::<Members<'_>>(raw).map(|Members(members)| members)
}

/// A member as it came last, by a hash of its text: what is the same again is not taken apart.
#[derive(Debug, Default)]
pub(super) struct Last(Option<u64>);

impl Last {
    pub(super) fn differs(&mut self, raw: Raw<'_>) -> bool {
        let mut hasher = DefaultHasher::new();
        raw.map(RawValue::get).hash(&mut hasher);
        let hash = Some(hasher.finish());
        std::mem::replace(&mut self.0, hash) != hash
    }
}

struct LastElement<'a>(Raw<'a>);

impl<'de> Deserialize<'de> for LastElement<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
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
        deserializer.deserialize_seq(Elements)
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
                while let Some(name) = object.next_key::<Name<'de>>()? {
                    members.push((name.0, object.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A name that borrows unless it has escapes: serde's own [`Cow`] never borrows here.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
