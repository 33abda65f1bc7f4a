//! Valid MQTT topics (pure).
//!
//! A broker ends the connection at an invalid topic, and the message would be sent again first on
//! the next one. So a [`Topic`] is checked when it is made, and nowhere else.
//!
//! ```
//! use octoprint2mqtt::topic::{Topic, segment};
//!
//! let topic = Topic::read(&format!("octoprint2mqtt/mk3/event/{}", segment("a/b#")))?;
//! assert_eq!(topic.as_str(), "octoprint2mqtt/mk3/event/a_b_");
//! assert!(Topic::read("octoprint2mqtt/+/event").is_err());
//! # Ok::<(), octoprint2mqtt::topic::NotCarried>(())
//! ```

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Longest topic, in bytes.
pub const MAX_TOPIC: usize = 1_000;
/// Longest segment from outside, in bytes.
pub const MAX_SEGMENT: usize = 200;
/// Length of `_` and the hash at the end of a cut text, in bytes.
const MARK: usize = 9;

/// A topic to publish to: not empty, no wildcards, no character that MQTT forbids, at most
/// [`MAX_TOPIC`] bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// A text is not a valid topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "MQTT does not carry this topic: it must have 1 to {MAX_TOPIC} bytes, without +, #, control characters and Unicode noncharacters"
)]
pub struct NotCarried;

impl Topic {
    /// Takes a topic from disk or from the broker, which must not be changed.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn read(text: &str) -> Result<Self, NotCarried> {
        let whole = !text.is_empty() && text.len() <= MAX_TOPIC && text.chars().all(is_plain);
        if whole { Ok(Self(text.into())) } else { Err(NotCarried) }
    }

    /// Returns the topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Makes a topic of any text: invalid characters become `_`, and a text that is too long is cut.
impl From<String> for Topic {
    fn from(text: String) -> Self {
        Self(sanitized(text, is_plain, MAX_TOPIC).into())
    }
}

/// Like that of a `String`.
impl From<&str> for Topic {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Deref for Topic {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Topic {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<Topic> for String {
    fn eq(&self, other: &Topic) -> bool {
        *self == *other.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Makes a topic segment of any text: `/`, `+`, `#`, control characters and Unicode noncharacters
/// become `_`, an empty text becomes `_`, and one longer than [`MAX_SEGMENT`] is cut and ends in a
/// hash of the whole.
pub fn segment(text: &str) -> String {
    sanitized(text.to_owned(), |c| c != '/' && is_plain(c), MAX_SEGMENT)
}

/// Whether MQTT allows `c` in a text: not control characters (U+0000 included) and Unicode
/// noncharacters, at which brokers end the connection.
pub fn is_carried(c: char) -> bool {
    let code = u32::from(c);
    let noncharacter = (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe;
    !c.is_control() && !noncharacter
}

fn is_plain(c: char) -> bool {
    !matches!(c, '+' | '#') && is_carried(c)
}

fn sanitized(text: String, allowed: impl Fn(char) -> bool, most: usize) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    if text.len() <= most && text.chars().all(&allowed) {
        return text;
    }
    let hash = hash(text.as_bytes());
    let mut sanitized: String = text.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    if sanitized.len() > most {
        let fits = (0..=most - MARK).rev().find(|end| sanitized.is_char_boundary(*end));
        sanitized.truncate(fits.unwrap_or_default());
        sanitized += &format!("_{hash:08x}");
    }
    sanitized
}

/// FNV-1a, written out so that topics and keys are the same after a restart and with another compiler.
pub(crate) fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_from_outside_cannot_leave_its_segment() {
        assert_eq!(segment("a/b+c#d\u{0}e\u{85}f"), "a_b_c_d_e_f");
        assert_eq!(segment("X\u{fffe}\u{ffff}\u{fdd0}\u{fdef}\u{1fffe}\u{10ffff}"), "X______");
        assert_eq!(segment("\u{fdcf}\u{fdf0}\u{fffd}"), "\u{fdcf}\u{fdf0}\u{fffd}");
        assert_eq!(segment(""), "_");
        assert_eq!(segment("a b.c-ä"), "a b.c-ä");
    }

    #[test]
    fn an_oversize_segment_is_cut_at_a_character_and_carries_its_hash() {
        let fits = "x".repeat(MAX_SEGMENT);
        assert_eq!(segment(&fits), fits);
        let long = segment(&"x".repeat(70_000));
        assert_eq!(long.len(), MAX_SEGMENT);
        assert_eq!(
            long,
            format!("{}_{:08x}", "x".repeat(191), hash("x".repeat(70_000).as_bytes()))
        );
        assert_ne!(long, segment(&"x".repeat(70_001)), "two long names stay two");
        // 191 bytes end within the 64th character.
        let wide = segment(&"\u{20ac}".repeat(100));
        assert!(wide.starts_with(&"\u{20ac}".repeat(63)) && wide.len() == 63 * 3 + MARK, "{wide}");
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(
            [hash(b""), hash(b"a"), hash(b"foobar")],
            [0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968]
        );
    }

    #[test]
    fn an_existing_topic_is_accepted_unchanged_or_refused() {
        assert_eq!(Topic::read("o/mk3/event/X").unwrap().as_str(), "o/mk3/event/X");
        let long = "x".repeat(MAX_TOPIC + 1);
        for text in ["", "a/+", "a/#", "a\u{0}", "a\u{fffe}", "a\n", &long] {
            assert_eq!(Topic::read(text), Err(NotCarried));
        }
    }

    fn texts() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec!['/', '+', '#', '\0', '\u{7f}', '\u{fffe}', '\u{fdd0}']);
        let any = prop_oneof![4 => any::<char>(), 1 => odd];
        prop::collection::vec(any, 0..600).prop_map(|chars| chars.into_iter().collect())
    }

    /// What a strict broker requires of a topic, implemented differently from the above.
    fn broker_takes(topic: &str) -> bool {
        let forbidden = |c: char| {
            c <= '\u{1f}'
                || ('\u{7f}'..='\u{9f}').contains(&c)
                || ('\u{fdd0}'..='\u{fdef}').contains(&c)
                || matches!(u32::from(c) % 0x1_0000, 0xfffe | 0xffff)
        };
        !topic.is_empty()
            && topic.len() <= 1_000
            && !topic.contains(['+', '#'])
            && !topic.contains(forbidden)
    }

    proptest! {
        #[test]
        fn any_text_makes_a_valid_topic(text in texts()) {
            let topic = Topic::from(text.as_str());
            prop_assert!(broker_takes(&topic), "{topic:?}");
            prop_assert_eq!(Topic::read(&topic), Ok(topic.clone()));
            prop_assert_eq!(Topic::read(&text).is_ok(), broker_takes(&text));
            if broker_takes(&text) {
                prop_assert_eq!(text, topic);
            }
        }

        #[test]
        fn any_text_makes_a_valid_segment(text in texts()) {
            let segment = segment(&text);
            prop_assert!(broker_takes(&segment) && !segment.contains('/'), "{segment:?}");
            prop_assert!(segment.len() <= MAX_SEGMENT);
            prop_assert_eq!(&super::segment(&segment), &segment, "it is stable");
        }
    }
}
