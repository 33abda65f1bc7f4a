//! Puts a configuration in force that was read while the bridge runs.

use std::sync::Arc;

use super::Hub;
use crate::causes::{self, Cause};
use crate::config::{Config, Loaded, Printer};

/// These decide which printers there are.
const DECIDES: &str = "data_dir or shard has changed, which counts from the next start of the bridge on; until then nothing of the configuration is used that changed with it";

impl Hub {
    /// Puts a configuration in force, as far as that needs no restart. An invalid one is reported,
    /// and the one before stays in force.
    pub(super) fn take_reloaded(&mut self, reloaded: Result<Loaded, Cause>) {
        let applied = reloaded.and_then(|loaded| self.apply(loaded));
        self.config_error = applied.err().map(|error| causes::text(&*error));
        if let Some(error) = &self.config_error {
            tracing::error!("the configuration that was changed is not used: {error}");
        }
        let info = self.info().to_string();
        self.publish_state(self.topics.info.clone(), info);
    }

    fn apply(&mut self, Loaded { config, warnings, .. }: Loaded) -> Result<(), Cause> {
        if config.data_dir != self.config.data_dir || config.shard != self.config.shard {
            return Err(DECIDES.into());
        }
        let is_known = |printer: &&Arc<Printer>| self.config.printers.contains(printer);
        let changed: Vec<&Arc<Printer>> =
            config.printers.iter().filter(|printer| !is_known(printer)).collect();
        // A file that they need may be missing: then nothing is changed.
        for printer in &changed {
            self.needs.maker.check(printer)?;
        }
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let fixed = self.config.fixed_differences(&config);
        if !fixed.is_empty() {
            let fixed = fixed.join(", ");
            tracing::warn!("what changed in {fixed} counts from the next start of the bridge on");
        }
        let mut log = self.config.log.clone();
        if log.level != config.log.level {
            match (self.set_log_level)(&config.log.level) {
                Ok(()) => log.level.clone_from(&config.log.level),
                Err(error) => tracing::warn!("log.level: {}", causes::text(&*error)),
            }
        }
        let names: Vec<&str> = changed.iter().map(|printer| printer.id.as_str()).collect();
        tracing::info!(
            printers = config.printers.len(),
            changed = names.join(", "),
            "read the configuration again"
        );
        let Config { printers, all_printers, .. } = config;
        self.config = Arc::new(Config { printers, all_printers, log, ..(*self.config).clone() });
        self.roster.apply(&self.config.printers);
        self.in_force.send_replace(self.config.clone());
        Ok(())
    }
}
