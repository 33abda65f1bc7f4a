//! The layer that is printed, by the position in the file (pure).

use std::sync::Arc;

use serde::Serialize;

use crate::gcode::{Layer, LayerIndex};

/// The payload of `B/P/layer`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct LayerPayload {
    /// Number of the layer, from 1; `None` before the first one.
    current: Option<u32>,
    /// Number of layers.
    total: Option<u32>,
    /// Height of the layer in mm.
    z: Option<f64>,
}

/// The payload of `B/P/layer_change`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct LayerChange {
    event_type: &'static str,
    pub(super) layer: u32,
    total: u32,
    z: Option<f64>,
    /// In Unix seconds.
    timestamp: u64,
}

/// Follows the layers of the selected file.
#[derive(Debug, Default)]
pub(super) struct Layers {
    index: Option<Arc<LayerIndex>>,
    /// The layer that was seen last in this print: `Some(None)` before the first layer.
    seen: Option<Option<u32>>,
    published: Option<LayerPayload>,
}

impl Layers {
    /// Returns the same without the file.
    pub(super) fn of_another_file(self) -> Self {
        Self { index: None, seen: None, ..self }
    }

    /// Sets the layers of the file; one without layers is as good as unknown.
    pub(super) fn set_index(&mut self, index: &Arc<LayerIndex>) {
        self.index = Some(Arc::clone(index));
        self.seen = None;
    }

    /// Whether the file was read.
    pub(super) fn is_known(&self) -> bool {
        self.index.is_some()
    }

    /// A print begins: the first layer will be a change.
    pub(super) fn print_started(&mut self) {
        self.seen = Some(None);
    }

    /// Follows a print to this position, in bytes. Returns the change, if another layer is printed
    /// than before.
    pub(super) fn follow(&mut self, filepos: u64, timestamp: u64) -> Option<LayerChange> {
        let index = self.index.as_ref().filter(|index| index.total() > 0)?;
        let layer = index.at(filepos);
        let number = layer.map(|layer| layer.number);
        let before = self.seen.replace(number);
        let Layer { number, z } = layer.filter(|_| before.is_some_and(|seen| seen != number))?;
        let (event_type, total) = ("layer_change", index.total());
        Some(LayerChange { event_type, layer: number, total, z, timestamp })
    }

    /// Returns the payload of `B/P/layer` if it is another one: of the layer at this position, or of
    /// no print.
    pub(super) fn payload(&mut self, filepos: Option<u64>) -> Option<LayerPayload> {
        let index = self.index.as_ref().filter(|index| index.total() > 0);
        let payload = match filepos.zip(index) {
            Some((filepos, index)) => {
                let layer = index.at(filepos);
                LayerPayload {
                    current: layer.map(|layer| layer.number),
                    total: Some(index.total()),
                    z: layer.and_then(|layer| layer.z),
                }
            }
            None => LayerPayload::default(),
        };
        (self.published.replace(payload) != Some(payload)).then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::gcode::{GcodeReader, ReadLimits};

    /// Three layers, after 100 bytes of other lines.
    fn index() -> (Arc<LayerIndex>, Vec<u64>) {
        let mut reader = GcodeReader::new(&ReadLimits::default());
        let mut text = ";LAYER_COUNT:3\n".to_owned();
        while text.len() < 100 {
            text += "M105\n";
        }
        for layer in 0..3 {
            text += &format!(";LAYER:{layer}\nG1 X1 Y1 Z0.{} E1\nG1 X50 Y50 E2\n", layer * 2 + 2);
        }
        reader.feed(text.as_bytes());
        let index = reader.finish().layers;
        let starts = index.iter().map(|(start, _)| start).collect();
        (Arc::new(index), starts)
    }

    fn shown(payload: Option<LayerPayload>) -> Value {
        payload.map_or(Value::Null, |payload| json!(payload))
    }

    #[test]
    fn each_layer_is_one_change() {
        let (index, starts) = index();
        assert_eq!(starts.len(), 3);
        let mut layers = Layers::default();
        layers.print_started();
        assert_eq!(
            shown(layers.payload(Some(5))),
            json!({"current": null, "total": null, "z": null})
        );
        assert_eq!(layers.follow(5, 0), None, "nothing is known");
        layers.set_index(&index);
        layers.print_started();
        assert_eq!(layers.follow(5, 1), None);
        assert_eq!(shown(layers.payload(Some(5))), json!({"current": null, "total": 3, "z": null}));
        let change = layers.follow(starts[0] + 1, 2).unwrap();
        let expected =
            json!({"event_type": "layer_change", "layer": 1, "total": 3, "z": 0.2, "timestamp": 2});
        assert_eq!(json!(change), expected);
        assert_eq!(layers.follow(starts[0] + 2, 3), None, "the same layer");
        assert_eq!(
            layers.follow(starts[2] + 1, 4).unwrap().layer,
            3,
            "one was too short to be seen"
        );
        let payload = shown(layers.payload(Some(starts[2] + 1)));
        assert_eq!(payload, json!({"current": 3, "total": 3, "z": 0.6}));
        assert_eq!(layers.payload(Some(starts[2] + 2)), None, "no news");
        assert_eq!(shown(layers.payload(None))["current"], json!(null), "the print is over");
    }

    #[test]
    fn what_was_printed_before_the_file_was_read_is_no_change() {
        let (index, starts) = index();
        let mut layers = Layers::default();
        layers.set_index(&index);
        assert_eq!(layers.follow(starts[1] + 1, 1), None);
        assert_eq!(layers.follow(starts[2] + 1, 2).unwrap().layer, 3);
        let mut layers = layers.of_another_file();
        assert_eq!(layers.follow(starts[1] + 1, 3), None);
        assert!(!layers.is_known());
    }
}
