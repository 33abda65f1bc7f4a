//! The power of a printer, as its task and its commands share it.

use tokio::sync::watch;

use crate::config::{self, PowerSwitch};

/// Whether the power is on, as far as known. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PowerState(watch::Sender<Option<bool>>);

impl PowerState {
    /// It is not known.
    pub fn unknown() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Returns whether the power is on.
    pub fn get(&self) -> Option<bool> {
        *self.0.borrow()
    }

    /// Notes whether the power is on.
    pub fn set(&self, on: Option<bool>) {
        self.0.send_if_modified(|known| std::mem::replace(known, on) != on);
    }

    /// Waits until the power is on, or off.
    pub async fn becomes(&self, on: bool) {
        // The sender is here.
        let _ = self.0.subscribe().wait_for(|known| *known == Some(on)).await;
    }
}

/// How the power of a printer is switched.
#[derive(Debug, Clone)]
pub struct PowerControl {
    /// The switch that the configuration names; `None`: PSU Control, if OctoPrint has it.
    pub switch: Option<PowerSwitch>,
    /// Whether a command to print switches the power on.
    pub on_to_print: bool,
    /// Whether the power is on.
    pub state: PowerState,
}

impl PowerControl {
    /// That of a printer, as configured.
    pub fn of(printer: &config::Printer, state: PowerState) -> Self {
        let (switch, on_to_print) = (printer.power.clone(), printer.power_on_to_print);
        Self { switch, on_to_print, state }
    }
}
