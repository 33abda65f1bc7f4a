//! Which lane of the outbox each printer has. Printers come and go, so lanes are used again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mqtt::OWN_LANE;

/// The lanes of the printers; cheap to clone. The bridge's own lane is not among them.
#[derive(Debug, Clone, Default)]
pub struct Lanes(Arc<Mutex<Vec<Option<Arc<str>>>>>);

/// The first lane of a printer.
const FIRST: usize = OWN_LANE + 1;

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Arc<str>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the first free lane for `printer`.
    pub fn take(&self, printer: &str) -> usize {
        let mut lanes = self.lock();
        let free = lanes.iter().position(Option::is_none).unwrap_or(lanes.len());
        if free == lanes.len() {
            lanes.push(None);
        }
        lanes[free] = Some(printer.into());
        FIRST + free
    }

    /// Frees a lane, which must be empty.
    pub fn free(&self, lane: usize) {
        let mut lanes = self.lock();
        if let Some(place) = lane.checked_sub(FIRST).and_then(|index| lanes.get_mut(index)) {
            *place = None;
        }
    }

    /// Returns the id of the printer in a lane.
    pub fn printer(&self, lane: usize) -> Option<Arc<str>> {
        self.lock().get(lane.checked_sub(FIRST)?)?.clone()
    }

    /// Returns the printers' ids with their lanes.
    pub fn printers(&self) -> Vec<(Arc<str>, usize)> {
        let lanes = self.lock();
        let places = lanes.iter().enumerate();
        places.filter_map(|(index, id)| Some((id.clone()?, FIRST + index))).collect()
    }

    /// Returns each printer's number of `values`, which has one for each lane.
    pub fn by_printer(&self, values: &[usize]) -> Vec<(Arc<str>, usize)> {
        let value = |(id, lane): (Arc<str>, usize)| Some((id, *values.get(lane)?));
        self.printers().into_iter().filter_map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_was_freed_is_used_again() {
        let lanes = Lanes::default();
        assert_eq!(["a", "b", "c"].map(|id| lanes.take(id)), [1, 2, 3]);
        lanes.free(2);
        assert_eq!((lanes.printer(2), lanes.printer(3).as_deref()), (None, Some("c")));
        let waiting = lanes.by_printer(&[9, 1, 2, 3]);
        assert_eq!(waiting, [("a".into(), 1), ("c".into(), 3)]);
        assert_eq!(lanes.printers(), [("a".into(), 1), ("c".into(), 3)]);
        assert_eq!(["d", "e"].map(|id| lanes.take(id)), [2, 4]);
        assert_eq!(lanes.printer(OWN_LANE), None);
        lanes.free(OWN_LANE);
        lanes.free(99);
    }
}
