//! JSON pointers, RFC 6901 (pure).

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Deepest pointer, in tokens.
const DEEPEST: usize = 32;

/// A JSON pointer such as `/temp/celsius/current`; the empty one is the whole payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Parses a pointer; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Vec::new()));
        }
        let tokens: Option<Vec<String>> = text.strip_prefix('/')?.split('/').map(token).collect();
        tokens.filter(|tokens| tokens.len() <= DEEPEST).map(Self)
    }

    /// Returns what the pointer points at. Only that is built; the rest is skipped. A text that
    /// contains JSON is looked into, as some plugins send that.
    pub fn find(&self, json: &str) -> Option<Value> {
        find(&self.0, json)
    }

    /// Whether it is the member `name` of the payload.
    pub fn is_member(&self, name: &str) -> bool {
        matches!(self.0.as_slice(), [only] if only == name)
    }
}

fn find(tokens: &[String], json: &str) -> Option<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    // A payload is JSON, so an error means that nothing is found.
    Find(tokens).deserialize(&mut deserializer).ok().flatten()
}

/// Reads `~1` as `/` and `~0` as `~`; no other escape exists.
fn token(text: &str) -> Option<String> {
    let mut token = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        token.push(match c {
            '~' => match characters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            c => c,
        });
    }
    Some(token)
}

/// Finds what the tokens lead to.
struct Find<'t>(&'t [String]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => Value::deserialize(from).map(Some),
            _ => from.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let Some((token, rest)) = self.0.split_first() else { return Ok(None) };
        while let Some(PointerStep(name)) = object.next_key()? {
            if name == *token {
                // Of several members of one name, the last one counts, as elsewhere.
                found = object.next_value_seed(Find(rest))?;
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let Some((token, rest)) = self.0.split_first() else { return Ok(None) };
        let is_index = token == "0" || !token.starts_with('0');
        let index: Option<usize> = token.parse().ok().filter(|_| is_index);
        for at in 0.. {
            if index == Some(at) {
                match array.next_element_seed(Find(rest))? {
                    Some(element) => found = element,
                    None => break,
                }
            } else if array.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(find(self.0, text))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A name that is borrowed unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct PointerStep<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn found(pointer: &str, json: &Value) -> Option<Value> {
        Pointer::parse(pointer).unwrap().find(&json.to_string())
    }

    #[test]
    fn pointers_follow_rfc_6901() {
        let json = json!({"a": {"b": [10, {"c": null}]}, "": 1, "x/y": 2, "m~n": 3, "\"": 4});
        for (pointer, expected) in [
            ("", Some(json.clone())),
            ("/a/b/0", Some(json!(10))),
            ("/a/b/1", Some(json!({"c": null}))),
            ("/a/b/1/c", Some(json!(null))),
            ("/a/b/2", None),
            ("/a/b/00", None),
            ("/a/b/-", None),
            ("/a/b/0/c", None),
            ("/a/x", None),
            ("/", Some(json!(1))),
            ("/x~1y", Some(json!(2))),
            ("/m~0n", Some(json!(3))),
            ("/\"", Some(json!(4))),
        ] {
            assert_eq!(found(pointer, &json), expected, "{pointer}");
        }
        for wrong in ["a", "a/b", "/~", "/~2"] {
            assert_eq!(Pointer::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn json_in_a_text_is_looked_into() {
        let json = json!({"data": json!({"moving": true}).to_string()});
        assert_eq!(found("/data/moving", &json), Some(json!(true)));
        assert_eq!(found("/data", &json), Some(json["data"].clone()));
        assert_eq!(found("/data/moving", &json!({"data": "no JSON"})), None);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_serde_json_finds(
            pointer in "(/[ab0-2]{0,1}){0,4}",
            json in "[\\[{\"ab0-2:,}\\]]{0,24}",
        ) {
            let parsed: Result<Value, _> = serde_json::from_str(&json);
            let Ok(parsed) = parsed else { return Ok(()) };
            // Texts are looked into here, and not there.
            prop_assume!(!json.contains("\"\\\""));
            let theirs = parsed.pointer(&pointer).cloned();
            let ours = Pointer::parse(&pointer).unwrap().find(&json);
            prop_assert!(ours == theirs || theirs.is_none(), "{pointer} in {json}: {ours:?}");
        }
    }
}
