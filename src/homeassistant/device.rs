//! Input and output of discovery: settings, printers, and messages (pure).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::heater::{Heater, Limits};
use crate::own_entity::OwnEntity;
use crate::topics::{BridgeTopics, Topic};

/// Most files for which a select is offered.
pub const MOST_FILES: usize = 200;

/// Most custom controls for which a button is offered.
pub const MOST_CONTROLS: usize = 100;

/// Most temperature presets for which a button is offered.
pub const MOST_PRESETS: usize = 50;

/// Component ids and the platform of each.
pub type Components = BTreeMap<String, String>;

/// Settings that do not depend on a printer.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Home Assistant's discovery prefix.
    pub prefix: String,
    /// Whether to add a climate entity for each heater.
    pub climate: bool,
    /// The bridge's own topics.
    pub topics: BridgeTopics,
    /// Owner of the printers; see [`PublishedDevice::identity`].
    pub identity: String,
}

/// Everything that the entities of a printer depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct PrinterDevice {
    /// The printer's id in the configuration.
    pub id: String,
    /// Its name, from which Home Assistant makes entity ids.
    pub name: String,
    /// OctoPrint's address, for the link on the device page; without user and password.
    pub url: String,
    /// Facts from OctoPrint.
    pub profile: Profile,
    /// Highest targets, in °C.
    pub limits: Limits,
    /// Slowest push rate, in steps of 500 ms.
    pub max_rate_factor: u32,
    /// Where pictures come from.
    pub camera: CameraSource,
    /// Whether layers are followed, and what the slicer wrote is published.
    pub layers: bool,
    /// Whether the thumbnail of the selected file is published.
    pub thumbnails: bool,
    /// Enabled groups of commands; the others have no entities.
    pub groups: Groups,
    /// Entities of the user's own.
    pub entities: Arc<[OwnEntity]>,
    /// What is configured beyond that.
    pub extras: Extras,
}

/// What the configuration adds to a printer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// Names of the maintenance counters.
    pub maintenance: Vec<String>,
    /// Whether a switch of its power is configured.
    pub power_switch: bool,
    /// Whether the power is switched off after a print.
    pub auto_off: bool,
}

/// Where the pictures of a printer come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameraSource {
    /// There are none.
    Off,
    /// A camera of the configuration.
    Own,
    /// OctoPrint's webcams.
    Webcams,
}

/// Facts from OctoPrint that the entities of a printer depend on. Its serde form is persisted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Manufacturer of the printer.
    pub manufacturer: Option<String>,
    /// Model of the printer.
    pub model: Option<String>,
    /// OctoPrint's version.
    pub octoprint_version: Option<String>,
    /// `tool0`, `bed`, `chamber`, and anything else that reports a temperature.
    pub heaters: Vec<Heater>,
    /// Paths of the files, such as `local/part.gcode`; `None` if unknown or more than
    /// [`MOST_FILES`].
    pub files: Option<Vec<String>>,
    /// Those of `restart`, `reboot` and `shutdown` that OctoPrint supports.
    pub system_commands: Vec<String>,
    /// Names of the webcams that take pictures, the default one first.
    pub webcams: Vec<String>,
    /// OctoPrint's custom controls that need nothing but a press, at most [`MOST_CONTROLS`].
    pub controls: Vec<ControlButton>,
    /// Names of OctoPrint's temperature presets, at most [`MOST_PRESETS`].
    pub presets: Vec<String>,
    /// Whether OctoPrint supports the printer's SD card.
    pub sd_card: bool,
    /// Whether OctoPrint tells about its own updates.
    pub updates: bool,
    /// Whether PSU Control switches the power.
    pub psu_control: bool,
    /// The choices of the last prompt of the printer that had some.
    pub prompt_choices: Vec<String>,
}

/// A button for one of OctoPrint's custom controls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlButton {
    /// The value of the command `control` that means it.
    pub name: String,
    /// Whether OctoPrint's page asks before it sends anything, which Home Assistant does not.
    pub asks: bool,
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
    pub power: bool,
    pub gcode: bool,
    pub system: bool,
}

/// One discovery message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryMessage {
    /// Its topic.
    pub topic: Topic,
    /// Its payload, which is retained.
    pub payload: Bytes,
    /// Its components, including removed ones.
    pub components: Components,
    /// The components marked as removed.
    pub gone: Components,
}

/// A device read back from a retained discovery message of this program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishedDevice {
    /// The printer's id; `None` for the bridge itself.
    pub printer: Option<String>,
    /// Its components, including removed ones.
    pub components: Components,
    /// The `mqtt.client_id` of the bridge that published it; `None` from an earlier version.
    pub identity: Option<String>,
    /// The `state` topic of that bridge.
    pub bridge_state: String,
    /// The heaters that have an entity, as named in topics.
    pub heaters: Vec<Heater>,
}
