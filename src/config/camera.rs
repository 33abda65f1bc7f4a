//! The camera of a printer.

use std::time::Duration;

use super::source::Section;
use super::types::{Camera, PictureMoment};
use super::values::{DAY, strict_text};
use crate::octoprint::PictureSource;

/// Default limit for a picture, in bytes.
const MAX_SIZE: usize = 1_000_000;
/// Most layers between two pictures.
const MAX_LAYERS: u64 = 100_000;

/// Reads the table `camera`. A picture must fit into a packet of `max_packet_size` bytes.
pub(super) fn camera(
    section: &Section<'_>,
    max_packet_size: usize,
    warnings: &mut Vec<String>,
) -> Camera {
    section.only(&[
        "enabled",
        "url",
        "username",
        "password",
        "password_file",
        "at",
        "every",
        "every_layers",
        "max_size",
    ]);
    let url = section.optional(
        "url",
        "the address of a picture such as http://camera.local/snapshot.jpg; user and password in camera.username and camera.password",
        |value| {
            let url: url::Url = strict_text(value)?.parse().ok()?;
            let plain = url.username().is_empty() && url.password().is_none();
            (matches!(url.scheme(), "http" | "https") && plain).then_some(url)
        },
    );
    let username = section.text("username", "a user name");
    let password = section.secret("password", warnings);
    match (&url, &username, &password) {
        (Some(_), None, Some(_)) => {
            section.missing("username", "the user name that goes with password");
        }
        (Some(_), Some(_), None) => {
            section.missing("password", "the password that goes with username");
        }
        (None, Some(_), _) | (None, _, Some(_)) => {
            section.missing("url", "the address that username and password are for");
        }
        _ => {}
    }
    let login = username.zip(password);
    let room = max_packet_size.saturating_sub(1_000).max(1_000);
    let period = Duration::from_secs(1)..=DAY;
    Camera {
        enabled: section.flag("enabled", true),
        source: url.map(|url| PictureSource { url, login }),
        at: section.words("at", &PictureMoment::ALL.map(|moment| (moment.name(), moment))),
        every: section.get("every").map(|_| section.duration("every", period, DAY)),
        every_layers: section
            .get("every_layers")
            .map(|_| u32::try_from(section.whole("every_layers", 1..=MAX_LAYERS, 1)).unwrap_or(1)),
        max_size: section.size("max_size", 1_000..=room, MAX_SIZE.min(room)),
    }
}
