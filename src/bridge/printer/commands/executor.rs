//! Runs one printer's commands in order, and answers each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use super::answers::{Answers, CommandError};
use super::execution::StopGuard;
use super::execution::power::PowerPlace;
use super::execution::start::PrintStarts;
use super::{Command, CommandRequest, EntityCommand, RateSetting, execution};
use crate::bridge::printer::pictures::WebcamPicture;
use crate::bridge::printer::power::PowerControl;
use crate::bridge::printer::snapshot::{Snapshot, StateChange};
use crate::bridge::watch::{Watch, caught};
use crate::config;
use crate::heater::Heater;
use crate::octoprint::{JobAction, RateMode, Rest, RestError, Socket, SystemCommand};
use crate::own_entity::Action;

/// Maximum number of a printer's waiting commands.
const WAITING: usize = 100;

/// What a command has done that OctoPrint does not report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The feed rate was set, in percent.
    Feedrate(u32),
    /// The flow rate was set, in percent.
    Flowrate(u32),
    /// A picture was taken.
    Picture(WebcamPicture),
    /// An entity of the user's own was set.
    Entity {
        /// Its key.
        key: String,
        /// Its state from now on; null for a button.
        value: Value,
    },
    /// The maintenance with this name was done.
    Maintained(String),
    /// The power is not to be switched off after this print.
    KeepPower,
}

impl Effect {
    /// Applies it to the printer's state.
    pub fn apply(&self, snapshot: &mut Snapshot) -> Option<StateChange> {
        match self {
            Self::Feedrate(percent) => snapshot.set_feedrate(*percent),
            Self::Flowrate(percent) => snapshot.set_flowrate(*percent),
            Self::Picture(_) | Self::Entity { .. } => None,
            Self::Maintained(_) | Self::KeepPower => None,
        }
    }
}

struct Queued {
    request: CommandRequest,
    command: Command,
    /// Number of emergency stops before it was queued.
    stops: u64,
    /// Whether the printer is known to have its heaters. If not, OctoPrint is asked.
    known: bool,
}

/// What commands act on.
pub struct Equipment {
    /// The push socket, and OctoPrint's REST API.
    pub socket: Socket,
    /// The camera.
    pub camera: config::Camera,
    /// The power.
    pub power: PowerControl,
}

/// Takes the commands of one printer; cheap to clone.
#[derive(Clone)]
pub struct Executor {
    socket: Socket,
    effects: mpsc::UnboundedSender<Effect>,
    answers: Answers,
    // Boxed: a channel allocates room for 32 at once, and is mostly empty.
    queue: mpsc::Sender<Box<Queued>>,
    stops: Arc<AtomicU64>,
    starts: PrintStarts,
    watch: Watch,
}

impl Executor {
    /// Starts the worker, watched by `watch`; it ends with the last handle. What OctoPrint does not
    /// report of what commands have done goes to `effects`.
    pub fn start(
        Equipment { socket, camera, power }: Equipment,
        answers: Answers,
        effects: mpsc::UnboundedSender<Effect>,
        watch: Watch,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let stops = Arc::new(AtomicU64::new(0));
        let starts = PrintStarts::default();
        let worker = Worker {
            socket: socket.clone(),
            camera,
            power,
            effects: effects.clone(),
            answers: answers.clone(),
            stops: stops.clone(),
            starts: starts.clone(),
        };
        watch.spawn("commands", worker.run(waiting));
        Self { socket, effects, answers, queue, stops, starts, watch }
    }

    /// Notes that OctoPrint has reported the start of a print, by which a command is confirmed.
    pub fn print_started(&self) {
        self.starts.add();
    }

    /// Runs `command`: immediately if it is urgent, otherwise after the previous ones. `known`: the
    /// printer is known to have the command's heaters.
    pub fn submit(&self, request: CommandRequest, command: Command, known: bool) {
        if !command.is_urgent() {
            let stops = self.stops.load(Ordering::Relaxed);
            let queued = Box::new(Queued { request, command, stops, known });
            if let Err(refused) = self.queue.try_send(queued) {
                let request = refused.into_inner().request;
                self.answers
                    .answer(&request, &Err(CommandError::new("too many commands wait already")));
            }
            return;
        }
        match command {
            Command::Reconnect => {
                self.socket.reconnect();
                self.answers.answer(&request, &Ok(()));
            }
            Command::Rate(rate) => {
                self.set_rate(rate);
                self.answers.answer(&request, &Ok(()));
            }
            Command::Maintained(name) => {
                // Fails only when the printer's task has ended.
                let _ = self.effects.send(Effect::Maintained(name));
                self.answers.answer(&request, &Ok(()));
            }
            Command::KeepPower => {
                let _ = self.effects.send(Effect::KeepPower);
                self.answers.answer(&request, &Ok(()));
            }
            _ => self.emergency_stop(request),
        }
    }

    fn set_rate(&self, rate: RateSetting) {
        // The socket limits the factor.
        match rate {
            RateSetting::Auto => self.socket.set_rate(RateMode::Auto),
            RateSetting::Factor(factor) => self.socket.set_rate(RateMode::Manual(factor)),
            RateSetting::Hold => self.socket.hold_rate(),
            RateSetting::Faster => {
                self.socket.hold_rate();
                self.socket.increase_rate();
            }
            RateSetting::Slower => {
                self.socket.hold_rate();
                self.socket.decrease_rate();
            }
        }
    }

    /// Drops the waiting commands, and sends the stop beside the running one, even if OctoPrint seems
    /// unreachable.
    fn emergency_stop(&self, request: CommandRequest) {
        self.stops.fetch_add(1, Ordering::Relaxed);
        let (rest, answers) = (self.socket.rest(), self.answers.clone());
        self.watch.spawn("emergency stop", async move {
            let outcome = rest.emergency_stop().await.map_err(CommandError::from);
            answers.answer(&request, &outcome);
        });
    }
}

/// Time for the command that runs when the printer's task has ended.
const LAST_COMMAND: Duration = Duration::from_secs(1);

struct Worker {
    socket: Socket,
    camera: config::Camera,
    power: PowerControl,
    effects: mpsc::UnboundedSender<Effect>,
    answers: Answers,
    stops: Arc<AtomicU64>,
    starts: PrintStarts,
}

impl Worker {
    async fn run(self, mut waiting: mpsc::Receiver<Box<Queued>>) {
        while let Some(queued) = waiting.recv().await {
            let Queued { request, command, stops, known } = *queued;
            if self.effects.is_closed() {
                let failure = "not sent, because the printer was removed or its settings changed";
                self.answers.answer(&request, &Err(CommandError::new(failure)));
                continue;
            }
            let stop_guard = StopGuard::new(self.stops.clone(), stops);
            let running = caught(self.execute(command, known, &stop_guard));
            let outcome = match self.until_ended(running).await {
                None => Err(CommandError::new(
                    "the printer was removed or its settings changed, so it is unknown whether OctoPrint obeyed",
                )),
                Some(Ok(outcome)) => outcome,
                Some(Err(panicked)) => {
                    self.fail(&request, waiting);
                    panicked.resume();
                }
            };
            self.answers.answer(&request, &outcome);
        }
    }

    /// Runs `command`; `None` if it takes longer than the printer's task lives, and a moment.
    async fn until_ended<T>(&self, command: impl Future<Output = T>) -> Option<T> {
        let ended = async {
            self.effects.closed().await;
            tokio::time::sleep(LAST_COMMAND).await;
        };
        tokio::select! {
            outcome = command => Some(outcome),
            () = ended => None,
        }
    }

    /// Answers the command that panicked, and the waiting ones.
    fn fail(&self, request: &CommandRequest, mut waiting: mpsc::Receiver<Box<Queued>>) {
        let failure =
            "the bridge failed at this command, so it is unknown whether OctoPrint obeyed";
        self.answers.answer(request, &Err(CommandError::new(failure)));
        waiting.close();
        while let Ok(queued) = waiting.try_recv() {
            let failure = "not sent, because the bridge failed at the command before it";
            self.answers.answer(&queued.request, &Err(CommandError::new(failure)));
        }
    }

    async fn execute(
        &self,
        command: Command,
        known: bool,
        stop_guard: &StopGuard,
    ) -> Result<(), CommandError> {
        stop_guard.check()?;
        let rest = self.socket.rest();
        #[cfg(test)]
        assert_ne!(command, Command::Message("panic".to_owned()), "a test");
        let place = PowerPlace { control: &self.power, rest: &rest, answers: &self.answers };
        if let Command::Power { on, force } = command {
            return place.run(on, force).await;
        }
        if let Some(reason) = rest.unreached_lately() {
            return Err(CommandError::unreached(&reason));
        }
        if starts_print(&command) {
            place.switch_on_to_print(stop_guard).await?;
        }
        let command = match known {
            true => command,
            false => check_heaters(&rest, command).await?,
        };
        match command {
            Command::Job(action) => {
                execution::job::run(&rest, action, stop_guard, &self.starts).await?;
            }
            Command::PrintAgain(file) => {
                execution::again::print(&rest, file.as_ref(), &self.starts).await?;
            }
            Command::RefreshCard => execution::presets::refresh_card(&rest).await?,
            Command::StartWith(params) => {
                execution::job::start_with(&rest, &params, &self.starts).await?;
            }
            Command::Select { file, print, params } => {
                execution::job::select(&rest, &file, print, &params, &self.starts).await?;
            }
            Command::Message(text) => rest.printer_command(&[&format!("M117 {text}")]).await?,
            Command::Temperature { heater, target } => {
                rest.set_target(heater.as_str(), target).await?;
            }
            Command::Preset { name, limits } => {
                execution::presets::set(&rest, &name, &limits).await?;
            }
            Command::HeatersOff(heaters) => self.switch_off(&heaters).await?,
            Command::Offset { heater, offset } => {
                execution::connection::check_offset(&rest).await?;
                rest.set_offset(heater.as_str(), offset).await?;
            }
            Command::Feedrate(percent) => {
                execution::connection::check_feed_or_flow(&rest, &format!("M220 S{percent}"))
                    .await?;
                rest.set_feedrate(percent).await?;
                self.report(Effect::Feedrate(percent));
            }
            Command::Flowrate(percent) => {
                execution::connection::check_feed_or_flow(&rest, &format!("M221 S{percent}"))
                    .await?;
                rest.set_flowrate(percent).await?;
                self.report(Effect::Flowrate(percent));
            }
            Command::Snapshot(choice) => {
                for picture in execution::take_pictures(&rest, &self.camera, &choice).await? {
                    self.report(Effect::Picture(picture));
                }
            }
            Command::Home(axes) => execution::moves::home(&rest, &axes).await?,
            Command::Jog(jog) => execution::moves::jog(&rest, jog).await?,
            Command::Extrude(millimetres) => execution::moves::extrude(&rest, millimetres).await?,
            Command::Connect(with) => execution::connection::connect(&rest, &with).await?,
            Command::Disconnect => execution::connection::disconnect(&rest).await?,
            Command::Gcode(lines) => {
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                rest.printer_command(&lines).await?;
            }
            Command::Control { name, params } => {
                execution::controls::run(&rest, &name, &params).await?;
            }
            Command::AnswerPrompt { choice, text } => {
                execution::prompts::answer(&rest, &choice, text.as_deref()).await?;
            }
            Command::Update => execution::update::install(&rest).await?,
            Command::System(command) => {
                rest.system(command).await.map_err(|error| no_system(error, command))?;
            }
            Command::Entity(command) => self.control(&rest, *command).await?,
            Command::Reconnect
            | Command::Rate(_)
            | Command::EmergencyStop
            | Command::Power { .. }
            | Command::KeepPower
            | Command::Maintained(_) => {}
        }
        Ok(())
    }

    /// Switches each heater off independently: an error with one must not leave the others on.
    async fn switch_off(&self, heaters: &[Heater]) -> Result<(), CommandError> {
        let rest = self.socket.rest();
        let mut failures = Vec::new();
        for heater in heaters {
            if let Err(error) = rest.set_target(heater.as_str(), 0.0).await {
                let CommandError { error, status } = error.into();
                failures.push((format!("{heater} is not switched off: {error}"), status));
            }
        }
        let Some((_, status)) = failures.first() else { return Ok(()) };
        let status = *status;
        let errors: Vec<String> = failures.into_iter().map(|(error, _)| error).collect();
        Err(CommandError { error: errors.join("; "), status })
    }

    /// Sends what an entity of the user's own sends.
    async fn control(&self, rest: &Rest, command: EntityCommand) -> Result<(), RestError> {
        let EntityCommand { key, value, action } = command;
        match action {
            Action::Gcode(lines) => {
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                rest.printer_command(&lines).await?;
            }
            Action::Plugin(call) => rest.plugin_call(&call).await?,
        }
        self.report(Effect::Entity { key, value });
        Ok(())
    }

    fn report(&self, effect: Effect) {
        // Fails only when the printer's task has ended.
        let _ = self.effects.send(effect);
    }
}

/// Whether a command begins a print.
fn starts_print(command: &Command) -> bool {
    matches!(
        command,
        Command::Select { print: true, .. }
            | Command::PrintAgain(_)
            | Command::StartWith(_)
            | Command::Job(JobAction::Start)
    )
}

/// Checks a command's heaters against those that OctoPrint reports.
async fn check_heaters(rest: &Rest, command: Command) -> Result<Command, CommandError> {
    let all = matches!(command, Command::HeatersOff(_));
    if !all && command.heater().is_none() {
        return Ok(command);
    }
    let mut heaters = rest.heaters().await.map_err(|error| CommandError::not_sent(&error))?;
    if all {
        heaters.retain(Heater::can_be_set);
        if heaters.is_empty() {
            return Err(CommandError::new(
                "this printer reports no heater that could be switched off",
            ));
        }
        return Ok(Command::HeatersOff(heaters));
    }
    match command.heater() {
        Some(heater) if !heaters.iter().any(|known| known == heater) => {
            Err(CommandError::no_heater(heater))
        }
        _ => Ok(command),
    }
}

fn no_system(error: RestError, command: SystemCommand) -> CommandError {
    match error.status() {
        Some(404) => CommandError::with_status(
            format!(
                "OctoPrint has no command to {}; it is set in OctoPrint's settings, Server",
                command.as_str()
            ),
            404,
        ),
        _ => error.into(),
    }
}
