//! The bridge itself: its topics, its requests, and the way of each command to its printer.

mod announcer;
mod attendance;
pub mod health;
pub mod identity;
mod presence;
mod printers;
pub mod request;
mod vitals;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use self::announcer::{Announcer, Devices};
use self::attendance::HomeAssistantAttendance;
use self::health::Start;
use self::identity::Identity;
use self::printers::Place;
use self::request::Request;
pub use self::vitals::Vitals;
use self::vitals::{Echo, Ping};
use self::watch::{Failures, Restarts, Watch};
use super::oversize;
use super::printer::discovery::home_assistant::HomeAssistant;
use super::printer::memory::Memory;
use super::setup::{self, SetLogLevel, SetupError, SocketMaker};
use crate::clock;
use crate::config::Config;
use crate::journal;
use crate::metrics::{self, Latencies, Queues, Sockets};
use crate::mqtt::{
    Attendance, Audiences, Bounds, Broker, Incoming, Kind, OWN_LANE, Options, Publication,
};
use crate::store::{Known, Store};
use crate::topics::{self, BridgeTopics, PrinterTopics, Topic};

const HEALTH_INTERVAL: Duration = Duration::from_secs(60);
/// How long a clean stop may take to flush what waits.
const FLUSH: Duration = Duration::from_secs(5);
/// How long printers may take to let go of their sockets.
const LEAVE: Duration = Duration::from_secs(2);
/// The shortest time between two reports of health because of what waits.
const HELD_INTERVAL: Duration = Duration::from_secs(1);
/// Most messages from the broker that wait to be looked at.
const INCOMING: usize = 4096;
/// Most of them for one printer.
const INCOMING_A_PRINTER: usize = 256;

/// Why the bridge ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be set up.
    #[error(transparent)]
    SetUp(#[from] SetupError),
    /// A task that all printers need has panicked.
    #[error(
        "the {task} failed, which is a fault of this program: please report it with what is on stderr; the bridge has ended, so that whatever started it starts it again"
    )]
    Failed {
        /// Which.
        task: &'static str,
    },
}

/// The bridge itself, started: each printer has its task, and the broker its connection.
pub struct Hub {
    config: Arc<Config>,
    topics: BridgeTopics,
    broker: Broker,
    incoming: mpsc::Receiver<Incoming>,
    start: Start,
    sockets: Sockets,
    maker: SocketMaker,
    /// Which printers' tasks failed.
    restarts: Restarts,
    /// Watches the tasks that all printers need.
    watch: Watch,
    failures: Failures,
    /// By the printer's id.
    commands: HashMap<String, mpsc::Sender<Box<Incoming>>>,
    set_log_level: SetLogLevel,
    store: Store,
    /// When health was last reported because of what waits, and when it is next.
    held_told: Instant,
    held_due: Option<Instant>,
    echo: Echo,
    /// Asks for signs of life.
    ping: mpsc::Sender<Ping>,
    pings: mpsc::Receiver<Ping>,
    latencies: Latencies,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Hub {
    /// Runs until `shutdown` resolves; then says offline and flushes what waits, for five seconds at
    /// most.
    ///
    /// # Errors
    /// Where a task failed that all printers need: offline is said then, too. A broker or an OctoPrint
    /// that is away is no error.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let failed = watch::caught(self.serve_until(shutdown)).await.unwrap_or(Some("hub"));
        if let Some(task) = failed {
            tracing::error!(task, "a task that all printers need panicked; stopping");
        }
        self.stop().await;
        failed.map_or(Ok(()), |task| Err(RunError::Failed { task }))
    }

    /// Runs until `shutdown` resolves, or yields which task failed that all printers need.
    async fn serve_until(&mut self, shutdown: impl Future<Output = ()>) -> Option<&'static str> {
        tokio::pin!(shutdown);
        let store = self.store.clone();
        let store_failed = store.failed();
        tokio::pin!(store_failed);
        let mut health = tokio::time::interval(HEALTH_INTERVAL);
        let mut broker = self.broker.status();
        let mut held = self.broker.held();
        loop {
            tokio::select! {
                () = &mut shutdown => return None,
                changed = broker.changed() => {
                    // The other end goes with the task; its last will says offline.
                    if changed.is_err() {
                        return Some("broker's task");
                    }
                    let status = broker.borrow_and_update();
                    self.echo.expect(status.connected, status.since);
                }
                () = &mut store_failed => return Some("journal in data_dir"),
                Some(task) = self.failures.recv() => return Some(task),
                () = sleep_until(self.echo.due()), if self.echo.due().is_some() => {
                    self.echo.is_missing(&self.topics.state);
                }
                _ = health.tick() => self.publish_health(),
                // Who asked may have given up waiting.
                Some(alive) = self.pings.recv() => drop(alive.send(())),
                Ok(()) = held.changed(), if self.held_due.is_none() => {
                    held.borrow_and_update();
                    self.held_due = Some(self.held_told + HELD_INTERVAL);
                }
                () = sleep_until(self.held_due), if self.held_due.is_some() => {
                    self.held_due = None;
                    self.held_told = clock::now();
                    self.publish_health();
                }
                Some(incoming) = self.incoming.recv() => self.route(incoming),
            }
        }
    }

    /// Starts the tasks of the bridge.
    ///
    /// # Errors
    /// Where TLS or a socket cannot be set up.
    pub fn start(config: Config, set_log_level: SetLogLevel) -> Result<Self, SetupError> {
        let start = Start { instant: clock::now(), wall: SystemTime::now() };
        let (ping, pings) = mpsc::channel(1);
        let (store, mut known) = Store::open(config.data_dir.as_deref());
        store.forget_others(&mut known, &config.all_printers);
        let base = &config.mqtt.base_topic;
        let topics = BridgeTopics::named(base, &config.bridge_name());
        let will = (topics.state.to_string(), "offline".to_owned());
        let options = setup::broker_options(&config.mqtt, Some(will))?;
        let maker = SocketMaker::default();
        let sockets: Result<_, SetupError> =
            config.printers.iter().map(|p| Ok((p.id.as_str().into(), maker.make(p)?))).collect();
        let sockets = Sockets::new(sockets?);
        let printer_topics: Vec<PrinterTopics> =
            config.printers.iter().map(|printer| PrinterTopics::new(base, &printer.id)).collect();
        let mut filters: BTreeSet<String> =
            printer_topics.iter().map(PrinterTopics::command_filter).collect();
        filters.insert(topics.request_filter());
        filters.insert(topics.state.to_string());
        filters.insert(BridgeTopics::info_filter(base));
        let attendance = HomeAssistantAttendance::new(&config.homeassistant, store.clone(), &known);
        filters.extend(attendance.iter().flat_map(|home| home.filters().iter().cloned()));
        let audiences = Audiences {
            settle: config.outbox.settle,
            home_assistant: attendance.map(|home| Box::new(home) as Box<dyn Attendance>),
        };
        let (arrived, incoming) = mpsc::channel(INCOMING);
        let outbox = config.outbox;
        let bounds = Bounds { max_events: outbox.max_events, max_bytes: outbox.max_bytes };
        let ids: Vec<String> = config.printers.iter().map(|printer| printer.id.clone()).collect();
        let fit = |event| oversize::fit_persisted(event, options.limit);
        let persistence = journal::persistence(&store, &mut known, &ids, OWN_LANE + 1, fit);
        let broker =
            Broker::start(options.clone(), bounds, filters, arrived, persistence, audiences);
        let identity = Identity::recall(&config.mqtt.identity, &known);
        identity.persist(&store);
        let (watch, failures) = Watch::new();
        let mut hub = Self {
            topics,
            broker,
            incoming,
            start,
            sockets,
            maker,
            restarts: Restarts::default(),
            watch,
            failures,
            commands: HashMap::new(),
            set_log_level,
            store,
            held_told: start.instant,
            held_due: None,
            echo: Echo::default(),
            ping,
            pings,
            latencies: Latencies::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            config: Arc::new(config),
        };
        let devices = hub.start_printers(printer_topics, &known);
        hub.announce(identity, options, devices);
        Ok(hub)
    }

    /// Yields what is to be told to Home Assistant.
    fn start_printers(&mut self, topics: Vec<PrinterTopics>, known: &Known) -> Option<Devices> {
        let settings = self
            .config
            .homeassistant
            .enabled
            .then(|| Arc::new(setup::discovery_settings(&self.config)));
        let mut waiting = BTreeMap::new();
        let config = self.config.clone();
        for (index, (printer, topics)) in config.printers.iter().zip(topics).enumerate() {
            let home_assistant = settings.as_ref().map(|settings| {
                let (tell, read_back) = oneshot::channel();
                waiting.insert(printer.id.clone(), tell);
                let store = (self.store.clone(), known);
                HomeAssistant::new(settings.clone(), topics.clone(), printer, store, read_back)
            });
            let latency = self.latencies.of(&printer.id);
            let memory = Memory::recall(&printer.id, known, &self.store, home_assistant, latency);
            let (commands, queue) = mpsc::channel(INCOMING_A_PRINTER);
            self.commands.insert(printer.id.clone(), commands);
            let place = Box::new(Place {
                config: config.clone(),
                index,
                topics,
                broker: self.broker.clone(),
                sockets: self.sockets.clone(),
                maker: self.maker.clone(),
                restarts: self.restarts.clone(),
            });
            let printer = place.printer(memory);
            let span = setup::printer_span(&place.config.printers[index].id);
            let printer = place.look_after(printer, queue, self.stopping.clone());
            self.tasks.spawn(self.watch.over("care of a printer", printer).instrument(span));
        }
        let configured = self.config.all_printers.iter().cloned().collect();
        settings.map(|settings| Devices { settings, configured, printers: waiting })
    }

    fn announce(&self, identity: Identity, options: Options, devices: Option<Devices>) {
        let announcer = Announcer {
            identity,
            base: self.config.mqtt.base_topic.clone(),
            greeting: self.greeting(),
            broker: self.broker.clone(),
            options,
            devices,
        };
        self.spawn("announcer", announcer.run());
    }

    /// That the bridge is there, and what it is.
    fn greeting(&self) -> Vec<Publication> {
        let state = |topic: &Topic, payload: String| {
            Publication::new(OWN_LANE, topic.clone(), payload, Kind::State)
        };
        vec![
            state(&self.topics.state, "online".to_owned()),
            state(&self.topics.info, self.info().to_string()),
        ]
    }

    /// Runs `task` until the bridge ends. The bridge ends where it panics.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        let running = async move {
            let _ = stopping.run_until_cancelled(task).await;
        };
        self.tasks.spawn(self.watch.over(name, running).in_current_span());
    }

    /// What health and metrics are told from.
    pub fn vitals(&self) -> Vitals {
        let (broker, sockets) = (self.broker.clone(), self.sockets.clone());
        let queues = Queues::default();
        Vitals {
            registry: metrics::registry(broker.clone(), sockets, &self.latencies, queues.clone()),
            hub: self.ping.clone(),
            broker,
            started: self.start.instant,
            queues,
            restarts: self.restarts.clone(),
        }
    }

    /// The bridge's own state, as the broker has it.
    fn take_own_state(&mut self, incoming: &Incoming) {
        if incoming.retained {
            // Of an earlier connection: it proves nothing.
            return;
        }
        if &incoming.payload[..] == b"online" {
            self.echo.came();
        } else {
            // The will of a connection that the broker has only now found dead, or another bridge
            // with the same topics, whose end leaves ours to be told again.
            tracing::info!("the broker published the bridge's last will; publishing online again");
            self.greeting().into_iter().for_each(|publication| self.broker.publish(publication));
        }
    }

    fn route(&mut self, incoming: Incoming) {
        if incoming.topic == *self.topics.state {
            self.take_own_state(&incoming);
            return;
        }
        if topics::is_info(&self.config.mqtt.base_topic, &incoming.topic) {
            // A retained one may be of a bridge that is no more: the announcer looks after these.
            if !incoming.retained {
                identity::complain(&incoming.payload, &self.config.mqtt);
            }
            return;
        }
        if let Some(name) = self.topics.request_name(&incoming.topic) {
            // A retained request is an old one; the same caution as with commands.
            if !incoming.retained {
                self.answer(name, &incoming.payload);
            }
            return;
        }
        let base = self.config.mqtt.base_topic.len() + 1;
        let id = incoming.topic.get(base..).and_then(|rest| rest.split('/').next());
        let Some(commands) = id.and_then(|id| self.commands.get(id)) else { return };
        if let Err(mpsc::error::TrySendError::Full(incoming)) =
            commands.try_send(Box::new(incoming))
        {
            tracing::warn!(topic = incoming.topic, "dropped a command: too many at once");
        }
    }

    fn answer(&self, name: &str, payload: &[u8]) {
        let request::Parsed { request, transaction } = request::parse(name, payload);
        let outcome = match request {
            Request::HealthCheck => Ok(json!({"healthy": true})),
            Request::Info => Ok(self.info()),
            Request::Republish => {
                self.broker.republish();
                Ok(json!({}))
            }
            Request::LogLevel(level) => {
                (self.set_log_level)(&level).map(|()| json!({"log_level": level}))
            }
            Request::Refused(reason) => Err(reason.into()),
        };
        let answer = request::answer(outcome, transaction);
        self.broker.publish(Publication::new(
            OWN_LANE,
            self.topics.response(name),
            answer,
            Kind::ANSWER,
        ));
    }

    fn info(&self) -> serde_json::Value {
        health::info(&self.config, self.start)
    }

    fn publish_health(&self) {
        let health = health::health(self.start, &self.broker, &self.sockets.all(), &self.restarts);
        self.publish_state(self.topics.health.clone(), health);
    }

    fn publish_state(&self, topic: Topic, payload: impl Into<bytes::Bytes>) {
        self.broker.publish(Publication::new(OWN_LANE, topic, payload, Kind::State));
    }

    async fn stop(self) {
        tracing::info!("stopping");
        self.stopping.cancel();
        self.tasks.close();
        // A socket that does not let go holds up nothing: its printer is already called offline.
        let _ = tokio::time::timeout(LEAVE, self.tasks.wait()).await;
        self.publish_state(self.topics.state.clone(), "offline");
        if !self.broker.close(FLUSH).await {
            tracing::warn!("stopped before the broker acknowledged everything");
        }
        journal::note_stop(&self.store, SystemTime::now());
        self.store.close(LEAVE).await;
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;
