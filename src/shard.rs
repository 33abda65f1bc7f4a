//! Distribution of printers over several bridges (pure).

/// One of several bridges that share a list of printers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Index of this bridge, from 0.
    pub index: u32,
    /// Number of bridges.
    pub count: u32,
}

impl Shard {
    /// Whether this bridge serves the printer `id`. Rendezvous hashing: the bridge with the highest
    /// hash wins, so that changing `count` moves as few printers as possible.
    pub fn serves(self, id: &str) -> bool {
        let winner = (0..self.count).max_by_key(|index| (weight(id, *index), *index));
        winner == Some(self.index)
    }

    /// Returns the suffix of this bridge's client id and topics; empty for the first bridge, as for
    /// a single one.
    pub fn suffix(self) -> String {
        if self.index == 0 { String::new() } else { format!("-{}", self.index) }
    }
}

/// 64-bit FNV-1a, finished with MurmurHash3's mixing steps. Must be the same on every platform and
/// in every version, so that no printer is served twice during an upgrade.
fn weight(id: &str, index: u32) -> u64 {
    let bytes = id.bytes().chain([0]).chain(index.to_le_bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(id: &str, count: u32) -> u32 {
        let owners: Vec<u32> =
            (0..count).filter(|&index| Shard { index, count }.serves(id)).collect();
        assert_eq!(owners.len(), 1, "{id} of {count}");
        owners[0]
    }

    #[test]
    fn each_printer_has_one_bridge_and_few_move() {
        let ids: Vec<String> = (0..1000).map(|n| format!("printer{n}")).collect();
        for count in 1..8 {
            let owners: Vec<u32> = ids.iter().map(|id| owner(id, count)).collect();
            for index in 0..count {
                let share = owners.iter().filter(|owner| **owner == index).count();
                let fair = 1000 / count as usize;
                assert!(share > fair / 2 && share < fair * 2, "{index} of {count}: {share}");
            }
            let more: Vec<u32> = ids.iter().map(|id| owner(id, count + 1)).collect();
            let moved = owners.iter().zip(&more).filter(|(old, new)| old != new);
            let all_to_the_new = moved.clone().all(|(_, new)| *new == count);
            assert!(all_to_the_new, "none moves between those that were there");
            assert!(moved.count() < 1500 / (count as usize + 1));
        }
    }

    #[test]
    fn the_choice_never_changes() {
        // Two versions may run side by side.
        let owners: Vec<u32> =
            ["mk3", "mini", "xl", "ender-3", "voron"].iter().map(|id| owner(id, 3)).collect();
        assert_eq!(owners, OWNERS_OF_THREE);
    }

    const OWNERS_OF_THREE: [u32; 5] = [0, 2, 1, 0, 0];
}
