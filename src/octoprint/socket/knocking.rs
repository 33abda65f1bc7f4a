//! Asking in a long wait whether OctoPrint is back: when, and what the answer is worth (pure).
//!
//! A login tells more, but a refused one counts against this address, so that logins keep to the
//! list of timeouts. A knock is a question that anyone may ask, and harms nobody.

use std::time::Duration;

use tokio::time::Instant;

/// How often OctoPrint is asked at first, and later.
const OFTEN: Duration = Duration::from_secs(2);
const SELDOM: Duration = Duration::from_secs(5);
/// From when on it is asked seldom.
const LONG: Duration = Duration::from_secs(600);
/// An attempt that comes so soon is not worth a knock.
const SOON: Duration = Duration::from_secs(2);
/// The last knock of a wait is at least so much earlier than [`SOON`] …
const AT_LEAST: Duration = Duration::from_millis(50);
/// … and the attempt begins so much later than a knock's turn would have been, at most.
const LATE: Duration = Duration::from_millis(400);

/// What came of a knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KnockResult {
    /// 200: OctoPrint is there.
    There,
    /// Nothing came, or an answer that says that OctoPrint is not up.
    Away,
    /// Something else answers at its address.
    Other,
}

/// When to knock, and whether an answer ends the wait.
#[derive(Debug)]
pub(super) struct Knocking {
    enabled: bool,
    /// Since when OctoPrint could not be reached; `None`: knocking is out of place.
    since: Option<Instant>,
    last: Option<Instant>,
    /// Where in the interval this wait's knocks are, 0 to 1: many printers are spread out.
    phase: f64,
    /// Whether the next 200 ends the wait: it did that once, in vain, and OctoPrint has answered
    /// ever since.
    trusts_answers: bool,
}

impl Knocking {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, since: None, last: None, phase: 0.0, trusts_answers: true }
    }

    /// A wait begins because OctoPrint could not be reached. `phase`, 0 to 1, is by chance.
    pub(super) fn start(&mut self, phase: f64, now: Instant) {
        self.since.get_or_insert(now);
        self.phase = phase.clamp(0.0, 1.0);
    }

    /// A wait begins for another reason: OctoPrint has answered, and refused, or the line was lost.
    pub(super) fn stop(&mut self) {
        self.since = None;
    }

    /// Whether OctoPrint is known not to be reached.
    pub(super) fn is_active(&self) -> bool {
        self.since.is_some()
    }

    /// Connected: all is forgotten.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.enabled);
    }

    /// When to knock next in a wait that `ends` with an attempt.
    pub(super) fn next(&self, now: Instant, ends: Instant) -> Option<Instant> {
        let since = self.since.filter(|_| self.enabled)?;
        let long = now.saturating_duration_since(since) >= LONG;
        let every = if long { SELDOM } else { OFTEN };
        // Counted back from the attempt, so that there is no gap before it.
        let shift = (every + LATE - SOON - AT_LEAST).mul_f64(self.phase);
        let last = ends.checked_sub(SOON + AT_LEAST + shift)?;
        let rested = self.last.map_or(now, |knocked| now.max(knocked + OFTEN));
        let earlier = last.checked_duration_since(rested)?.as_nanos() / every.as_nanos();
        Some(last - every * u32::try_from(earlier).ok()?)
    }

    /// A knock that began at `at` has come to this. Whether it ends the wait.
    pub(super) fn knocked(&mut self, answer: KnockResult, at: Instant) -> bool {
        self.last = Some(at);
        match answer {
            KnockResult::There if self.since.is_some() => std::mem::take(&mut self.trusts_answers),
            KnockResult::Away => {
                self.trusts_answers = true;
                false
            }
            KnockResult::There | KnockResult::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octoprint::{Backoff, DEFAULT_TIMEOUTS};

    const S: fn(u64) -> Duration = Duration::from_secs;

    /// An OctoPrint in simulated time, and a socket that tries it.
    struct World {
        start: Instant,
        now: Instant,
        knocking: Knocking,
        backoff: Backoff,
        /// What an attempt, and a knock, at this many seconds finds.
        octoprint: Box<dyn Fn(Duration) -> Found>,
        logins: Vec<Duration>,
        attempts: Vec<Duration>,
        knocks: Vec<Duration>,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Found {
        Nothing,
        /// Knocks are answered, logins refused.
        WrongKey,
        /// Knocks are answered, and nothing else: a proxy has them from its cache.
        KnocksOnly,
        All,
    }

    impl World {
        fn new(enabled: bool, octoprint: impl Fn(Duration) -> Found + 'static) -> Self {
            let now = Instant::now();
            Self {
                start: now,
                now,
                knocking: Knocking::new(enabled),
                backoff: Backoff::new(DEFAULT_TIMEOUTS.to_vec(), false),
                octoprint: Box::new(octoprint),
                logins: Vec::new(),
                attempts: Vec::new(),
                knocks: Vec::new(),
            }
        }

        fn found(&self) -> Found {
            (self.octoprint)(self.now - self.start)
        }

        /// Lives until connected, or for `long`.
        fn live(&mut self, long: Duration) {
            let mut phases = (0..).map(|n: u32| f64::from(n * 37 % 100) / 100.0);
            while self.now < self.start + long {
                let elapsed = self.now - self.start;
                self.attempts.push(elapsed);
                let pause = match self.found() {
                    Found::All => return,
                    Found::WrongKey => {
                        self.logins.push(elapsed);
                        self.knocking.stop();
                        S(600)
                    }
                    Found::Nothing | Found::KnocksOnly => {
                        self.knocking.start(phases.next().unwrap(), self.now);
                        self.backoff.next_timeout().unwrap()
                    }
                };
                self.wait(pause);
            }
        }

        fn wait(&mut self, pause: Duration) {
            let ends = self.now + pause;
            while let Some(at) = self.knocking.next(self.now, ends) {
                assert!(at >= self.now && at + SOON < ends, "not within 2 s of the attempt");
                self.now = at;
                self.knocks.push(at - self.start);
                let answer = if self.found() == Found::Nothing {
                    KnockResult::Away
                } else {
                    KnockResult::There
                };
                if self.knocking.knocked(answer, at) {
                    return;
                }
            }
            self.now = ends;
        }
    }

    #[test]
    fn an_octoprint_that_is_back_is_tried_within_two_and_a_half_seconds() {
        // Wherever in the list of timeouts it falls.
        for tenths in 1..5990 {
            let back = Duration::from_millis(tenths * 100);
            let found = move |at| if at < back { Found::Nothing } else { Found::All };
            let mut world = World::new(true, found);
            world.live(S(3600));
            let late = *world.attempts.last().unwrap() - back;
            assert!(late <= Duration::from_millis(2500), "back at {back:?}, tried {late:?} later");
        }
    }

    #[test]
    fn after_ten_minutes_it_is_asked_every_five_seconds() {
        let mut world = World::new(true, |_| Found::Nothing);
        world.live(S(3600));
        let gaps = |from: Duration| {
            let knocks = world.knocks.iter().filter(move |at| **at > from);
            knocks.clone().zip(knocks.skip(1)).map(|(a, b)| *b - *a).collect::<Vec<_>>()
        };
        assert!(gaps(Duration::ZERO).iter().all(|gap| *gap >= OFTEN));
        // But for the ones around an attempt, which is a question too.
        let late = gaps(S(720));
        let rare = late.iter().filter(|gap| **gap != SELDOM).count();
        let attempts = world.attempts.iter().filter(|at| **at > S(720)).count();
        assert!(rare <= attempts && attempts < late.len() / 10, "{late:?}");
        let with_attempts = |from: Duration| {
            let mut all: Vec<_> =
                world.knocks.iter().chain(&world.attempts).filter(|at| **at > from).collect();
            all.sort();
            all.windows(2).map(|pair| *pair[1] - *pair[0]).max().unwrap()
        };
        assert!(with_attempts(Duration::ZERO) <= Duration::from_millis(7500));
        assert!(with_attempts(S(720)) <= Duration::from_millis(5500));
        assert!(world.knocks.len() > 700);
    }

    #[test]
    fn an_hour_of_a_wrong_key_makes_no_more_logins_than_without() {
        let steady: fn(Duration) -> Found = |_| Found::WrongKey;
        // Down for twenty seconds every seven minutes.
        let restarted: fn(Duration) -> Found =
            |at| if at.as_secs() % 420 < 20 { Found::Nothing } else { Found::WrongKey };
        for octoprint in [steady, restarted] {
            let logins = [true, false].map(|enabled| {
                let mut world = World::new(enabled, octoprint);
                world.live(S(3600));
                world.logins
            });
            assert!(logins[0].len() <= logins[1].len(), "{logins:?}");
            assert!(logins[0].len() <= 7);
        }
        let mut world = World::new(true, steady);
        world.live(S(3600));
        assert!(world.knocks.is_empty(), "never in the wait after a refused login");
    }

    #[test]
    fn a_knock_that_was_in_vain_is_not_heeded_again() {
        let only: fn(Duration) -> Found = |_| Found::KnocksOnly;
        let attempts = [true, false].map(|enabled| {
            let mut world = World::new(enabled, only);
            world.live(S(3600));
            world.attempts.len()
        });
        assert!(attempts[0] <= attempts[1] + 1, "{attempts:?}");
        // Once a knock has been unanswered, the next answer counts again.
        let now = Instant::now();
        let mut knocking = Knocking::new(true);
        knocking.start(0.5, now);
        assert!(knocking.knocked(KnockResult::There, now));
        assert!(!knocking.knocked(KnockResult::There, now + S(2)));
        assert!(!knocking.knocked(KnockResult::Other, now + S(4)));
        assert!(!knocking.knocked(KnockResult::There, now + S(6)));
        assert!(!knocking.knocked(KnockResult::Away, now + S(8)));
        assert!(knocking.knocked(KnockResult::There, now + S(10)));
        knocking.reset();
        assert!(!knocking.knocked(KnockResult::There, now + S(12)), "nothing to wait for");
    }

    #[test]
    fn off_is_off_and_short_waits_are_left_alone() {
        let mut world = World::new(false, |_| Found::Nothing);
        world.live(S(600));
        assert!(world.knocks.is_empty());
        let now = Instant::now();
        let mut knocking = Knocking::new(true);
        for phase in [0.0, 0.3, 1.0] {
            knocking.start(phase, now);
            assert_eq!(knocking.next(now, now + S(2)), None);
            assert!(knocking.next(now, now + S(3)).is_some());
        }
    }

    #[test]
    fn many_printers_do_not_knock_together() {
        let now = Instant::now();
        let first = |phase| {
            let mut knocking = Knocking::new(true);
            knocking.start(phase, now);
            knocking.next(now, now + S(100)).unwrap() - now
        };
        let mut times: Vec<_> = (0..100).map(|n| first(f64::from(n) / 100.0)).collect();
        times.sort();
        times.dedup();
        assert_eq!(times.len(), 100);
        assert!(times[99] - times[0] > Duration::from_millis(300));
    }
}
