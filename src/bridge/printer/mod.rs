//! One printer's task: owns its state, feeds the outbox, takes its commands.

pub mod commands;
pub mod discovery;
pub mod memory;
pub mod messages;
pub mod prints;
mod remembered;
pub mod snapshot;
pub mod socket_state;

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::commands::Rules;
use self::commands::executor::Factor;
use self::commands::intake::Intake;
use self::discovery::facts::{Fact, Question, Questions};
use self::discovery::home_assistant::HomeAssistant;
use self::memory::Memory;
use self::messages::mapping::{Mapping, Odd};
use self::prints::{Followed, Told};
use self::remembered::Payload;
use self::snapshot::StateChange;
use self::socket_state::{Availability, SocketState};
use super::oversize;
use crate::causes;
use crate::heater::Heater;
use crate::mqtt::{Broker, Incoming, Kind, Publication};
use crate::octoprint::{
    Event, EventKind, Message, MessageKind, Messages, Socket, SocketState as State, Status,
};
use crate::receipt::Receipt;
use crate::topics::PrinterTopics;
use crate::{clock, config};

/// How long a socket may take to let go.
const LEAVE: Duration = Duration::from_secs(2);

/// Why a printer's task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to; the printer is called offline, and the socket is closed.
    Told,
    /// A task that it needs has panicked: this one.
    Failed(&'static str),
}

/// What one printer's task is made of.
pub struct Printer {
    lane: usize,
    topics: PrinterTopics,
    broker: Broker,
    socket: Socket,
    mapping: Mapping,
    socket_state: SocketState,
    factors: mpsc::UnboundedReceiver<Factor>,
    commands: Intake,
    memory: Memory,
    messages: Messages,
    questions: Questions,
    availability: Availability,
    /// Connection whose first `history` was seen.
    greeted: u64,
    /// Kinds of messages that were complained of on this connection.
    odd: Vec<MessageKind>,
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
        socket.on_measured(move |took| latency.observe(took));
        let rules = Rules {
            groups: printer.commands,
            limits: printer.limits,
            max_rate_factor: printer.socket.max_rate_factor,
        };
        let (to, by) = (broker.clone(), socket.clone());
        let (commands, factors) =
            Intake::start(rules, lane, topics.clone(), to, by, memory.watch.clone());
        Self {
            lane,
            questions: Questions::new(
                socket.rest(),
                memory.watch.clone(),
                memory.home_assistant.is_some(),
            ),
            availability: Availability::new(printer.offline_after),
            mapping: Mapping::new(lane, topics.clone(), printer),
            factors,
            commands,
            topics,
            broker,
            messages: socket.messages(),
            socket,
            socket_state: SocketState::default(),
            memory,
            greeted: 0,
            odd: Vec::new(),
        }
    }

    /// Runs until `stop`, and says offline and lets the socket go then; or until a task that this
    /// one needs has failed.
    pub async fn run(
        &mut self,
        commands: &mut mpsc::Receiver<Box<Incoming>>,
        stop: &CancellationToken,
    ) -> Ended {
        self.publish_availability();
        for change in self.mapping.snapshot.unknown() {
            let unknown = self.mapping.state(change);
            self.publish(unknown);
        }
        if let Some(Payload(payload)) = self.memory.last_event.get().clone() {
            let topic = self.topics.last_event.clone();
            self.publish(Publication::new(self.lane, topic, payload, Kind::State));
        }
        if let Some(heaters) = self.memory.known_heaters() {
            self.mapping.snapshot.restore_heaters(heaters);
        }
        self.follow_heaters();
        let mut status = self.socket.status();
        let mut broker = self.broker.status();
        self.take_status(&mut status);
        while let Some((message, receipt)) = self.memory.left.pop_front() {
            self.take_message(&message, receipt);
        }
        self.socket.connect();
        if self.socket.has_ended() {
            return Ended::Failed("push socket");
        }
        loop {
            let due = self.due();
            tokio::select! {
                () = stop.cancelled() => break,
                Some((message, receipt)) = self.messages.recv() => self.take_message(&message, receipt),
                Some(incoming) = commands.recv() => {
                    self.commands.take(*incoming, &self.mapping.snapshot);
                }
                Some(task) = self.memory.failures.recv() => return Ended::Failed(task),
                Some(factor) = self.factors.recv() => {
                    let change = match factor {
                        Factor::Feedrate(percent) => self.mapping.snapshot.set_feedrate(percent),
                        Factor::Flowrate(percent) => self.mapping.snapshot.set_flowrate(percent),
                    };
                    self.publish_states(change);
                }
                Some(found) = self.memory.found.recv() => {
                    let publications = self.memory.prints.take(*found, &self.topics, self.lane, clock::now());
                    publications.into_iter().for_each(|publication| self.publish(publication));
                }
                Some(fact) = self.questions.answer() => self.learn(*fact),
                heaters = read_back(&mut self.memory.home_assistant) => {
                    self.mapping.snapshot.restore_heaters(heaters);
                    self.follow_heaters();
                }
                changed = status.changed() => {
                    if changed.is_err() || self.socket.has_ended() {
                        return Ended::Failed("push socket");
                    }
                    self.take_status(&mut status);
                }
                Ok(()) = broker.changed() => {
                    let connected = broker.borrow_and_update().connected;
                    self.take_broker(connected);
                }
                () = sleep_until(due), if due.is_some() => self.take_time(clock::now()),
            }
        }
        self.availability.leave();
        self.publish_availability();
        self.socket.close().await;
        Ended::Told
    }

    /// Says offline, answers the command that was in hand, and lets the socket go.
    pub async fn leave(&mut self, pause: Duration) {
        self.availability.leave();
        self.publish_availability();
        let status = self.socket.status().borrow().clone();
        let waiting = Status {
            state: State::Waiting,
            transport: None,
            next_attempt_in: Some(pause),
            error: Some("a task of this printer failed; see the bridge's log".to_owned()),
            ..status
        };
        if let Some(payload) = self.socket_state.update(&waiting, clock::now()) {
            self.publish_socket(payload);
        }
        self.commands.fail();
        // Told or not: what holds on to it goes with the task.
        let _ = tokio::time::timeout(LEAVE, self.socket.close()).await;
    }

    /// Refuses a command while the printer's tasks are away.
    pub fn refuse(&self, incoming: &Incoming) {
        self.commands.refuse(incoming);
    }

    /// What the next one goes on from.
    pub fn dissolve(mut self: Box<Self>) -> Memory {
        while let Some(received) = self.messages.try_recv() {
            self.memory.left.push_back(received);
        }
        self.memory.again()
    }

    fn due(&self) -> Option<Instant> {
        let home_assistant = self.memory.home_assistant.as_ref().and_then(HomeAssistant::due);
        let state = [self.mapping.snapshot.due(), self.socket_state.due(), self.availability.due()];
        let others = [self.questions.due(), home_assistant, self.memory.prints.due()];
        state.into_iter().chain(others).flatten().min()
    }

    fn take_time(&mut self, now: Instant) {
        let wall = std::time::SystemTime::now();
        let change = self.mapping.snapshot.flush(snapshot::Now { instant: now, wall });
        self.publish_states(change);
        if let Some(payload) = self.socket_state.flush(now) {
            self.publish_socket(payload);
        }
        self.questions.flush(now);
        let socket = &self.socket;
        let told = self.memory.prints.flush(now, wall, || socket.rest());
        self.publish_told(told);
        if let Some(home_assistant) = &mut self.memory.home_assistant {
            let (discovery, clears) = home_assistant.flush(now);
            discovery.into_iter().for_each(|discovery| self.publish(discovery));
            self.publish_states(clears);
        }
        if self.availability.flush(now) {
            self.tell_offline();
        }
    }

    fn tell_offline(&self) {
        tracing::warn!("OctoPrint is offline");
        self.publish_availability();
    }

    fn take_broker(&mut self, connected: bool) {
        if connected {
            // What waited for the broker says nothing of how fast it is now.
            self.socket.restart_measurements();
        } else {
            self.commands.forget_echoes();
        }
    }

    fn take_message(&mut self, message: &Message, receipt: Receipt) {
        #[cfg(test)]
        assert_ne!(message.kind().as_str(), "panic", "a test");
        match message.kind() {
            MessageKind::Event => match message.json() {
                Ok(event) => self.take_event(message, &event, receipt),
                Err(error) => self.complain(message.kind(), &Odd::from(error)),
            },
            _ => self.take_other(message, receipt),
        }
        self.follow_heaters();
        if let Some(file) = self.mapping.snapshot.take_unasked() {
            self.questions.ask(Question::LastPrintTimes(file));
        }
    }

    fn take_event(&mut self, message: &Message, event: &Event<'_>, receipt: Receipt) {
        let mut publications = self.mapping.map_event(message, event, &receipt);
        // The publications carry clones: the last one that settles tells the socket.
        drop(receipt);
        let (now, rest) = (message.received().into_std(), self.socket.rest());
        let payload = event.payload.map(serde_json::value::RawValue::get);
        let Followed { along, repeated } =
            self.memory.prints.event(&event.kind, payload, now, &rest);
        if repeated {
            let begins = event.kind == EventKind::PrintStarted;
            publications.retain(|publication| {
                publication.topic != self.topics.print
                    && !(begins && publication.topic == self.topics.last_event)
            });
        }
        if let Some(last) = publications.iter().find(|p| p.topic == self.topics.last_event) {
            self.memory.last_event.set(Some(Payload(last.payload.clone())));
        }
        if let Some(record) = along {
            let is_event = |p: &&mut Publication| matches!(p.kind, Kind::Event { .. });
            publications.iter_mut().filter(is_event).for_each(|p| p.along = Some(record.clone()));
        }
        publications.into_iter().for_each(|publication| self.publish(publication));
        self.questions.follow(&event.kind, clock::now());
    }

    fn take_other(&mut self, message: &Message, receipt: Receipt) {
        let (publications, odd) = self.mapping.map(message, &receipt);
        drop(receipt);
        // What cannot be read says nothing of prints.
        if odd.is_none() {
            let first = self.greeted != message.connection();
            let snapshot = &self.mapping.snapshot;
            let told = self.memory.prints.follow(message, snapshot, first, &self.socket.rest());
            self.publish_told(told);
        }
        publications.into_iter().for_each(|publication| self.publish(publication));
        if let Some(odd) = odd {
            self.complain(message.kind(), &odd);
        }
        match (message.kind(), &mut self.memory.home_assistant) {
            (MessageKind::History, _) => self.take_history(message.connection()),
            (MessageKind::Connected, Some(home_assistant)) => home_assistant.greet(message),
            _ => {}
        }
    }

    /// Takes in the heaters, and clears the topics of what is no heater any more.
    fn follow_heaters(&mut self) {
        let cleared = self.memory.follow_heaters(&mut self.mapping.snapshot, clock::now());
        self.publish_states(cleared);
    }

    fn learn(&mut self, fact: Fact) {
        let snapshot = &mut self.mapping.snapshot;
        let change = match &fact {
            Fact::Profile(profile) => {
                let profile = profile.as_ref();
                snapshot.set_profile_heaters(profile.map(|profile| profile.heaters.clone()));
                snapshot.set_profile(profile.and_then(|profile| profile.id.clone()))
            }
            Fact::LastPrintTimes(file, times) => {
                snapshot.set_last_print_times(file.clone(), times.clone())
            }
            Fact::Files(_) | Fact::SystemCommands(_) => None,
        };
        self.publish_states(change);
        if let Some(home_assistant) = &mut self.memory.home_assistant {
            home_assistant.learn(fact);
        }
        self.follow_heaters();
    }

    fn take_history(&mut self, connection: u64) {
        if self.availability.greet(&self.socket.status().borrow()) {
            tracing::info!("OctoPrint is online");
            self.publish_availability();
        }
        if self.greeted != connection {
            self.greeted = connection;
            self.odd.clear();
            self.questions.begin(self.commands.allows_system());
        }
    }

    fn complain(&mut self, kind: &MessageKind, odd: &Odd) {
        self.socket.count_decode_error();
        if !self.odd.contains(kind) {
            let odd = causes::text(odd);
            tracing::warn!(%kind, "skipped a malformed message: {odd}");
            self.odd.push(kind.clone());
        }
    }

    fn take_status(&mut self, status: &mut watch::Receiver<Status>) {
        let status = status.borrow_and_update().clone();
        if self.availability.update(&status, clock::now()) {
            self.tell_offline();
        }
        self.memory.rate.set(status.rate_mode.manual_factor());
        if let Some(payload) = self.socket_state.update(&status, clock::now()) {
            self.publish_socket(payload);
        }
    }

    fn publish_states(&mut self, changes: impl IntoIterator<Item = StateChange>) {
        for change in changes {
            let publication = self.mapping.state(change);
            self.publish(publication);
        }
    }

    fn publish_told(&self, told: Option<Told>) {
        let told =
            told.into_iter().flat_map(|told| told.publications(&self.topics, self.lane, None));
        told.for_each(|publication| self.publish(publication));
    }

    fn publish_availability(&self) {
        self.mapping
            .availability(self.availability.is_online())
            .into_iter()
            .for_each(|p| self.publish(p));
    }

    fn publish_socket(&self, payload: bytes::Bytes) {
        self.publish(Publication::new(self.lane, self.topics.socket.clone(), payload, Kind::State));
    }

    fn publish(&self, publication: Publication) {
        self.broker.publish(oversize::fit(publication, &self.topics, self.broker.limit()));
    }
}

async fn read_back(home_assistant: &mut Option<HomeAssistant>) -> Vec<Heater> {
    match home_assistant {
        Some(home_assistant) => home_assistant.read_back().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}
