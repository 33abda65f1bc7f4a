//! The printers that run. They come and go without touching the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::departure::Belongings;
use super::routes::Routes;
use super::supervisor::Supervisor;
use crate::bridge::board::Board;
use crate::bridge::fleet_report::{FleetReport, FleetReporter};
use crate::bridge::printer::discovery::PrinterDiscovery;
use crate::bridge::printer::memory::Memory;
use crate::bridge::setup::{self, SetupError, SocketMaker};
use crate::bridge::watch::{Restarts, Watch};
use crate::causes;
use crate::config;
use crate::homeassistant::PublishedDevice;
use crate::lanes::Lanes;
use crate::metrics::{Latencies, Sockets};
use crate::mqtt::Incoming;
use crate::octoprint::Socket;
use crate::store::{Change, Known, Store};
use crate::topics::PrinterTopics;

/// What printers run with; shared by all of them.
#[derive(Clone)]
pub(super) struct PrinterNeeds {
    pub(super) belongings: Belongings,
    pub(super) store: Store,
    pub(super) maker: SocketMaker,
    pub(super) sockets: Sockets,
    pub(super) lanes: Lanes,
    pub(super) latencies: Latencies,
    pub(super) restarts: Restarts,
    /// Reports failures of the tasks that all printers need.
    pub(super) watch: Watch,
    pub(super) tasks: TaskTracker,
    pub(super) stopping: CancellationToken,
    /// `None` where no page is served.
    pub(super) board: Option<Board>,
}

impl PrinterNeeds {
    /// Runs `task` until the bridge stops. The bridge stops if it panics.
    pub(super) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stopping = self.stopping.clone();
        let running = async move {
            let _ = stopping.run_until_cancelled(task).await;
        };
        self.tasks.spawn(self.watch.over(name, running).in_current_span());
    }
}

/// What became of a printer.
#[derive(Debug)]
pub(super) enum RosterNews {
    /// Its task has ended, and this is what was stored of it.
    Ended(String, Known),
    /// Nothing is left of it.
    Left(String),
}

/// The running printers.
pub(super) struct PrinterRoster {
    needs: PrinterNeeds,
    pub(super) routes: Routes,
    /// `None` when the bridge stops.
    fleet: Option<mpsc::UnboundedSender<FleetReport>>,
    members: BTreeMap<String, RosterEntry>,
    news: mpsc::UnboundedSender<RosterNews>,
}

/// A printer that runs, or has not left yet.
struct RosterEntry {
    /// What it shall run with; `None`: it shall leave.
    wanted: Option<Arc<config::Printer>>,
    lane: usize,
    phase: Phase,
}

enum Phase {
    /// Its task runs with these settings.
    Running(Arc<config::Printer>, CancellationToken),
    /// Its task is ending, or what is stored of it is being read.
    Pausing,
    /// It could not be started; it is tried again when the configuration is read again.
    Failed,
    /// What the broker has of it is being cleared.
    Leaving,
}

/// What is for a printer.
type CommandQueue = mpsc::Receiver<Box<Incoming>>;

/// Filters to subscribe to, and to unsubscribe from first.
struct FilterChanges {
    added: Vec<String>,
    removed: Vec<String>,
}

/// Where a printer's discovery reads what was announced of it.
pub(super) type ReadBack = oneshot::Receiver<PublishedDevice>;

impl PrinterRoster {
    /// A roster without printers, and its news.
    pub(super) fn new(
        needs: PrinterNeeds,
        fleet: mpsc::UnboundedSender<FleetReport>,
    ) -> (Self, mpsc::UnboundedReceiver<RosterNews>) {
        let (news, received) = mpsc::unbounded_channel();
        let (routes, members, fleet) = (Routes::default(), BTreeMap::new(), Some(fleet));
        (Self { needs, routes, fleet, members, news }, received)
    }

    /// Adds a printer of the start, with what is known of it.
    pub(super) fn start(
        &mut self,
        settings: &Arc<config::Printer>,
        (socket, lane): (Socket, usize),
        known: &Known,
        read_back: ReadBack,
    ) {
        let id = settings.id.clone();
        self.join(settings, lane);
        // The broker's connection begins with these filters.
        let (queue, _) = self.follow(settings);
        let phase = self.run(settings.clone(), (socket, lane), queue, known, read_back);
        self.members.insert(id, RosterEntry { wanted: Some(settings.clone()), lane, phase });
    }

    /// Starts, restarts and ends printers until these run.
    pub(super) fn apply(&mut self, printers: &[Arc<config::Printer>]) {
        for (id, member) in &mut self.members {
            member.wanted = printers.iter().find(|printer| printer.id == *id).cloned();
        }
        for printer in printers {
            if !self.members.contains_key(&printer.id) {
                let lane = self.needs.lanes.take(&printer.id);
                tracing::info!(printer = printer.id, "added a printer");
                let wanted = Some(printer.clone());
                self.members.insert(
                    printer.id.clone(),
                    RosterEntry { wanted, lane, phase: Phase::Pausing },
                );
                self.recall(&printer.id);
            }
        }
        let mut failed = Vec::new();
        for (id, member) in &mut self.members {
            match &member.phase {
                Phase::Running(settings, stop) if member.wanted.as_ref() != Some(settings) => {
                    stop.cancel();
                    self.routes.pause(id);
                }
                Phase::Failed => failed.push(id.clone()),
                Phase::Running(..) | Phase::Pausing | Phase::Leaving => continue,
            }
            member.phase = Phase::Pausing;
        }
        failed.iter().for_each(|id| self.recall(id));
    }

    /// Goes on with a printer.
    pub(super) fn hear(&mut self, news: RosterNews) {
        match news {
            RosterNews::Ended(id, known) => self.go_on(&id, &known),
            RosterNews::Left(id) => self.forget(&id),
        }
    }

    /// Lets the fleet's task end with the printers.
    pub(super) fn close(&mut self) {
        self.fleet = None;
    }

    fn go_on(&mut self, id: &str, known: &Known) {
        let Some(member) = self.members.get_mut(id) else { return };
        let lane = member.lane;
        let Some(settings) = member.wanted.clone() else {
            member.phase = Phase::Leaving;
            self.clear(id, lane);
            return;
        };
        self.join(&settings, lane);
        let phase = match self.needs.maker.make(&settings) {
            Ok(socket) => {
                let (tell, read_back) = oneshot::channel();
                self.read_announced(id.to_owned(), tell);
                let (queue, FilterChanges { added, removed }) = self.follow(&settings);
                self.needs.belongings.broker.change_filters(added, removed);
                self.run(settings, (socket, lane), queue, known, read_back)
            }
            Err(error) => {
                report(&error);
                Phase::Failed
            }
        };
        if let Some(member) = self.members.get_mut(id) {
            member.phase = phase;
        }
    }

    fn join(&self, settings: &config::Printer, lane: usize) {
        let (id, name) = (settings.id.clone(), settings.name.clone());
        if let Some(fleet) = &self.fleet {
            // Fails only if the bridge has failed.
            let _ = fleet.send(FleetReport::Joined(lane, id, name));
        }
    }

    /// Starts a printer's task.
    fn run(
        &self,
        settings: Arc<config::Printer>,
        (socket, lane): (Socket, usize),
        queue: CommandQueue,
        known: &Known,
        read_back: ReadBack,
    ) -> Phase {
        let id = settings.id.clone();
        let topics = PrinterTopics::new(&self.needs.belongings.base, &id);
        let needs = &self.needs;
        let discovery = needs.belongings.discovery.as_ref().map(|shared| {
            let store = (needs.store.clone(), known);
            PrinterDiscovery::new(shared.clone(), topics.clone(), &settings, store, read_back)
        });
        let latency = needs.latencies.of(&id);
        let reports = self.fleet.clone().unwrap_or_else(|| mpsc::unbounded_channel().0);
        let fleet = FleetReporter::new(lane, reports).shown_on(needs.board.clone());
        let memory = Memory::recall(&settings, known, &needs.store, discovery, latency, fleet);
        let supervisor = Box::new(Supervisor {
            settings: settings.clone(),
            lane,
            topics,
            broker: needs.belongings.broker.clone(),
            sockets: needs.sockets.clone(),
            maker: needs.maker.clone(),
            restarts: needs.restarts.clone(),
        });
        let printer = supervisor.printer(socket.clone(), memory);
        let stop = needs.stopping.child_token();
        let running = supervisor.run(socket, printer, queue, stop.clone());
        let (stopping, store, news) =
            (needs.stopping.clone(), needs.store.clone(), self.news.clone());
        let span = setup::printer_span(&id);
        let running = async move {
            running.await;
            if !stopping.is_cancelled() {
                ended(&store, id, &news).await;
            }
        };
        needs.tasks.spawn(needs.watch.over("supervisor of a printer", running).instrument(span));
        Phase::Running(settings, stop)
    }

    /// Routes what is for a printer. Returns its queue, and what to subscribe to.
    fn follow(&mut self, settings: &config::Printer) -> (CommandQueue, FilterChanges) {
        // Those of settings before.
        let mut removed = self.routes.remove(&settings.id);
        let queue = self.routes.add(&settings.id);
        let topics = PrinterTopics::new(&self.needs.belongings.base, &settings.id);
        let mut added = vec![topics.command_filter()];
        if let Some(switch) = &settings.power {
            // Another printer follows it: it is subscribed again, for its retained state.
            removed.extend(
                self.routes.is_followed(&switch.state_topic).then(|| switch.state_topic.clone()),
            );
            self.routes.follow(&switch.state_topic, &settings.id);
            added.push(switch.state_topic.clone());
        }
        (queue, FilterChanges { added, removed })
    }

    /// Reads what is stored of a printer that is new.
    fn recall(&self, id: &str) {
        let (store, id, news) = (self.needs.store.clone(), id.to_owned(), self.news.clone());
        self.needs.spawn("recalling a printer", async move { ended(&store, id, &news).await });
    }

    fn read_announced(&self, id: String, tell: oneshot::Sender<PublishedDevice>) {
        let belongings = self.needs.belongings.clone();
        self.needs.spawn("reading what was announced", async move {
            // Fails if the printer has left meanwhile.
            let _ = tell.send(belongings.announced(&id).await);
        });
    }

    /// Clears what the broker and the bridge have of a printer that leaves.
    fn clear(&mut self, id: &str, lane: usize) {
        tracing::info!(printer = id, "removed a printer");
        let mut filters = self.routes.remove(id);
        let topics = PrinterTopics::new(&self.needs.belongings.base, id);
        filters.push(topics.command_filter());
        let needs = &self.needs;
        needs.belongings.broker.change_filters(Vec::new(), filters);
        needs.sockets.remove(id);
        needs.latencies.remove(id);
        needs.restarts.forget(id);
        needs.board.iter().for_each(|board| board.remove(id));
        if let Some(fleet) = &self.fleet {
            let _ = fleet.send(FleetReport::Left(lane));
        }
        let (belongings, id, news) = (needs.belongings.clone(), id.to_owned(), self.news.clone());
        needs.spawn("clearing a printer", async move {
            belongings.clear(&id, lane).await;
            let _ = news.send(RosterNews::Left(id));
        });
    }

    /// Frees the lane of a printer that has left; starts it again if it is wanted again.
    fn forget(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        self.needs.store.write(vec![Change::Forget { printer: id.into() }]);
        self.needs.lanes.free(member.lane);
        if let Some(wanted) = member.wanted {
            let mut wanted_now: Vec<_> =
                self.members.values().filter_map(|member| member.wanted.clone()).collect();
            wanted_now.push(wanted);
            self.apply(&wanted_now);
        }
    }
}

/// The socket's certificates were there when the configuration was read.
fn report(error: &SetupError) {
    tracing::error!("a printer cannot be started: {}", causes::text(error));
}

async fn ended(store: &Store, id: String, news: &mpsc::UnboundedSender<RosterNews>) {
    let known = store.recall(&id.as_str().into()).await;
    // Fails only when the bridge ends.
    let _ = news.send(RosterNews::Ended(id, known));
}
