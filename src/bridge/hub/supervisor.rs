//! Supervises one printer's tasks, and restarts them when one of them panics.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bridge::printer::memory::Memory;
use crate::bridge::printer::{Ended, Printer};
use crate::bridge::setup::SocketMaker;
use crate::bridge::watch::{RestartBackoff, Restarts, caught};
use crate::causes;
use crate::config;
use crate::metrics::Sockets;
use crate::mqtt::{Broker, Incoming};
use crate::octoprint::{RateMode, Socket};
use crate::topics::PrinterTopics;

/// Runs one printer's tasks; holds what outlives them.
pub(crate) struct Supervisor {
    pub settings: Arc<config::Printer>,
    /// The printer's lane in the outbox.
    pub lane: usize,
    pub topics: PrinterTopics,
    pub broker: Broker,
    /// All printers' sockets; this printer's is replaced at a restart.
    pub sockets: Sockets,
    pub maker: SocketMaker,
    pub restarts: Restarts,
}

impl Supervisor {
    /// Builds the printer on `socket`.
    pub(crate) fn printer(&self, socket: Socket, memory: Memory) -> Box<Printer> {
        self.sockets.set(&self.settings.id, socket.clone());
        if let Some(factor) = *memory.rate.get() {
            socket.set_rate(RateMode::Manual(factor));
        }
        let (topics, broker) = (self.topics.clone(), self.broker.clone());
        Box::new(Printer::new(&self.settings, self.lane, topics, broker, socket, memory))
    }

    /// Runs the printer until `stop`. If one of its tasks panics, marks the printer offline and
    /// restarts all of them after a delay. Boxed, as a future holds its arguments twice.
    pub(crate) async fn run(
        self: Box<Self>,
        mut socket: Socket,
        mut printer: Box<Printer>,
        mut commands: mpsc::Receiver<Box<Incoming>>,
        stop: CancellationToken,
    ) {
        let mut backoff = RestartBackoff::default();
        loop {
            let started = Instant::now();
            let task = match caught(printer.run(&mut commands, &stop)).await {
                Ok(Ended::Stopped) => return,
                Ok(Ended::Failed(task)) => task,
                Err(_) => "printer",
            };
            let delay = backoff.after(started.elapsed());
            self.report(task, delay);
            printer.leave(delay).await;
            let refusing = self.refuse_commands(&mut printer, &mut commands, delay);
            if stop.run_until_cancelled(refusing).await.is_none() {
                return;
            }
            match self.maker.make(&self.settings) {
                Ok(made) => socket = made,
                // The printer finds its socket closed, which leads here again.
                Err(error) => tracing::error!("{}", causes::text(&error)),
            }
            printer = self.printer(socket.clone(), printer.into_memory());
        }
    }

    fn report(&self, task: &'static str, delay: Duration) {
        let id = &self.settings.id;
        self.restarts.note(id, task, delay);
        tracing::error!(
            task,
            "a task of this printer panicked, which is a bug: please report it with the output on stderr; the printer is offline and is restarted in {}",
            humantime::format_duration(delay)
        );
    }

    /// Refuses commands for the time of `delay`: they are not queued.
    async fn refuse_commands(
        &self,
        printer: &mut Printer,
        commands: &mut mpsc::Receiver<Box<Incoming>>,
        delay: Duration,
    ) {
        let ends = tokio::time::sleep(delay);
        tokio::pin!(ends);
        loop {
            tokio::select! {
                () = &mut ends => return,
                Some(incoming) = commands.recv() => {
                    // A command that panics here is dropped; the next ones are still refused.
                    let _ = caught(async { printer.refuse(&incoming) }).await;
                }
            }
        }
    }
}
