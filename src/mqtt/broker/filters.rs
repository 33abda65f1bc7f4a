//! What the bridge subscribes to, and what of it a connection does not know yet (pure).

use std::collections::BTreeSet;

/// What changed with a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilterChange {
    Added,
    Removed,
}

/// The filters.
#[derive(Debug, Default)]
pub(super) struct Filters {
    wanted: BTreeSet<String>,
    /// Filters that the current connection does not have yet, and those that it has too many.
    changed: Vec<(String, FilterChange)>,
}

impl Filters {
    pub(super) fn new(wanted: BTreeSet<String>) -> Self {
        Self { wanted, changed: Vec::new() }
    }

    /// Returns all filters, for a new connection.
    pub(super) fn all(&mut self) -> BTreeSet<String> {
        self.changed.clear();
        self.wanted.clone()
    }

    /// Removes filters, then adds others. One that is in both is subscribed again.
    pub(super) fn change(&mut self, added: Vec<String>, removed: Vec<String>) {
        for filter in removed {
            if self.wanted.remove(&filter) {
                self.note(filter, FilterChange::Removed);
            }
        }
        for filter in added {
            if self.wanted.insert(filter.clone()) {
                self.note(filter, FilterChange::Added);
            }
        }
    }

    fn note(&mut self, filter: String, change: FilterChange) {
        self.changed.retain(|(changed, _)| *changed != filter);
        self.changed.push((filter, change));
    }

    /// Takes what to subscribe to, and what to unsubscribe from; `None` if there is nothing.
    pub(super) fn take_changed(&mut self) -> Option<(Vec<String>, Vec<String>)> {
        if self.changed.is_empty() {
            return None;
        }
        let changed = std::mem::take(&mut self.changed);
        let (added, removed): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|(_, change)| *change == FilterChange::Added);
        let names = |list: Vec<(String, FilterChange)>| {
            list.into_iter().map(|(filter, _)| filter).collect::<Vec<_>>()
        };
        Some((names(added), names(removed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_connection_learns_what_changed_once_and_one_in_both_is_subscribed_again() {
        let mut filters = Filters::new(texts(&["a", "b"]).into_iter().collect());
        assert_eq!(filters.take_changed(), None);
        filters.change(texts(&["a", "c"]), texts(&["a", "b", "x"]));
        assert_eq!(filters.take_changed(), Some((texts(&["a", "c"]), texts(&["b"]))));
        assert_eq!(filters.take_changed(), None);
        filters.change(texts(&["c"]), Vec::new());
        assert_eq!(filters.take_changed(), None, "it is there already");
        // Of several changes the last counts, and a new connection knows all.
        filters.change(texts(&["d"]), Vec::new());
        filters.change(Vec::new(), texts(&["d"]));
        assert_eq!(filters.take_changed(), Some((Vec::new(), texts(&["d"]))));
        filters.change(texts(&["e"]), Vec::new());
        assert_eq!(filters.all(), texts(&["a", "c", "e"]).into_iter().collect());
        assert_eq!(filters.take_changed(), None);
    }
}
