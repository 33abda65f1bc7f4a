//! Pictures of the camera: at moments of a print, now and then during it, and on request.

use std::time::Instant;

use super::{Background, Feature, FeatureFinding, FeatureParts, Scene};
use crate::bridge::printer::commands::executor::Effect;
use crate::bridge::printer::discovery::facts::Fact;
use crate::bridge::printer::pictures::{self, WebcamChoice, WebcamPicture};
use crate::bridge::printer::snapshot::PrinterState;
use crate::causes;
use crate::config::{self, PictureMoment};
use crate::mqtt::Kind;
use crate::octoprint::{Event, EventKind, Message, Webcam};

/// Retained by the broker, but not kept here: a picture that the broker misses is out of date.
const PICTURE: Kind = Kind::Fleeting { retain: true };

/// Takes pictures and publishes them.
pub(super) struct CameraPictures {
    camera: config::Camera,
    background: Background,
    /// OctoPrint's webcams, once they are known.
    webcams: Option<Vec<Webcam>>,
    /// Whether pictures are being taken: a slow camera is not asked again meanwhile.
    is_busy: bool,
    /// When the next picture of the interval is due.
    due: Option<Instant>,
    /// The error that was logged last.
    logged: Option<String>,
}

impl CameraPictures {
    pub(super) fn make(parts: &FeatureParts<'_>) -> Option<Box<dyn Feature>> {
        let camera = parts.printer.camera.clone();
        camera.enabled.then(|| -> Box<dyn Feature> {
            Box::new(Self {
                camera,
                background: parts.background.clone(),
                webcams: None,
                is_busy: false,
                due: None,
                logged: None,
            })
        })
    }

    fn take(&mut self, scene: &Scene<'_>) {
        let has_none = self.webcams.as_ref().is_some_and(Vec::is_empty);
        if self.is_busy || (self.camera.source.is_none() && has_none) {
            return;
        }
        self.is_busy = true;
        let (rest, camera, known) = (scene.rest.clone(), self.camera.clone(), self.webcams.clone());
        self.background.spawn("camera", async move {
            let taken = pictures::take(&rest, &camera, &WebcamChoice::All, known).await;
            Some(FeatureFinding::Pictures(taken.map_err(|error| causes::text(&error))))
        });
    }

    fn log(&mut self, error: String) {
        if self.logged.as_ref() == Some(&error) {
            tracing::debug!("no picture: {error}");
        } else {
            tracing::warn!("no picture: {error}; it is logged once");
            self.logged = Some(error);
        }
    }
}

fn publish(picture: &WebcamPicture, scene: &mut Scene<'_>) {
    let topic = match &picture.webcam {
        None => scene.topics.snapshot.clone(),
        Some(name) => scene.topics.snapshot_of(name),
    };
    scene.publish(&topic, picture.data.clone(), PICTURE);
}

/// Returns the moment of a print that an event marks.
fn moment(kind: &EventKind) -> Option<PictureMoment> {
    Some(match kind {
        EventKind::PrintStarted => PictureMoment::Start,
        EventKind::PrintDone => PictureMoment::End,
        EventKind::PrintFailed => PictureMoment::Failure,
        EventKind::PrintPaused => PictureMoment::Pause,
        _ => return None,
    })
}

impl Feature for CameraPictures {
    fn event(&mut self, event: &Event<'_>, scene: &mut Scene<'_>) {
        if moment(&event.kind).is_some_and(|moment| self.camera.at.contains(&moment)) {
            self.take(scene);
        }
    }

    fn message(&mut self, _: &Message, scene: &mut Scene<'_>) {
        let Some(every) = self.camera.every else { return };
        let is_printing = scene.snapshot.state() == PrinterState::Printing;
        match (is_printing, self.due) {
            (true, None) => self.due = Some(scene.now.instant + every),
            (false, Some(_)) => self.due = None,
            _ => {}
        }
    }

    fn learn(&mut self, fact: &Fact, _: &mut Scene<'_>) {
        if let Fact::Webcams(webcams) = fact {
            self.webcams = Some(webcams.clone());
        }
    }

    fn effect(&mut self, effect: &Effect, scene: &mut Scene<'_>) {
        if let Effect::Picture(picture) = effect {
            publish(picture, scene);
        }
    }

    fn find(&mut self, finding: &FeatureFinding, scene: &mut Scene<'_>) {
        let FeatureFinding::Pictures(taken) = finding;
        self.is_busy = false;
        match taken {
            Ok(taken) => {
                self.logged = None;
                taken.iter().for_each(|picture| publish(picture, scene));
            }
            Err(error) => self.log(error.clone()),
        }
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn flush(&mut self, scene: &mut Scene<'_>) {
        if self.due.take_if(|due| *due <= scene.now.instant).is_some() {
            self.take(scene);
            self.due = self.camera.every.map(|every| scene.now.instant + every);
        }
    }

    fn restart(&mut self, background: &Background) {
        self.background = background.clone();
        (self.is_busy, self.due) = (false, None);
    }
}
