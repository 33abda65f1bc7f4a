//! Who can hear events just now (pure): time is an argument.
//!
//! A subscriber with a clean session hears nothing of what is delivered before it is back. After a
//! broker was restarted, events wait until subscribers had time to come back; and those for Home
//! Assistant wait for it, as its [`Attendance`] says.

use std::time::{Duration, Instant};

use crate::mqtt::publication::{Audience, Incoming};

/// A broker that runs for less than this at the program's start was restarted with the host.
const YOUNG: Duration = Duration::from_secs(2 * 60);

/// A new connection, subscribed, and what is known of the broker then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// For how long the broker runs, which may be ten seconds old; `None` where it does not say.
    pub uptime: Option<Duration>,
    /// Whether the broker may have been restarted since it was heard last.
    pub restarted: bool,
}

/// What an [`Attendance`] makes of what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Events may go out.
    pub present: bool,
    /// Discovery and all state are to be published again, and [`Attendance::announced`] is to be
    /// told when the broker has them.
    pub republish: bool,
    /// When to ask again at the latest.
    pub due: Option<Instant>,
}

/// Whether Home Assistant is there to hear events.
pub trait Attendance: Send {
    /// Whether events may ever wait for it.
    fn waits(&self) -> bool;
    /// A connection is there and subscribed.
    fn subscribed(&mut self, subscribed: Subscribed, now: Instant);
    /// A message came; `true` where it was one for this.
    fn hear(&mut self, message: &Incoming, now: Instant) -> bool;
    /// The broker has what was to be published again.
    fn announced(&mut self, now: Instant);
    /// What follows, asked after each of the above and when it is due.
    fn verdict(&mut self, now: Instant) -> Verdict;
    /// Its state in one word, for people.
    fn state(&self) -> &'static str;
}

/// Since when the broker was not heard, when a new connection is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mqtt) enum Absence {
    /// The program has just started. `restored`: events of before the start wait. `away`: for how
    /// long the program was not there, where that is known.
    Start { restored: bool, away: Option<Duration> },
    /// It was heard, or tried in vain, for the last time so long ago.
    Since(Duration),
}

/// Whether the broker may have been restarted meanwhile. One that does not say how long it runs
/// counts as restarted, but at the start of the program, where nothing waits as a rule.
pub(in crate::mqtt) fn restarted(absence: Absence, uptime: Option<Duration>) -> bool {
    match absence {
        Absence::Since(absence) => uptime.is_none_or(|uptime| uptime <= absence),
        Absence::Start { restored, away } => {
            let during = |uptime: Duration| away.is_none_or(|away| uptime <= away);
            uptime.is_some_and(|uptime| uptime < YOUNG) || (restored && uptime.is_none_or(during))
        }
    }
}

/// See the module's text.
pub(in crate::mqtt) struct Admission {
    settle: Duration,
    attendance: Option<Box<dyn Attendance>>,
    /// Whether it is known of this connection whether the broker was restarted.
    known: bool,
    /// Until when subscribers are awaited.
    settled: Option<Instant>,
    verdict: Verdict,
    /// What was published again is not with the broker yet.
    announcing: bool,
}

impl Admission {
    /// Subscribers are awaited for `settle`, and Home Assistant as `attendance` says.
    pub(in crate::mqtt) fn new(settle: Duration, attendance: Option<Box<dyn Attendance>>) -> Self {
        Self {
            settle,
            attendance,
            known: false,
            settled: None,
            verdict: Verdict { present: true, republish: false, due: None },
            announcing: false,
        }
    }

    /// Whether it matters how long the broker runs.
    pub(in crate::mqtt) fn wants_uptime(&self) -> bool {
        self.settle > Duration::ZERO || self.attendance.as_ref().is_some_and(|home| home.waits())
    }

    /// A connection is there, and it is not known yet how long the broker runs.
    pub(in crate::mqtt) fn connected(&mut self) {
        self.known = !self.wants_uptime() && self.attendance.is_none();
        self.announcing = false;
    }

    /// Whether [`Admission::subscribed`] is still to be told.
    pub(in crate::mqtt) fn is_open_question(&self) -> bool {
        !self.known
    }

    /// It is known how long the broker runs, or that it does not say.
    pub(in crate::mqtt) fn subscribed(
        &mut self,
        absence: Absence,
        uptime: Option<Duration>,
        now: Instant,
    ) {
        self.known = true;
        let restarted = restarted(absence, uptime);
        // One that settles already goes on: a broker may be restarted while it does.
        let going_on = self.settled.filter(|at| *at > now);
        self.settled = if restarted { Some(now + self.settle) } else { going_on };
        if let Some(attendance) = &mut self.attendance {
            attendance.subscribed(Subscribed { uptime, restarted }, now);
        }
        self.ask(now);
    }

    /// A message came; `true` where it was one for the attendance.
    pub(in crate::mqtt) fn hear(&mut self, message: &Incoming, now: Instant) -> bool {
        let Some(attendance) = &mut self.attendance else { return false };
        let heard = attendance.hear(message, now);
        if heard {
            self.ask(now);
        }
        heard
    }

    /// The broker has all state of the bridge's own lane.
    pub(in crate::mqtt) fn announced(&mut self, now: Instant) {
        if std::mem::take(&mut self.announcing)
            && let Some(attendance) = &mut self.attendance
        {
            attendance.announced(now);
            self.ask(now);
        }
    }

    /// Whether [`Admission::announced`] is waited for.
    pub(in crate::mqtt) fn is_announcing(&self) -> bool {
        self.announcing
    }

    /// Time has passed.
    pub(in crate::mqtt) fn tick(&mut self, now: Instant) {
        if self.verdict.due.is_some_and(|due| due <= now) {
            self.ask(now);
        }
    }

    fn ask(&mut self, now: Instant) {
        if let Some(attendance) = &mut self.attendance {
            let verdict = attendance.verdict(now);
            self.verdict =
                Verdict { republish: self.verdict.republish || verdict.republish, ..verdict };
        }
    }

    /// Whether all state is to be published again now; once.
    pub(in crate::mqtt) fn take_republish(&mut self) -> bool {
        let republish = std::mem::take(&mut self.verdict.republish);
        self.announcing |= republish;
        republish
    }

    /// The last audience that can hear events now.
    pub(in crate::mqtt) fn open(&self, now: Instant) -> Audience {
        let settling = !self.known || self.settled.is_some_and(|at| now < at);
        if settling && self.settle > Duration::ZERO {
            Audience::Asker
        } else if !self.known || !self.verdict.present {
            Audience::Subscribers
        } else {
            Audience::HomeAssistant
        }
    }

    /// When [`Admission::open`] or the verdict may change by time alone.
    pub(in crate::mqtt) fn due(&self, now: Instant) -> Option<Instant> {
        let settled = self.settled.filter(|at| *at > now);
        [settled, self.verdict.due].into_iter().flatten().min()
    }

    /// Until when events are held back at most, as far as it is known.
    pub(in crate::mqtt) fn until(&self, now: Instant) -> Option<Instant> {
        match self.open(now) {
            Audience::Asker => self.settled.filter(|at| *at > now),
            Audience::Subscribers => self.verdict.due,
            Audience::HomeAssistant => None,
        }
    }

    /// The state of Home Assistant in one word; `None` where it is not asked about.
    pub(in crate::mqtt) fn state(&self) -> Option<&'static str> {
        self.attendance.as_ref().map(|attendance| attendance.state())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(15);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_broker_that_runs_for_longer_than_it_was_away_was_not_restarted() {
        let since = |absence, uptime| restarted(Absence::Since(seconds(absence)), uptime);
        assert!(!since(20, Some(seconds(21))));
        assert!(since(20, Some(seconds(20))), "it may be ten seconds old");
        assert!(since(4, Some(seconds(0))));
        assert!(since(4, None), "a broker that does not say");
    }

    #[test]
    fn nothing_waits_at_the_programs_start_unless_the_host_was_restarted_or_events_were_kept() {
        let start = |restored, away, uptime| restarted(Absence::Start { restored, away }, uptime);
        assert!(!start(false, None, None), "$SYS is forbidden");
        assert!(!start(false, None, Some(seconds(120))));
        assert!(start(false, None, Some(seconds(119))), "the host was restarted");
        assert!(start(true, Some(seconds(60)), None));
        assert!(start(true, None, Some(seconds(9999))));
        assert!(start(true, Some(seconds(600)), Some(seconds(599))));
        assert!(!start(true, Some(seconds(600)), Some(seconds(601))));
    }

    #[test]
    fn subscribers_are_awaited_after_a_restart_and_not_otherwise() {
        let now = Instant::now();
        let mut admission = Admission::new(SETTLE, None);
        admission.connected();
        assert_eq!(admission.open(now), Audience::Asker, "it is not known yet");
        admission.subscribed(Absence::Since(seconds(4)), Some(seconds(0)), now);
        assert_eq!(admission.open(now), Audience::Asker);
        assert_eq!(admission.due(now), Some(now + SETTLE));
        assert_eq!(admission.open(now + SETTLE), Audience::HomeAssistant);
        // The line is cut while it settles, and the broker goes on: it settles on.
        let later = now + seconds(5);
        admission.connected();
        admission.subscribed(Absence::Since(seconds(1)), Some(seconds(11)), later);
        assert_eq!(admission.open(later), Audience::Asker);
        assert_eq!(admission.due(later), Some(now + SETTLE));
        let much_later = now + seconds(100);
        admission.connected();
        admission.subscribed(Absence::Since(seconds(20)), Some(seconds(90)), much_later);
        assert_eq!(admission.open(much_later), Audience::HomeAssistant);
    }

    #[test]
    fn who_wants_no_settling_is_not_asked_about_the_broker() {
        let now = Instant::now();
        let mut admission = Admission::new(Duration::ZERO, None);
        assert!(!admission.wants_uptime());
        admission.connected();
        assert_eq!((admission.open(now), admission.due(now)), (Audience::HomeAssistant, None));
    }

    /// An attendance that says what it is told to.
    struct Scripted(Verdict);

    impl Attendance for Scripted {
        fn waits(&self) -> bool {
            true
        }

        fn subscribed(&mut self, _: Subscribed, _: Instant) {}
        fn hear(&mut self, message: &Incoming, _: Instant) -> bool {
            self.0.republish = true;
            message.topic == "status"
        }
        fn announced(&mut self, _: Instant) {
            self.0 = Verdict { present: true, republish: false, due: None };
        }
        fn verdict(&mut self, _: Instant) -> Verdict {
            let verdict = self.0;
            self.0.republish = false;
            verdict
        }
        fn state(&self) -> &'static str {
            "scripted"
        }
    }

    #[test]
    fn home_assistant_hears_after_what_was_published_again_is_with_the_broker() {
        let now = Instant::now();
        let away = Verdict { present: false, republish: false, due: Some(now + seconds(600)) };
        let mut admission = Admission::new(Duration::ZERO, Some(Box::new(Scripted(away))));
        admission.connected();
        assert_eq!(admission.open(now), Audience::Subscribers, "no settling, but who knows");
        admission.subscribed(Absence::Since(seconds(1)), Some(seconds(0)), now);
        assert_eq!(admission.open(now), Audience::Subscribers);
        assert_eq!(admission.until(now), Some(now + seconds(600)));
        let message =
            Incoming { topic: "status".to_owned(), payload: "online".into(), retained: false };
        assert!(admission.hear(&message, now));
        assert!(admission.take_republish() && !admission.take_republish());
        assert!(admission.is_announcing());
        admission.announced(now);
        assert_eq!(admission.open(now), Audience::HomeAssistant);
    }
}
