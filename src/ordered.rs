//! Small ordered maps (pure).

/// A map, such as a `BTreeMap`, of `entries`, of which the later ones win. `collect` would do the
/// same, and brings 5 kB of code to sort them first, for each type of map anew.
pub(crate) fn map<M: Default + Extend<E>, E>(entries: impl IntoIterator<Item = E>) -> M {
    let mut map = M::default();
    map.extend(entries);
    map
}
