//! Layers and the picture of the selected file in Home Assistant.

use serde_json::{Value, json};

use super::World;
use super::real::eventually;
use super::real::gcode::{Sliced, picture, sliced};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn layers_and_the_picture_of_the_file_are_shown() {
    let world = World::start("").await;
    let (home, octoprint) = (&world.home, &world.octoprint);
    home.is("sensor.prusa_mk3s_layer", "unknown").await;
    let Sliced { text, .. } = sliced(40, 15);
    octoprint.upload_text("sliced.gcode", &text).await;
    octoprint.select("sliced.gcode").await;
    let image = "image.prusa_mk3s_thumbnail";
    eventually("the picture", || async { (home.image(image).await == picture()).then_some(()) })
        .await;
    let file =
        home.wait("sensor.prusa_mk3s_file", |s| s["attributes"]["slicer"] == "PrusaSlicer").await;
    assert_eq!(file["attributes"]["material"], "PLA", "{file}");
    octoprint.job(json!({"command": "start"})).await;
    home.is("sensor.prusa_mk3s_total_layers", "40").await;
    let number = |s: &Value| s["state"].as_str().and_then(|s| s.parse::<u32>().ok());
    let layer = home.wait("sensor.prusa_mk3s_layer", |s| number(s).is_some()).await;
    let first = number(&layer).unwrap();
    home.wait("sensor.prusa_mk3s_layer", |s| number(s) > Some(first)).await;
    let change =
        home.wait("event.prusa_mk3s_layer_change", |s| s["attributes"]["layer"].is_u64()).await;
    assert_eq!(change["attributes"]["event_type"], "layer_change", "{change}");
    assert_eq!(change["attributes"]["total"], 40, "{change}");
    octoprint.job(json!({"command": "cancel"})).await;
    home.is("sensor.prusa_mk3s_layer", "unknown").await;
    octoprint.select("other.gcode").await;
    eventually("no picture", || async { home.image(image).await.is_empty().then_some(()) }).await;
    assert_eq!(home.complaints(), Vec::<String>::new());
}
