//! OctoPrint's push messages.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::SystemTime;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Defines an enum of OctoPrint's names: each is the name of a variant, or the text after it.
macro_rules! names {
    ($(#[$about:meta])* $Enum:ident: $($Name:ident $($text:literal)?,)*) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $Enum {
            $(#[doc = concat!("`", name!($Name $($text)?), "`.")] $Name,)*
            /// Any other name.
            Other(Box<str>),
        }

        impl $Enum {
            /// Returns OctoPrint's name.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$Name => name!($Name $($text)?),)*
                    Self::Other(name) => name,
                }
            }
        }

        impl From<&str> for $Enum {
            fn from(name: &str) -> Self {
                match name {
                    $(name!($Name $($text)?) => Self::$Name,)*
                    other => Self::Other(other.into()),
                }
            }
        }

        impl fmt::Display for $Enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $Enum {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Name(PhantomData))
            }
        }
    };
}

macro_rules! name {
    ($Name:ident) => {
        stringify!($Name)
    };
    ($Name:ident $text:literal) => {
        $text
    };
}

names! {
    /// The type of a push message, as of OctoPrint 1.11.
    MessageKind:
    Connected "connected", History "history", Current "current", Event "event", Plugin "plugin",
    Timelapse "timelapse", SlicingProgress "slicingProgress", RenderProgress "renderProgress",
    ReauthRequired "reauthRequired",
}

names! {
    /// The type of an event, with variants for those that matter to a bridge.
    EventKind:
    CaptureDone, CaptureStart, ChartMarked, ClientAuthed, ClientClosed, ClientDeauthed,
    ClientOpened, CommandSuppressed, Connected, Connecting, Disconnected, Disconnecting, Dwelling,
    EStop, Error, FilamentChange, FileDeselected, FileSelected, MetadataAnalysisFinished,
    MetadataAnalysisStarted, MetadataStatisticsUpdated, MovieDone, MovieFailed, MovieRendering,
    PositionUpdate, PrintCancelled, PrintDone, PrintFailed, PrintPaused, PrintResumed, PrintStarted,
    PrinterControlsChanged, PrinterProfileAdded, PrinterProfileModified, PrinterReset, PrinterStateChanged,
    RegisteredMessageReceived, SettingsUpdated, ToolChange, UpdatedFiles, UserLoggedIn, UserLoggedOut, ZChange,
}

/// Deserializes a name without allocating a string.
struct Name<T>(PhantomData<T>);

impl<T: for<'a> From<&'a str>> Visitor<'_> for Name<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        Ok(T::from(name))
    }
}

/// A push message: type, verbatim payload, and time of arrival.
#[derive(Clone)]
pub struct Message {
    kind: MessageKind,
    payload: Utf8Bytes,
    received: Instant,
    received_at: SystemTime,
    connection: u64,
}

impl Message {
    /// Creates a message of type `kind` from the JSON text of its payload.
    ///
    /// # Errors
    /// If `payload` is not UTF-8. The caller guarantees that it is JSON.
    pub fn new(
        kind: impl Into<MessageKind>,
        payload: Bytes,
        received: Instant,
        received_at: SystemTime,
        connection: u64,
    ) -> Result<Self, std::str::Utf8Error> {
        let (kind, payload) = (kind.into(), payload.try_into()?);
        Ok(Self { kind, payload, received, received_at, connection })
    }

    /// Returns the type.
    pub fn kind(&self) -> &MessageKind {
        &self.kind
    }

    /// Returns the JSON text of the payload, verbatim.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// Returns the JSON text of the payload as a slice of the received frame, without a copy.
    pub fn payload_bytes(&self) -> Bytes {
        self.payload.clone().into()
    }

    /// Deserializes the payload as `T`, which may borrow from this message.
    ///
    /// # Errors
    /// If the payload does not have the format of `T`.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> serde_json::Result<T> {
        serde_json::from_str(&self.payload)
    }

    /// Returns when the message was received, on the monotonic clock.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// Returns when the message was received, as wall-clock time.
    pub fn received_at(&self) -> SystemTime {
        self.received_at
    }

    /// Returns the number of the connection, 1 for the first one of the socket.
    pub fn connection(&self) -> u64 {
        self.connection
    }
}

impl fmt::Debug for Message {
    /// Shows only type, size and connection: payloads may contain keys and tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, payload, connection, .. } = self;
        write!(f, "Message({kind}, {} bytes, connection {connection})", payload.len())
    }
}

/// The payload of an `event` message.
#[derive(Debug, Deserialize)]
pub struct Event<'a> {
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The event's payload, verbatim; usually an object, often `null`.
    #[serde(borrow)]
    pub payload: Option<&'a RawValue>,
}

/// The payload of a `plugin` message.
#[derive(Deserialize)]
pub struct Plugin<'a> {
    /// The plugin's identifier.
    #[serde(borrow)]
    pub plugin: Cow<'a, str>,
    /// The plugin's data, verbatim; any JSON.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
}

impl fmt::Debug for Plugin<'_> {
    /// Shows only the plugin: its data may contain tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({})", self.plugin)
    }
}

/// Why OctoPrint requires a new login (`reauthRequired`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReauthReason {
    /// The user's permissions changed: a passive login is enough.
    Modified,
    /// `logout`, `stale`, `removed`, or an unknown reason: a full login is needed.
    LoginNeeded,
}

impl ReauthReason {
    /// Parses a `reauthRequired` message. An unreadable payload needs a full login.
    pub fn of(message: &Message) -> Self {
        #[derive(Deserialize)]
        struct ReauthPayload<'a> {
            #[serde(borrow)]
            reason: Cow<'a, str>,
        }
        match message.json::<ReauthPayload<'_>>() {
            Ok(payload) if payload.reason == "modified" => Self::Modified,
            _ => Self::LoginNeeded,
        }
    }

    /// Returns the stronger of two reasons.
    pub fn or(self, other: Self) -> Self {
        if self == Self::Modified { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, payload: &str) -> Message {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        Message::new(kind, payload, Instant::now(), SystemTime::UNIX_EPOCH, 1).unwrap()
    }

    #[test]
    fn events_and_plugins_borrow() {
        let event = message("event", r#"{"type":"ZChange","payload":{"new":1.0}}"#);
        let event: Event<'_> = event.json().unwrap();
        assert_eq!(
            (event.kind, event.payload.unwrap().get()),
            (EventKind::ZChange, r#"{"new":1.0}"#)
        );
        let plugin = message("plugin", r#"{"plugin":"psucontrol","data":null}"#);
        let plugin: Plugin<'_> = plugin.json().unwrap();
        assert_eq!((&*plugin.plugin, plugin.data.is_none()), ("psucontrol", true));
    }

    #[test]
    fn names_come_back_known_or_not() {
        for name in ["current", "reauthRequired", "Current", "a\"b", ""] {
            assert_eq!(MessageKind::from(name).as_str(), name);
        }
        let read = |json| serde_json::from_str::<EventKind>(json).unwrap();
        assert_eq!(read(r#""Print\u0044one""#), EventKind::PrintDone);
        assert_eq!(read(r#""plugin_x_\"y""#), EventKind::Other("plugin_x_\"y".into()));
        assert!(serde_json::from_str::<EventKind>("1").is_err());
    }

    #[test]
    fn reasons() {
        let reason = |payload| ReauthReason::of(&message("reauthRequired", payload));
        assert_eq!(reason(r#"{"reason":"modified"}"#), ReauthReason::Modified);
        for other in [r#"{"reason":"stale"}"#, r#"{"reason":null}"#, "null", "{}"] {
            assert_eq!(reason(other), ReauthReason::LoginNeeded, "{other}");
        }
        assert_eq!(ReauthReason::Modified.or(ReauthReason::LoginNeeded), ReauthReason::LoginNeeded);
        assert_eq!(ReauthReason::LoginNeeded.or(ReauthReason::Modified), ReauthReason::LoginNeeded);
    }

    #[test]
    fn debug_shows_no_payload() {
        let shown = format!("{:?}", message("plugin", r#"{"user_token":"SECRET"}"#));
        assert!(!shown.contains("SECRET"), "{shown}");
    }
}
