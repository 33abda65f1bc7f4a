//! The printer's power: whether it is on, by PSU Control or by a switch of the configuration, and
//! switching it off after a print.

mod auto_off;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use self::auto_off::{AutoOff, AutoOffStage};
use super::{Background, Effect, Feature, FeatureParts, Scene};
use crate::bridge::printer::discovery::facts::Fact;
use crate::bridge::printer::persisted::Persisted;
use crate::bridge::printer::power::PowerState;
use crate::bridge::printer::prints::PrintStep;
use crate::bridge::printer::snapshot::json::member;
use crate::causes;
use crate::config::PowerSwitch;
use crate::mqtt::{Incoming, Kind};
use crate::octoprint::{Message, MessageKind, PSU_PLUGIN, Plugin, psu_state};
use crate::timestamp;
use crate::topics::Topic;

/// Age below which the end of a print still leads to switching off.
const FRESH: Duration = Duration::from_secs(3600);

/// Follows and publishes the power of one printer.
pub(super) struct Power {
    switch: Option<PowerSwitch>,
    state: PowerState,
    /// `None` if it is switched off.
    auto_off: Option<AutoOff>,
    /// Whether the power is to be switched off, over a restart of the bridge.
    armed: Persisted<bool>,
    background: Background,
    published: Option<String>,
}

#[derive(Serialize)]
struct PowerPayload {
    state: Option<&'static str>,
    source: Option<&'static str>,
    auto_off: Option<&'static str>,
    #[serde(serialize_with = "timestamp::serialize")]
    off_at: Option<SystemTime>,
}

impl Power {
    pub(super) fn make(parts: &FeatureParts<'_>) -> Option<Box<dyn Feature>> {
        let printer = parts.printer;
        let mut power = Self {
            switch: printer.power.clone(),
            state: parts.power.clone(),
            auto_off: printer.auto_off.then(AutoOff::default),
            armed: Persisted::restore("auto_off", &printer.id, parts.known, parts.store.clone()),
            background: parts.background.clone(),
            published: None,
        };
        if *power.armed.get() {
            power.auto_off.iter_mut().for_each(AutoOff::arm);
        }
        Some(Box::new(power))
    }

    /// Notes whether the power is on, as its source says.
    fn set(&mut self, on: Option<bool>, scene: &mut Scene<'_>) {
        self.state.set(on);
        if on == Some(false) {
            self.auto_off.iter_mut().for_each(AutoOff::cancel);
        }
        self.publish(scene);
    }

    fn publish(&mut self, scene: &mut Scene<'_>) {
        let stage = self.auto_off.as_ref().map(AutoOff::stage).unwrap_or_default();
        self.armed.set(stage != AutoOffStage::Idle);
        let state = self.state.get();
        let source = match (&self.switch, state) {
            (Some(_), _) => Some("mqtt"),
            (None, Some(_)) => Some(PSU_PLUGIN),
            (None, None) => None,
        };
        let off_at = |at: Instant| {
            let left = at.saturating_duration_since(scene.now.instant);
            scene.now.wall + left
        };
        let (auto_off, off_at) = match stage {
            AutoOffStage::Idle => (None, None),
            AutoOffStage::Cooling => (Some("cooling"), None),
            AutoOffStage::Countdown(at) => (Some("countdown"), Some(off_at(at))),
        };
        let state = state.map(|on| if on { "on" } else { "off" });
        let payload = PowerPayload { state, source, auto_off, off_at };
        // Texts and numbers always have a JSON form.
        let payload = serde_json::to_string(&payload).unwrap_or_default();
        if self.published.as_ref() != Some(&payload) {
            scene.publish_state(&scene.topics.power, payload.clone());
            self.published = Some(payload);
        }
    }

    fn observe(&mut self, scene: &mut Scene<'_>) {
        let Some(auto_off) = &mut self.auto_off else { return };
        let before = auto_off.stage();
        let snapshot = scene.snapshot;
        auto_off.observe(snapshot.state(), snapshot.readings(), scene.now.instant);
        if auto_off.stage() != before {
            self.publish(scene);
        }
    }

    fn switch_off(&self, scene: &mut Scene<'_>) {
        tracing::info!("switching the printer's power off, as its print is over and it is cool");
        if let Some(switch) = &self.switch {
            let topic = Topic::from(switch.command_topic.clone());
            scene.publish(&topic, switch.off.clone(), Kind::Fleeting { retain: false });
            return;
        }
        let rest = scene.rest.clone();
        self.background.spawn("power off", async move {
            if let Err(error) = rest.switch_psu(false).await {
                tracing::warn!("the power is not switched off: {}", causes::text(&error));
            }
            None
        });
    }
}

impl Feature for Power {
    fn start(&mut self, scene: &mut Scene<'_>) {
        self.published = None;
        self.publish(scene);
    }

    fn availability(&mut self, is_online: bool, scene: &mut Scene<'_>) {
        if !is_online {
            self.auto_off.iter_mut().for_each(AutoOff::lose_sight);
            self.publish(scene);
        }
    }

    fn message(&mut self, message: &Message, scene: &mut Scene<'_>) {
        if matches!(message.kind(), MessageKind::Current | MessageKind::History) {
            self.observe(scene);
        }
    }

    fn plugin(&mut self, plugin: &Plugin<'_>, scene: &mut Scene<'_>) {
        let data = plugin.data.filter(|_| plugin.plugin == PSU_PLUGIN && self.switch.is_none());
        let on = member::<serde_json::Value>(data).as_ref().and_then(psu_state);
        if on.is_some() {
            self.set(on, scene);
        }
    }

    fn learn(&mut self, fact: &Fact, scene: &mut Scene<'_>) {
        if let Fact::Power(on) = fact
            && self.switch.is_none()
        {
            self.set(*on, scene);
        }
    }

    fn incoming(&mut self, incoming: &Incoming, scene: &mut Scene<'_>) {
        let switch = self.switch.as_ref().filter(|switch| switch.state_topic == incoming.topic);
        let on = switch.and_then(|switch| switch.state(&incoming.payload));
        if on.is_some() {
            self.set(on, scene);
        }
    }

    fn print(&mut self, step: &PrintStep, scene: &mut Scene<'_>) {
        let Some(auto_off) = &mut self.auto_off else { return };
        // The recovered end of an old print says nothing about what was done since.
        let age = step.at.map(|at| scene.now.wall.duration_since(at).unwrap_or_default());
        match step.result {
            Some(_) if self.state.get() == Some(false) => {}
            Some(_) if age.is_none_or(|age| age < FRESH) => auto_off.arm(),
            Some(_) => {}
            None => auto_off.cancel(),
        }
        self.publish(scene);
    }

    fn effect(&mut self, effect: &Effect, scene: &mut Scene<'_>) {
        if *effect == Effect::KeepPower {
            self.auto_off.iter_mut().for_each(AutoOff::cancel);
            self.publish(scene);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.auto_off.as_ref()?.due()
    }

    fn flush(&mut self, scene: &mut Scene<'_>) {
        if self.auto_off.as_mut().is_some_and(|auto_off| auto_off.take_due(scene.now.instant)) {
            self.switch_off(scene);
            self.publish(scene);
        }
    }

    fn restart(&mut self, background: &Background) {
        self.background = background.clone();
    }
}
