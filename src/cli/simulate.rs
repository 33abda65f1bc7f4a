//! `octoprint2mqtt simulate`: the simulated OctoPrint alone.

use std::net::SocketAddr;

use super::subcommand::{self, Failure, block_on};
use crate::simulator::{Simulator, SimulatorOptions};

pub(super) fn command(listen: SocketAddr, api_key: String) -> Result<(), Failure> {
    block_on(async {
        let stop = subcommand::stop()?;
        let options =
            SimulatorOptions { listen, api_key, print_loop: true, ..SimulatorOptions::default() };
        let simulator = Simulator::start(options).await;
        let simulator = simulator.map_err(|error| Failure::at(listen.to_string(), error))?;
        eprintln!("a simulated OctoPrint at {}", simulator.url());
        stop.await;
        simulator.stop();
        Ok(())
    })
}
