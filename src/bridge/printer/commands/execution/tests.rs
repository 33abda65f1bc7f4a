//! Commands to a simulated OctoPrint that answers with success and does nothing.

use serde_json::json;

use super::start::PrintStarts;
use super::*;
use crate::octoprint::{
    ConnectWith, Credentials, FilePath, JobAction, PrintParams, Socket, SocketOptions,
};
use crate::secret::Secret;
use crate::simulator::{Faults, Simulator, SimulatorOptions};
use crate::tls;

struct World {
    simulator: Simulator,
    rest: Rest,
    starts: PrintStarts,
}

impl World {
    async fn start() -> Self {
        tls::install_provider();
        let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
        let key = Credentials::ApiKey(Secret::new("SIMULATOR-KEY"));
        let tls = tls::client_config(&config::Tls::default(), false).unwrap();
        let options = SocketOptions::new(simulator.url().parse().unwrap(), key, tls);
        let rest = Socket::new(options).unwrap().rest();
        Self { simulator, rest, starts: PrintStarts::default() }
    }

    fn idle(&self, rest_idle: bool) {
        self.simulator.set_faults(Faults { rest_idle, ..Faults::default() });
    }

    async fn job(&self, action: JobAction) -> Result<(), CommandError> {
        let stops = StopGuard::new(Arc::default(), 0);
        job::run(&self.rest, action, &stops, &self.starts).await
    }

    async fn select(&self, print: bool) -> Result<(), CommandError> {
        let file = FilePath::parse("local/vase.gcode").unwrap();
        job::select(&self.rest, &file, print, &PrintParams::new(), &self.starts).await
    }
}

fn refused(outcome: Result<(), CommandError>, telling: &str) {
    let CommandError { error, status } = outcome.unwrap_err();
    assert!(error.contains(telling), "{error}");
    assert_eq!(status, Some(409), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_do_nothing_are_not_answered_ok() {
    // Each waits for a while, so they wait together.
    let (starting, printing, open) = tokio::join!(World::start(), World::start(), World::start());
    for world in [&starting, &printing] {
        world.select(false).await.unwrap();
    }
    for world in [&starting, &printing, &open] {
        world.idle(true);
    }
    let (started, printed, disconnected) = tokio::join!(
        starting.job(JobAction::Start),
        printing.select(true),
        connection::disconnect(&open.rest),
    );
    refused(started, "no print has begun, and the printer is Operational");
    refused(printed, "no print has begun, and the printer is Operational");
    refused(disconnected, "the printer is still Operational");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_are_obeyed_are_answered_ok() {
    let world = World::start().await;
    world.select(false).await.unwrap();
    world.job(JobAction::Start).await.unwrap();
    world.job(JobAction::Cancel).await.unwrap();
    world.select(true).await.unwrap();
    world.job(JobAction::Pause).await.unwrap();
    world.job(JobAction::Restart).await.unwrap();
    connection::disconnect(&world.rest).await.unwrap();
    assert_eq!(world.rest.job_status().await.unwrap().state.as_deref(), Some("Offline"));
    connection::disconnect(&world.rest).await.unwrap();
    connection::connect(&world.rest, &ConnectWith::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_print_that_is_over_already_is_confirmed_by_its_start() {
    let world = World::start().await;
    world.select(false).await.unwrap();
    world.idle(true);
    let reported = async {
        // It is after the command that OctoPrint reports the start.
        let sent = || {
            world
                .simulator
                .observed()
                .commands
                .iter()
                .any(|(_, b)| *b == json!({"command": "start"}))
        };
        while !sent() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.starts.add();
    };
    let (started, ()) = tokio::join!(world.job(JobAction::Start), reported);
    started.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_connect_is_not_called_a_failure() {
    let world = World::start().await;
    connection::disconnect(&world.rest).await.unwrap();
    world.idle(true);
    let by_default = ConnectWith::default();
    let slow = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.idle(false);
        world.rest.connect(&ConnectWith::default()).await.unwrap();
    };
    let (connected, ()) = tokio::join!(connection::connect(&world.rest, &by_default), slow);
    connected.unwrap();
    // What never begins has failed.
    connection::disconnect(&world.rest).await.unwrap();
    world.idle(true);
    let error = connection::connect(&world.rest, &by_default).await.unwrap_err().error;
    assert!(error.contains("could not connect"), "{error}");
}
