//! Layers by moves, for files in which no comments mark them (pure).

use super::layers::LayerIndex;

/// Heights that differ by less, in mm, are the same.
const SAME: f64 = 0.01;

/// A print that has fewer extruding moves may still be the line at the edge that primes the nozzle.
const PRIMING_MOVES: u32 = 16;

/// The height of a layer in mm, as long as none was seen.
const USUAL_STEP: f64 = 0.2;

/// Finds the layers: one begins where something is extruded at a new height.
///
/// - A Z hop extrudes nothing where it is, and is no layer.
/// - Where the height rises while extruding, as in a spiral vase, a layer begins each time it has risen by
///   a layer's height, which is that of the layers before.
/// - What few moves extruded before the print is set up, or above the layer that follows, primed the
///   nozzle.
/// - Down at the first layer again, or lower than the last one by two: the next one of objects printed one
///   after the other.
#[derive(Default)]
pub(super) struct Heights {
    index: LayerIndex,
    /// Height of the layer under way, in mm.
    layer: f64,
    /// Height of the first layer, in mm.
    first: f64,
    /// How far layers are apart, in mm.
    step: f64,
    /// Height where the last extrusion ended, in mm; `None` before the first.
    last: Option<f64>,
    /// Extruding moves so far.
    moves: u32,
}

impl Heights {
    /// The printer is set up, as before a print.
    pub(super) fn setup(&mut self) {
        if self.is_priming() {
            *self = Self::default();
        }
    }

    /// The command at `offset` extrudes while the nozzle goes from one height to the other, in mm.
    pub(super) fn extruded(&mut self, offset: u64, from: f64, to: f64) {
        if self.last.is_some() && to < self.layer - SAME && self.is_priming() {
            *self = Self::default();
        }
        match self.last.replace(to) {
            None => {
                self.first = to;
                self.step = if (0.04..=1.0).contains(&to) { to } else { USUAL_STEP };
                self.begin(offset, to);
            }
            // Nothing but extrusions changed the height: a spiral.
            Some(last) if (from - last).abs() < SAME => {
                let rise = to - self.layer;
                if rise >= 2.0 * self.step {
                    self.begin(offset, to);
                } else if rise >= self.step - SAME {
                    self.begin(offset, self.layer + self.step);
                }
            }
            Some(_) => {
                let rise = to - self.layer;
                if rise >= SAME {
                    if (0.04..=2.0).contains(&rise) {
                        self.step = rise;
                    }
                    self.begin(offset, to);
                } else if rise <= -2.0 * self.step || (rise <= -SAME && to < self.first + SAME) {
                    self.begin(offset, to);
                }
            }
        }
        self.moves = self.moves.saturating_add(1);
    }

    pub(super) fn finish(self) -> LayerIndex {
        self.index
    }

    /// Whether the print has begun, and not only the line that primes the nozzle.
    pub(super) fn has_begun(&self) -> bool {
        self.moves > PRIMING_MOVES
    }

    fn is_priming(&self) -> bool {
        self.index.total() <= 2 && self.moves <= PRIMING_MOVES
    }

    fn begin(&mut self, offset: u64, z: f64) {
        self.layer = z;
        self.index.begin(offset, Some(z));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heights of the layers found in these extrusions.
    fn layers(extrusions: impl IntoIterator<Item = (f64, f64)>) -> Vec<f64> {
        let mut heights = Heights::default();
        for (at, (from, to)) in extrusions.into_iter().enumerate() {
            heights.extruded(at as u64, from, to);
        }
        heights.finish().iter().map(|(_, layer)| layer.z.unwrap()).collect()
    }

    fn flat(heights: &[f64]) -> Vec<(f64, f64)> {
        heights.iter().flat_map(|&z| vec![(z, z); 20]).collect()
    }

    #[test]
    fn a_new_height_is_a_layer() {
        assert_eq!(layers(flat(&[0.2, 0.4, 0.45, 0.75])), [0.2, 0.4, 0.45, 0.75]);
        assert_eq!(layers(flat(&[0.2, 0.2, 0.205, 0.4])), [0.2, 0.4]);
    }

    #[test]
    fn a_spiral_has_a_layer_each_time_it_has_risen_by_one() {
        let base = flat(&[0.2, 0.4]);
        let rise = |at: u32| 0.4 + f64::from(at) * 0.000_5;
        // 2000 moves rise by 1 mm; each second one is too short to rise.
        let spiral =
            (0..2_000).flat_map(|at| [(rise(at), rise(at + 1)), (rise(at + 1), rise(at + 1))]);
        let found = layers(base.into_iter().chain(spiral));
        let expected = [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(
            found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 0.001)
        );
    }

    #[test]
    fn objects_one_after_the_other_have_layers_each() {
        assert_eq!(layers(flat(&[0.2, 0.4, 0.6, 0.2, 0.4])), [0.2, 0.4, 0.6, 0.2, 0.4]);
        assert_eq!(layers(flat(&[0.2, 0.5, 0.2, 0.5])), [0.2, 0.5, 0.2, 0.5]);
        // A little lower is no layer: a seam that begins low, or the tower beside.
        assert_eq!(layers(flat(&[0.2, 0.4, 0.6, 0.5, 0.8])), [0.2, 0.4, 0.6, 0.8]);
    }

    #[test]
    fn a_line_that_primes_the_nozzle_is_no_layer() {
        let mut above = vec![(0.3, 0.3); 2];
        above.extend(flat(&[0.2, 0.4]));
        assert_eq!(layers(above), [0.2, 0.4]);

        let mut heights = Heights::default();
        heights.extruded(10, 0.1, 0.1);
        heights.setup();
        for at in 0..40 {
            heights.extruded(100 + at, 0.2, 0.2);
        }
        // Whoever sets up the printer within a print, does not begin anew.
        heights.setup();
        heights.extruded(200, 0.2, 0.2);
        let index = heights.finish();
        let found: Vec<_> = index.iter().map(|(at, layer)| (at, layer.z)).collect();
        assert_eq!(found, [(100, Some(0.2))]);
    }
}
