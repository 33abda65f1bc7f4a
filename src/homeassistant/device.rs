//! What discovery messages are made from, and what they are (pure).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::heater::{Heater, Limits};
use crate::topics::{BridgeTopics, Topic};

/// From how many files on a select is no help any more.
pub const MOST_FILES: usize = 200;

/// Component ids and the platform of each.
pub type Components = BTreeMap<String, String>;

/// What does not depend on a printer.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Home Assistant's discovery prefix.
    pub prefix: String,
    /// Also a climate entity for each heater.
    pub climate: bool,
    /// The bridge's own topics.
    pub topics: BridgeTopics,
    /// Whose the printers are; see [`Published::identity`].
    pub identity: String,
}

/// All that the entities of one printer depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct PrinterDevice {
    /// The printer's id in the configuration.
    pub id: String,
    /// Its name, which entity ids are made of.
    pub name: String,
    /// OctoPrint's address, for the link on the device page; without user and password.
    pub url: String,
    /// What OctoPrint tells of it.
    pub profile: Profile,
    /// Highest targets, in °C.
    pub limits: Limits,
    /// The slowest push rate, in steps of 500 ms.
    pub max_rate_factor: u32,
    /// Which groups of commands are obeyed: the others have no entities.
    pub groups: Groups,
}

/// What OctoPrint tells of a printer, as far as the entities depend on it. Its serde form is what
/// is kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Who makes the printer.
    pub manufacturer: Option<String>,
    /// Which printer it is.
    pub model: Option<String>,
    /// OctoPrint's version.
    pub octoprint_version: Option<String>,
    /// `tool0`, `bed`, `chamber`, and what else reports a temperature.
    pub heaters: Vec<Heater>,
    /// Paths of the files such as `local/part.gcode`; `None` where they are not known or more than
    /// [`MOST_FILES`].
    pub files: Option<Vec<String>>,
    /// Of `restart`, `reboot` and `shutdown` those that OctoPrint is able to.
    pub system_commands: Vec<String>,
}

/// Groups of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the groups in the configuration")]
pub struct Groups {
    pub bridge: bool,
    pub job: bool,
    pub temperature: bool,
    pub motion: bool,
    pub connection: bool,
    pub gcode: bool,
    pub system: bool,
}

/// One discovery message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Where it goes, retained.
    pub topic: Topic,
    /// What it says.
    pub payload: Bytes,
    /// Its components, removed ones included.
    pub components: Components,
    /// Those of them that are marked as removed.
    pub gone: Components,
}

/// A discovery message of ours, read back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// The printer's id; `None` is the bridge itself.
    pub printer: Option<String>,
    /// Its components, removed ones included.
    pub components: Components,
    /// Which bridge published it: its `mqtt.client_id`. `None`: an earlier version did not say.
    pub identity: Option<String>,
    /// The topic of that bridge's state.
    pub bridge_state: String,
    /// The heaters with an entity, as their topics name them.
    pub heaters: Vec<Heater>,
}
