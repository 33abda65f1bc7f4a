//! Heaters by name, and their temperature limits (pure).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A heater by OctoPrint's name for it: `tool0`, `tool1` …, `bed`, `chamber`, or any other that the
/// firmware reports, such as `A`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Heater(Arc<str>);

/// Kind of a heater, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaterKind {
    /// `tool0`, `tool1` …: a hotend.
    Tool(u8),
    /// `bed`.
    Bed,
    /// `chamber`.
    Chamber,
    /// Any other: reported by the firmware, in no printer profile, and never set.
    Other,
}

impl HeaterKind {
    /// Parses a name. OctoPrint writes a tool's number without leading zeros.
    pub fn of(name: &str) -> Self {
        let index = |digits: &str| {
            let plain = digits.bytes().all(|b| b.is_ascii_digit())
                && (digits == "0" || !digits.starts_with('0'));
            digits.parse().ok().filter(|_| plain)
        };
        match name {
            "bed" => Self::Bed,
            "chamber" => Self::Chamber,
            _ => name.strip_prefix("tool").and_then(index).map_or(Self::Other, Self::Tool),
        }
    }

    /// Whether OctoPrint can set it. Only these can be in a printer profile.
    pub fn can_be_set(self) -> bool {
        self != Self::Other
    }
}

impl Heater {
    /// Parses a name from outside; `None` if it cannot be a heater's.
    pub fn read(name: &str) -> Option<Self> {
        Self::is_name(name).then(|| Self(name.into()))
    }

    /// Whether this can be a heater's name: OctoPrint's `temps` also has a `time`, and Python's
    /// `None` becomes the name `null`.
    pub fn is_name(name: &str) -> bool {
        !matches!(name, "time" | "null" | "")
    }

    /// The hotend with this number.
    pub fn tool(index: u8) -> Self {
        Self(format!("tool{index}").into())
    }

    /// The bed.
    pub fn bed() -> Self {
        Self("bed".into())
    }

    /// The chamber.
    pub fn chamber() -> Self {
        Self("chamber".into())
    }

    /// Heaters assumed for a printer of which nothing is known.
    pub fn assumed() -> Vec<Self> {
        vec![Self::tool(0), Self::bed()]
    }

    /// Returns its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns its kind.
    pub fn kind(&self) -> HeaterKind {
        HeaterKind::of(&self.0)
    }

    /// Whether OctoPrint can set it. Only these can be in a printer profile.
    pub fn can_be_set(&self) -> bool {
        self.kind().can_be_set()
    }
}

impl fmt::Display for Heater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Heater {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Heater {
    fn eq(&self, name: &str) -> bool {
        &*self.0 == name
    }
}

impl PartialEq<&str> for Heater {
    fn eq(&self, name: &&str) -> bool {
        &*self.0 == *name
    }
}

/// Highest targets, in °C.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// For each tool.
    pub tool: f64,
    /// For the bed.
    pub bed: f64,
    /// For the chamber.
    pub chamber: f64,
}

impl Limits {
    /// Returns the highest target of `heater`; `None` if it cannot be set.
    pub fn of(&self, heater: &Heater) -> Option<f64> {
        match heater.kind() {
            HeaterKind::Tool(_) => Some(self.tool),
            HeaterKind::Bed => Some(self.bed),
            HeaterKind::Chamber => Some(self.chamber),
            HeaterKind::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_to_kinds() {
        use HeaterKind::{Bed, Chamber, Other, Tool};
        for (name, kind) in [
            ("tool0", Tool(0)),
            ("tool12", Tool(12)),
            ("tool255", Tool(255)),
            ("bed", Bed),
            ("chamber", Chamber),
            ("tool", Other),
            ("tool00", Other),
            ("tool01", Other),
            ("tool+1", Other),
            ("tool256", Other),
            ("toolbox", Other),
            ("Bed", Other),
            ("A", Other),
        ] {
            let heater = Heater::read(name).unwrap();
            assert_eq!((heater.kind(), heater.as_str()), (kind, name));
            assert_eq!(heater.can_be_set(), kind != Other, "{name}");
        }
        for name in ["", "null", "time"] {
            assert_eq!(Heater::read(name), None);
        }
        assert_eq!(Heater::assumed(), ["tool0", "bed"]);
    }

    #[test]
    fn only_heaters_that_can_be_set_have_a_limit() {
        let limits = Limits { tool: 300.0, bed: 120.0, chamber: 80.0 };
        let limit = |name| limits.of(&Heater::read(name).unwrap());
        assert_eq!(["tool3", "bed", "chamber"].map(limit), [300.0, 120.0, 80.0].map(Some));
        assert_eq!(["A", "tool03"].map(limit), [None, None]);
    }

    #[test]
    fn it_is_serialised_as_its_name() {
        let json = serde_json::to_string(&Heater::assumed()).unwrap();
        assert_eq!(json, r#"["tool0","bed"]"#);
        assert_eq!(serde_json::from_str::<Vec<Heater>>(&json).unwrap(), Heater::assumed());
    }
}
