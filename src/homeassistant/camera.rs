//! Entities of cameras (pure).

use super::component::{Component, EntityContext};

pub(super) fn components(context: &EntityContext<'_>) -> Vec<Component> {
    let webcams = &context.printer.profile.webcams;
    if webcams.is_empty() && !context.printer.own_camera {
        return Vec::new();
    }
    let topics = context.topics;
    let camera = |key: String, name: &str, topic: &str| {
        Component::new("camera", key, name).icon("webcam").with("topic", topic)
    };
    let mut components = vec![camera("camera".to_owned(), "Camera", &topics.snapshot)];
    components.extend(webcams.iter().skip(1).map(|webcam| {
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
