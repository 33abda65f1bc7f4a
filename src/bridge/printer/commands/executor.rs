//! Runs the commands of one printer, in order, and answers each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::answers::{Answers, Failure};
use super::execution::halt::Halt;
use super::{Asked, Command, Rate, execution};
use crate::bridge::hub::watch::{Watch, caught};
use crate::heater::Heater;
use crate::octoprint::{RateMode, Rest, RestError, Socket, SystemCommand};

/// Most commands that wait for one printer.
const WAITING: usize = 100;

/// A rate that OctoPrint took, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// The feed rate.
    Feedrate(u32),
    /// The flow rate.
    Flowrate(u32),
}

struct Queued {
    asked: Asked,
    command: Command,
    /// The number of emergency stops before it came.
    stops: u64,
    /// Whether the printer is known to have what it is about; else OctoPrint is asked.
    known: bool,
}

/// Takes the commands of one printer; cheap to clone.
#[derive(Clone)]
pub struct Executor {
    socket: Socket,
    answers: Answers,
    // Boxed: a channel makes room for 32 at once, and mostly there is none.
    queue: mpsc::Sender<Box<Queued>>,
    stops: Arc<AtomicU64>,
    watch: Watch,
}

impl Executor {
    /// Starts the worker; it ends with the last handle, and `watch` watches it. What OctoPrint took
    /// as feed or flow rate, which it does not report, goes to `factors`.
    pub fn start(
        socket: Socket,
        answers: Answers,
        factors: mpsc::UnboundedSender<Factor>,
        watch: Watch,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let stops = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            socket: socket.clone(),
            factors,
            answers: answers.clone(),
            stops: stops.clone(),
        };
        watch.spawn("commands", worker.run(waiting));
        Self { socket, answers, queue, stops, watch }
    }

    /// Runs `command`: at once where it is urgent, else after those that came before. `known` says
    /// whether the printer is known to have the heater that it is about.
    pub fn submit(&self, asked: Asked, command: Command, known: bool) {
        if !command.is_urgent() {
            let stops = self.stops.load(Ordering::Relaxed);
            let queued = Box::new(Queued { asked, command, stops, known });
            if let Err(refused) = self.queue.try_send(queued) {
                let asked = refused.into_inner().asked;
                self.answers.answer(&asked, &Err(Failure::new("too many commands wait already")));
            }
            return;
        }
        match command {
            Command::Reconnect => {
                self.socket.reconnect();
                self.answers.answer(&asked, &Ok(()));
            }
            Command::Rate(rate) => {
                self.set_rate(rate);
                self.answers.answer(&asked, &Ok(()));
            }
            _ => self.emergency_stop(asked),
        }
    }

    fn set_rate(&self, rate: Rate) {
        // The socket keeps the factor within its bounds.
        match rate {
            Rate::Auto => self.socket.set_rate(RateMode::Auto),
            Rate::Factor(factor) => self.socket.set_rate(RateMode::Manual(factor)),
            Rate::Hold => self.socket.hold_rate(),
            Rate::Faster => {
                self.socket.hold_rate();
                self.socket.increase_rate();
            }
            Rate::Slower => {
                self.socket.hold_rate();
                self.socket.decrease_rate();
            }
        }
    }

    /// Drops what waits, and stops beside whatever is under way, wherever OctoPrint is thought to
    /// be.
    fn emergency_stop(&self, asked: Asked) {
        self.stops.fetch_add(1, Ordering::Relaxed);
        let (rest, answers) = (self.socket.rest(), self.answers.clone());
        self.watch.spawn("emergency stop", async move {
            let outcome = rest.emergency_stop().await.map_err(Failure::from);
            answers.answer(&asked, &outcome);
        });
    }
}

struct Worker {
    socket: Socket,
    factors: mpsc::UnboundedSender<Factor>,
    answers: Answers,
    stops: Arc<AtomicU64>,
}

impl Worker {
    async fn run(self, mut waiting: mpsc::Receiver<Box<Queued>>) {
        while let Some(queued) = waiting.recv().await {
            let Queued { asked, command, stops, known } = *queued;
            let halt = Halt::new(self.stops.clone(), stops);
            let outcome = match caught(self.execute(command, known, &halt)).await {
                Ok(outcome) => outcome,
                Err(panicked) => {
                    self.fail(&asked, waiting);
                    panicked.resume();
                }
            };
            self.answers.answer(&asked, &outcome);
        }
    }

    /// Answers the command at which this panicked, and those that wait.
    fn fail(&self, asked: &Asked, mut waiting: mpsc::Receiver<Box<Queued>>) {
        let failure =
            "the bridge failed at this command, so it is unknown whether OctoPrint obeyed";
        self.answers.answer(asked, &Err(Failure::new(failure)));
        waiting.close();
        while let Ok(queued) = waiting.try_recv() {
            let failure = "dropped, for the bridge failed at the command before it";
            self.answers.answer(&queued.asked, &Err(Failure::new(failure)));
        }
    }

    async fn execute(&self, command: Command, known: bool, halt: &Halt) -> Result<(), Failure> {
        halt.check()?;
        let rest = self.socket.rest();
        #[cfg(test)]
        assert_ne!(command, Command::Message("panic".to_owned()), "a test");
        if let Some(reason) = rest.unreached_lately() {
            return Err(Failure::unreached(&reason));
        }
        let command = match known {
            true => command,
            false => known_to_octoprint(&rest, command).await?,
        };
        match command {
            Command::Job(action) => execution::job::run(&rest, action, halt).await?,
            Command::Select { file, print } => {
                execution::selection::select(&rest, &file, print).await?;
            }
            Command::Message(text) => rest.printer_command(&[&format!("M117 {text}")]).await?,
            Command::Temperature { heater, target } => {
                rest.set_target(heater.as_str(), target).await?;
            }
            Command::HeatersOff(heaters) => self.switch_off(&heaters).await?,
            Command::Offset { heater, offset } => {
                execution::rates::check_offset(&rest).await?;
                rest.set_offset(heater.as_str(), offset).await?;
            }
            Command::Feedrate(percent) => {
                execution::rates::check_rate(&rest, &format!("M220 S{percent}")).await?;
                rest.set_feedrate(percent).await?;
                self.obeyed(Factor::Feedrate(percent));
            }
            Command::Flowrate(percent) => {
                execution::rates::check_rate(&rest, &format!("M221 S{percent}")).await?;
                rest.set_flowrate(percent).await?;
                self.obeyed(Factor::Flowrate(percent));
            }
            Command::Home(axes) => execution::moves::home(&rest, &axes).await?,
            Command::Jog(jog) => execution::moves::jog(&rest, jog).await?,
            Command::Extrude(millimetres) => execution::moves::extrude(&rest, millimetres).await?,
            Command::Connect(with) => execution::connection::connect(&rest, &with).await?,
            Command::Disconnect => rest.disconnect().await?,
            Command::Gcode(lines) => {
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                rest.printer_command(&lines).await?;
            }
            Command::System(command) => {
                rest.system(command).await.map_err(|error| no_system(error, command))?;
            }
            Command::Reconnect | Command::Rate(_) | Command::EmergencyStop => {}
        }
        Ok(())
    }

    /// Each heater by itself: one that OctoPrint does not take keeps no other hot.
    async fn switch_off(&self, heaters: &[Heater]) -> Result<(), Failure> {
        let rest = self.socket.rest();
        let mut failures = Vec::new();
        for heater in heaters {
            if let Err(error) = rest.set_target(heater.as_str(), 0.0).await {
                let Failure { error, status } = error.into();
                failures.push((format!("{heater} is not switched off: {error}"), status));
            }
        }
        let Some((_, status)) = failures.first() else { return Ok(()) };
        let status = *status;
        let errors: Vec<String> = failures.into_iter().map(|(error, _)| error).collect();
        Err(Failure { error: errors.join("; "), status })
    }

    fn obeyed(&self, factor: Factor) {
        // Fails only when the printer's task has ended.
        let _ = self.factors.send(factor);
    }
}

/// Asks OctoPrint for the heater that a command is about.
async fn known_to_octoprint(rest: &Rest, command: Command) -> Result<Command, Failure> {
    let all = matches!(command, Command::HeatersOff(_));
    if !all && command.heater().is_none() {
        return Ok(command);
    }
    let mut heaters = rest.heaters().await.map_err(|error| Failure::unasked(&error))?;
    if all {
        heaters.retain(Heater::can_be_set);
        if heaters.is_empty() {
            return Err(Failure::new("this printer tells of no heater that could be switched off"));
        }
        return Ok(Command::HeatersOff(heaters));
    }
    match command.heater() {
        Some(heater) if !heaters.iter().any(|known| known == heater) => {
            Err(Failure::no_heater(heater))
        }
        _ => Ok(command),
    }
}

fn no_system(error: RestError, command: SystemCommand) -> Failure {
    match error.status() {
        Some(404) => Failure::with_status(
            format!(
                "OctoPrint has no command to {}; it is set in OctoPrint's settings, Server",
                command.as_str()
            ),
            404,
        ),
        _ => error.into(),
    }
}
