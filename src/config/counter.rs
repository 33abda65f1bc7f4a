//! A maintenance counter.

use std::fmt;

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterUnit {
    /// Hours of printing.
    Hours,
    /// Metres of filament.
    Metres,
    /// Prints.
    Prints,
}

impl CounterUnit {
    pub(super) const ALL: [Self; 3] = [Self::Hours, Self::Metres, Self::Prints];

    /// Returns the unit as in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hours => "h",
            Self::Metres => "m",
            Self::Prints => "prints",
        }
    }
}

/// A maintenance counter.
#[derive(Debug, Clone, PartialEq)]
pub struct Counter {
    /// Its name, of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// After how much the maintenance is due; above 0.
    pub due_after: f64,
    /// What is counted.
    pub unit: CounterUnit,
}

/// As in the configuration, such as `300h` or `50 prints`.
impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.unit == CounterUnit::Prints { " " } else { "" };
        write!(f, "{}{space}{}", self.due_after, self.unit.as_str())
    }
}
