//! What the page's script asks, in JSON (pure).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::bridge::board::PageRequest;
use crate::bridge::newcomer::PairRequest;
use crate::secret::Secret;

/// A question, by its name. Not printed: an address may hold a password.
#[derive(Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum PageQuestion {
    Discover {},
    Pair { url: String, name: Option<String>, id: Option<String> },
    CancelPairing {},
    Remove { id: String },
    Rename { id: String, name: String },
    Groups { id: String, groups: BTreeMap<String, bool> },
    Check {},
    AllowMqttPairing {},
}

impl PageQuestion {
    /// Whether a page that is read-only may ask it.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self, Self::Discover {} | Self::Check {})
    }
}

/// An empty text stands for none: forms have no other.
fn filled(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

impl From<PageQuestion> for PageRequest {
    fn from(question: PageQuestion) -> Self {
        match question {
            PageQuestion::Discover {} => Self::Discover,
            PageQuestion::Pair { url, name, id } => {
                let url = Secret::new(url.trim());
                Self::Pair(PairRequest { url, name: filled(name), id: filled(id) })
            }
            PageQuestion::CancelPairing {} => Self::CancelPairing,
            PageQuestion::Remove { id } => Self::Remove(id),
            PageQuestion::Rename { id, name } => Self::Rename { id, name: name.trim().to_owned() },
            PageQuestion::Groups { id, groups } => Self::Groups { id, groups },
            PageQuestion::Check {} => Self::Check,
            PageQuestion::AllowMqttPairing {} => Self::AllowMqttPairing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(PageRequest, bool)> {
        let question: PageQuestion = serde_json::from_str(text).ok()?;
        let is_reading = question.is_reading();
        Some((question.into(), is_reading))
    }

    #[test]
    fn questions_are_read() {
        let url = Secret::new("http://a");
        let pair = PageRequest::Pair(PairRequest { url, name: None, id: None });
        let groups = BTreeMap::from([("gcode".to_owned(), true)]);
        for (text, expected) in [
            (r#"{"ask":"discover"}"#, Some((PageRequest::Discover, true))),
            (r#"{"ask":"check"}"#, Some((PageRequest::Check, true))),
            (r#"{"ask":"pair","url":" http://a ","name":" "}"#, Some((pair, false))),
            (r#"{"ask":"cancel_pairing"}"#, Some((PageRequest::CancelPairing, false))),
            (r#"{"ask":"remove","id":"a"}"#, Some((PageRequest::Remove("a".to_owned()), false))),
            (
                r#"{"ask":"groups","id":"a","groups":{"gcode":true}}"#,
                Some((PageRequest::Groups { id: "a".to_owned(), groups }, false)),
            ),
            (r#"{"ask":"allow_mqtt_pairing"}"#, Some((PageRequest::AllowMqttPairing, false))),
            (r#"{"ask":"remove"}"#, None),
            (r#"{"ask":"discover","x":1}"#, None),
            (r#"{"ask":"everything"}"#, None),
            ("[]", None),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
