//! Layers by the comments of the slicers (pure).

use super::heights::Heights;
use super::layers::LayerIndex;
use super::motion::MotionEffect;
use super::values::number;

/// If moves find so many times the layers that comments mark, the comments mark something else.
const MISLEADING: u32 = 8;

/// How slicers mark the beginning of a layer.
#[derive(Clone, Copy)]
enum Convention {
    /// `;LAYER_CHANGE` and `;Z:0.2`: PrusaSlicer, SuperSlicer, OrcaSlicer.
    LayerChange,
    /// `; CHANGE_LAYER` and `; Z_HEIGHT: 0.2`: Bambu Studio, OrcaSlicer for Bambu's printers.
    ChangeLayer,
    /// `;LAYER:0`: Cura, with `;Z:0.2` ideaMaker.
    Numbered,
    /// `; layer 1, Z = 0.2`: Simplify3D.
    NumberedWithHeight,
    /// `; BEGIN_LAYER_OBJECT z=0.2`: KISSlicer.
    Begin,
    /// `;; --- layer 0 (0.200 @ 0.25) ---`: Kiri:Moto.
    Dashed,
}

const CONVENTIONS: usize = 6;

/// Finds the layers of a file by all conventions, and by its moves.
#[derive(Default)]
pub(super) struct Marks {
    marked: [Marked; CONVENTIONS],
    /// Whether any of them wants a height.
    is_height_wanted: bool,
    heights: Heights,
}

#[derive(Default)]
struct Marked {
    index: LayerIndex,
    /// Whether the height of the last layer is still to come.
    is_height_wanted: bool,
}

impl Marks {
    /// Takes the text of a comment at `offset` that has a line for itself.
    pub(super) fn comment(&mut self, offset: u64, text: &[u8]) {
        let text = text.trim_ascii();
        if self.is_height_wanted {
            let z = text.strip_prefix(b"Z:").or_else(|| text.strip_prefix(b"Z_HEIGHT:"));
            if let Some(z) = z.and_then(number) {
                self.set_height(z);
                return;
            }
        }
        let Some((convention, z)) = mark(text) else { return };
        let marked = &mut self.marked[convention as usize];
        marked.index.begin(offset, z);
        marked.is_height_wanted = z.is_none();
        self.is_height_wanted |= z.is_none();
    }

    /// Takes what the command at `offset` does.
    pub(super) fn effect(&mut self, offset: u64, effect: &MotionEffect) {
        match *effect {
            MotionEffect::None => {}
            MotionEffect::Setup => self.heights.setup(),
            MotionEffect::Extruded { from, to } => {
                if self.is_height_wanted {
                    self.set_height(to);
                }
                self.heights.extruded(offset, from, to);
            }
        }
    }

    /// Whether a layer has begun, as far as is known by now.
    pub(super) fn has_begun(&self) -> bool {
        self.heights.has_begun() || self.marked.iter().any(|marked| marked.index.total() > 0)
    }

    /// The layers by the convention that marks most of them, else by moves.
    pub(super) fn finish(self) -> LayerIndex {
        let moves = self.heights.finish();
        let mut most = LayerIndex::default();
        for marked in self.marked {
            if marked.index.total() > most.total() {
                most = marked.index;
            }
        }
        let is_marked =
            most.total() > 0 && most.total().saturating_mul(MISLEADING) >= moves.total();
        if is_marked { most } else { moves }
    }

    fn set_height(&mut self, z: f64) {
        self.is_height_wanted = false;
        for marked in &mut self.marked {
            if std::mem::take(&mut marked.is_height_wanted) {
                marked.index.set_height(z);
            }
        }
    }
}

/// The convention of a comment that begins a layer, and the height if it is in the comment.
fn mark(text: &[u8]) -> Option<(Convention, Option<f64>)> {
    match text {
        b"LAYER_CHANGE" => return Some((Convention::LayerChange, None)),
        b"CHANGE_LAYER" => return Some((Convention::ChangeLayer, None)),
        _ => {}
    }
    if let Some(rest) = text.strip_prefix(b"LAYER:") {
        return number(rest).map(|_| (Convention::Numbered, None));
    }
    if let Some(rest) = text.strip_prefix(b"layer ") {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let z = rest[digits..].strip_prefix(b", Z = ")?;
        return number(z).filter(|_| digits > 0).map(|z| (Convention::NumberedWithHeight, Some(z)));
    }
    if let Some(rest) = text.strip_prefix(b"BEGIN_LAYER_") {
        let z = rest.windows(2).position(|pair| pair == b"z=")?;
        return number(&rest[z + 2..]).map(|z| (Convention::Begin, Some(z)));
    }
    if let Some(rest) = text.strip_prefix(b"; --- layer ") {
        let z = rest.iter().position(|&byte| byte == b'(').and_then(|at| number(&rest[at + 1..]));
        return Some((Convention::Dashed, z));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(comments: &[&str]) -> Vec<(u64, Option<f64>)> {
        let mut marks = Marks::default();
        for (at, text) in comments.iter().enumerate() {
            marks.comment(at as u64, text.as_bytes());
        }
        marks.finish().iter().map(|(at, layer)| (at, layer.z)).collect()
    }

    #[test]
    fn each_slicer_marks_layers_in_its_way() {
        for comments in [
            ["LAYER_CHANGE", "Z:0.2", "LAYER_CHANGE", "Z:0.4"],
            [" CHANGE_LAYER", " Z_HEIGHT: 0.2", " CHANGE_LAYER", " Z_HEIGHT: 0.4"],
            ["LAYER:0", "Z:0.2", "LAYER:1", "Z:0.4"],
            [" layer 1, Z = 0.2", " feature", " layer 2, Z = 0.4", " layer end"],
            [
                " BEGIN_LAYER_OBJECT z=0.2",
                " END_LAYER_OBJECT z=0.2",
                " BEGIN_LAYER_OBJECT z=0.4 z_thickness=0.2",
                "",
            ],
            ["; --- layer 0 (0.2 @ 0.2) ---", "", "; --- layer 1 (0.4 @ 0.2) ---", ""],
        ] {
            assert_eq!(layers(&comments), [(0, Some(0.2)), (2, Some(0.4))], "{comments:?}");
        }
    }

    #[test]
    fn other_comments_mark_nothing() {
        let others = [
            "LAYER_COUNT:5",
            "LAYER:x",
            "layer end",
            "layer , Z = 1",
            "layer num/total_layer_count: 1/125",
            "LAYER_CHANGE_GCODE",
            "BEGIN_LAYER_OBJECT",
            "AFTER_LAYER_CHANGE",
            "Z:0.2",
        ];
        assert_eq!(layers(&others), []);
    }

    #[test]
    fn the_convention_with_most_marks_counts() {
        let both = ["LAYER:1", "LAYER_CHANGE", "Z:1", "LAYER_CHANGE", "Z:2"];
        assert_eq!(layers(&both), [(1, Some(1.0)), (3, Some(2.0))]);
    }

    #[test]
    fn a_stray_comment_marks_no_layers() {
        let mut marks = Marks::default();
        marks.comment(0, b"LAYER:0");
        for at in 1..=20_u32 {
            let z = f64::from(at);
            marks.effect(u64::from(at), &MotionEffect::Extruded { from: z, to: z });
        }
        assert_eq!(marks.finish().total(), 20);
    }

    #[test]
    fn without_a_height_in_comments_the_first_extrusion_has_it() {
        let mut marks = Marks::default();
        marks.comment(0, b"LAYER:0");
        marks.effect(1, &MotionEffect::Extruded { from: 0.3, to: 0.3 });
        marks.effect(2, &MotionEffect::Extruded { from: 0.3, to: 0.9 });
        marks.comment(3, b"LAYER:1");
        let found: Vec<_> = marks.finish().iter().map(|(_, layer)| layer.z).collect();
        assert_eq!(found, [Some(0.3), None]);
    }
}
