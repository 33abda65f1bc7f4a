//! Events of rendered timelapses, with a link to the film.

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Background, Feature, FeatureParts, Scene};
use crate::bridge::printer::messages::event::PRINT;
use crate::bridge::printer::snapshot::json::{Raw, member, object};
use crate::octoprint::{Event, EventKind};
use crate::timestamp;

/// Publishes an event when OctoPrint has rendered a timelapse, or failed to.
pub(super) struct TimelapseEvents {
    /// OctoPrint's address.
    base: Url,
}

#[derive(Deserialize, Default)]
struct Movie<'a> {
    #[serde(borrow, default)]
    gcode: Raw<'a>,
    #[serde(borrow, default)]
    movie_basename: Raw<'a>,
    #[serde(borrow, default)]
    reason: Raw<'a>,
}

#[derive(Serialize)]
struct TimelapsePayload {
    event_type: &'static str,
    file: Option<String>,
    movie: Option<String>,
    url: Option<String>,
    reason: Option<String>,
    timestamp: u64,
}

impl TimelapseEvents {
    pub(super) fn make(parts: &FeatureParts<'_>) -> Option<Box<dyn Feature>> {
        Some(Box::new(Self { base: parts.printer.url.clone() }))
    }

    /// Returns the link to a film, for a user who is logged in to OctoPrint.
    fn link(&self, movie: &str) -> Option<String> {
        let mut url = self.base.clone();
        // A base that cannot carry a path is no address of OctoPrint.
        url.path_segments_mut().ok()?.pop_if_empty().extend(["downloads", "timelapse", movie]);
        Some(url.into())
    }
}

impl Feature for TimelapseEvents {
    fn restart(&mut self, _: &Background) {}

    fn event(&mut self, event: &Event<'_>, scene: &mut Scene<'_>) {
        let event_type = match event.kind {
            EventKind::MovieDone => "timelapse_done",
            EventKind::MovieFailed => "timelapse_failed",
            _ => return,
        };
        let Movie { gcode, movie_basename, reason } = object(event.payload);
        let movie: Option<String> = member(movie_basename);
        let is_done = event.kind == EventKind::MovieDone;
        let payload = TimelapsePayload {
            event_type,
            file: member(gcode),
            url: movie.as_deref().filter(|_| is_done).and_then(|movie| self.link(movie)),
            movie,
            reason: member(reason),
            timestamp: timestamp::unix(scene.now.wall),
        };
        if let Ok(payload) = serde_json::to_vec(&payload) {
            scene.publish(&scene.topics.timelapse, payload, PRINT);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bridge::printer::features::stage::Stage;

    #[tokio::test]
    async fn a_rendered_film_has_a_link() {
        let mut feature = TimelapseEvents { base: "http://octopi.local/mk3/".parse().unwrap() };
        let mut stage = Stage::new();
        let done = stage.event(&mut feature, "MovieDone", &json!({
            "gcode": "a part.gcode", "movie": "/home/pi/a part_1.mp4", "movie_basename": "a part_1.mp4",
        }));
        let [(topic, payload)] = done.as_slice() else { panic!("{done:?}") };
        assert_eq!(topic, "timelapse");
        assert_eq!(payload["event_type"], "timelapse_done");
        assert_eq!(payload["file"], "a part.gcode");
        let link = "http://octopi.local/mk3/downloads/timelapse/a%20part_1.mp4";
        assert_eq!(payload["url"], link);
        assert_eq!(payload["reason"], json!(null));
        assert!(payload["timestamp"].is_u64());
    }

    #[tokio::test]
    async fn a_failed_film_has_a_reason_and_no_link() {
        let mut feature = TimelapseEvents { base: "http://octopi.local/".parse().unwrap() };
        let mut stage = Stage::new();
        let failed = stage.event(&mut feature, "MovieFailed", &json!({
            "gcode": "a.gcode", "movie_basename": "a_1.mp4", "reason": "returncode", "error": "long",
        }));
        let [(_, payload)] = failed.as_slice() else { panic!("{failed:?}") };
        assert_eq!(payload["event_type"], "timelapse_failed");
        assert_eq!((&payload["url"], &payload["reason"]), (&json!(null), &json!("returncode")));
        assert!(stage.event(&mut feature, "MovieRendering", &json!({})).is_empty());
    }
}
