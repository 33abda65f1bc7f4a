//! Takes pictures with a printer's webcams.

use bytes::Bytes;

use crate::config;
use crate::octoprint::{PictureError, PictureSource, Rest, Webcam};

/// Which webcams to take pictures with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebcamChoice {
    /// The default one.
    Default,
    /// All.
    All,
    /// The one of this name.
    Named(String),
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebcamPicture {
    /// The webcam's name; `None` for the default one.
    pub webcam: Option<String>,
    /// The picture: JPEG or PNG.
    pub data: Bytes,
}

/// Takes pictures with the configured camera, or with OctoPrint's webcams. `known` are those; without
/// it OctoPrint is asked.
///
/// # Errors
/// [`PictureError`] of the first webcam without a picture.
pub async fn take(
    rest: &Rest,
    camera: &config::Camera,
    choice: &WebcamChoice,
    known: Option<Vec<Webcam>>,
) -> Result<Vec<WebcamPicture>, PictureError> {
    if let Some(source) = &camera.source {
        if let WebcamChoice::Named(name) = choice {
            return Err(no_webcam(name));
        }
        let data = rest.picture(source, camera.max_size).await?;
        return Ok(vec![WebcamPicture { webcam: None, data }]);
    }
    let webcams = match known {
        Some(webcams) => webcams,
        None => rest.webcams().await.map_err(PictureError::Settings)?,
    };
    let is_chosen = |(index, webcam): &(usize, &Webcam)| match choice {
        WebcamChoice::Default => *index == 0,
        WebcamChoice::All => true,
        WebcamChoice::Named(name) => webcam.name == *name,
    };
    let mut pictures = Vec::new();
    for (index, webcam) in webcams.iter().enumerate().filter(is_chosen) {
        let data = first_picture(rest, webcam, camera.max_size).await?;
        pictures.push(WebcamPicture { webcam: (index > 0).then(|| webcam.name.clone()), data });
    }
    match (pictures.is_empty(), choice) {
        (false, _) => Ok(pictures),
        (true, WebcamChoice::Named(name)) => Err(no_webcam(name)),
        (true, _) => Err(PictureError::NoWebcam { wanted: String::new() }),
    }
}

/// Tries the addresses of a webcam in turn.
async fn first_picture(rest: &Rest, webcam: &Webcam, limit: usize) -> Result<Bytes, PictureError> {
    let mut failed = PictureError::NoWebcam { wanted: String::new() };
    for url in &webcam.addresses {
        let source = PictureSource { url: url.clone(), login: None };
        match rest.picture(&source, limit).await {
            Ok(picture) => return Ok(picture),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn no_webcam(name: &str) -> PictureError {
    PictureError::NoWebcam { wanted: format!("{name:?} ") }
}
