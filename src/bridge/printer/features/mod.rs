//! What a printer offers beyond its state and its prints. Each [`Feature`] follows the printer's
//! messages, owns its state, and publishes on topics of its own.

mod camera;
mod card;
mod fleet;
mod gcode_file;
pub mod list;
mod own_entities;
mod power;
mod prompts;
#[cfg(test)]
pub(crate) mod stage;
mod statistics;
mod timelapse;
mod updates;

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::mpsc;

pub use self::gcode_file::finding::GcodeFinding;
use super::commands::executor::Effect;
use super::discovery::facts::Fact;
use super::pictures::WebcamPicture;
use super::power::PowerState;
use super::prints::PrintStep;
use super::snapshot::{FileId, Now, Snapshot};
use crate::bridge::fleet_report::FleetReporter;
use crate::bridge::watch::Watch;
use crate::clock;
use crate::config;
use crate::mqtt::{Incoming, Kind, Publication};
use crate::octoprint::{Event, Message, MessageKind, PictureError, Plugin, Rest, Status};
use crate::store::{Known, Store};
use crate::topics::{PrinterTopics, Topic};

/// Capacity of a printer's channel of findings.
const MAX_FINDINGS: usize = 16;
/// OctoPrint's push interval, unless the socket asks for a longer one.
const PUSH_INTERVAL: Duration = Duration::from_millis(500);

/// What a feature sees while it handles something, and what it publishes then.
pub struct Scene<'a> {
    /// The time, on the monotonic clock and on the wall.
    pub now: Now,
    /// The printer's state, with this message applied.
    pub snapshot: &'a Snapshot,
    /// The printer's topics.
    pub topics: &'a PrinterTopics,
    /// OctoPrint's REST API.
    pub rest: &'a Rest,
    /// The interval at which OctoPrint pushes, as the socket asked for.
    pub push_interval: Duration,
    lane: usize,
    publications: Vec<Publication>,
    slicer_time: Option<SlicerTime>,
    new_layer: Option<u32>,
}

/// A file, and how long the slicer thinks its print takes, in seconds.
pub type SlicerTime = (FileId, Option<f64>);

impl<'a> Scene<'a> {
    /// A scene without publications.
    pub fn new(
        now: Now,
        snapshot: &'a Snapshot,
        (topics, lane): (&'a PrinterTopics, usize),
        rest: &'a Rest,
    ) -> Self {
        let (publications, push_interval) = (Vec::new(), PUSH_INTERVAL);
        let (slicer_time, new_layer) = (None, None);
        Self {
            now,
            snapshot,
            topics,
            rest,
            push_interval,
            lane,
            publications,
            slicer_time,
            new_layer,
        }
    }

    /// The same with OctoPrint's push interval.
    pub fn pushed_every(self, push_interval: Duration) -> Self {
        Self { push_interval, ..self }
    }

    /// Publishes a retained state.
    pub fn publish_state(&mut self, topic: &Topic, payload: impl Into<Bytes>) {
        self.publish(topic, payload, Kind::State);
    }

    /// Publishes `payload`.
    pub fn publish(&mut self, topic: &Topic, payload: impl Into<Bytes>, kind: Kind) {
        let mut publication = Publication::new(self.lane, topic.clone(), payload, kind);
        publication.received = self.now.instant;
        self.publications.push(publication);
    }

    /// Tells the printer's state how long the slicer thinks the print takes, in seconds.
    pub fn set_slicer_time(&mut self, file: FileId, seconds: Option<f64>) {
        self.slicer_time = Some((file, seconds));
    }

    /// Returns the slicer's time that was set, once.
    pub fn take_slicer_time(&mut self) -> Option<SlicerTime> {
        self.slicer_time.take()
    }

    /// Tells the features after this one that a layer has begun; the first is 1.
    pub fn set_new_layer(&mut self, layer: u32) {
        self.new_layer = Some(layer);
    }

    /// Returns the layer that has begun.
    pub fn new_layer(&self) -> Option<u32> {
        self.new_layer
    }

    /// Returns what the features before this one have published on `topic` just now.
    pub fn published(&self, topic: &Topic) -> Option<&Bytes> {
        let on_topic = |publication: &&Publication| publication.topic == *topic;
        self.publications.iter().rev().find(on_topic).map(|publication| &publication.payload)
    }

    /// Returns what was published.
    pub fn into_publications(self) -> Vec<Publication> {
        self.publications
    }
}

/// Returns the present, on both clocks.
pub fn present() -> Now {
    Now { instant: clock::now(), wall: SystemTime::now() }
}

/// What a feature's work in the background found out.
#[derive(Debug)]
pub enum FeatureFinding {
    /// Pictures of the camera, or why there are none.
    Pictures(Result<Vec<WebcamPicture>, PictureError>),
    /// About the selected file.
    Gcode(Box<GcodeFinding>),
}

/// Runs work of features in the background; cheap to clone.
#[derive(Clone)]
pub struct Background {
    watch: Watch,
    findings: mpsc::Sender<Box<FeatureFinding>>,
}

impl Background {
    fn new(watch: Watch) -> (Self, mpsc::Receiver<Box<FeatureFinding>>) {
        let (findings, found) = mpsc::channel(MAX_FINDINGS);
        (Self { watch, findings }, found)
    }

    /// Spawns `work`, which reports a panic as `name`. What it finds out goes to all features.
    pub fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = Option<FeatureFinding>> + Send + 'static,
    ) {
        let findings = self.findings.clone();
        self.watch.spawn(name, async move {
            if let Some(finding) = work.await {
                // Fails only if the printer's task has ended.
                let _ = findings.send(Box::new(finding)).await;
            }
        });
    }
}

/// One feature. All methods do nothing by default.
pub trait Feature: Send + Sync {
    /// Publishes what is known before OctoPrint is reached.
    fn start(&mut self, scene: &mut Scene<'_>) {
        let _ = scene;
    }

    /// Follows whether the printer is online, at the start too.
    fn availability(&mut self, is_online: bool, scene: &mut Scene<'_>) {
        let _ = (is_online, scene);
    }

    /// Follows the push socket.
    fn socket(&mut self, status: &Status, scene: &mut Scene<'_>) {
        let _ = (status, scene);
    }

    /// Follows an event.
    fn event(&mut self, event: &Event<'_>, scene: &mut Scene<'_>) {
        let _ = (event, scene);
    }

    /// Follows a message that is no event.
    fn message(&mut self, message: &Message, scene: &mut Scene<'_>) {
        let _ = (message, scene);
    }

    /// Follows what a message of a plugin carries, after [`Feature::message`].
    fn plugin(&mut self, plugin: &Plugin<'_>, scene: &mut Scene<'_>) {
        let _ = (plugin, scene);
    }

    /// Follows the start or end of a print, each once, whether or not an event reported it.
    fn print(&mut self, step: &PrintStep, scene: &mut Scene<'_>) {
        let _ = (step, scene);
    }

    /// Follows a message of the broker that is no command: a request about this printer, or a topic
    /// that the configuration names.
    fn incoming(&mut self, incoming: &Incoming, scene: &mut Scene<'_>) {
        let _ = (incoming, scene);
    }

    /// Follows an answer of OctoPrint.
    fn learn(&mut self, fact: &Fact, scene: &mut Scene<'_>) {
        let _ = (fact, scene);
    }

    /// Follows what a command has done.
    fn effect(&mut self, effect: &Effect, scene: &mut Scene<'_>) {
        let _ = (effect, scene);
    }

    /// Follows what work in the background found out.
    fn find(&mut self, finding: &FeatureFinding, scene: &mut Scene<'_>) {
        let _ = (finding, scene);
    }

    /// Returns when [`Feature::flush`] has something to do.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Does what is due.
    fn flush(&mut self, scene: &mut Scene<'_>) {
        let _ = scene;
    }

    /// Restarts from what is persisted, after a panic of one of the printer's tasks; nothing that
    /// ran in the background before reports any more.
    fn restart(&mut self, background: &Background);
}

/// Returns what a message carries if it is one of a plugin; a malformed one has been logged already.
pub fn plugin_of(message: &Message) -> Option<Plugin<'_>> {
    (*message.kind() == MessageKind::Plugin).then(|| message.json().ok()).flatten()
}

/// Passes a message that is no event to `feature`; `plugin` is what it carries.
pub fn pass_message(
    feature: &mut dyn Feature,
    message: &Message,
    plugin: Option<&Plugin<'_>>,
    scene: &mut Scene<'_>,
) {
    feature.message(message, scene);
    if let Some(plugin) = plugin {
        feature.plugin(plugin, scene);
    }
}

/// The features of one printer.
pub struct Features {
    features: Vec<Box<dyn Feature>>,
    findings: mpsc::Receiver<Box<FeatureFinding>>,
}

/// What features are made of.
pub struct FeatureParts<'a> {
    /// The printer's configuration.
    pub printer: &'a config::Printer,
    /// What was persisted.
    pub known: &'a Known,
    /// Where to persist.
    pub store: &'a Store,
    /// Runs work in the background.
    pub background: Background,
    /// Reports what the printer does.
    pub fleet: FleetReporter,
    /// Whether the printer's power is on, which its commands see.
    pub power: PowerState,
}

/// Makes a feature; `None` if it is switched off.
pub type MakeFeature = fn(&FeatureParts<'_>) -> Option<Box<dyn Feature>>;

impl Features {
    /// The features of a printer that `list` makes; `watch` reports panics of their work in the
    /// background.
    pub fn new(
        printer: &config::Printer,
        known: &Known,
        store: &Store,
        watch: Watch,
        (fleet, power): (FleetReporter, PowerState),
        list: &[MakeFeature],
    ) -> Self {
        let (background, findings) = Background::new(watch);
        let parts = FeatureParts { printer, known, store, background, fleet, power };
        let features = list.iter().filter_map(|make| make(&parts)).collect();
        Self { features, findings }
    }

    /// The state for the next task of the printer, after a failure of this one.
    pub fn restarted(mut self, watch: Watch) -> Self {
        let (background, findings) = Background::new(watch);
        self.each(|feature| feature.restart(&background));
        Self { findings, ..self }
    }

    /// Calls `visit` with each feature.
    pub fn each(&mut self, mut visit: impl FnMut(&mut dyn Feature)) {
        self.features.iter_mut().for_each(|feature| visit(feature.as_mut()));
    }

    /// Returns when a feature has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.features.iter().filter_map(|feature| feature.due()).min()
    }

    /// Waits for what work in the background finds out. Cancel safe.
    pub async fn finding(&mut self) -> Option<Box<FeatureFinding>> {
        self.findings.recv().await
    }
}
