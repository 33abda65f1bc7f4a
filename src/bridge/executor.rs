//! Runs the commands of one printer, in order, and answers each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::sync::mpsc;

use super::command::{Asked, Command, Rate};
use super::hub::watch::{Watch, caught};
use crate::mqtt::{Broker, Kind, Publication};
use crate::octoprint::{JobAction, RateMode, RestError, Socket, SystemCommand};
use crate::topics::Topic;

/// Most commands that wait for one printer.
const WAITING: usize = 100;

/// Why a command was not carried out.
#[derive(Debug, Clone)]
pub struct Failure {
    error: String,
    status: Option<u16>,
}

impl Failure {
    /// A failure that the bridge itself sees.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), status: None }
    }
}

impl From<RestError> for Failure {
    fn from(error: RestError) -> Self {
        let status = error.status();
        let error = if error.outcome_unknown() {
            format!("no answer came, so it is unknown whether OctoPrint obeyed: {error}")
        } else {
            error.to_string()
        };
        Self { error, status }
    }
}

/// Where the commands of one printer are answered.
#[derive(Clone)]
pub struct Answers {
    /// The printer's lane in the outbox.
    pub lane: usize,
    /// `B/P/result`.
    pub topic: Topic,
    /// The way there.
    pub broker: Broker,
}

impl Answers {
    /// Publishes the answer to `asked`, and logs a failure.
    pub fn answer(&self, asked: &Asked, outcome: Result<(), Failure>) {
        #[derive(Serialize)]
        struct Done<'a> {
            #[serde(flatten)]
            asked: &'a Asked,
            ok: bool,
        }
        #[derive(Serialize)]
        struct Failed<'a> {
            #[serde(flatten)]
            asked: &'a Asked,
            ok: bool,
            error: String,
            status: Option<u16>,
        }
        let payload = match outcome {
            Ok(()) => {
                tracing::debug!(command = asked.command, "done");
                serde_json::to_vec(&Done { asked, ok: true })
            }
            Err(Failure { error, status }) => {
                tracing::warn!(command = asked.command, error, "command not carried out");
                serde_json::to_vec(&Failed { asked, ok: false, error, status })
            }
        };
        // A map with text keys always has a JSON form.
        let Ok(payload) = payload else { return };
        self.broker.publish(Publication::new(self.lane, self.topic.clone(), payload, Kind::ANSWER));
    }
}

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
    /// Whether a file was selected, as far as the snapshot knows.
    job_selected: bool,
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

    /// Runs `command`: at once where it is urgent, else after those that came before.
    pub fn submit(&self, asked: Asked, command: Command, job_selected: bool) {
        if !command.is_urgent() {
            let stops = self.stops.load(Ordering::Relaxed);
            let queued = Box::new(Queued { asked, command, stops, job_selected });
            if let Err(refused) = self.queue.try_send(queued) {
                let asked = refused.into_inner().asked;
                self.answers.answer(&asked, Err(Failure::new("too many commands wait already")));
            }
            return;
        }
        match command {
            Command::Reconnect => {
                self.socket.reconnect();
                self.answers.answer(&asked, Ok(()));
            }
            Command::Rate(rate) => {
                self.set_rate(rate);
                self.answers.answer(&asked, Ok(()));
            }
            _ => self.emergency_stop(asked),
        }
    }

    fn set_rate(&self, rate: Rate) {
        let (_, factor) = self.socket.rate();
        let mode = match rate {
            Rate::Auto => RateMode::Auto,
            Rate::Factor(factor) => RateMode::Manual(factor),
            Rate::Hold => RateMode::Manual(factor),
            // The socket keeps the factor within its bounds.
            Rate::Faster => RateMode::Manual(factor.saturating_sub(1).max(1)),
            Rate::Slower => RateMode::Manual(factor.saturating_add(1)),
        };
        self.socket.set_rate(mode);
    }

    /// Drops what waits, and stops beside whatever is under way.
    fn emergency_stop(&self, asked: Asked) {
        self.stops.fetch_add(1, Ordering::Relaxed);
        let (rest, answers) = (self.socket.rest(), self.answers.clone());
        self.watch.spawn("emergency stop", async move {
            let outcome = rest.printer_command(&["M112"]).await.map_err(Failure::from);
            answers.answer(&asked, outcome);
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
            let Queued { asked, command, stops, job_selected } = *queued;
            let outcome = if stops == self.stops.load(Ordering::Relaxed) {
                match caught(self.execute(command, job_selected)).await {
                    Ok(outcome) => outcome,
                    Err(panicked) => {
                        self.fail(&asked, waiting);
                        panicked.resume();
                    }
                }
            } else {
                Err(Failure::new("dropped by an emergency stop"))
            };
            self.answers.answer(&asked, outcome);
        }
    }

    /// Answers the command at which this panicked, and those that wait.
    fn fail(&self, asked: &Asked, mut waiting: mpsc::Receiver<Box<Queued>>) {
        let failure =
            "the bridge failed at this command, so it is unknown whether OctoPrint obeyed";
        self.answers.answer(asked, Err(Failure::new(failure)));
        waiting.close();
        while let Ok(queued) = waiting.try_recv() {
            let failure = "dropped, for the bridge failed at the command before it";
            self.answers.answer(&queued.asked, Err(Failure::new(failure)));
        }
    }

    async fn execute(&self, command: Command, job_selected: bool) -> Result<(), Failure> {
        let rest = self.socket.rest();
        #[cfg(test)]
        assert_ne!(command, Command::Message("panic".to_owned()), "a test");
        match command {
            Command::Job(job) => {
                // OctoPrint answers 204 and does nothing.
                if job == JobAction::Start && !job_selected && !rest.job_file_selected().await? {
                    let error = "no file is selected, so there is nothing to start".to_owned();
                    return Err(Failure { error, status: Some(409) });
                }
                rest.job(job).await?;
            }
            Command::Select { file, print } => {
                rest.select_file(&file, print).await.map_err(not_selected)?;
            }
            Command::Message(text) => rest.printer_command(&[&format!("M117 {text}")]).await?,
            Command::Temperature { heater, target } => rest.set_target(&heater, target).await?,
            Command::Offset { heater, offset } => rest.set_offset(&heater, offset).await?,
            Command::Feedrate(percent) => {
                rest.set_feedrate(percent).await?;
                self.obeyed(Factor::Feedrate(percent));
            }
            Command::Flowrate(percent) => {
                rest.set_flowrate(percent).await?;
                self.obeyed(Factor::Flowrate(percent));
            }
            Command::Home(axes) => rest.home(&axes).await?,
            Command::Jog(jog) => rest.jog(jog).await?,
            Command::Extrude(millimetres) => rest.extrude(millimetres).await?,
            Command::Connection { connect } => rest.set_connection(connect).await?,
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

    fn obeyed(&self, factor: Factor) {
        // Fails only when the printer's task has ended.
        let _ = self.factors.send(factor);
    }
}

/// OctoPrint says the same of a printer that prints and of one that is not connected.
fn not_selected(error: RestError) -> Failure {
    match error.status() {
        Some(409) => Failure {
            error: "OctoPrint selects no file while it prints, while it is paused, or while the printer is not connected".to_owned(),
            status: Some(409),
        },
        Some(404) => Failure { error: "there is no such file".to_owned(), status: Some(404) },
        _ => error.into(),
    }
}

fn no_system(error: RestError, command: SystemCommand) -> Failure {
    match error.status() {
        Some(404) => Failure {
            error: format!(
                "OctoPrint has no command to {}; it is set in OctoPrint's settings, Server",
                command.as_str()
            ),
            status: Some(404),
        },
        _ => error.into(),
    }
}
