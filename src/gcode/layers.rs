//! The index of layers (pure).

/// The most beginnings of layers that are kept. A file with more layers keeps every second, every fourth
/// and so on: numbers are then rounded down by as many layers, the total stays exact.
pub const MOST_STARTS: usize = 16_384;

/// A height that is not known, in micrometres.
const UNKNOWN: i32 = i32::MIN;

/// A layer of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    /// Its number, the first one is 1. Objects that are printed one after the other, and rafts, count
    /// like all other layers.
    pub number: u32,
    /// Its height above the bed in mm, as the slicer has it or the first extrusion is; `None` if nothing
    /// is extruded.
    pub z: Option<f64>,
}

/// Where the layers of a file begin. It needs at most 200 kB.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerIndex {
    starts: Vec<u64>,
    /// In micrometres.
    heights: Vec<i32>,
    /// One in how many layers is kept.
    stride: u32,
    total: u32,
}

impl Default for LayerIndex {
    fn default() -> Self {
        Self { starts: Vec::new(), heights: Vec::new(), stride: 1, total: 0 }
    }
}

impl LayerIndex {
    /// How many layers there are; 0 if none was found.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.total
    }

    /// The layer in which the byte at `filepos` is; `None` before the first. A position behind the end
    /// is in the last layer.
    #[must_use]
    pub fn at(&self, filepos: u64) -> Option<Layer> {
        let kept = self.starts.partition_point(|&start| start <= filepos).checked_sub(1)?;
        Some(self.kept(kept))
    }

    /// The layers with the positions in the file where they begin, in bytes; of a file with more than
    /// [`MOST_STARTS`] layers those that are kept.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Layer)> {
        self.starts.iter().enumerate().map(|(kept, &start)| (start, self.kept(kept)))
    }

    fn kept(&self, at: usize) -> Layer {
        let height = self.heights.get(at).copied().filter(|&height| height != UNKNOWN);
        // At most MOST_STARTS times a stride that doubles when the total does: within u32.
        let number = u32::try_from(at).unwrap_or(u32::MAX).saturating_mul(self.stride) + 1;
        Layer { number, z: height.map(|height| f64::from(height) / 1_000.0) }
    }

    /// A layer begins at `start`, which is not before the last one.
    pub(super) fn begin(&mut self, start: u64, z: Option<f64>) {
        if self.starts.len() == MOST_STARTS && self.total.is_multiple_of(self.stride) {
            every_second(&mut self.starts);
            every_second(&mut self.heights);
            self.stride = self.stride.saturating_mul(2);
        }
        if self.total.is_multiple_of(self.stride) {
            self.starts.push(start);
            self.heights.push(z.map_or(UNKNOWN, micrometres));
        }
        self.total = self.total.saturating_add(1);
    }

    /// The layer that began last is at this height.
    pub(super) fn set_height(&mut self, z: f64) {
        let is_kept =
            self.total.checked_sub(1).is_some_and(|last| last.is_multiple_of(self.stride));
        if let Some(height) = self.heights.last_mut().filter(|_| is_kept) {
            *height = micrometres(z);
        }
    }
}

fn micrometres(z: f64) -> i32 {
    let micrometres = (z * 1_000.0).round();
    if micrometres.abs() < f64::from(i32::MAX) { micrometres as i32 } else { UNKNOWN }
}

fn every_second<T: Copy>(list: &mut Vec<T>) {
    let mut is_kept = false;
    list.retain(|_| {
        is_kept = !is_kept;
        is_kept
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(layers: u32) -> LayerIndex {
        let mut index = LayerIndex::default();
        for layer in 0..layers {
            index.begin(100 + u64::from(layer) * 10, None);
            index.set_height(f64::from(layer + 1) / 5.0);
        }
        index
    }

    #[test]
    fn a_position_is_in_the_layer_that_began_before() {
        let index = with(3);
        let layer = |number, z| Some(Layer { number, z: Some(z) });
        assert_eq!(index.at(0), None);
        assert_eq!(index.at(99), None);
        assert_eq!(index.at(100), layer(1, 0.2));
        assert_eq!(index.at(109), layer(1, 0.2));
        assert_eq!(index.at(110), layer(2, 0.4));
        assert_eq!(index.at(u64::MAX), layer(3, 0.6));
        assert_eq!(index.total(), 3);
        assert_eq!(LayerIndex::default().at(5), None);
    }

    #[test]
    fn many_layers_are_thinned_out() {
        for layers in [MOST_STARTS as u32 - 1, MOST_STARTS as u32, MOST_STARTS as u32 + 1, 100_000]
        {
            let index = with(layers);
            assert_eq!(index.total(), layers);
            assert!(index.starts.len() <= MOST_STARTS);
            assert_eq!(index.starts.len(), index.heights.len());
            for layer in [0, 1, layers / 2, layers - 1] {
                let found = index.at(100 + u64::from(layer) * 10).unwrap();
                let rounded = layer / index.stride * index.stride;
                assert_eq!(found.number, rounded + 1, "{layer} of {layers}");
                assert_eq!(found.z, Some(f64::from((rounded + 1) * 200) / 1_000.0));
            }
        }
        assert_eq!(with(MOST_STARTS as u32).stride, 1);
        assert_eq!(with(100_000).stride, 8);
    }

    #[test]
    fn absurd_heights_are_unknown() {
        let mut index = LayerIndex::default();
        index.begin(0, Some(1e12));
        assert_eq!(index.at(0), Some(Layer { number: 1, z: None }));
    }
}
