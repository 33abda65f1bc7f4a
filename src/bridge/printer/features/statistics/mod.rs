//! Totals over all prints of a printer, its last prints, and its maintenance counters.

mod maintenance;
mod print_log;
mod requests;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use self::maintenance::Maintenance;
use self::print_log::{PrintEntry, PrintLog, rounded};
use super::{Background, Effect, Feature, FeatureParts, Scene};
use crate::bridge::printer::persisted::Persisted;
use crate::bridge::printer::prints::{Outcome, Print, PrintResult, PrintStep};
use crate::bridge::printer::snapshot::Filament;
use crate::bridge::request;
use crate::mqtt::{Incoming, Kind};
use crate::octoprint::Message;
use crate::timestamp;

/// Number of prints in `B/P/history`.
const PUBLISHED: usize = 10;
/// Step of the completion that is persisted while a print runs, in percent: the bridge may be away
/// when it is cancelled.
const COMPLETION_STEP: f64 = 10.0;
/// Section of filament of 1.75 mm, in mm².
const SECTION: f64 = std::f64::consts::PI * 1.75 * 1.75 / 4.0;
/// Density of PLA, in g/mm³.
const DENSITY: f64 = 1.24e-3;

/// The running print, as far as its end does not report it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
struct RunningPrint {
    path: Option<String>,
    /// When it started, in Unix seconds.
    started: u64,
    /// The last completion, in percent.
    completion: Option<f64>,
    /// The filament of the whole file.
    filament: Option<Filament>,
}

/// Counts the prints of one printer.
pub(super) struct PrintStatistics {
    printer: String,
    /// Price of a kilogram of filament.
    price: Option<f64>,
    /// Whether the totals survive a restart.
    is_persistent: bool,
    log: Persisted<PrintLog>,
    running: Persisted<Option<RunningPrint>>,
    maintenance: Maintenance,
}

#[derive(Serialize)]
struct StatisticsPayload {
    prints_done: u64,
    prints_failed: u64,
    prints_cancelled: u64,
    print_hours: f64,
    filament_m: f64,
    filament_g: f64,
    #[serde(serialize_with = "timestamp::serialize")]
    since: Option<SystemTime>,
    persistent: bool,
}

impl PrintStatistics {
    pub(super) fn make(parts: &FeatureParts<'_>) -> Option<Box<dyn Feature>> {
        Some(Box::new(Self::new(parts)))
    }

    fn new(parts: &FeatureParts<'_>) -> Self {
        let FeatureParts { printer, known, store, .. } = parts;
        let id = printer.id.as_str();
        Self {
            printer: id.to_owned(),
            price: printer.filament_price,
            is_persistent: store.is_persistent(),
            log: Persisted::restore("statistics", id, known, (*store).clone()),
            running: Persisted::restore("running_print", id, known, (*store).clone()),
            maintenance: Maintenance::new(parts),
        }
    }

    fn publish(&self, scene: &mut Scene<'_>) {
        let log = self.log.get();
        let payload = StatisticsPayload {
            prints_done: log.totals.done,
            prints_failed: log.totals.failed,
            prints_cancelled: log.totals.cancelled,
            print_hours: rounded(log.totals.seconds / 3600.0, 2),
            filament_m: rounded(log.totals.filament / 1000.0, 2),
            filament_g: rounded(log.totals.weight, 1),
            since: log.since.and_then(print_log::system_time),
            persistent: self.is_persistent,
        };
        if let Ok(payload) = serde_json::to_vec(&payload) {
            scene.publish_state(&scene.topics.statistics, payload);
        }
        let last = serde_json::json!({"prints": log.newest(PUBLISHED)});
        scene.publish_state(&scene.topics.print_history, last.to_string());
    }

    fn started(&mut self, print: &Print, at: SystemTime, scene: &Scene<'_>) {
        let path = print.path.clone();
        let filament = path.as_deref().and_then(|path| scene.snapshot.filament(path));
        let started = timestamp::unix(at);
        self.running.set(Some(RunningPrint { path, started, completion: None, filament }));
    }

    fn ended(
        &mut self,
        print: &Print,
        at: SystemTime,
        result: &PrintResult,
        scene: &mut Scene<'_>,
    ) {
        let mut log = self.log.get().clone();
        let running = self.running_before(print, timestamp::unix(at));
        let was_running = running.is_some();
        let entry = self.entry(print, at, result, running, scene);
        if result.recovered && log.has(&entry) {
            return;
        }
        if was_running {
            self.running.set(None);
        }
        log.counted = result.number;
        log.add(entry);
        let before = self.log.get().totals;
        self.maintenance.advance(&before, &log.totals, scene);
        self.log.set(log);
        self.publish(scene);
    }

    /// Returns the running print if it is this one, which ended then.
    fn running_before(&self, print: &Print, ended: u64) -> Option<RunningPrint> {
        let is_own = |running: &&RunningPrint| {
            let same = running.path == print.path || print.path.is_none();
            // The start of the next print may be known before the end of the last.
            same && running.started <= ended
        };
        self.running.get().as_ref().filter(is_own).cloned()
    }

    /// Returns what is known of a print that has ended.
    fn entry(
        &self,
        print: &Print,
        at: SystemTime,
        result: &PrintResult,
        running: Option<RunningPrint>,
        scene: &Scene<'_>,
    ) -> PrintEntry {
        let ended = timestamp::unix(at);
        let known = running.as_ref().map(|running| running.started);
        let seen = scene.snapshot.print_started().map(timestamp::unix);
        let seen = seen.filter(|started| !result.recovered && *started <= ended);
        let by_duration = || Some(ended.saturating_sub(result.took? as u64));
        let started = known.or(seen).or_else(by_duration);
        let duration = result.took.or_else(|| Some(started?.abs_diff(ended) as f64));
        let of_job = print.path.as_deref().and_then(|path| scene.snapshot.filament(path));
        let filament = of_job.or(running.as_ref().and_then(|running| running.filament));
        let fraction = match result.outcome {
            Outcome::Done => Some(1.0),
            Outcome::Failed | Outcome::Cancelled => {
                let running = running.and_then(|running| running.completion);
                let current = scene.snapshot.completion().filter(|_| !result.recovered);
                current.or(running).map(|percent| percent.clamp(0.0, 100.0) / 100.0)
            }
        };
        let used = filament.zip(fraction).map(|(filament, fraction)| Filament {
            length: filament.length * fraction,
            weight: filament.weight.map(|weight| weight * fraction),
        });
        let weight = used.map(|used| used.weight.unwrap_or(used.length * SECTION * DENSITY));
        let cost = weight.zip(self.price).map(|(weight, price)| weight / 1000.0 * price);
        PrintEntry {
            file: print.name.clone(),
            path: print.path.clone(),
            started,
            ended,
            result: print_log::result_name(result.outcome).to_owned(),
            duration: duration.map(|seconds| rounded(seconds, 1)),
            filament: used.map(|used| rounded(used.length, 1)),
            weight: weight.map(|weight| rounded(weight, 2)),
            cost: cost.map(|cost| rounded(cost, 2)),
            reason: result.reason.clone(),
            recovered: result.recovered,
            number: result.number,
        }
    }
}

impl Feature for PrintStatistics {
    fn restart(&mut self, _: &Background) {}

    fn start(&mut self, scene: &mut Scene<'_>) {
        if self.log.get().since.is_none() {
            let since = Some(timestamp::unix(scene.now.wall));
            self.log.set(PrintLog { since, ..self.log.get().clone() });
        }
        self.publish(scene);
        self.maintenance.start(&self.log.get().totals, scene);
    }

    fn print(&mut self, step: &PrintStep, scene: &mut Scene<'_>) {
        let at = step.at.unwrap_or(scene.now.wall);
        match &step.result {
            None => self.started(&step.print, at, scene),
            Some(result) => self.ended(&step.print, at, result, scene),
        }
    }

    fn message(&mut self, _: &Message, scene: &mut Scene<'_>) {
        let Some(running) = self.running.get() else { return };
        let Some(completion) = scene.snapshot.completion() else { return };
        let step = |percent: f64| (percent / COMPLETION_STEP).floor();
        let is_new = running.completion.is_none_or(|before| step(before) < step(completion));
        if is_new && scene.snapshot.state().print_is_on() == Some(true) {
            let of_job = running.path.as_deref().and_then(|path| scene.snapshot.filament(path));
            self.running.set(Some(RunningPrint {
                completion: Some(completion),
                filament: of_job.or(running.filament),
                ..running.clone()
            }));
        }
    }

    fn effect(&mut self, effect: &Effect, scene: &mut Scene<'_>) {
        if let Effect::Maintained(name) = effect {
            self.maintenance.reset(name, &self.log.get().totals, scene);
        }
    }

    fn incoming(&mut self, incoming: &Incoming, scene: &mut Scene<'_>) {
        let Some(("history", response)) = scene.topics.bridge_request(&incoming.topic) else {
            return;
        };
        let request::Parsed { request, transaction } = request::parse("history", &incoming.payload);
        let request::Request::History(asked) = request else { return };
        if asked.printer == self.printer {
            let data = requests::answer(&asked, self.log.get());
            scene.publish(&response, request::answer(Ok(data), transaction), Kind::ANSWER);
        }
    }
}
