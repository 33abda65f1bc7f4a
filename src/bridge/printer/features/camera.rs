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
    /// Whether more are to be taken after that: the end of a print may follow its start closely.
    is_wanted_again: bool,
    /// The layer that was printed last.
    layer: u32,
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
                is_wanted_again: false,
                layer: 0,
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
            Some(FeatureFinding::Pictures(taken))
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
            self.is_wanted_again = self.is_busy;
            self.take(scene);
        }
    }

    fn message(&mut self, _: &Message, scene: &mut Scene<'_>) {
        if let (Some(layers), Some(layer)) = (self.camera.every_layers, scene.new_layer()) {
            // Pushes may skip layers.
            let before = std::mem::replace(&mut self.layer, layer);
            if layer / layers != before / layers {
                self.take(scene);
            }
        }
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
        let FeatureFinding::Pictures(taken) = finding else { return };
        self.is_busy = false;
        match taken {
            Ok(taken) => {
                self.logged = None;
                taken.iter().for_each(|picture| publish(picture, scene));
            }
            Err(error) => self.log(causes::text(error)),
        }
        if std::mem::take(&mut self.is_wanted_again) {
            self.take(scene);
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
        (self.is_busy, self.is_wanted_again, self.due) = (false, false, None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::bridge::printer::features::stage::Stage;
    use crate::bridge::watch::Watch;

    fn feature(more: &str) -> (CameraPictures, mpsc::Receiver<Box<FeatureFinding>>) {
        let text = format!(
            "[printers.mk3]\nurl = \"http://h\"\napi_key = \"k\"\n[printers.mk3.camera]\nurl = \"http://127.0.0.1:1/\"\n{more}\n"
        );
        let camera = config::from_toml(&text).unwrap().printers.remove(0).camera.clone();
        let (findings, found) = mpsc::channel(4);
        let background = Background { watch: Watch::new().0, findings };
        let feature = CameraPictures {
            camera,
            background,
            webcams: None,
            is_busy: false,
            is_wanted_again: false,
            layer: 0,
            due: None,
            logged: None,
        };
        (feature, found)
    }

    fn picture(webcam: Option<&str>) -> WebcamPicture {
        let data = Bytes::from_static(b"\xff\xd8\xff\xff\xd9");
        WebcamPicture { webcam: webcam.map(str::to_owned), data }
    }

    #[tokio::test]
    async fn pictures_are_taken_at_the_configured_moments_one_at_a_time() {
        let (mut feature, mut found) = feature("at = [\"end\", \"failure\"]");
        let mut stage = Stage::new();
        for other in ["PrintStarted", "PrintPaused", "PrintCancelled", "ZChange"] {
            stage.event(&mut feature, other, &json!({}));
            assert!(!feature.is_busy, "{other}");
        }
        for moment in ["PrintDone", "PrintFailed"] {
            stage.event(&mut feature, moment, &json!({}));
            assert!(feature.is_busy, "{moment}");
            // Further ones while the camera is busy are one afterwards.
            stage.event(&mut feature, moment, &json!({}));
            stage.event(&mut feature, moment, &json!({}));
            for is_last in [false, true] {
                let finding = found.recv().await.unwrap();
                assert!(matches!(*finding, FeatureFinding::Pictures(Err(_))));
                assert!(stage.run(|scene| feature.find(&finding, scene)).is_empty());
                assert_eq!(feature.is_busy, !is_last);
            }
            assert!(found.try_recv().is_err());
        }
    }

    #[tokio::test]
    async fn the_default_webcam_and_others_have_topics_of_their_own() {
        let (mut feature, _found) = feature("");
        let mut stage = Stage::new();
        let taken = FeatureFinding::Pictures(Ok(vec![picture(None), picture(Some("a/b"))]));
        let published = stage.run(|scene| feature.find(&taken, scene));
        let topics: Vec<&str> = published.iter().map(|(topic, _)| topic.as_str()).collect();
        assert_eq!(topics, ["snapshot", "snapshot/a_b"]);
        let effect = Effect::Picture(picture(None));
        assert_eq!(stage.run(|scene| feature.effect(&effect, scene)).len(), 1);
    }

    #[tokio::test]
    async fn a_picture_is_taken_every_so_many_layers() {
        let (mut feature, _found) = feature("at = []\nevery_layers = 5");
        let mut stage = Stage::new();
        let current = stage_message("{}");
        let steps =
            [(None, false), (Some(4), false), (Some(6), true), (Some(9), false), (Some(10), true)];
        for (layer, is_taken) in steps {
            feature.is_busy = false;
            stage.run(|scene| {
                layer.into_iter().for_each(|layer| scene.set_new_layer(layer));
                feature.message(&current, scene);
            });
            assert_eq!(feature.is_busy, is_taken, "{layer:?}");
        }
    }

    #[tokio::test]
    async fn an_interval_runs_only_during_a_print() {
        let (mut feature, _found) = feature("every = \"30s\"");
        let mut stage = Stage::new();
        let message = |text: &str| stage_message(text);
        let printing = json!({"state": {"text": "Printing", "flags": {"printing": true}}});
        let idle = json!({"state": {"text": "Operational", "flags": {"operational": true}}});
        for (state, due) in [(&idle, false), (&printing, true), (&idle, false), (&printing, true)] {
            stage.snapshot.apply(&state.to_string(), stage.now).unwrap();
            let message = message(&state.to_string());
            stage.run(|scene| feature.message(&message, scene));
            assert_eq!(feature.due().is_some(), due, "{state}");
        }
        let at = feature.due().unwrap();
        assert_eq!(at, stage.now.instant + Duration::from_secs(30));
        stage.now.instant = at;
        stage.run(|scene| feature.flush(scene));
        assert!(feature.is_busy);
        assert_eq!(feature.due(), Some(at + Duration::from_secs(30)));
    }

    fn stage_message(payload: &str) -> Message {
        let now = tokio::time::Instant::now();
        Message::new("current", payload.to_owned().into(), now, std::time::SystemTime::now(), 1)
            .unwrap()
    }
}
