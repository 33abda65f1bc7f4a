//! Converts Python's extensions of JSON to valid JSON (pure).
//!
//! Python's `json` writes `NaN` and infinities, and lone surrogates, such as for a file name that is
//! not UTF-8. Other parsers refuse the whole document. Here these numbers become `null` and lone
//! surrogates become U+FFFD; all other bytes are unchanged.

use bytes::Bytes;
use memchr::{memchr2, memchr3, memmem};
use serde::de::IgnoredAny;

use super::large;

/// The escape that replaces a lone surrogate.
const REPLACEMENT: &str = "\\ufffd";
const ESCAPE: usize = 6;

/// Replaces Python's extensions in `text`; `None` if there are none. Other syntax errors remain.
pub(super) fn repaired(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    let mut in_string = false;
    let mut replace = |from: usize, to: usize, with: &str| {
        if out.capacity() == 0 {
            out.reserve(large::capacity(text.len()));
        }
        out.push_str(&text[copied..from]);
        out.push_str(with);
        copied = to;
    };
    loop {
        let rest = &bytes[at..];
        let found =
            if in_string { memchr2(b'"', b'\\', rest) } else { memchr3(b'"', b'N', b'I', rest) };
        let Some(found) = found.map(|found| at + found) else { break };
        at = match bytes[found] {
            b'"' => {
                in_string = !in_string;
                found + 1
            }
            b'\\' => match escape(&bytes[found..]) {
                Escape::LoneSurrogate => {
                    replace(found, found + ESCAPE, REPLACEMENT);
                    found + ESCAPE
                }
                Escape::Whole(length) => (found + length).min(bytes.len()),
            },
            _ => match number(&bytes[found..]) {
                Some(length) => {
                    let negative = found > 0 && bytes[found - 1] == b'-';
                    replace(found - usize::from(negative), found + length, "null");
                    found + length
                }
                None => found + 1,
            },
        };
    }
    if copied == 0 {
        return None;
    }
    out.push_str(&text[copied..]);
    Some(out)
}

/// Whether `text` may have a lone surrogate, which [`serde_json::value::RawValue`] does not detect.
pub(super) fn may_have_lone_surrogate(text: &[u8]) -> bool {
    memmem::find_iter(text, b"\\u").any(|at| {
        matches!(
            text.get(at + 2..at + 4),
            Some([b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F'])
        )
    })
}

/// Repairs the body of an answer if that makes it valid JSON, and returns it unchanged otherwise.
pub(super) fn repaired_body(body: Bytes) -> Bytes {
    let has = |token: &[u8]| memmem::find(&body, token).is_some();
    if !has(b"NaN") && !has(b"Infinity") && !may_have_lone_surrogate(&body) {
        return body;
    }
    match std::str::from_utf8(&body).ok().and_then(repaired) {
        Some(repaired) if serde_json::from_str::<IgnoredAny>(&repaired).is_ok() => repaired.into(),
        _ => body,
    }
}

enum Escape {
    LoneSurrogate,
    /// Any other, or a surrogate pair, with its length.
    Whole(usize),
}

fn escape(bytes: &[u8]) -> Escape {
    match code_unit(bytes) {
        Some(0xd800..=0xdbff) => match code_unit(&bytes[ESCAPE..]) {
            Some(0xdc00..=0xdfff) => Escape::Whole(2 * ESCAPE),
            _ => Escape::LoneSurrogate,
        },
        Some(0xdc00..=0xdfff) => Escape::LoneSurrogate,
        _ => Escape::Whole(2),
    }
}

fn code_unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.get(..ESCAPE)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

fn number(bytes: &[u8]) -> Option<usize> {
    let token = [&b"NaN"[..], b"Infinity"].into_iter().find(|token| bytes.starts_with(token))?;
    let ends = bytes.get(token.len()).is_none_or(|next| !next.is_ascii_alphanumeric());
    ends.then_some(token.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn nan_and_infinities_become_null() {
        for (python, json) in [
            ("NaN", "null"),
            ("[-Infinity, Infinity,NaN]", "[null, null,null]"),
            (r#"{"a":NaN,"b": -Infinity }"#, r#"{"a":null,"b": null }"#),
            (r#"{"NaN":"-Infinity \" NaN","c":-NaN}"#, r#"{"NaN":"-Infinity \" NaN","c":null}"#),
        ] {
            assert_eq!(repaired(python).as_deref(), Some(json));
        }
        for same in ["", "[1]", r#"["NaN","\\",-1.5,"Infinity"]"#, "NaNo", "[Nan]", "\"NaN"] {
            assert_eq!(repaired(same), None, "{same}");
        }
    }

    #[test]
    fn lone_surrogates_are_replaced_and_pairs_are_not() {
        for (python, json) in [
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""\udcff.gcode\uDC00""#, r#""\ufffd.gcode\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ud83dA\u00e4""#, r#""\ufffdA\u00e4""#),
        ] {
            assert!(may_have_lone_surrogate(python.as_bytes()));
            assert_eq!(repaired(python).as_deref(), Some(json));
        }
        for same in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\u00e4\n\"""#, r#""\ud8"#, "\"\\"] {
            assert_eq!(repaired(same), None, "{same}");
        }
        assert!(!may_have_lone_surrogate(br#""\u00e4\ud7ff\\n""#));
    }

    #[test]
    fn a_body_is_repaired_only_if_that_makes_it_json() {
        let of = |text: &'static str| repaired_body(Bytes::from_static(text.as_bytes()));
        assert_eq!(of(r#"{"size":NaN}"#), r#"{"size":null}"#);
        assert_eq!(of(r#"["\udcff"]"#), r#"["\ufffd"]"#);
        for same in ["<p>NaN is no number</p>", r#"{"a":NaN"#, r#"["NaN"]"#] {
            assert_eq!(of(same), same);
        }
        let odd = Bytes::from_static(b"\xff NaN");
        assert_eq!(repaired_body(odd.clone()), odd);
    }

    /// Generates JSON as Python may write it, with escapes and spaces.
    fn python() -> impl Strategy<Value = String> {
        let text = prop::collection::vec(
            prop_oneof![
                "[a-zNI ]{0,4}",
                Just("NaN".to_owned()),
                Just("\\\"".to_owned()),
                Just("\\\\".to_owned()),
                Just("\\ud83d\\ude00".to_owned()),
                (0u32..0x1_0000).prop_map(|unit| format!("\\u{unit:04x}")),
                (0xd800u32..0xe000).prop_map(|unit| format!("\\u{unit:04X}")),
            ],
            0..6,
        )
        .prop_map(|parts| format!("\"{}\"", parts.concat()));
        let leaf = prop_oneof![
            Just("NaN".to_owned()),
            Just("Infinity".to_owned()),
            Just("-Infinity".to_owned()),
            Just("null".to_owned()),
            any::<i32>().prop_map(|number| number.to_string()),
            text.clone(),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            let members = prop::collection::vec((text.clone(), inner.clone()), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(|all| format!("[{}]", all.join(", "))),
                members.prop_map(|all| {
                    let all: Vec<String> = all.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                    format!("{{{}}}", all.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_repaired_is_json(text in python()) {
            let repaired = repaired(&text).unwrap_or(text);
            prop_assert!(serde_json::from_str::<Value>(&repaired).is_ok(), "{}", repaired);
        }

        #[test]
        fn json_passes_as_it_is(text in any::<String>(), number in any::<f64>()) {
            let json = serde_json::json!({ &text: [&text, number, null] }).to_string();
            prop_assert_eq!(repaired(&json), None);
            let bytes = Bytes::from(json);
            prop_assert_eq!(repaired_body(bytes.clone()).as_ptr(), bytes.as_ptr());
        }

        #[test]
        fn json_with_escapes_passes_as_it_is(text in python()) {
            if serde_json::from_str::<Value>(&text).is_ok() {
                prop_assert_eq!(repaired(&text), None);
            }
        }

        #[test]
        fn never_panics(text in any::<String>(), odd in r#"[\\"uND8-I9afity\-\[\],]{0,40}"#) {
            let _ = (repaired(&text), repaired(&odd));
        }
    }
}
