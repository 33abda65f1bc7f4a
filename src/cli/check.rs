//! `octoprint2mqtt check`: tries everything that the bridge needs.

use super::subcommand::{CommandFailure, block_on};
use crate::bridge::check;
use crate::config::Loaded;

pub(super) fn command(loaded: &Loaded) -> Result<(), CommandFailure> {
    let Loaded { config, warnings, .. } = loaded;
    warnings.iter().for_each(|warning| eprintln!("{warning}"));
    block_on(async {
        match check::run(config, |finding| println!("{finding}")).await {
            true => Ok(()),
            false => Err(CommandFailure::Printed),
        }
    })
}
