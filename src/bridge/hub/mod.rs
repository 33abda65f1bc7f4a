//! The bridge itself: its topics and requests, and the routing of commands to printers.

mod announcer;
mod asker;
mod departure;
pub mod fleet;
pub mod health;
mod pairing;
mod presence;
mod reloaded;
mod requests;
mod roster;
mod routes;
mod supervisor;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::announcer::{Announcer, Devices};
use self::departure::{Belongings, MAX_CONNECTIONS};
use self::fleet::FleetTask;
pub use self::health::Vitals;
use self::health::{Echo, Ping, Start};
use self::pairing::PairingDesk;
use self::presence::HomeAssistantAttendance;
use self::roster::{PrinterNeeds, PrinterRoster, RosterNews};
use super::board::{AskedByPage, Board};
use super::broker_card;
use super::identity::Identity;
use super::oversize;
use super::reload::ConfigFollower;
use super::setup::{self, NO_PRINTER, SetLogLevel, SetupError, SocketMaker};
use super::watch::{Failures, Restarts, Watch, caught};
use crate::causes::Cause;
use crate::clock::{self, sleep_until};
use crate::config::{Config, Loaded};
use crate::journal;
use crate::lanes::Lanes;
use crate::metrics::{self, Latencies, Queues, Sockets};
use crate::mqtt::{Attendance, Audiences, Bounds, Broker, Incoming, Kind, OWN_LANE, Publication};
use crate::octoprint::Socket;
use crate::store::{Known, Store};
use crate::topics::{BridgeTopics, PrinterTopics, Topic};

const HEALTH_INTERVAL: Duration = Duration::from_secs(60);
/// Time limit for sending what is queued when the bridge stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for the tasks to end when the bridge stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Minimum time between health reports caused by changes in what is held back.
const HELD_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of messages from the broker that wait to be routed.
const INCOMING_CAPACITY: usize = 4096;

/// Why the bridge ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be set up.
    #[error(transparent)]
    SetUp(#[from] SetupError),
    /// A task that all printers need has panicked.
    #[error(
        "the {task} failed, which is a bug: please report it with the output on stderr; the bridge stopped, so that its service manager restarts it"
    )]
    Failed {
        /// The task's name.
        task: &'static str,
    },
}

/// The page's board, and what the page asks.
pub type ShownBoard = (Board, mpsc::Receiver<AskedByPage>);

/// The running bridge: a task per printer, and the connection to the broker.
pub struct Hub {
    config: Arc<Config>,
    /// Shows the configuration that is in force.
    in_force: watch::Sender<Arc<Config>>,
    topics: BridgeTopics,
    broker: Broker,
    incoming: mpsc::Receiver<Incoming>,
    start: Start,
    needs: PrinterNeeds,
    desk: PairingDesk,
    /// Requests of the page.
    asked: mpsc::Receiver<AskedByPage>,
    /// Configurations that were read again.
    reloads: mpsc::Receiver<Result<Loaded, Cause>>,
    /// Why the last one is not in force.
    config_error: Option<String>,
    roster: PrinterRoster,
    news: mpsc::UnboundedReceiver<RosterNews>,
    failures: Failures,
    set_log_level: SetLogLevel,
    /// Last and next health report caused by changes in what is held back.
    held_reported: Instant,
    held_due: Option<Instant>,
    echo: Echo,
    /// Liveness checks, see [`Vitals`].
    ping: mpsc::Sender<Ping>,
    pings: mpsc::Receiver<Ping>,
}

impl Hub {
    /// Runs until `shutdown` resolves; then publishes offline and sends what is queued, for five
    /// seconds at most.
    ///
    /// # Errors
    /// If a task that all printers need failed; offline is published then, too. An unreachable
    /// broker or OctoPrint is no error.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let failed = caught(self.serve_until(shutdown)).await.unwrap_or(Some("hub"));
        if let Some(task) = failed {
            tracing::error!(task, "a task that all printers need panicked; stopping");
        }
        self.stop().await;
        failed.map_or(Ok(()), |task| Err(RunError::Failed { task }))
    }

    /// Runs until `shutdown` resolves, or returns which task failed that all printers need.
    async fn serve_until(&mut self, shutdown: impl Future<Output = ()>) -> Option<&'static str> {
        tokio::pin!(shutdown);
        let store = self.needs.store.clone();
        let store_failed = store.failed();
        tokio::pin!(store_failed);
        let mut health = tokio::time::interval(HEALTH_INTERVAL);
        let mut broker = self.broker.status();
        let mut held = self.broker.held();
        loop {
            tokio::select! {
                () = &mut shutdown => return None,
                changed = broker.changed() => {
                    // The task is gone, and the broker publishes its last will.
                    if changed.is_err() {
                        return Some("broker's task");
                    }
                    let status = broker.borrow_and_update();
                    self.echo.expect(status.connected, status.since);
                }
                () = &mut store_failed => return Some("journal in data_dir"),
                Some(task) = self.failures.recv() => return Some(task),
                () = sleep_until(self.echo.due()), if self.echo.due().is_some() => {
                    self.echo.report_missing(&self.topics.state);
                }
                _ = health.tick() => self.publish_health(),
                // The other side may have timed out.
                Some(ping) = self.pings.recv() => drop(ping.send(())),
                Ok(()) = held.changed(), if self.held_due.is_none() => {
                    held.borrow_and_update();
                    self.held_due = Some(self.held_reported + HELD_INTERVAL);
                }
                () = sleep_until(self.held_due), if self.held_due.is_some() => {
                    self.held_due = None;
                    self.held_reported = clock::now();
                    self.publish_health();
                }
                Some(news) = self.news.recv() => {
                    self.roster.hear(news);
                    // A hundred printers may come at once: the others have their turns between them.
                    tokio::task::yield_now().await;
                }
                Some(reloaded) = self.reloads.recv() => self.take_reloaded(reloaded),
                Some(incoming) = self.incoming.recv() => self.route(incoming),
                Some(asked) = self.asked.recv() => self.take_page_request(asked),
            }
        }
    }

    /// Starts the bridge's tasks.
    ///
    /// # Errors
    /// If the TLS settings or a socket's options are invalid.
    pub fn start(config: Config, set_log_level: SetLogLevel) -> Result<Self, SetupError> {
        Self::start_shown(config, set_log_level, None)
    }

    /// The same, shown on the page's board, whose requests are answered.
    ///
    /// # Errors
    /// If the TLS settings or a socket's options are invalid.
    pub fn start_shown(
        config: Config,
        set_log_level: SetLogLevel,
        shown: Option<ShownBoard>,
    ) -> Result<Self, SetupError> {
        if config.all_printers.is_empty() {
            tracing::warn!("printers: {NO_PRINTER}");
        }
        let start = Start { instant: clock::now(), wall: SystemTime::now() };
        let (ping, pings) = mpsc::channel(1);
        let (store, mut known) = Store::open(config.data_dir.as_deref());
        store.forget_others(&mut known, &config.all_printers);
        let base = &config.mqtt.base_topic;
        let topics = BridgeTopics::named(base, &config.bridge_name());
        let will = (topics.state.to_string(), "offline".to_owned());
        let options = setup::broker_options(&config.mqtt, Some(will))?;
        let maker = SocketMaker::default();
        let sockets: Result<Vec<Socket>, SetupError> =
            config.printers.iter().map(|printer| maker.make(printer)).collect();
        let sockets = sockets?;
        let command_filter = |id: &str| PrinterTopics::new(base, id).command_filter();
        let mut filters: BTreeSet<String> =
            config.printers.iter().map(|printer| command_filter(&printer.id)).collect();
        let switches = config.printers.iter().filter_map(|printer| printer.power.as_ref());
        filters.extend(switches.map(|switch| switch.state_topic.clone()));
        filters.insert(topics.request_filter());
        filters.insert(topics.state.to_string());
        filters.insert(BridgeTopics::info_filter(base));
        let attendance = HomeAssistantAttendance::new(&config.homeassistant, store.clone(), &known);
        filters.extend(attendance.iter().flat_map(|home| home.filters().iter().cloned()));
        let audiences = Audiences {
            settle: config.outbox.settle,
            home_assistant: attendance.map(|home| Box::new(home) as Box<dyn Attendance>),
        };
        let (arrived, incoming) = mpsc::channel(INCOMING_CAPACITY);
        let outbox = config.outbox;
        let bounds = Bounds { max_events: outbox.max_events, max_bytes: outbox.max_bytes };
        let lanes = Lanes::default();
        let places: Vec<usize> =
            config.printers.iter().map(|printer| lanes.take(&printer.id)).collect();
        let fit = |event| oversize::fit_persisted(event, options.limit);
        let persistence = journal::persistence(&store, &mut known, &lanes, fit);
        let broker =
            Broker::start(options.clone(), bounds, filters, arrived, persistence, audiences);
        let identity = Identity::recall(&config.mqtt.identity, &known);
        identity.persist(&store);
        let (watch, failures) = Watch::new();
        let discovery =
            config.homeassistant.enabled.then(|| Arc::new(setup::discovery_settings(&config)));
        let (board, asked) = shown.unzip();
        let needs = PrinterNeeds {
            belongings: Belongings {
                base: base.as_str().into(),
                broker: broker.clone(),
                options: Arc::new(options),
                discovery,
                turns: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            },
            store,
            maker,
            sockets: Sockets::default(),
            lanes,
            latencies: Latencies::default(),
            restarts: Restarts::default(),
            watch,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            board: board.clone(),
        };
        let (fleet, reports) = FleetTask::new();
        let (roster, news) = PrinterRoster::new(needs.clone(), reports);
        let config = Arc::new(config);
        let in_force = watch::Sender::new(config.clone());
        let mut hub = Self {
            desk: PairingDesk::new(in_force.subscribe()),
            asked: asked.unwrap_or_else(|| mpsc::channel(1).1),
            in_force,
            topics,
            broker,
            incoming,
            start,
            needs,
            reloads: mpsc::channel(1).1,
            config_error: None,
            roster,
            news,
            failures,
            set_log_level,
            held_reported: start.instant,
            held_due: None,
            echo: Echo::default(),
            ping,
            pings,
            config,
        };
        let places = sockets.into_iter().zip(places);
        let devices = hub.start_printers(places, &known);
        let counting = fleet.publish(hub.broker.clone(), hub.topics.fleet.clone());
        hub.needs.tasks.spawn(hub.needs.watch.over("fleet", counting));
        hub.announce(identity, devices);
        if let Some(board) = board {
            hub.desk.show_on(board.clone());
            let address = hub.needs.belongings.options.address();
            hub.spawn("broker's card", broker_card::follow(board, hub.broker.clone(), address));
        }
        Ok(hub)
    }

    /// Starts the printers' tasks, each with its socket and lane. Returns what to announce to Home
    /// Assistant.
    fn start_printers(
        &mut self,
        places: impl Iterator<Item = (Socket, usize)>,
        known: &Known,
    ) -> Option<Devices> {
        let config = self.config.clone();
        let mut waiting = BTreeMap::new();
        for (printer, place) in config.printers.iter().zip(places) {
            let (to_printer, read_back) = oneshot::channel();
            waiting.insert(printer.id.clone(), to_printer);
            self.roster.start(printer, place, known, read_back);
        }
        let configured = config.all_printers.iter().cloned().collect();
        let settings = self.needs.belongings.discovery.clone();
        settings.map(|settings| Devices { settings, configured, printers: waiting })
    }

    fn announce(&self, identity: Identity, devices: Option<Devices>) {
        let announcer = Announcer {
            identity,
            greeting: self.greeting(),
            belongings: self.needs.belongings.clone(),
            in_force: self.in_force.subscribe(),
            devices,
        };
        self.spawn("announcer", announcer.run());
    }

    /// The publications of `B/bridge/state` and `B/bridge/info`.
    fn greeting(&self) -> Vec<Publication> {
        let state = |topic: &Topic, payload: String| {
            Publication::new(OWN_LANE, topic.clone(), payload, Kind::State)
        };
        vec![
            state(&self.topics.state, "online".to_owned()),
            state(&self.topics.info, self.info().to_string()),
        ]
    }

    /// Follows the configuration: printers come, change and go with it.
    pub fn follow_config(&mut self, follower: ConfigFollower) {
        let (tell, reloads) = mpsc::channel(1);
        let (ask, asked) = mpsc::channel(1);
        self.reloads = reloads;
        self.desk.follow(ask);
        self.spawn("follower of the configuration", follower.run(asked, tell));
    }

    /// Runs `task` until the bridge stops. The bridge stops if it panics.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.needs.spawn(name, task);
    }

    /// Returns the sources of health checks and metrics.
    pub fn vitals(&self) -> Vitals {
        let PrinterNeeds { sockets, latencies, lanes, restarts, .. } = &self.needs;
        let (broker, queues) = (self.broker.clone(), Queues::default());
        Vitals {
            registry: metrics::registry(broker.clone(), sockets.clone(), latencies, queues.clone()),
            hub: self.ping.clone(),
            broker,
            started: self.start.instant,
            queues,
            lanes: lanes.clone(),
            restarts: restarts.clone(),
        }
    }

    /// Handles the bridge's own state, as the broker delivers it.
    fn receive_own_state(&mut self, incoming: &Incoming) {
        if incoming.retained {
            // From an earlier connection: it proves nothing.
            return;
        }
        if &incoming.payload[..] == b"online" {
            self.echo.arrived();
        } else {
            // The will of an earlier connection, or of another bridge with the same topics.
            tracing::info!("the broker published the bridge's last will; publishing online again");
            self.greeting().into_iter().for_each(|publication| self.broker.publish(publication));
        }
    }

    fn info(&self) -> serde_json::Value {
        health::info(&self.config, self.start, self.config_error.as_deref())
    }

    fn publish_health(&self) {
        let (sockets, restarts) = (self.needs.sockets.all(), &self.needs.restarts);
        let health = health::health(self.start, &self.broker, &sockets, restarts);
        self.publish_state(self.topics.health.clone(), health);
    }

    fn publish_state(&self, topic: Topic, payload: impl Into<bytes::Bytes>) {
        self.broker.publish(Publication::new(OWN_LANE, topic, payload, Kind::State));
    }

    async fn stop(mut self) {
        tracing::info!("stopping");
        let PrinterNeeds { stopping, tasks, store, .. } = self.needs.clone();
        stopping.cancel();
        self.roster.close();
        tasks.close();
        // A socket that does not close delays nothing: its printer is already offline.
        let _ = tokio::time::timeout(STOP_TIMEOUT, tasks.wait()).await;
        self.publish_state(self.topics.state.clone(), "offline");
        if !self.broker.close(FLUSH_TIMEOUT).await {
            tracing::warn!("stopped before the broker acknowledged everything");
        }
        journal::note_stop(&store, SystemTime::now());
        store.close(STOP_TIMEOUT).await;
    }
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;
