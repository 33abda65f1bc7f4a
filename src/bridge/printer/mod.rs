//! One printer's task: maps messages to publications, and passes commands to their executor.

pub mod commands;
pub mod discovery;
mod events;
mod failure_hold;
pub mod features;
mod malformed;
pub mod memory;
pub mod messages;
mod outlet;
pub mod persisted;
pub mod pictures;
pub mod power;
pub mod prints;
pub mod snapshot;
pub mod socket_report;

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::commands::Rules;
use self::commands::executor::{Effect, Equipment};
use self::commands::intake::Intake;
use self::discovery::PrinterDiscovery;
use self::discovery::facts::{Fact, Question, QuestionScope};
use self::discovery::questions::Questions;
use self::failure_hold::FailureHold;
use self::features::{Feature, Scene, pass_message, plugin_of, present};
use self::malformed::MalformedKinds;
use self::memory::Memory;
use self::messages::{Malformed, Mapping, received};
use self::outlet::Outlet;
use self::persisted::JsonPayload;
use self::power::PowerControl;
use self::prints::InferredEvent;
use self::snapshot::{Now, StateChange};
use self::socket_report::{Availability, SocketReport};
use crate::clock::{self, sleep_until};
use crate::config;
use crate::heater::Heater;
use crate::mqtt::{Broker, Incoming};
use crate::octoprint::{Message, MessageKind, Messages, Socket, Status};
use crate::receipt::Receipt;
use crate::topics::PrinterTopics;

/// Time limit for a socket to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a printer's task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was stopped; the printer is offline, and the socket is closed.
    Stopped,
    /// The named task, which this one needs, has panicked.
    Failed(&'static str),
}

/// One printer's task.
pub struct Printer {
    outlet: Outlet,
    socket: Socket,
    mapping: Mapping,
    socket_report: SocketReport,
    effects: mpsc::UnboundedReceiver<Effect>,
    commands: Intake,
    memory: Memory,
    messages: Messages,
    questions: Questions,
    availability: Availability,
    /// The connection of the last `history`.
    connection: u64,
    /// Those that were logged on this connection.
    malformed: MalformedKinds,
    failure: FailureHold,
}

impl Printer {
    /// A printer whose socket is not connected yet.
    pub fn new(
        printer: &config::Printer,
        lane: usize,
        topics: PrinterTopics,
        broker: Broker,
        socket: Socket,
        memory: Memory,
    ) -> Self {
        let latency = memory.latency.clone();
        socket.on_measured(move |measured| latency.observe(measured));
        let watch = memory.watch.clone();
        let (commands, effects) = Intake::start(
            Rules::of(printer),
            lane,
            topics.clone(),
            broker.clone(),
            Equipment {
                socket: socket.clone(),
                camera: printer.camera.clone(),
                power: PowerControl::of(printer, memory.power.clone()),
            },
            watch.clone(),
        );
        Self {
            questions: Questions::new(
                socket.rest(),
                watch,
                QuestionScope::of(printer, memory.discovery.is_some()),
            ),
            availability: Availability::new(printer.offline_after),
            mapping: Mapping::new(lane, topics.clone(), printer),
            effects,
            commands,
            outlet: Outlet { lane, topics, broker },
            messages: socket.messages(),
            socket,
            socket_report: SocketReport::default(),
            memory,
            connection: 0,
            malformed: MalformedKinds::default(),
            failure: FailureHold::default(),
        }
    }

    /// Runs until `stop`, then publishes offline and closes the socket; or until a task has failed.
    pub async fn run(
        &mut self,
        commands: &mut mpsc::Receiver<Box<Incoming>>,
        stop: &CancellationToken,
    ) -> Ended {
        self.publish_availability();
        let unknown = self.mapping.snapshot.unknown();
        self.publish_states(unknown);
        self.visit(present(), |feature, scene| feature.start(scene));
        let last_event = self.memory.last_event.get().clone().map(|JsonPayload(payload)| payload);
        self.outlet.publish_state(&self.outlet.topics.last_event, last_event);
        self.mapping.snapshot.restore_heaters(self.memory.known_heaters().unwrap_or_default());
        self.follow_heaters();
        let mut status = self.socket.status();
        let mut broker = self.outlet.broker.status();
        self.handle_status(&mut status);
        while let Some((message, receipt)) = self.memory.unprocessed.pop_front() {
            self.handle_message(&message, receipt);
        }
        self.socket.connect();
        if self.socket.has_ended() {
            return Ended::Failed("push socket");
        }
        loop {
            let due = self.due();
            tokio::select! {
                () = stop.cancelled() => break,
                Some((message, receipt)) = self.messages.recv() => self.handle_message(&message, receipt),
                Some(incoming) = commands.recv() => self.take(*incoming),
                Some(task) = self.memory.failures.recv() => return Ended::Failed(task),
                Some(effect) = self.effects.recv() => self.handle_effect(&effect),
                Some(finding) = self.memory.findings.recv() => {
                    let inferred = self.memory.prints.apply(*finding, clock::now());
                    self.publish_inferred(inferred);
                }
                Some(fact) = self.questions.answer() => self.learn(*fact),
                Some(finding) = self.memory.features.finding() => {
                    self.visit(present(), |feature, scene| feature.find(&finding, scene));
                }
                heaters = read_back(&mut self.memory.discovery) => {
                    self.mapping.snapshot.restore_heaters(heaters);
                    self.follow_heaters();
                }
                changed = status.changed() => {
                    if changed.is_err() || self.socket.has_ended() {
                        return Ended::Failed("push socket");
                    }
                    self.handle_status(&mut status);
                }
                Ok(()) = broker.changed() => {
                    let connected = broker.borrow_and_update().connected;
                    self.handle_broker(connected);
                }
                () = sleep_until(due), if due.is_some() => self.flush(clock::now()),
            }
        }
        self.release_failure(FailureHold::take);
        self.go_offline();
        self.socket.close().await;
        Ended::Stopped
    }

    /// Publishes offline for a restart after `delay`, fails the current command, closes the socket.
    pub async fn leave(&mut self, delay: Duration) {
        self.go_offline();
        let status = self.socket.status().borrow().clone();
        let payload = self.socket_report.restarting(&status, delay, clock::now());
        self.outlet.publish_state(&self.outlet.topics.socket, payload);
        self.commands.fail();
        // If it does not close in time, it is dropped with the task.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.socket.close()).await;
    }

    fn go_offline(&mut self) {
        self.availability.leave();
        self.publish_availability();
    }

    /// Runs a command; passes anything else to the features.
    fn take(&mut self, incoming: Incoming) {
        match self.outlet.topics.command_name(&incoming.topic) {
            Some(_) => {
                let last = self.memory.prints.last_file();
                self.commands.take(incoming, &self.mapping.snapshot, last);
            }
            None => self.visit(present(), |feature, scene| feature.incoming(&incoming, scene)),
        }
    }

    /// Refuses a command while the printer's tasks are being restarted.
    pub fn refuse(&mut self, incoming: &Incoming) {
        match self.outlet.topics.command_name(&incoming.topic) {
            Some(_) => self.commands.refuse(incoming),
            None => self.visit(present(), |feature, scene| feature.incoming(incoming, scene)),
        }
    }

    /// Returns the state for the next task.
    pub fn into_memory(mut self: Box<Self>) -> Memory {
        let held = self.failure.take().map(|message| (message, Receipt::unmeasured()));
        self.memory.unprocessed.extend(held);
        while let Some(received) = self.messages.try_recv() {
            self.memory.unprocessed.push_back(received);
        }
        self.memory.restart()
    }

    fn due(&self) -> Option<Instant> {
        let discovery = self.memory.discovery.as_ref().and_then(PrinterDiscovery::due);
        let state =
            [self.mapping.snapshot.due(), self.socket_report.due(), self.availability.due()];
        let (prints, features) = (self.memory.prints.due(), self.memory.features.due());
        let others = [self.questions.due(), discovery, prints, features, self.failure.due()];
        state.into_iter().chain(others).flatten().min()
    }

    /// Does what is due.
    fn flush(&mut self, now: Instant) {
        self.release_failure(|failure| failure.take_due(now));
        let wall = SystemTime::now();
        let change = self.mapping.snapshot.flush(Now { instant: now, wall });
        self.publish_states(change);
        self.visit(Now { instant: now, wall }, |feature, scene| feature.flush(scene));
        let payload = self.socket_report.flush(now);
        self.outlet.publish_state(&self.outlet.topics.socket, payload);
        self.questions.flush(now);
        let socket = &self.socket;
        let inferred = self.memory.prints.flush(now, wall, || socket.rest());
        self.publish_inferred(inferred);
        if let Some(discovery) = &mut self.memory.discovery {
            let (message, clears) = discovery.flush(now);
            message.into_iter().for_each(|message| self.outlet.publish(message));
            self.publish_states(clears);
        }
        if self.availability.flush(now) {
            self.report_offline();
        }
    }

    fn report_offline(&mut self) {
        tracing::warn!("OctoPrint is offline");
        self.publish_availability();
    }

    fn handle_broker(&mut self, connected: bool) {
        if connected {
            // Latencies of messages that waited for the broker do not count.
            self.socket.restart_measurements();
        } else {
            self.commands.forget_echoes();
        }
    }

    fn handle_effect(&mut self, effect: &Effect) {
        let change = effect.apply(&mut self.mapping.snapshot);
        self.publish_states(change);
        self.visit(present(), |feature, scene| feature.effect(effect, scene));
    }

    /// Calls `visit` with each feature, and publishes what it has to say.
    fn visit(&mut self, now: Now, mut visit: impl FnMut(&mut dyn Feature, &mut Scene<'_>)) {
        let rest = self.socket.rest();
        let place = (&self.outlet.topics, self.outlet.lane);
        let scene = Scene::new(now, &self.mapping.snapshot, place, &rest);
        let mut scene = scene.pushed_every(self.socket_report.push_interval());
        self.memory.features.each(|feature| visit(feature, &mut scene));
        let slicer_time = scene.take_slicer_time();
        self.outlet.publish_all(scene.into_publications());
        if let Some((file, seconds)) = slicer_time {
            self.mapping.snapshot.set_slicer_time(file, seconds);
        }
    }

    fn handle_message(&mut self, message: &Message, receipt: Receipt) {
        #[cfg(test)]
        assert_ne!(message.kind().as_str(), "panic", "a test");
        match message.kind() {
            MessageKind::Event => match message.json() {
                Ok(event) => self.take_event(message, &event, receipt),
                Err(error) => self.report_malformed(message.kind(), &Malformed::from(error)),
            },
            kind => {
                self.release_failure(|failure| failure.take_before(kind, None));
                self.handle_other(message, receipt);
            }
        }
        self.follow_heaters();
        if let Some(file) = self.mapping.snapshot.take_unasked() {
            self.questions.ask(Question::LastPrintTimes(file));
        }
    }

    fn handle_other(&mut self, message: &Message, receipt: Receipt) {
        let (publications, malformed) = self.mapping.map(message, &receipt);
        drop(receipt);
        // A malformed message has not updated the snapshot.
        if malformed.is_none() {
            let first = self.connection != message.connection();
            let (snapshot, rest) = (&self.mapping.snapshot, self.socket.rest());
            let inferred = self.memory.prints.follow(message, snapshot, first, &rest);
            self.publish_inferred(inferred);
        }
        self.outlet.publish_all(publications);
        let plugin = plugin_of(message);
        match malformed {
            Some(malformed) => self.report_malformed(message.kind(), &malformed),
            None => self.visit(received(message), |feature, scene| {
                pass_message(feature, message, plugin.as_ref(), scene);
            }),
        }
        plugin.iter().for_each(|plugin| self.questions.follow_plugin(plugin));
        match (message.kind(), &mut self.memory.discovery) {
            (MessageKind::History, _) => self.handle_history(message.connection()),
            (MessageKind::Connected, discovery) => {
                self.questions.greet(message);
                discovery.iter_mut().for_each(|discovery| discovery.greet(message));
            }
            _ => {}
        }
    }

    /// Stores the heaters, and clears the topics of what is no longer a heater.
    fn follow_heaters(&mut self) {
        let cleared = self.memory.follow_heaters(&mut self.mapping.snapshot, clock::now());
        self.publish_states(cleared);
    }

    fn learn(&mut self, fact: Fact) {
        let change = fact.apply_to_state(&mut self.mapping.snapshot);
        self.publish_states(change);
        self.visit(present(), |feature, scene| feature.learn(&fact, scene));
        if let Some(discovery) = &mut self.memory.discovery {
            discovery.learn(fact);
        }
        self.follow_heaters();
    }

    fn handle_history(&mut self, connection: u64) {
        if self.availability.history_received(&self.socket.status().borrow()) {
            tracing::info!("OctoPrint is online");
            self.publish_availability();
        }
        if self.connection != connection {
            self.connection = connection;
            self.malformed = MalformedKinds::default();
            self.questions.ask_all();
        }
    }

    fn report_malformed(&mut self, kind: &MessageKind, error: &Malformed) {
        self.socket.count_decode_error();
        self.malformed.report(kind, error);
    }

    fn handle_status(&mut self, status: &mut watch::Receiver<Status>) {
        let status = status.borrow_and_update().clone();
        if self.availability.update(&status, clock::now()) {
            self.report_offline();
        }
        self.memory.rate.set(status.rate_mode.manual_factor());
        let payload = self.socket_report.update(&status, clock::now());
        self.outlet.publish_state(&self.outlet.topics.socket, payload);
        self.visit(present(), |feature, scene| feature.socket(&status, scene));
    }

    fn publish_states(&mut self, changes: impl IntoIterator<Item = StateChange>) {
        let publications = changes.into_iter().map(|change| self.mapping.state(change));
        self.outlet.publish_all(publications.collect());
    }

    /// Publishes events that OctoPrint did not send, those of one cause in one transaction.
    fn publish_inferred(&mut self, inferred: impl IntoIterator<Item = InferredEvent>) {
        let mut publications = Vec::new();
        for event in inferred {
            if let Some(step) = event.step() {
                self.visit(present(), |feature, scene| feature.print(&step, scene));
            }
            publications.extend(event.publications(&self.outlet.topics, self.outlet.lane));
        }
        self.outlet.publish_all(publications);
    }

    fn publish_availability(&mut self) {
        let is_online = self.availability.is_online();
        self.outlet.publish_all(self.mapping.availability(is_online));
        self.visit(present(), |feature, scene| feature.availability(is_online, scene));
    }
}

async fn read_back(discovery: &mut Option<PrinterDiscovery>) -> Vec<Heater> {
    match discovery {
        Some(discovery) => discovery.read_back().await,
        None => std::future::pending().await,
    }
}
