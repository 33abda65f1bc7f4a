//! What is a heater (pure).
//!
//! Firmware reports whatever it likes, and noise on the line makes names of its own. A name is a
//! heater when the printer profile has it, or once it reported ten times in a row. One that is not
//! in the profile is a heater no more when it was silent for an hour in which others reported.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::heater::{Heater, HeaterKind};

/// So many readings in a row make a heater.
const IN_A_ROW: u32 = 10;
/// So long a silence ends one.
const SILENCE: Duration = Duration::from_secs(60 * 60);
/// Readings that are farther apart say nothing of the time between: the printer was off, or the
/// bridge did not hear it.
const APART: Duration = Duration::from_secs(60);
/// Most heaters of one printer.
const MOST: usize = 32;
/// Most names that may become heaters at a time.
const MOST_CANDIDATES: usize = 64;

/// The heaters of one printer.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Of the printer profile; `None`: nothing is known of it.
    profile: Option<Vec<Heater>>,
    /// Whether OctoPrint told the profile. Else it is the one from before the start.
    told: bool,
    /// Heaters that the profile does not have, and names that may become some.
    others: BTreeMap<Heater, Other>,
    /// Of a former profile and not of this one: ignored though the firmware may report them.
    gone: BTreeSet<Heater>,
    /// When anything was reported last.
    reported: Option<Instant>,
    anything: bool,
}

#[derive(Debug, Default)]
struct Other {
    announced: bool,
    here: bool,
    in_a_row: u32,
    silent: Duration,
}

impl Other {
    fn announced() -> Self {
        Self { announced: true, ..Self::default() }
    }
}

impl Roster {
    /// The heaters from before the start. Yields those that are none any more.
    pub(super) fn restore(&mut self, heaters: Vec<Heater>) -> Vec<Heater> {
        let mut none = Vec::new();
        for heater in heaters {
            if !Heater::is_name(heater.as_str()) || self.known().any(|known| *known == heater) {
                continue;
            }
            if !heater.can_be_set() {
                self.others.insert(heater, Other::announced());
            } else if self.told {
                self.gone.insert(heater.clone());
                none.push(heater);
            } else {
                self.profile.get_or_insert_default().push(heater);
            }
        }
        self.limit();
        none
    }

    /// The heaters of the profile in force; `None`: this user may not see it.
    pub(super) fn set_profile(&mut self, heaters: Option<Vec<Heater>>) {
        let Some(mut heaters) = heaters else {
            // What it was before the start is no more than a guess.
            if !self.told {
                let guessed = self.profile.take().into_iter().flatten();
                self.others.extend(guessed.map(|name| (name, Other::announced())));
            }
            return;
        };
        heaters.truncate(MOST);
        self.others.retain(|name, _| !heaters.contains(name));
        self.gone.extend(self.profile.replace(heaters).into_iter().flatten());
        self.told = true;
        let profile = self.profile.as_deref().unwrap_or_default();
        self.gone.retain(|name| !profile.contains(name));
        self.limit();
    }

    fn limit(&mut self) {
        let mut room = MOST.saturating_sub(self.profile.as_ref().map_or(0, Vec::len));
        self.others.retain(|_, other| {
            let keep = !other.announced || room > 0;
            room -= usize::from(other.announced && keep);
            keep
        });
    }

    /// `name` reported a number in the message that is being read.
    pub(super) fn reports(&mut self, name: &str) {
        self.anything = true;
        if let Some(other) = self.others.get_mut(name) {
            other.here = true;
        } else if !self.gone.contains(name)
            && !self.profile.iter().flatten().any(|known| known == name)
            && self.others.len() < MOST + MOST_CANDIDATES
            && let Some(heater) = Heater::read(name)
        {
            self.others.insert(heater, Other { here: true, ..Other::default() });
        }
    }

    /// All readings of a message are read. Yields whether there are others heaters now.
    pub(super) fn all_read(&mut self, now: Instant, connected: bool) -> bool {
        let before = self.reported.take_if(|_| self.anything || !connected);
        let passed = match before {
            Some(before) if connected => now.saturating_duration_since(before),
            _ => Duration::ZERO,
        };
        let passed = if passed <= APART { passed } else { Duration::ZERO };
        if std::mem::take(&mut self.anything) && connected {
            self.reported = Some(now);
        }
        let mut room = MOST.saturating_sub(self.known().count());
        let mut changed = false;
        self.others.retain(|_, other| {
            if !std::mem::take(&mut other.here) {
                other.silent += passed;
                let withdrawn = other.announced && other.silent >= SILENCE;
                changed |= withdrawn;
                other.in_a_row = 0;
                return other.announced && !withdrawn;
            }
            other.silent = Duration::ZERO;
            other.in_a_row = other.in_a_row.saturating_add(1);
            if !other.announced && other.in_a_row >= IN_A_ROW && room > 0 {
                other.announced = true;
                room -= 1;
                changed = true;
            }
            true
        });
        changed
    }

    /// The heaters that are known, those of the profile first.
    pub(super) fn known(&self) -> impl Iterator<Item = &Heater> + Clone {
        let others = self.others.iter().filter(|(_, other)| other.announced);
        self.profile.iter().flatten().chain(others.map(|(heater, _)| heater))
    }

    /// The heaters: those that are known, else what nearly every printer has.
    pub(super) fn heaters(&self) -> Vec<Heater> {
        if self.assumes() { Heater::assumed() } else { self.known().cloned().collect() }
    }

    /// Whether nothing is known.
    fn assumes(&self) -> bool {
        self.profile.is_none() && self.known().next().is_none()
    }

    pub(super) fn is_heater(&self, name: &str) -> bool {
        if self.assumes() {
            matches!(HeaterKind::of(name), HeaterKind::Tool(0) | HeaterKind::Bed)
        } else {
            self.profile.iter().flatten().any(|known| known == name)
                || self.others.get(name).is_some_and(|other| other.announced)
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

        /// Two seconds later these report.
        fn read(&mut self, names: &[&str]) -> bool {
            self.now += Duration::from_secs(2);
            names.iter().for_each(|name| self.roster.reports(name));
            self.roster.all_read(self.now, true)
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
    fn ten_readings_in_a_row_make_a_heater_and_an_hour_of_silence_ends_it() {
        let mut line = Line::new(Some(&["tool0"]));
        let changes = (0..10).filter(|_| line.read(&["tool0", "A"])).count();
        assert_eq!(changes, 1);
        assert_eq!(line.known(), ["tool0", "A"]);
        let nearly = 60 * 60 / 2 - 1;
        assert!((0..nearly).all(|_| !line.read(&["tool0"])));
        assert!(!line.read(&["A"]) && line.roster.is_heater("A"), "it was silent in time");
        assert!((0..nearly).all(|_| !line.read(&["tool0"])));
        assert!(line.read(&["tool0"]) && !line.roster.is_heater("A"));
    }

    #[test]
    fn a_night_off_takes_nothing_away() {
        let mut line = Line::new(Some(&["tool0"]));
        line.reads(10, &["tool0", "A"]);
        for _ in 0..20_000 {
            line.now += Duration::from_secs(2);
            // OctoPrint is there, the printer is not; then nothing comes at all.
            assert!(!line.roster.all_read(line.now, false));
        }
        line.now += Duration::from_secs(10 * 60 * 60);
        assert!(!line.read(&["tool0"]));
        for _ in 0..850 {
            assert!(!line.read(&["tool0"]));
            // Messages without any reading count nothing.
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
        assert_eq!(line.known().len(), MOST);
        assert!(line.roster.others.len() <= MOST + MOST_CANDIDATES);
        let tools = (0..32).map(Heater::tool).collect();
        line.roster.set_profile(Some(tools));
        assert!(line.known().len() == MOST && line.roster.is_heater("tool31"));
    }

    #[test]
    fn what_was_before_the_start_holds_until_the_profile_says_otherwise() {
        let mut line = Line::new(None);
        assert_eq!(line.roster.heaters(), Heater::assumed());
        let kept = serde_json::from_str(r#"["tool0", "tool1", "A", "null"]"#).unwrap();
        assert!(line.roster.restore(kept).is_empty());
        assert_eq!(line.known(), ["tool0", "tool1", "A"]);
        line.roster.set_profile(Some(names(&["tool0", "bed"])));
        assert_eq!(line.known(), ["tool0", "bed", "A"]);
        line.reads(20, &["tool0", "tool1", "bed"]);
        assert!(!line.roster.is_heater("tool1"), "it left the profile, whatever is reported");
        // Read back from the broker after the profile was told.
        assert_eq!(line.roster.restore(names(&["chamber", "B", "bed"])), ["chamber"]);
        assert_eq!(line.known(), ["tool0", "bed", "A", "B"]);
    }

    #[test]
    fn without_a_profile_what_reports_counts() {
        let mut line = Line::new(None);
        line.roster.restore(Heater::assumed());
        line.roster.set_profile(None);
        line.reads(10, &["tool0", "tool1"]);
        assert_eq!(line.known(), ["bed", "tool0", "tool1"]);
        line.reads(1_800, &["tool0", "tool1"]);
        assert_eq!(line.known(), ["tool0", "tool1"], "there is no bed");
    }
}
