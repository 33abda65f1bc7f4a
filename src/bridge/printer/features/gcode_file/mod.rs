//! The selected G-code file: its layers, what the slicer wrote, and its picture.
//!
//! Beginning and end are read a moment after the selection. The whole file is read once a print, 30 s
//! after its start, unless it was read before and is the same.

pub(super) mod finding;
mod layers;
mod picture;
mod reading;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::finding::{Found, GcodeFinding, WholeFile};
use self::layers::Layers;
use self::reading::{Ends, Failure, WantedFile};
use super::{Background, Feature, FeatureFinding, FeatureParts, Scene};
use crate::bridge::printer::messages::version_of;
use crate::bridge::printer::snapshot::JobFile;
use crate::gcode::SlicerInfo;
use crate::mqtt::{Audience, Kind, Worth};
use crate::octoprint::{Event, EventKind, FilePath, Message, MessageKind};
use crate::timestamp;
use crate::topics::Topic;

/// Time between the selection of a file and the first look at it.
const LOOK_AFTER: Duration = Duration::from_secs(2);
/// Time between the start of a print and the reading of the whole file.
const READ_AFTER: Duration = Duration::from_secs(30);
/// Time before another attempt, if the connection was lost.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
const MAX_ATTEMPTS: u32 = 3;
/// Changes of the layer: for Home Assistant's automations like `B/P/print`, and the first to go in a
/// full outbox.
const LAYER_CHANGE: Kind =
    Kind::Event { worth: Worth::Chatty, audience: Audience::HomeAssistant, stamped: true };

/// Work in the background, which ends when this is dropped.
#[derive(Debug)]
struct Running(#[allow(dead_code, reason = "it is dropped")] DropGuard);

/// The reading of a whole file.
#[derive(Debug)]
struct Reading {
    _running: Running,
    /// Until when it goes on, unless another push arrives.
    open_until: watch::Sender<tokio::time::Instant>,
}

/// What is known of the selected file, and what is to be done about it.
#[derive(Debug, Default)]
struct FileState {
    /// Whether OctoPrint is 2.0 or newer: it knows no ranges of bytes, and has a whole file in its
    /// memory for each download.
    is_2: bool,
    /// The selected file; `None` before OctoPrint told.
    job: Option<Option<JobFile>>,
    /// Number of the selection: what was found out about another one is outdated.
    generation: u64,
    is_printing: bool,
    layers: Layers,
    has_picture: bool,
    look_at: Option<Instant>,
    read_at: Option<Instant>,
    attempts: u32,
    looking: Option<Running>,
    reading: Option<Reading>,
}

/// Follows the selected file and its print.
pub(super) struct GcodeFiles {
    wanted: WantedFile,
    background: Background,
    state: FileState,
    /// Whether it was logged that the permission is missing.
    is_refusal_logged: bool,
}

impl GcodeFiles {
    pub(super) fn make(parts: &FeatureParts<'_>) -> Option<Box<dyn Feature>> {
        let printer = parts.printer;
        let wanted = WantedFile {
            slicer: printer.layers,
            picture: printer.thumbnails,
            max_size: printer.max_gcode_size,
        };
        let feature = Self::new(wanted, parts.background.clone());
        (wanted.slicer || wanted.picture).then(|| Box::new(feature) as Box<dyn Feature>)
    }

    fn new(wanted: WantedFile, background: Background) -> Self {
        Self { wanted, background, state: FileState::default(), is_refusal_logged: false }
    }

    /// Follows selection and print, after `current` and `history`.
    fn follow(&mut self, scene: &mut Scene<'_>) {
        let job = scene.snapshot.job_file();
        if self.state.job.as_ref().map(Option::as_ref) != Some(job) {
            self.select(job.cloned(), scene);
        }
        match scene.snapshot.state().print_is_on() {
            Some(true) if !self.state.is_printing => {
                self.state.is_printing = true;
                self.expect_print(scene);
            }
            Some(false) => self.print_ended(),
            _ => {}
        }
        self.follow_layers(scene);
    }

    fn select(&mut self, job: Option<JobFile>, scene: &mut Scene<'_>) {
        let before = std::mem::take(&mut self.state);
        self.state = FileState {
            is_2: before.is_2,
            generation: before.generation + 1,
            is_printing: before.is_printing,
            has_picture: before.has_picture,
            look_at: job.as_ref().map(|_| scene.now.instant + LOOK_AFTER),
            // A print may have been announced before its file.
            read_at: before.read_at.filter(|_| job.is_some()),
            job: Some(job),
            layers: before.layers.of_another_file(),
            ..FileState::default()
        };
        if self.wanted.slicer {
            publish_json(&scene.topics.gcode, &SlicerInfo::default(), scene);
        }
        if self.state.look_at.is_none() {
            self.publish_picture(None, scene);
        }
        if self.state.is_printing {
            self.expect_print(scene);
        }
    }

    /// Returns the selected file, if OctoPrint has it in its own storage.
    fn local_file(&self) -> Option<FilePath> {
        self.file().filter(FilePath::is_local)
    }

    fn file(&self) -> Option<FilePath> {
        self.state.job.as_ref()?.as_ref()?.file.call()
    }

    fn size(&self) -> Option<u64> {
        self.state.job.as_ref()?.as_ref()?.size
    }

    /// A print is on: its file is read a little later.
    fn expect_print(&mut self, scene: &Scene<'_>) {
        let is_needed = self.wanted.slicer && !self.state.layers.is_known();
        if is_needed && self.state.reading.is_none() {
            self.state.read_at.get_or_insert(scene.now.instant + READ_AFTER);
        }
    }

    fn print_ended(&mut self) {
        self.state.is_printing = false;
        self.state.read_at = None;
        self.state.reading = None;
        self.state.attempts = 0;
    }

    fn follow_layers(&mut self, scene: &mut Scene<'_>) {
        if !self.wanted.slicer {
            return;
        }
        let filepos = scene.snapshot.filepos().filter(|_| self.state.is_printing);
        let timestamp = timestamp::unix(scene.now.wall);
        let change = filepos.and_then(|at| self.state.layers.follow(at, timestamp));
        if let Some(payload) = self.state.layers.payload(filepos) {
            publish_json(&scene.topics.layer, &payload, scene);
        }
        change.into_iter().for_each(|change| scene.set_new_layer(change.layer));
        if let Some(payload) = change.and_then(|change| serde_json::to_vec(&change).ok()) {
            scene.publish(&scene.topics.layer_change, payload, LAYER_CHANGE);
        }
    }

    /// An empty picture clears the topic.
    fn publish_picture(&mut self, picture: Option<Bytes>, scene: &mut Scene<'_>) {
        if self.wanted.picture {
            self.state.has_picture = picture.is_some();
            scene.publish_state(&scene.topics.thumbnail, picture.unwrap_or_default());
        }
    }

    fn publish_slicer(&self, slicer: &SlicerInfo, scene: &mut Scene<'_>) {
        if !self.wanted.slicer {
            return;
        }
        publish_json(&scene.topics.gcode, slicer, scene);
        if let Some(Some(job)) = &self.state.job {
            let seconds = slicer.print_time.map(|seconds| seconds as f64);
            scene.set_slicer_time(job.file.clone(), seconds);
        }
    }

    /// Runs `work` until the guard is dropped; what it finds is about the file of now.
    fn run(
        &self,
        name: &'static str,
        work: impl Future<Output = Found> + Send + 'static,
    ) -> Running {
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let generation = self.state.generation;
        self.background.spawn(name, async move {
            let found = stop.run_until_cancelled_owned(work).await?;
            Some(FeatureFinding::Gcode(Box::new(GcodeFinding { generation, found })))
        });
        Running(guard)
    }

    /// Looks at beginning and end of the file.
    fn look(&mut self, scene: &mut Scene<'_>) {
        self.state.look_at = None;
        let Some(file) = self.file() else { return self.publish_picture(None, scene) };
        let is_too_large = self.state.is_2 && self.size().is_some_and(|s| s > self.wanted.max_size);
        let (rest, wanted) = (scene.rest.clone(), self.wanted);
        let work =
            async move { Found::Ends(reading::ends(&rest, &file, wanted, !is_too_large).await) };
        self.state.looking = Some(self.run("look at the G-code file", work));
    }

    /// Reads the whole file.
    fn read(&mut self, scene: &Scene<'_>) {
        self.state.read_at = None;
        let Some(file) = self.local_file().filter(|_| self.state.is_printing) else { return };
        let max_size = self.wanted.max_size;
        if let Some(size) = self.size().filter(|size| *size > max_size) {
            return tracing::info!(
                file = file.path(),
                size,
                max_gcode_size = max_size,
                "the G-code file is too large to be read: its layers stay unknown"
            );
        }
        let wanted =
            WantedFile { picture: self.wanted.picture && !self.state.has_picture, ..self.wanted };
        let (open_until, gate) = watch::channel(tokio::time::Instant::now());
        let rest = scene.rest.clone();
        let work = async move {
            let file = reading::whole(&rest, &file, wanted, gate).await;
            Found::Whole(file.and_then(WholeFile::of))
        };
        let running = self.run("reading of the G-code file", work);
        self.state.reading = Some(Reading { _running: running, open_until });
    }

    fn take_ends(&mut self, ends: &Ends, scene: &mut Scene<'_>) {
        self.state.looking = None;
        self.note(ends.failure);
        if ends.failure == Some(Failure::Lost) && self.try_again() {
            self.state.look_at = Some(scene.now.instant + AGAIN_AFTER);
        }
        // What the whole file said is better.
        if let Some(slicer) = ends.slicer.as_ref().filter(|_| !self.state.layers.is_known()) {
            self.publish_slicer(slicer, scene);
        }
        if ends.picture.is_some() || !self.state.layers.is_known() {
            self.publish_picture(ends.picture.clone(), scene);
        }
    }

    fn take_whole(&mut self, whole: &Result<WholeFile, Failure>, scene: &mut Scene<'_>) {
        self.state.reading = None;
        self.note(whole.as_ref().err().copied());
        match whole {
            Ok(whole) => {
                self.is_refusal_logged = false;
                self.state.layers.set_index(&whole.layers);
                self.publish_slicer(&whole.slicer, scene);
                if let Some(picture) = whole.picture.clone().filter(|_| !self.state.has_picture) {
                    self.publish_picture(Some(picture), scene);
                }
            }
            Err(Failure::Lost) if self.state.is_printing && self.try_again() => {
                self.state.read_at = Some(scene.now.instant + AGAIN_AFTER);
            }
            Err(_) => {}
        }
        self.follow_layers(scene);
    }

    fn try_again(&mut self) -> bool {
        self.state.attempts += 1;
        self.state.attempts < MAX_ATTEMPTS
    }

    /// Logs what the user can do something about, once.
    fn note(&mut self, failure: Option<Failure>) {
        if failure == Some(Failure::Refused) && !self.is_refusal_logged {
            self.is_refusal_logged = true;
            tracing::warn!(
                "OctoPrint refuses the G-code file: its user needs the permission \"File Download\", \
                 or set layers = false and thumbnails = false"
            );
        }
    }
}

fn publish_json(topic: &Topic, payload: &impl Serialize, scene: &mut Scene<'_>) {
    // Plain structs of numbers and strings do not fail.
    if let Ok(payload) = serde_json::to_vec(payload) {
        scene.publish_state(topic, payload);
    }
}

impl Feature for GcodeFiles {
    fn start(&mut self, scene: &mut Scene<'_>) {
        if self.wanted.slicer {
            publish_json(&scene.topics.gcode, &SlicerInfo::default(), scene);
        }
        self.follow_layers(scene);
    }

    fn event(&mut self, event: &Event<'_>, scene: &mut Scene<'_>) {
        if event.kind == EventKind::PrintStarted {
            self.state.attempts = 0;
            self.state.layers.print_started();
            self.expect_print(scene);
        }
    }

    fn message(&mut self, message: &Message, scene: &mut Scene<'_>) {
        match message.kind() {
            MessageKind::Connected => self.state.is_2 = is_2(message),
            MessageKind::History | MessageKind::Current => self.follow(scene),
            _ => return,
        }
        if let Some(reading) = &self.state.reading {
            // The next one is late from then on.
            reading.open_until.send_replace(message.received() + 2 * scene.push_interval);
        }
    }

    fn find(&mut self, finding: &FeatureFinding, scene: &mut Scene<'_>) {
        let FeatureFinding::Gcode(finding) = finding else { return };
        let GcodeFinding { generation, found } = &**finding;
        if *generation != self.state.generation {
            return;
        }
        match found {
            Found::Ends(ends) => self.take_ends(ends, scene),
            Found::Whole(whole) => self.take_whole(whole, scene),
        }
    }

    fn due(&self) -> Option<Instant> {
        [self.state.look_at, self.state.read_at].into_iter().flatten().min()
    }

    fn flush(&mut self, scene: &mut Scene<'_>) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| scene.now.instant >= at);
        let (look, read) = (is_due(self.state.look_at), is_due(self.state.read_at));
        if look {
            self.look(scene);
        }
        if read {
            self.read(scene);
        }
    }

    fn restart(&mut self, background: &Background) {
        *self = Self::new(self.wanted, background.clone());
    }
}

fn is_2(connected: &Message) -> bool {
    let version = version_of(connected).unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= 2)
}
