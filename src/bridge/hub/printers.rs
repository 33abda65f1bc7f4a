//! Looks after one printer: begins its tasks anew when one of them panics.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::watch::{Pauses, Restarts, caught};
use crate::bridge::printer::memory::Memory;
use crate::bridge::printer::{Ended, Printer};
use crate::bridge::setup::SocketMaker;
use crate::causes;
use crate::config::{self, Config};
use crate::metrics::Sockets;
use crate::mqtt::{Broker, Incoming, OWN_LANE};
use crate::octoprint::RateMode;
use crate::topics::PrinterTopics;

/// What all that one printer's tasks do depends on, however often they are begun anew.
pub(crate) struct Place {
    /// The configuration.
    pub config: Arc<Config>,
    /// Which of its printers this is.
    pub index: usize,
    /// The printer's topics.
    pub topics: PrinterTopics,
    /// The way to the broker.
    pub broker: Broker,
    /// All printers' sockets: that of this one is replaced when it is begun anew.
    pub sockets: Sockets,
    /// Makes them.
    pub maker: SocketMaker,
    /// Where failures are noted.
    pub restarts: Restarts,
}

impl Place {
    fn settings(&self) -> &config::Printer {
        &self.config.printers[self.index]
    }

    /// The printer, with its socket as it is now.
    pub(crate) fn printer(&self, memory: Memory) -> Box<Printer> {
        let (lane, socket) = (OWN_LANE + 1 + self.index, self.sockets.get(self.index));
        if let Some(factor) = *memory.rate.get() {
            socket.set_rate(RateMode::Manual(factor));
        }
        let (topics, broker) = (self.topics.clone(), self.broker.clone());
        Box::new(Printer::new(self.settings(), lane, topics, broker, socket, memory))
    }

    /// Runs the printer until `stop`. Where one of its tasks panics, the printer is called offline,
    /// and all of them are begun anew after a pause. Boxed: a future holds its arguments twice.
    pub(crate) async fn look_after(
        self: Box<Self>,
        mut printer: Box<Printer>,
        mut commands: mpsc::Receiver<Box<Incoming>>,
        stop: CancellationToken,
    ) {
        let mut pauses = Pauses::default();
        loop {
            let started = Instant::now();
            let task = match caught(printer.run(&mut commands, &stop)).await {
                Ok(Ended::Told) => return,
                Ok(Ended::Failed(task)) => task,
                Err(_) => "printer",
            };
            let pause = pauses.after(started.elapsed());
            self.tell(task, pause);
            printer.leave(pause).await;
            let paused = self.pause(&printer, &mut commands, pause);
            if stop.run_until_cancelled(paused).await.is_none() {
                return;
            }
            match self.maker.make(self.settings()) {
                Ok(socket) => self.sockets.replace(self.index, socket),
                // The printer finds its socket ended, and this is tried again.
                Err(error) => tracing::error!("{}", causes::text(&error)),
            }
            printer = self.printer(printer.dissolve());
        }
    }

    fn tell(&self, task: &'static str, pause: Duration) {
        let id = &self.settings().id;
        self.restarts.note(id, task, pause);
        tracing::error!(
            task,
            "a task of this printer panicked, which is a bug: please report it with the output on stderr; the printer is offline and is restarted in {}",
            humantime::format_duration(pause)
        );
    }

    /// Refuses commands meanwhile: they are not kept for later.
    async fn pause(
        &self,
        printer: &Printer,
        commands: &mut mpsc::Receiver<Box<Incoming>>,
        pause: Duration,
    ) {
        let ends = tokio::time::sleep(pause);
        tokio::pin!(ends);
        loop {
            tokio::select! {
                () = &mut ends => return,
                Some(incoming) = commands.recv() => {
                    // One that makes this panic is dropped: the others still are to be refused.
                    let _ = caught(async { printer.refuse(&incoming) }).await;
                }
            }
        }
    }
}
