//! Which of the reported names are heaters (pure).
//!
//! Firmware reports more than the profile has, and noise on the line makes up names. A name is a
//! heater if the printer profile has it, or after ten readings in a row. One that is not in the
//! profile is removed after an hour without readings in which others reported.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::heater::{Heater, HeaterKind};

/// Number of readings in a row after which a name is a heater.
const MIN_READINGS: u32 = 10;
/// Time without readings after which a heater is removed.
const MAX_SILENCE: Duration = Duration::from_secs(60 * 60);
/// Longest gap between messages that counts as silence; in a longer one, printer or bridge was off.
const MAX_GAP: Duration = Duration::from_secs(60);
const MAX_HEATERS: usize = 32;
/// Maximum number of names that may become heaters.
const MAX_CANDIDATES: usize = 64;

/// The heaters of one printer.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Those of the printer profile; `None` if it is unknown.
    profile: Option<Vec<Heater>>,
    /// Whether the profile is from OctoPrint, and not from before the start.
    confirmed: bool,
    /// Heaters that the profile does not have, and candidates.
    others: BTreeMap<Heater, Candidate>,
    /// Those of an earlier profile that this one does not have: ignored even if they report.
    gone: BTreeSet<Heater>,
    last_report: Option<Instant>,
    /// Whether the current message has a reading.
    has_reading: bool,
}

#[derive(Debug, Default)]
struct Candidate {
    is_heater: bool,
    reported: bool,
    in_a_row: u32,
    silent: Duration,
}

impl Candidate {
    fn heater() -> Self {
        Self { is_heater: true, ..Self::default() }
    }
}

impl Roster {
    /// Adds the heaters from before the start. Returns those that are no longer heaters.
    pub(super) fn restore(&mut self, heaters: Vec<Heater>) -> Vec<Heater> {
        let mut rejected = Vec::new();
        for heater in heaters {
            if !Heater::is_name(heater.as_str()) || self.known().any(|known| *known == heater) {
                continue;
            }
            if !heater.can_be_set() {
                self.others.insert(heater, Candidate::heater());
            } else if self.confirmed {
                self.gone.insert(heater.clone());
                rejected.push(heater);
            } else {
                self.profile.get_or_insert_default().push(heater);
            }
        }
        self.limit();
        rejected
    }

    /// Sets the heaters of the current profile; `None` if this user may not see it.
    pub(super) fn set_profile(&mut self, heaters: Option<Vec<Heater>>) {
        let Some(mut heaters) = heaters else {
            // The profile from before the start is no more than a guess.
            if !self.confirmed {
                let guessed = self.profile.take().into_iter().flatten();
                self.others.extend(guessed.map(|name| (name, Candidate::heater())));
            }
            return;
        };
        heaters.truncate(MAX_HEATERS);
        self.others.retain(|name, _| !heaters.contains(name));
        self.gone.extend(self.profile.replace(heaters).into_iter().flatten());
        self.confirmed = true;
        let profile = self.profile.as_deref().unwrap_or_default();
        self.gone.retain(|name| !profile.contains(name));
        self.limit();
    }

    fn limit(&mut self) {
        let mut room = MAX_HEATERS.saturating_sub(self.profile.as_ref().map_or(0, Vec::len));
        self.others.retain(|_, other| {
            let keep = !other.is_heater || room > 0;
            room -= usize::from(other.is_heater && keep);
            keep
        });
    }

    /// Notes a reading of `name` in the current message.
    pub(super) fn reports(&mut self, name: &str) {
        self.has_reading = true;
        if let Some(other) = self.others.get_mut(name) {
            other.reported = true;
        } else if !self.gone.contains(name)
            && !self.profile.iter().flatten().any(|known| known == name)
            && self.others.len() < MAX_HEATERS + MAX_CANDIDATES
            && let Some(heater) = Heater::read(name)
        {
            self.others.insert(heater, Candidate { reported: true, ..Candidate::default() });
        }
    }

    /// Ends the current message. Returns whether the heaters changed.
    pub(super) fn end_message(&mut self, now: Instant, connected: bool) -> bool {
        let before = self.last_report.take_if(|_| self.has_reading || !connected);
        let passed = match before {
            Some(before) if connected => now.saturating_duration_since(before),
            _ => Duration::ZERO,
        };
        let passed = if passed <= MAX_GAP { passed } else { Duration::ZERO };
        if std::mem::take(&mut self.has_reading) && connected {
            self.last_report = Some(now);
        }
        let mut room = MAX_HEATERS.saturating_sub(self.known().count());
        let mut changed = false;
        self.others.retain(|_, other| {
            if !std::mem::take(&mut other.reported) {
                other.silent += passed;
                let removed = other.is_heater && other.silent >= MAX_SILENCE;
                changed |= removed;
                other.in_a_row = 0;
                return other.is_heater && !removed;
            }
            other.silent = Duration::ZERO;
            other.in_a_row = other.in_a_row.saturating_add(1);
            if !other.is_heater && other.in_a_row >= MIN_READINGS && room > 0 {
                other.is_heater = true;
                room -= 1;
                changed = true;
            }
            true
        });
        changed
    }

    /// Returns the known heaters, those of the profile first.
    pub(super) fn known(&self) -> impl Iterator<Item = &Heater> + Clone {
        let others = self.others.iter().filter(|(_, other)| other.is_heater);
        self.profile.iter().flatten().chain(others.map(|(heater, _)| heater))
    }

    /// Returns the known heaters, else those that nearly every printer has.
    pub(super) fn heaters(&self) -> Vec<Heater> {
        if self.assumes() { Heater::assumed() } else { self.known().cloned().collect() }
    }

    fn assumes(&self) -> bool {
        self.profile.is_none() && self.known().next().is_none()
    }

    pub(super) fn is_heater(&self, name: &str) -> bool {
        if self.assumes() {
            matches!(HeaterKind::of(name), HeaterKind::Tool(0) | HeaterKind::Bed)
        } else {
            self.profile.iter().flatten().any(|known| known == name)
                || self.others.get(name).is_some_and(|other| other.is_heater)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Heater> {
        names.iter().filter_map(|name| Heater::read(name)).collect()
    }

    struct Line {
        roster: Roster,
        now: Instant,
    }

    impl Line {
        fn new(profile: Option<&[&str]>) -> Self {
            let mut roster = Roster::default();
            if let Some(profile) = profile {
                roster.set_profile(Some(names(profile)));
            }
            Self { roster, now: Instant::now() }
        }

        /// Receives readings of `names` two seconds later.
        fn read(&mut self, names: &[&str]) -> bool {
            self.now += Duration::from_secs(2);
            names.iter().for_each(|name| self.roster.reports(name));
            self.roster.end_message(self.now, true)
        }

        fn reads(&mut self, times: u32, names: &[&str]) {
            for _ in 0..times {
                self.read(names);
            }
        }

        fn known(&self) -> Vec<&Heater> {
            self.roster.known().collect()
        }
    }

    #[test]
    fn noise_makes_no_heaters() {
        let mut line = Line::new(Some(&["tool0", "bed"]));
        for n in 0..30 {
            let noise = format!("OOO{n}T");
            for _ in 0..9 {
                assert!(!line.read(&["tool0", "bed", &noise]));
            }
            assert!(!line.read(&["tool0", "bed", "null", "time"]));
        }
        assert_eq!(line.known(), ["tool0", "bed"]);
        assert!(line.roster.others.is_empty(), "nothing is left of the noise");
    }

    #[test]
    fn ten_readings_in_a_row_add_a_heater_and_an_hour_of_silence_removes_it() {
        let mut line = Line::new(Some(&["tool0"]));
        let changes = (0..10).filter(|_| line.read(&["tool0", "A"])).count();
        assert_eq!(changes, 1);
        assert_eq!(line.known(), ["tool0", "A"]);
        let nearly = 60 * 60 / 2 - 1;
        assert!((0..nearly).all(|_| !line.read(&["tool0"])));
        assert!(!line.read(&["A"]) && line.roster.is_heater("A"), "it reported in time");
        assert!((0..nearly).all(|_| !line.read(&["tool0"])));
        assert!(line.read(&["tool0"]) && !line.roster.is_heater("A"));
    }

    #[test]
    fn a_night_off_removes_no_heater() {
        let mut line = Line::new(Some(&["tool0"]));
        line.reads(10, &["tool0", "A"]);
        for _ in 0..20_000 {
            line.now += Duration::from_secs(2);
            // OctoPrint is running, the printer is off; then there are no messages at all.
            assert!(!line.roster.end_message(line.now, false));
        }
        line.now += Duration::from_secs(10 * 60 * 60);
        assert!(!line.read(&["tool0"]));
        for _ in 0..850 {
            assert!(!line.read(&["tool0"]));
            // Messages without any reading do not count.
            assert!(!line.read(&[]));
        }
        assert!(line.roster.is_heater("A"));
    }

    #[test]
    fn heaters_are_thirty_two_at_most() {
        let mut line = Line::new(Some(&["tool0", "bed"]));
        let names: Vec<String> = (0..200).map(|n| format!("S{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        line.reads(12, &names);
        assert_eq!(line.known().len(), MAX_HEATERS);
        assert!(line.roster.others.len() <= MAX_HEATERS + MAX_CANDIDATES);
        let tools = (0..32).map(Heater::tool).collect();
        line.roster.set_profile(Some(tools));
        assert!(line.known().len() == MAX_HEATERS && line.roster.is_heater("tool31"));
    }

    #[test]
    fn restored_heaters_are_known_until_the_profile_is() {
        let mut line = Line::new(None);
        assert_eq!(line.roster.heaters(), Heater::assumed());
        let restored = serde_json::from_str(r#"["tool0", "tool1", "A", "null"]"#).unwrap();
        assert!(line.roster.restore(restored).is_empty());
        assert_eq!(line.known(), ["tool0", "tool1", "A"]);
        line.roster.set_profile(Some(names(&["tool0", "bed"])));
        assert_eq!(line.known(), ["tool0", "bed", "A"]);
        line.reads(20, &["tool0", "tool1", "bed"]);
        assert!(!line.roster.is_heater("tool1"), "it left the profile, although it reports");
        // Read back from the broker after the profile was received.
        assert_eq!(line.roster.restore(names(&["chamber", "B", "bed"])), ["chamber"]);
        assert_eq!(line.known(), ["tool0", "bed", "A", "B"]);
    }

    #[test]
    fn without_a_profile_the_reported_names_are_heaters() {
        let mut line = Line::new(None);
        line.roster.restore(Heater::assumed());
        line.roster.set_profile(None);
        line.reads(10, &["tool0", "tool1"]);
        assert_eq!(line.known(), ["bed", "tool0", "tool1"]);
        line.reads(1_800, &["tool0", "tool1"]);
        assert_eq!(line.known(), ["tool0", "tool1"], "there is no bed");
    }
}
