//! When to knock in a long wait, and whether the answer ends the wait (pure).
//!
//! A knock is an unauthenticated request that finds out whether OctoPrint is up again. A login would
//! find out more, but refused logins lock out this address, so logins follow the list of timeouts.

use std::time::Duration;

use tokio::time::Instant;

/// Interval between knocks during the first ten minutes of an outage.
const OFTEN: Duration = Duration::from_secs(2);
/// Interval between knocks in a long outage.
const SELDOM: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(600);
/// Time before an attempt in which there is no knock.
const SOON: Duration = Duration::from_secs(2);
/// Minimum margin between the last knock of a wait and [`SOON`].
const MIN_MARGIN: Duration = Duration::from_millis(50);
/// Maximum delay of the attempt beyond the interval after the last knock.
const MAX_DELAY: Duration = Duration::from_millis(400);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KnockResult {
    /// Status 200: OctoPrint is up.
    Up,
    /// No answer, or a status that means that OctoPrint is not up.
    Down,
    /// Another status: something else answers at the address.
    Other,
}

/// When to knock, and whether an answer ends the wait.
#[derive(Debug)]
pub(super) struct Knocking {
    enabled: bool,
    /// Since when OctoPrint is unreachable; `None` if it is not known to be.
    since: Option<Instant>,
    last: Option<Instant>,
    /// Position of the knocks within their interval, 0 to 1; random, to spread many printers.
    phase: f64,
    /// Whether the next 200 ends the wait. `false` after one that was followed by a failed attempt,
    /// until OctoPrint stops answering.
    trusts_answers: bool,
}

impl Knocking {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, since: None, last: None, phase: 0.0, trusts_answers: true }
    }

    /// Starts a wait because OctoPrint is unreachable. `phase` is random, 0 to 1.
    pub(super) fn start(&mut self, phase: f64, now: Instant) {
        self.since.get_or_insert(now);
        self.phase = phase.clamp(0.0, 1.0);
    }

    /// Prepares a wait without scheduled knocks: OctoPrint answered, or an established connection was lost.
    pub(super) fn stop(&mut self) {
        self.since = None;
    }

    pub(super) fn is_active(&self) -> bool {
        self.since.is_some()
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.enabled);
    }

    /// Returns when to knock next in a wait that `ends` with an attempt.
    pub(super) fn next(&self, now: Instant, ends: Instant) -> Option<Instant> {
        let since = self.since.filter(|_| self.enabled)?;
        let long = now.saturating_duration_since(since) >= LONG;
        let every = if long { SELDOM } else { OFTEN };
        // Counted back from the attempt, so that there is no gap before it.
        let shift = (every + MAX_DELAY - SOON - MIN_MARGIN).mul_f64(self.phase);
        let last = ends.checked_sub(SOON + MIN_MARGIN + shift)?;
        let rested = self.last.map_or(now, |knocked| now.max(knocked + OFTEN));
        let earlier = last.checked_duration_since(rested)?.as_nanos() / every.as_nanos();
        Some(last - every * u32::try_from(earlier).ok()?)
    }

    /// Records the result of a knock that started at `at`. Returns whether it ends the wait.
    pub(super) fn knocked(&mut self, result: KnockResult, at: Instant) -> bool {
        self.last = Some(at);
        match result {
            KnockResult::Up if self.since.is_some() => std::mem::take(&mut self.trusts_answers),
            KnockResult::Down => {
                self.trusts_answers = true;
                false
            }
            KnockResult::Up | KnockResult::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octoprint::{Backoff, DEFAULT_TIMEOUTS};

    const S: fn(u64) -> Duration = Duration::from_secs;

    struct World {
        start: Instant,
        now: Instant,
        knocking: Knocking,
        backoff: Backoff,
        /// The state of OctoPrint after a duration.
        octoprint: Box<dyn Fn(Duration) -> Reply>,
        logins: Vec<Duration>,
        attempts: Vec<Duration>,
        knocks: Vec<Duration>,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Reply {
        Nothing,
        /// Knocks are answered, logins refused.
        WrongKey,
        /// Only knocks are answered, from a proxy's cache.
        KnocksOnly,
        All,
    }

    impl World {
        fn new(enabled: bool, octoprint: impl Fn(Duration) -> Reply + 'static) -> Self {
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

        fn reply(&self) -> Reply {
            (self.octoprint)(self.now - self.start)
        }

        /// Runs until connected, or for `long`.
        fn run(&mut self, long: Duration) {
            let mut phases = (0..).map(|n: u32| f64::from(n * 37 % 100) / 100.0);
            while self.now < self.start + long {
                let elapsed = self.now - self.start;
                self.attempts.push(elapsed);
                let pause = match self.reply() {
                    Reply::All => return,
                    Reply::WrongKey => {
                        self.logins.push(elapsed);
                        self.knocking.stop();
                        S(600)
                    }
                    Reply::Nothing | Reply::KnocksOnly => {
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
                let answer = if self.reply() == Reply::Nothing {
                    KnockResult::Down
                } else {
                    KnockResult::Up
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
        for tenths in 1..5990 {
            let back = Duration::from_millis(tenths * 100);
            let found = move |at| if at < back { Reply::Nothing } else { Reply::All };
            let mut world = World::new(true, found);
            world.run(S(3600));
            let late = *world.attempts.last().unwrap() - back;
            assert!(late <= Duration::from_millis(2500), "back at {back:?}, tried {late:?} later");
        }
    }

    #[test]
    fn after_ten_minutes_it_is_asked_every_five_seconds() {
        let mut world = World::new(true, |_| Reply::Nothing);
        world.run(S(3600));
        let gaps = |from: Duration| {
            let knocks = world.knocks.iter().filter(move |at| **at > from);
            knocks.clone().zip(knocks.skip(1)).map(|(a, b)| *b - *a).collect::<Vec<_>>()
        };
        assert!(gaps(Duration::ZERO).iter().all(|gap| *gap >= OFTEN));
        // Except around an attempt, which takes the place of a knock.
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
        let steady: fn(Duration) -> Reply = |_| Reply::WrongKey;
        // Down for twenty seconds every seven minutes.
        let restarted: fn(Duration) -> Reply =
            |at| if at.as_secs() % 420 < 20 { Reply::Nothing } else { Reply::WrongKey };
        for octoprint in [steady, restarted] {
            let logins = [true, false].map(|enabled| {
                let mut world = World::new(enabled, octoprint);
                world.run(S(3600));
                world.logins
            });
            assert!(logins[0].len() <= logins[1].len(), "{logins:?}");
            assert!(logins[0].len() <= 7);
        }
        let mut world = World::new(true, steady);
        world.run(S(3600));
        assert!(world.knocks.is_empty(), "never in the wait after a refused login");
    }

    #[test]
    fn a_knock_before_a_failed_attempt_is_not_trusted_again() {
        let only: fn(Duration) -> Reply = |_| Reply::KnocksOnly;
        let attempts = [true, false].map(|enabled| {
            let mut world = World::new(enabled, only);
            world.run(S(3600));
            world.attempts.len()
        });
        assert!(attempts[0] <= attempts[1] + 1, "{attempts:?}");
        // After an unanswered knock, the next answer counts again.
        let now = Instant::now();
        let mut knocking = Knocking::new(true);
        knocking.start(0.5, now);
        assert!(knocking.knocked(KnockResult::Up, now));
        assert!(!knocking.knocked(KnockResult::Up, now + S(2)));
        assert!(!knocking.knocked(KnockResult::Other, now + S(4)));
        assert!(!knocking.knocked(KnockResult::Up, now + S(6)));
        assert!(!knocking.knocked(KnockResult::Down, now + S(8)));
        assert!(knocking.knocked(KnockResult::Up, now + S(10)));
        knocking.reset();
        assert!(!knocking.knocked(KnockResult::Up, now + S(12)), "nothing to wait for");
    }

    #[test]
    fn there_are_no_knocks_if_off_or_in_short_waits() {
        let mut world = World::new(false, |_| Reply::Nothing);
        world.run(S(600));
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
