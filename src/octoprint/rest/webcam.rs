//! OctoPrint's webcams, and pictures of them.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use url::{Host, Url};

use super::client::Rest;
use super::error::{BodyError, BuildError, RestError};
use super::http::{HttpClient, body, public_url};
use crate::causes::HttpFault;
use crate::secret::Secret;

/// Time limit for one picture: cameras need a second or two.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Most webcams that are read from OctoPrint's settings.
const MAX_WEBCAMS: usize = 8;

/// A webcam of OctoPrint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webcam {
    /// OctoPrint's name for it, such as `classic`.
    pub name: String,
    /// Where a picture may be found, the most likely address first.
    pub addresses: Vec<Url>,
}

/// The format of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
}

impl PictureFormat {
    /// Recognises a whole picture; `None` for anything else, and for one that was cut.
    pub fn of(data: &[u8]) -> Option<Self> {
        let is_jpeg = data.starts_with(b"\xff\xd8\xff") && data.ends_with(b"\xff\xd9");
        let is_png = data.starts_with(b"\x89PNG\r\n\x1a\n") && data.ends_with(b"IEND\xaeB`\x82");
        is_jpeg.then_some(Self::Jpeg).or(is_png.then_some(Self::Png))
    }

    /// Returns its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// OctoPrint's settings cannot be read.
    #[error("OctoPrint's webcams cannot be read")]
    Settings(#[source] RestError),
    /// OctoPrint has no such webcam.
    #[error("OctoPrint has no webcam {wanted}that takes pictures; set camera.url for this printer")]
    NoWebcam {
        /// The wanted name, quoted and with a blank after it; empty for any.
        wanted: String,
    },
    /// The request failed.
    #[error("no picture from {url}")]
    Request {
        /// The address, without user and password.
        url: String,
        /// The cause.
        source: HttpFault,
    },
    /// The camera answered with an error status.
    #[error("no picture from {url}: HTTP status {status}")]
    Status {
        /// The address, without user and password.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The picture is larger than the limit.
    #[error("the picture from {url} has more than {limit} bytes; see camera.max_size")]
    TooLarge {
        /// The address, without user and password.
        url: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The answer is not a whole picture.
    #[error("what {url} sends is not a whole JPEG or PNG picture")]
    Broken {
        /// The address, without user and password.
        url: String,
    },
    /// The client cannot be built.
    #[error("no client for the camera")]
    Client(#[from] BuildError),
}

/// Where to get a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureSource {
    /// The address.
    pub url: Url,
    /// User and password, if the camera wants them.
    pub login: Option<(String, Secret)>,
}

impl PictureSource {
    /// Returns the address without what may be secret in it: user, password and query.
    pub fn public_url(&self) -> String {
        public_url(&without_query(&self.url))
    }
}

impl Rest {
    /// Returns OctoPrint's webcams that take pictures, the default one first. Needs the permission
    /// SETTINGS_READ.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn webcams(&self) -> Result<Vec<Webcam>, RestError> {
        let settings = self.get("api/settings").await?;
        Ok(webcams(&settings, self.http().base()))
    }

    /// Fetches a picture of at most `limit` bytes. OctoPrint's key is not sent, and the configured
    /// headers only go to OctoPrint's own origin.
    ///
    /// # Errors
    /// [`PictureError`].
    pub async fn picture(&self, from: &PictureSource, limit: usize) -> Result<Bytes, PictureError> {
        fetch(self.http(), from, limit).await
    }
}

async fn fetch(
    http: &HttpClient,
    from: &PictureSource,
    limit: usize,
) -> Result<Bytes, PictureError> {
    let PictureSource { url, login } = from;
    let shown = || from.public_url();
    let failed = |error| PictureError::Request { url: shown(), source: HttpFault::from(error) };
    let mut request = http.client_for(url)?.get(url.clone()).timeout(TIMEOUT);
    if let Some((user, password)) = login {
        request = request.basic_auth(user, Some(password.expose()));
    }
    let response = request.send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(PictureError::Status { url: shown(), status: response.status().as_u16() });
    }
    let picture = body(response, url.path(), limit).await.map_err(|error| match error {
        BodyError::TooLarge { limit, .. } => PictureError::TooLarge { url: shown(), limit },
        BodyError::BrokenOff { source, .. } => PictureError::Request { url: shown(), source },
        // It has a time limit as a whole.
        BodyError::Stalled { .. } => PictureError::Broken { url: shown() },
    })?;
    match is_picture(&picture) {
        true => Ok(picture),
        false => Err(PictureError::Broken { url: shown() }),
    }
}

/// Whether a camera sent a whole picture. Some pad a JPEG.
fn is_picture(data: &[u8]) -> bool {
    let unpadded = data.trim_ascii_end();
    let unpadded = unpadded.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    PictureFormat::of(data).is_some()
        || PictureFormat::of(&data[..unpadded]) == Some(PictureFormat::Jpeg)
}

/// Queries of cameras may have keys in them.
fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url
}

/// Reads the webcams from OctoPrint's settings; before 1.9 there is one.
fn webcams(settings: &[u8], base: &Url) -> Vec<Webcam> {
    let settings: Value = serde_json::from_slice(settings).unwrap_or_default();
    let webcam = &settings["webcam"];
    let at = |stream: &Value, snapshot: &Value| addresses(base, snapshot.as_str(), stream.as_str());
    let Some(listed) = webcam["webcams"].as_array() else {
        let addresses = at(&webcam["streamUrl"], &webcam["snapshotUrl"]);
        let one = Webcam { name: "default".to_owned(), addresses };
        return Some(one).filter(|one| !one.addresses.is_empty()).into_iter().collect();
    };
    let read = |one: &Value| {
        let name = one["name"].as_str()?.to_owned();
        let addresses = at(&one["compat"]["stream"], &one["compat"]["snapshot"]);
        let can = one["canSnapshot"] != false && !addresses.is_empty();
        can.then_some(Webcam { name, addresses })
    };
    let mut webcams: Vec<Webcam> = listed.iter().filter_map(read).take(MAX_WEBCAMS).collect();
    let default = webcam["defaultWebcam"].as_str();
    webcams.sort_by_key(|webcam| Some(webcam.name.as_str()) != default);
    webcams
}

/// Returns where a picture may be found. OctoPrint takes its pictures itself, mostly from its own
/// host's loopback address, which is not reachable from elsewhere: the same port of OctoPrint's host
/// may be, and mjpg-streamer serves stream and picture under the same path.
fn addresses(base: &Url, snapshot: Option<&str>, stream: Option<&str>) -> Vec<Url> {
    let given = |text: Option<&str>| {
        let text = text.map(str::trim).filter(|text| !text.is_empty())?;
        base.join(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
    };
    let of_stream = given(stream).and_then(|stream| picture_beside(&stream));
    let candidates = match given(snapshot) {
        Some(snapshot) if is_loopback(&snapshot) && !is_loopback(base) => {
            [of_stream, at_host_of(base, snapshot)]
        }
        snapshot => [snapshot, of_stream],
    };
    let mut addresses: Vec<Url> = Vec::new();
    for candidate in candidates.into_iter().flatten() {
        if !addresses.contains(&candidate) {
            addresses.push(candidate);
        }
    }
    addresses
}

/// mjpg-streamer and its successors: `?action=stream` becomes `?action=snapshot`.
fn picture_beside(stream: &Url) -> Option<Url> {
    let query = stream.query()?;
    let mut url = stream.clone();
    let picture = query.replace("action=stream", "action=snapshot");
    url.set_query(Some(&picture));
    (picture != query).then_some(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn at_host_of(base: &Url, mut url: Url) -> Option<Url> {
    url.set_host(base.host_str()).ok()?;
    Some(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(webcam: &Value) -> Vec<(String, Vec<String>)> {
        let base = "http://octopi.local/".parse().unwrap();
        let settings = json!({ "webcam": webcam, "api": {} }).to_string();
        let webcams = webcams(settings.as_bytes(), &base).into_iter();
        let texts = |urls: Vec<Url>| urls.into_iter().map(String::from).collect();
        webcams.map(|webcam| (webcam.name, texts(webcam.addresses))).collect()
    }

    #[test]
    fn a_loopback_address_is_that_of_octoprints_host() {
        let octopi = of(&json!({
            "streamUrl": "/webcam/?action=stream",
            "snapshotUrl": "http://127.0.0.1:8080/?action=snapshot",
        }));
        let expected = [
            "http://octopi.local/webcam/?action=snapshot",
            "http://octopi.local:8080/?action=snapshot",
        ];
        assert_eq!(octopi, [("default".to_owned(), expected.map(str::to_owned).to_vec())]);
    }

    #[test]
    fn the_default_webcam_comes_first_and_those_that_take_none_are_left_out() {
        let several = of(&json!({
            "defaultWebcam": "front",
            "snapshotUrl": "http://127.0.0.1:8080/x",
            "webcams": [
                {"name": "top", "canSnapshot": true, "compat": {"snapshot": "http://cam.local/top.jpg"}},
                {"name": "none", "canSnapshot": false, "compat": {"snapshot": "http://cam.local/n.jpg"}},
                {"name": "plain", "canSnapshot": true, "compat": null},
                {"name": 5},
                {"name": "front", "canSnapshot": true, "compat": {"stream": "rtsp://x", "snapshot": "http://cam.local/front.jpg"}},
            ],
        }));
        let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["front", "top"]);
        assert_eq!(several[0].1, ["http://cam.local/front.jpg"]);
    }

    #[test]
    fn settings_that_say_nothing_have_no_webcam() {
        for none in [json!({}), json!(null), json!({"webcams": []}), json!({"snapshotUrl": ""})] {
            assert_eq!(of(&none), [], "{none}");
        }
        assert!(webcams(b"<html>", &"http://octopi.local/".parse().unwrap()).is_empty());
    }

    #[test]
    fn only_a_whole_picture_is_one() {
        let jpeg = b"\xff\xd8\xff\xe0....\xff\xd9";
        assert_eq!(PictureFormat::of(jpeg), Some(PictureFormat::Jpeg));
        assert!(is_picture(&[&jpeg[..], b"\0\0\r\n"].concat()));
        let png = b"\x89PNG\r\n\x1a\n....\0\0\0\0IEND\xaeB`\x82";
        assert_eq!(PictureFormat::of(png), Some(PictureFormat::Png));
        for broken in [&jpeg[..9], &png[..20], b"", b"\0", b"<html>", b"GIF89a;"] {
            assert_eq!(PictureFormat::of(broken), None, "{broken:?}");
            assert!(!is_picture(broken), "{broken:?}");
        }
    }
}
