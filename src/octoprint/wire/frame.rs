//! SockJS framing, as OctoPrint uses it.
//!
//! A frame is a letter, in some cases followed by JSON: `o` (open), `h` (heartbeat), `a[…]`
//! (messages) and `c[code,"reason"]` (close). The elements of `a[…]` are JSON objects in OctoPrint
//! and JSON strings in SockJS itself; both are accepted. Payloads are slices of the received frame,
//! neither parsed nor reformatted, unless they are invalid JSON: see [`lenient`].

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::message::MessageKind;
use crate::octoprint::lenient;
use crate::secret::Secret;

/// One SockJS frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// `o`: the session is open.
    Open,
    /// `h`: a sign of life.
    Heartbeat,
    /// `a[…]`: messages in order; or `m…`, a single one.
    Messages(Decoded),
    /// `c[code,"reason"]`: the server ends the session.
    Close {
        /// SockJS's close code; 0 if missing or unreadable.
        code: u16,
        /// The server's reason; empty if missing or unreadable.
        reason: String,
    },
}

/// The content of an `a[…]` frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The readable messages in order, one for each top-level key.
    pub messages: Vec<RawMessage>,
    /// The unreadable parts in order.
    pub skipped: Vec<BadElement>,
}

/// A message type and its payload, still as JSON text.
#[derive(Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// The top-level key.
    pub kind: MessageKind,
    /// The value, verbatim: a slice of the frame (valid UTF-8, valid JSON).
    pub payload: Bytes,
}

impl fmt::Debug for RawMessage {
    /// Shows only type and size: payloads may contain keys and tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawMessage({}, {} bytes)", self.kind, self.payload.len())
    }
}

/// Why a part of an `a[…]` frame was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadElement {
    /// The text after `a` is not a JSON array, or is cut off.
    #[error("a frame whose JSON is broken or cut off")]
    Json,
    /// An element is neither an object nor a string with an object in it.
    #[error("an element that is not a JSON object")]
    NotAnObject,
}

/// Why a whole frame is unreadable. Its bounds are known, so it can be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FrameError {
    /// The text is not UTF-8.
    #[error("a frame that is not UTF-8")]
    Utf8,
    /// The frame is empty.
    #[error("an empty frame")]
    Empty,
    /// The letter is not one of SockJS's.
    #[error("a frame that starts with none of SockJS's letters")]
    UnknownLetter,
}

/// Decodes a frame.
///
/// # Errors
/// [`FrameError`] if the kind of the frame is unknown. Broken parts of an `a[…]` frame are not an
/// error: they are listed in [`Decoded::skipped`].
pub fn decode(frame: &Bytes) -> Result<Frame, FrameError> {
    let text = std::str::from_utf8(frame).map_err(|_| FrameError::Utf8)?;
    let text = text.trim_end_matches(['\n', '\r']);
    match text.as_bytes() {
        [] => Err(FrameError::Empty),
        b"o" => Ok(Frame::Open),
        [b'h', rest @ ..] if rest.iter().all(|byte| *byte == b'h') => Ok(Frame::Heartbeat),
        [b'a', ..] => Ok(Frame::Messages(elements(frame, &text[1..]))),
        [b'm', ..] => Ok(Frame::Messages(single(frame, &text[1..]))),
        [b'c', ..] => Ok(close(&text[1..])),
        _ => Err(FrameError::UnknownLetter),
    }
}

/// Encodes a SockJS frame for the server: an array of one JSON string.
pub fn encode(kind: &str, payload: &serde_json::Value) -> String {
    let mut message = serde_json::Map::with_capacity(1);
    message.insert(kind.to_owned(), payload.clone());
    let inner = serde_json::Value::Object(message).to_string();
    serde_json::Value::Array(vec![serde_json::Value::String(inner)]).to_string()
}

pub(in crate::octoprint) fn auth(user: &str, session: &Secret) -> String {
    encode("auth", &serde_json::Value::String(format!("{user}:{}", session.expose())))
}

fn close(text: &str) -> Frame {
    let (code, reason) = serde_json::from_str(text).unwrap_or_default();
    Frame::Close { code, reason }
}

/// Decodes the messages of an array. Repairs the text only if it is invalid JSON or may have a lone
/// surrogate.
fn elements(frame: &Bytes, text: &str) -> Decoded {
    if let Some(repaired) = repaired_if_lone_surrogate(text) {
        return repaired_elements(repaired);
    }
    let decoded = elements_of(frame, text);
    let broken = decoded.skipped.contains(&BadElement::Json);
    match broken.then(|| lenient::repaired(text)).flatten() {
        Some(repaired) => repaired_elements(repaired),
        None => decoded,
    }
}

/// Repairs `text` if it may have a lone surrogate, which the JSON reader does not detect.
fn repaired_if_lone_surrogate(text: &str) -> Option<String> {
    lenient::may_have_lone_surrogate(text.as_bytes()).then(|| lenient::repaired(text)).flatten()
}

fn repaired_elements(text: String) -> Decoded {
    let frame = Bytes::from(text);
    // Always UTF-8.
    std::str::from_utf8(&frame).map(|text| elements_of(&frame, text)).unwrap_or_default()
}

fn elements_of(frame: &Bytes, text: &str) -> Decoded {
    let mut decoded = Decoded::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let read = Elements { frame, decoded: &mut decoded }.deserialize(&mut json);
    if read.is_err() || json.end().is_err() {
        decoded.skipped.push(BadElement::Json);
    }
    decoded
}

fn single(frame: &Bytes, text: &str) -> Decoded {
    let mut decoded = Decoded::default();
    match serde_json::from_str::<&RawValue>(text) {
        Err(_) => decoded.skipped.push(BadElement::Json),
        Ok(element) => {
            if !element_messages(frame, element.get(), &mut decoded.messages) {
                decoded.skipped.push(BadElement::NotAnObject);
            }
        }
    }
    decoded
}

/// Collects the elements of an array one by one, so that those before a syntax error are used.
struct Elements<'a> {
    frame: &'a Bytes,
    decoded: &'a mut Decoded,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element::<&'de RawValue>()? {
            if !element_messages(self.frame, element.get(), &mut self.decoded.messages) {
                self.decoded.skipped.push(BadElement::NotAnObject);
            }
        }
        Ok(())
    }
}

/// Adds the messages of one element. Returns `false` if it is unreadable.
fn element_messages(frame: &Bytes, element: &str, messages: &mut Vec<RawMessage>) -> bool {
    match element.as_bytes().first() {
        Some(b'{') => object_messages(frame, element, messages),
        Some(b'"') => match serde_json::from_str::<String>(element) {
            Ok(inner) if inner.trim_start().starts_with('{') => {
                let inner = repaired_if_lone_surrogate(&inner).unwrap_or(inner);
                string_messages(&inner, messages)
                    || lenient::repaired(&inner)
                        .is_some_and(|text| string_messages(&text, messages))
            }
            _ => false,
        },
        _ => false,
    }
}

/// Adds the messages of an unescaped string, which is not a slice of the frame.
fn string_messages(text: &str, messages: &mut Vec<RawMessage>) -> bool {
    let buffer = Bytes::copy_from_slice(text.as_bytes());
    std::str::from_utf8(&buffer).is_ok_and(|text| object_messages(&buffer, text, messages))
}

fn object_messages(frame: &Bytes, object: &str, messages: &mut Vec<RawMessage>) -> bool {
    let known = messages.len();
    let read = serde_json::Deserializer::from_str(object).deserialize_map(Keys { frame, messages });
    if read.is_err() {
        messages.truncate(known);
    }
    read.is_ok()
}

struct Keys<'a> {
    frame: &'a Bytes,
    messages: &'a mut Vec<RawMessage>,
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with message types as keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((kind, payload)) = map.next_entry::<_, &'de RawValue>()? {
            let payload = self.frame.slice_ref(payload.get().as_bytes());
            self.messages.push(RawMessage { kind, payload });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(text: &str) -> Result<Frame, FrameError> {
        decode(&Bytes::copy_from_slice(text.as_bytes()))
    }

    fn messages(text: &str) -> Decoded {
        match frame(text) {
            Ok(Frame::Messages(decoded)) => decoded,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn pairs(decoded: &Decoded) -> Vec<(&str, &str)> {
        decoded
            .messages
            .iter()
            .map(|m| (m.kind.as_str(), std::str::from_utf8(&m.payload).unwrap()))
            .collect()
    }

    #[test]
    fn the_letters() {
        assert_eq!(frame("o"), Ok(Frame::Open));
        assert_eq!(frame("o\n"), Ok(Frame::Open));
        assert_eq!(frame("h"), Ok(Frame::Heartbeat));
        assert_eq!(frame(&"h".repeat(2048)), Ok(Frame::Heartbeat));
        let close = |code, reason: &str| Ok(Frame::Close { code, reason: reason.to_owned() });
        assert_eq!(frame("c[3000,\"Go away!\"]"), close(3000, "Go away!"));
        assert_eq!(frame("c"), close(0, ""));
        assert_eq!(frame(""), Err(FrameError::Empty));
        assert_eq!(frame("Not found"), Err(FrameError::UnknownLetter));
        assert_eq!(frame("open"), Err(FrameError::UnknownLetter));
        assert_eq!(decode(&Bytes::from_static(b"a[\xff]")), Err(FrameError::Utf8));
    }

    #[test]
    fn payloads_are_slices_of_the_frame() {
        let bytes = Bytes::from_static(b"a[{\"event\": {\"type\" :1.0}} , {\"timelapse\":null}]");
        let Ok(Frame::Messages(decoded)) = decode(&bytes) else { panic!() };
        assert_eq!(pairs(&decoded), [("event", "{\"type\" :1.0}"), ("timelapse", "null")]);
        assert_eq!(decoded.messages[0].payload.as_ptr(), bytes[12..].as_ptr());
    }

    #[test]
    fn strings_and_several_keys() {
        let decoded = messages(r#"a["{\"current\":{\"a\":\"\\u00e4\"}}",{"x":1,"y":[2]},"3"]"#);
        let expected = [("current", r#"{"a":"\u00e4"}"#), ("x", "1"), ("y", "[2]")];
        assert_eq!(pairs(&decoded), expected);
        assert_eq!(decoded.skipped, [BadElement::NotAnObject]);
    }

    #[test]
    fn bad_elements_do_not_affect_others() {
        let decoded = messages(r#"a[null,1,"x",[],{"event":{}}]"#);
        assert_eq!(pairs(&decoded), [("event", "{}")]);
        assert_eq!(decoded.skipped, [BadElement::NotAnObject; 4]);
        let decoded = messages(r#"a[{"event":{}},{"current":{"sta"#);
        assert_eq!(pairs(&decoded), [("event", "{}")]);
        assert_eq!(decoded.skipped, [BadElement::Json]);
        for broken in ["a", "a[", "a{}", "a[]x", "axyz"] {
            assert_eq!(messages(broken).skipped, [BadElement::Json], "{broken}");
        }
    }

    #[test]
    fn nan_and_infinities_affect_only_their_field() {
        let decoded = messages(
            r#"a[{"current":{"currentZ":NaN, "x": 1.50}},{"event":{"a":[-Infinity]}},"{\"y\":Infinity}"]"#,
        );
        let expected = [
            ("current", r#"{"currentZ":null, "x": 1.50}"#),
            ("event", r#"{"a":[null]}"#),
            ("y", "null"),
        ];
        assert_eq!(pairs(&decoded), expected);
        assert_eq!(decoded.skipped, []);
        let decoded = messages(r#"a[NaN,{"event":{"t":NaN}},{"current":{"sta"#);
        assert_eq!(pairs(&decoded), [("event", r#"{"t":null}"#)]);
        assert_eq!(decoded.skipped, [BadElement::NotAnObject, BadElement::Json]);
    }

    #[test]
    fn a_lone_surrogate_becomes_the_replacement_character() {
        let decoded =
            messages(r#"a[{"event":{"name":"\udcff \ud83d\ude00"}},"{\"x\":\"\\ud800\"}"]"#);
        let expected = [("event", r#"{"name":"\ufffd \ud83d\ude00"}"#), ("x", r#""\ufffd""#)];
        assert_eq!(pairs(&decoded), expected);
        for (_, payload) in pairs(&decoded) {
            assert!(serde_json::from_str::<serde_json::Value>(payload).is_ok());
        }
    }

    #[test]
    fn a_single_message_is_decoded_like_an_element() {
        for text in [r#"m{"event":{}}"#, r#"m"{\"event\":{}}""#, "m {\"event\":{}}\n"] {
            assert_eq!(pairs(&messages(text)), [("event", "{}")], "{text}");
        }
        assert_eq!(messages("m[1]").skipped, [BadElement::NotAnObject]);
        assert_eq!(messages("m{").skipped, [BadElement::Json]);
    }

    #[test]
    fn deep_nesting_is_no_stack_overflow() {
        let deep = format!("a[{{\"current\":{}{}}}]", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(messages(&deep).messages.len(), 1);
    }

    #[test]
    fn an_encoded_frame_is_an_array_of_one_string() {
        let text = encode("auth", &serde_json::json!("a\"b:s"));
        assert_eq!(text, r#"["{\"auth\":\"a\\\"b:s\"}"]"#);
    }

    #[test]
    fn captured_frames_decode_whole() {
        let mut kinds = std::collections::HashSet::new();
        for line in include_str!("../../../tests/captures/frames_sockjs_websocket.jsonl").lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            if line["dir"] != "in" {
                continue;
            }
            let text = line["frame"].as_str().unwrap();
            if let Frame::Messages(decoded) = frame(text).unwrap() {
                assert_eq!(decoded.skipped, []);
                kinds.extend(decoded.messages.into_iter().map(|m| m.kind));
            }
        }
        let known = [MessageKind::Connected, MessageKind::History];
        assert!(known.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    }

    proptest! {
        #[test]
        fn never_panics_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&Bytes::from(bytes));
        }

        #[test]
        fn never_panics_on_json_like_text(text in r#"[aoch]?[\[\]{}",:a-c0-9\\. ]{0,60}"#) {
            let _ = frame(&text);
        }

        #[test]
        fn what_was_framed_comes_back(kind in "[a-zA-Z]{1,12}", text in any::<String>()) {
            let payload = serde_json::json!({ "text": text });
            let decoded = messages(&format!("a[{}]", serde_json::json!({ &kind: payload })));
            prop_assert_eq!(decoded.messages.len(), 1);
            let back: serde_json::Value =
                serde_json::from_slice(&decoded.messages[0].payload).unwrap();
            prop_assert_eq!(back, payload);
        }
    }
}
