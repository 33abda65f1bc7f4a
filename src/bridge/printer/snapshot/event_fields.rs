//! The members of an event's payload that the bridge itself reads, parsed once (pure).

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Raw, object};
use crate::octoprint::EventKind;

/// Members of an event's payload as raw JSON; each is `None` if missing or null.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct EventFields<'a> {
    /// A file's name.
    #[serde(borrow, default)]
    pub name: Raw<'a>,
    /// A file's path in its storage.
    #[serde(borrow, default)]
    pub path: Raw<'a>,
    /// A file's storage.
    #[serde(borrow, default)]
    pub origin: Raw<'a>,
    /// The same in events about metadata.
    #[serde(borrow, default)]
    pub storage: Raw<'a>,
    /// A file's size in bytes.
    #[serde(borrow, default)]
    pub size: Raw<'a>,
    /// The user who caused the event.
    #[serde(borrow, default)]
    pub user: Raw<'a>,
    /// The user who selected a file or started a print.
    #[serde(borrow, default)]
    pub owner: Raw<'a>,
    /// How long a print took, in seconds.
    #[serde(borrow, default)]
    pub time: Raw<'a>,
    /// Why something failed, as a word.
    #[serde(borrow, default)]
    pub reason: Raw<'a>,
    /// Why something failed, as a text.
    #[serde(borrow, default)]
    pub error: Raw<'a>,
    /// OctoPrint's connector to the printer, since 2.0.
    #[serde(borrow, default)]
    pub connector: Raw<'a>,
    /// The new tool or height.
    #[serde(borrow, default)]
    pub new: Raw<'a>,
}

impl<'a> EventFields<'a> {
    /// Reads the payload of an event of type `kind`; empty for types that the bridge does not know,
    /// whose payloads may be large.
    pub fn read(kind: &EventKind, payload: Option<&'a RawValue>) -> Self {
        match kind {
            EventKind::Other(_) => Self::default(),
            _ => object(payload),
        }
    }
}
