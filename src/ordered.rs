//! Small ordered maps (pure).

/// Collects `entries` into a map such as `BTreeMap`; later ones win. `collect` does the same, but
/// sorts first, which costs 5 kB of code for each type of map.
pub(crate) fn map<M: Default + Extend<E>, E>(entries: impl IntoIterator<Item = E>) -> M {
    let mut map = M::default();
    map.extend(entries);
    map
}
