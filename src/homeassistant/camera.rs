//! Entities of cameras (pure).

use super::component::{Component, EntityContext};
use super::device::CameraSource;

pub(super) fn components(context: &EntityContext<'_>) -> Vec<Component> {
    // Webcams that are persisted may no longer be used.
    let further = match (context.printer.camera, context.printer.profile.webcams.as_slice()) {
        (CameraSource::Off, _) | (CameraSource::Webcams, []) => return Vec::new(),
        (CameraSource::Own, _) => &[],
        (CameraSource::Webcams, [_, further @ ..]) => further,
    };
    let topics = context.topics;
    let camera = |key: String, name: &str, topic: &str| {
        Component::new("camera", key, name).icon("webcam").with("topic", topic)
    };
    let mut components = vec![camera("camera".to_owned(), "Camera", &topics.snapshot)];
    components.extend(further.iter().map(|webcam| {
        let slug = webcam.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        camera(format!("camera_{slug}"), &format!("Camera {webcam}"), &topics.snapshot_of(webcam))
    }));
    if context.printer.groups.bridge {
        components.push(
            Component::new("button", "snapshot", "Take picture")
                .icon("camera")
                .command(&*topics.command("snapshot"))
                .with("payload_press", "all"),
        );
    }
    components
}
