//! Switches the printer's power.

use std::time::Duration;

use super::{INTERVAL, JobSnapshot, StopGuard};
use crate::bridge::printer::commands::answers::{Answers, CommandError};
use crate::bridge::printer::power::PowerControl;
use crate::bridge::printer::snapshot::PrinterState;
use crate::causes;
use crate::clock;
use crate::config::PowerSwitch;
use crate::mqtt::{Kind, Publication};
use crate::octoprint::{ConnectWith, Rest, RestError};
use crate::topics::Topic;

/// Time that a switch may take to report its new state.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a printer may take, once it is switched on, until OctoPrint is connected to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(90);
/// Interval between attempts to connect: the printer may be starting still.
const CONNECT_INTERVAL: Duration = Duration::from_secs(5);

/// What switching needs.
pub(in crate::bridge::printer::commands) struct PowerPlace<'a> {
    pub(in crate::bridge::printer::commands) control: &'a PowerControl,
    pub(in crate::bridge::printer::commands) rest: &'a Rest,
    pub(in crate::bridge::printer::commands) answers: &'a Answers,
}

impl PowerPlace<'_> {
    /// Switches the power, unless it is a switch off during a print that is not forced.
    pub(in crate::bridge::printer::commands) async fn run(
        &self,
        on: bool,
        force: bool,
    ) -> Result<(), CommandError> {
        if !on && !force {
            self.check_idle().await?;
        }
        self.switch(on).await
    }

    async fn check_idle(&self) -> Result<(), CommandError> {
        let status = self.rest.job_status().await;
        let job = status.map(JobSnapshot::of).map_err(|error| CommandError::not_sent(&error))?;
        if job.state.print_is_on() != Some(true) {
            return Ok(());
        }
        let error = format!(
            "the printer is {}; {{\"action\":\"off\",\"force\":true}} switches it off all the same",
            job.text()
        );
        Err(CommandError::with_status(error, 409))
    }

    async fn switch(&self, on: bool) -> Result<(), CommandError> {
        match &self.control.switch {
            Some(switch) => self.switch_at_broker(switch, on).await,
            None => self.switch_psu(on).await,
        }
    }

    async fn switch_at_broker(&self, switch: &PowerSwitch, on: bool) -> Result<(), CommandError> {
        let payload = if on { &switch.on } else { &switch.off };
        let topic = Topic::from(switch.command_topic.clone());
        let kind = Kind::Fleeting { retain: false };
        let Answers { lane, broker, .. } = self.answers;
        broker.publish(Publication::new(*lane, topic, payload.clone(), kind));
        let reported = self.control.state.becomes(on);
        tokio::time::timeout(TIMEOUT, reported).await.map_err(|_| {
            let wanted = if on { &switch.state_on } else { &switch.state_off };
            CommandError::new(format!(
                "the switch was told, but did not report {wanted:?} on {} within 10 s",
                switch.state_topic
            ))
        })
    }

    async fn switch_psu(&self, on: bool) -> Result<(), CommandError> {
        self.rest.switch_psu(on).await.map_err(no_psu)?;
        let deadline = clock::now() + TIMEOUT;
        loop {
            let state = self.rest.psu_state().await;
            let state = state.map_err(|error| CommandError::unconfirmed(&error))?;
            if state == Some(on) {
                self.control.state.set(state);
                return Ok(());
            }
            if clock::now() >= deadline {
                let error = "PSU Control answered with success, but its state has not changed";
                return Err(CommandError::with_status(error, 409));
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Before a print: switches a printer on that is off, and waits until OctoPrint is connected to it.
    pub(in crate::bridge::printer::commands) async fn switch_on_to_print(
        &self,
        stop_guard: &StopGuard,
    ) -> Result<(), CommandError> {
        if !self.control.on_to_print || self.is_on().await != Some(false) {
            return Ok(());
        }
        self.switch(true).await?;
        self.connect(stop_guard).await
    }

    async fn is_on(&self) -> Option<bool> {
        match self.control.switch {
            Some(_) => self.control.state.get(),
            None => self.rest.psu_state().await.ok().flatten(),
        }
    }

    async fn connect(&self, stop_guard: &StopGuard) -> Result<(), CommandError> {
        let deadline = clock::now() + CONNECT_TIMEOUT;
        // OctoPrint may connect by itself.
        let mut next_attempt = clock::now() + CONNECT_INTERVAL;
        loop {
            stop_guard.check()?;
            let job = self.rest.job_status().await.map(JobSnapshot::of);
            let state = job.as_ref().map_or(PrinterState::Unknown, |job| job.state);
            if !state.is_closed() && !is_on_its_way(state) {
                return Ok(());
            }
            let now = clock::now();
            if now >= deadline {
                let text =
                    job.map_or_else(|error| causes::text(&error), |job| job.text().to_owned());
                let error =
                    format!("the printer was switched on, but is not connected after 90 s: {text}");
                return Err(CommandError::new(error));
            }
            if state.is_closed() && now >= next_attempt {
                next_attempt = now + CONNECT_INTERVAL;
                if let Err(error) = self.rest.connect(&ConnectWith::default()).await {
                    tracing::debug!("not connected to the printer yet: {}", causes::text(&error));
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

fn is_on_its_way(state: PrinterState) -> bool {
    matches!(state, PrinterState::Connecting | PrinterState::Unknown)
}

fn no_psu(error: RestError) -> CommandError {
    match error.status() {
        Some(400 | 404) => CommandError::with_status(
            "this printer's power cannot be switched: OctoPrint has no plugin PSU Control, and the configuration no power.command_topic",
            404,
        ),
        _ => error.into(),
    }
}
