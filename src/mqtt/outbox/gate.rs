//! Decides which audiences can hear events now (pure): time is an argument.
//!
//! A subscriber with a clean session misses what is delivered before it is back. So after a broker
//! restart, events wait until subscribers have had time to return, and those for Home Assistant
//! wait as its [`Attendance`] decides.

use std::time::{Duration, Instant};

use crate::mqtt::publication::{Audience, Incoming};

/// Uptime below which a broker counts as restarted with the host when the program starts.
const YOUNG: Duration = Duration::from_secs(2 * 60);

/// Maximum number of messages about attendance that wait until it is known whether the broker was
/// restarted, which takes a second.
const MAX_EARLY: usize = 16;

/// What is known of the broker on a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// The broker's uptime, which may be ten seconds old; `None` if the broker does not publish it.
    pub uptime: Option<Duration>,
    /// Whether the broker may have been restarted since it was last heard.
    pub restarted: bool,
}

/// Status of an [`Attendance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttendanceStatus {
    /// Events may be published.
    pub present: bool,
    /// Discovery and all state must be published again, followed by [`Attendance::announced`] once
    /// the broker has them.
    pub republish: bool,
    /// When to ask again at the latest.
    pub due: Option<Instant>,
}

/// Tracks whether Home Assistant is there to hear events.
pub trait Attendance: Send {
    /// Whether events may ever wait for it.
    fn waits(&self) -> bool;
    /// A new connection is subscribed.
    fn subscribed(&mut self, subscribed: Subscribed, now: Instant);
    /// Whether messages on `topic` are about attendance.
    fn concerns(&self, topic: &str) -> bool;
    /// Handles a message about attendance.
    fn hear(&mut self, message: &Incoming, now: Instant);
    /// The broker has everything that was published again.
    fn announced(&mut self, now: Instant);
    /// Returns the status; called after each of the above and when due.
    fn status(&mut self, now: Instant) -> AttendanceStatus;
    /// Returns the state in one word, for people.
    fn state(&self) -> &'static str;
}

/// Time since the broker was last heard, at a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mqtt) enum BrokerAbsence {
    /// The program has just started. `restored`: events from before the restart wait. `away`: how
    /// long the program was not running, if known. `unreached`: time since the broker was first
    /// found to be unreachable.
    Start { restored: bool, away: Option<Duration>, unreached: Option<Duration> },
    /// Time since the broker was last heard.
    Since(Duration),
}

/// Whether the broker may have been restarted meanwhile. Without an uptime it counts as restarted,
/// except when the program starts and has not found it unreachable: then usually no events wait.
pub(in crate::mqtt) fn restarted(absence: BrokerAbsence, uptime: Option<Duration>) -> bool {
    match absence {
        BrokerAbsence::Since(absence) => uptime.is_none_or(|uptime| uptime <= absence),
        BrokerAbsence::Start { restored, away, unreached } => {
            let during = |uptime: Duration| away.is_none_or(|away| uptime <= away);
            uptime.is_some_and(|uptime| uptime < YOUNG)
                || (restored && uptime.is_none_or(during))
                || unreached.is_some_and(|since| restarted(BrokerAbsence::Since(since), uptime))
        }
    }
}

pub(in crate::mqtt) struct AudienceGate {
    settle: Duration,
    attendance: Option<Box<dyn Attendance>>,
    /// Whether it is known on this connection if the broker was restarted.
    restart_known: bool,
    /// When the wait for subscribers ends.
    settled: Option<Instant>,
    status: AttendanceStatus,
    /// Messages about attendance from before it was known if the broker was restarted: what they say
    /// is newer than what a restart makes uncertain.
    early: Vec<Incoming>,
    /// The broker does not have everything yet that was published again.
    announcing: bool,
}

impl AudienceGate {
    /// Waits for subscribers for `settle`, and for Home Assistant as `attendance` decides.
    pub(in crate::mqtt) fn new(settle: Duration, attendance: Option<Box<dyn Attendance>>) -> Self {
        Self {
            settle,
            attendance,
            restart_known: false,
            settled: None,
            status: AttendanceStatus { present: true, republish: false, due: None },
            early: Vec::new(),
            announcing: false,
        }
    }

    pub(in crate::mqtt) fn wants_uptime(&self) -> bool {
        self.settle > Duration::ZERO || self.attendance.as_ref().is_some_and(|home| home.waits())
    }

    /// A new connection was made; the broker's uptime is not known yet.
    pub(in crate::mqtt) fn connected(&mut self) {
        self.restart_known = !self.wants_uptime() && self.attendance.is_none();
        self.early.clear();
        self.announcing = false;
    }

    /// Whether [`AudienceGate::subscribed`] must still be called for this connection.
    pub(in crate::mqtt) fn is_undecided(&self) -> bool {
        !self.restart_known
    }

    /// The broker's uptime is known, or known to be missing.
    pub(in crate::mqtt) fn subscribed(
        &mut self,
        absence: BrokerAbsence,
        uptime: Option<Duration>,
        now: Instant,
    ) {
        self.restart_known = true;
        let restarted = restarted(absence, uptime);
        // A wait that is running continues.
        let going_on = self.settled.filter(|at| *at > now);
        self.settled = if restarted { Some(now + self.settle) } else { going_on };
        if let Some(attendance) = &mut self.attendance {
            attendance.subscribed(Subscribed { uptime, restarted }, now);
            self.early.drain(..).for_each(|message| attendance.hear(&message, now));
        }
        self.ask(now);
    }

    /// Handles a message; returns `false` if it is not about attendance.
    pub(in crate::mqtt) fn hear(&mut self, message: &Incoming, now: Instant) -> bool {
        let Some(attendance) = &mut self.attendance else { return false };
        if !attendance.concerns(&message.topic) {
            return false;
        }
        if self.restart_known {
            attendance.hear(message, now);
            self.ask(now);
        } else {
            // Only the last ones matter, and whoever may publish there must not fill the memory.
            let surplus = (self.early.len() + 1).saturating_sub(MAX_EARLY);
            self.early.drain(..surplus);
            self.early.push(message.clone());
        }
        true
    }

    pub(in crate::mqtt) fn announced(&mut self, now: Instant) {
        if std::mem::take(&mut self.announcing)
            && let Some(attendance) = &mut self.attendance
        {
            attendance.announced(now);
            self.ask(now);
        }
    }

    pub(in crate::mqtt) fn is_announcing(&self) -> bool {
        self.announcing
    }

    pub(in crate::mqtt) fn tick(&mut self, now: Instant) {
        if self.status.due.is_some_and(|due| due <= now) {
            self.ask(now);
        }
    }

    fn ask(&mut self, now: Instant) {
        if let Some(attendance) = &mut self.attendance {
            let status = attendance.status(now);
            self.status =
                AttendanceStatus { republish: self.status.republish || status.republish, ..status };
        }
    }

    /// Returns, once, whether all state must be published again.
    pub(in crate::mqtt) fn take_republish(&mut self) -> bool {
        let republish = std::mem::take(&mut self.status.republish);
        self.announcing |= republish;
        republish
    }

    /// Returns the last audience that can hear events now.
    pub(in crate::mqtt) fn open(&self, now: Instant) -> Audience {
        let settling = !self.restart_known || self.settled.is_some_and(|at| now < at);
        if settling && self.settle > Duration::ZERO {
            Audience::Asker
        } else if !self.restart_known || !self.status.present {
            Audience::Subscribers
        } else {
            Audience::HomeAssistant
        }
    }

    /// Returns when [`AudienceGate::open`] or the status may change by time alone.
    pub(in crate::mqtt) fn due(&self, now: Instant) -> Option<Instant> {
        let settled = self.settled.filter(|at| *at > now);
        [settled, self.status.due].into_iter().flatten().min()
    }

    /// Returns when events are released at the latest, if known.
    pub(in crate::mqtt) fn until(&self, now: Instant) -> Option<Instant> {
        match self.open(now) {
            Audience::Asker => self.settled.filter(|at| *at > now),
            Audience::Subscribers => self.status.due,
            Audience::HomeAssistant => None,
        }
    }

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
    fn an_uptime_longer_than_the_absence_rules_out_a_restart() {
        let since = |absence, uptime| restarted(BrokerAbsence::Since(seconds(absence)), uptime);
        assert!(!since(20, Some(seconds(21))));
        assert!(since(20, Some(seconds(20))), "it may be ten seconds old");
        assert!(since(4, Some(seconds(0))));
        assert!(since(4, None), "no uptime");
    }

    #[test]
    fn nothing_waits_at_the_start_unless_the_host_was_restarted_or_events_were_restored() {
        let start = |restored, away, uptime| restarted(of_start(restored, away, None), uptime);
        assert!(!start(false, None, None), "$SYS is forbidden");
        assert!(!start(false, None, Some(seconds(120))));
        assert!(start(false, None, Some(seconds(119))), "the host was restarted");
        assert!(start(true, Some(seconds(60)), None));
        assert!(start(true, None, Some(seconds(9999))));
        assert!(start(true, Some(seconds(600)), Some(seconds(599))));
        assert!(!start(true, Some(seconds(600)), Some(seconds(601))));
    }

    fn of_start(
        restored: bool,
        away: Option<Duration>,
        unreached: Option<Duration>,
    ) -> BrokerAbsence {
        BrokerAbsence::Start { restored, away, unreached }
    }

    #[test]
    fn a_failed_attempt_at_the_start_does_not_hide_that_the_host_was_restarted() {
        let start =
            |unreached, uptime| restarted(of_start(false, None, Some(seconds(unreached))), uptime);
        // The name could not be resolved yet, and the broker has been up for a minute.
        assert!(start(1, Some(seconds(60))));
        assert!(!start(1, Some(seconds(120))));
        // The broker was away, and does not publish its uptime.
        assert!(start(1, None));
        assert!(start(300, Some(seconds(300))));
    }

    #[test]
    fn subscribers_are_awaited_after_a_restart_and_not_otherwise() {
        let now = Instant::now();
        let mut gate = AudienceGate::new(SETTLE, None);
        gate.connected();
        assert_eq!(gate.open(now), Audience::Asker, "it is not known yet");
        gate.subscribed(BrokerAbsence::Since(seconds(4)), Some(seconds(0)), now);
        assert_eq!(gate.open(now), Audience::Asker);
        assert_eq!(gate.due(now), Some(now + SETTLE));
        assert_eq!(gate.open(now + SETTLE), Audience::HomeAssistant);
        // The connection breaks during the wait, but the broker was not restarted: the wait
        // continues.
        let later = now + seconds(5);
        gate.connected();
        gate.subscribed(BrokerAbsence::Since(seconds(1)), Some(seconds(11)), later);
        assert_eq!(gate.open(later), Audience::Asker);
        assert_eq!(gate.due(later), Some(now + SETTLE));
        let much_later = now + seconds(100);
        gate.connected();
        gate.subscribed(BrokerAbsence::Since(seconds(20)), Some(seconds(90)), much_later);
        assert_eq!(gate.open(much_later), Audience::HomeAssistant);
    }

    #[test]
    fn without_settling_the_uptime_does_not_matter() {
        let now = Instant::now();
        let mut gate = AudienceGate::new(Duration::ZERO, None);
        assert!(!gate.wants_uptime());
        gate.connected();
        assert_eq!((gate.open(now), gate.due(now)), (Audience::HomeAssistant, None));
    }

    struct Scripted(AttendanceStatus);

    impl Attendance for Scripted {
        fn waits(&self) -> bool {
            true
        }

        fn subscribed(&mut self, _: Subscribed, _: Instant) {
            self.0.republish = false;
        }
        fn concerns(&self, topic: &str) -> bool {
            topic == "status"
        }
        fn hear(&mut self, _: &Incoming, _: Instant) {
            self.0.republish = true;
        }
        fn announced(&mut self, _: Instant) {
            self.0 = AttendanceStatus { present: true, republish: false, due: None };
        }
        fn status(&mut self, _: Instant) -> AttendanceStatus {
            let status = self.0;
            self.0.republish = false;
            status
        }
        fn state(&self) -> &'static str {
            "scripted"
        }
    }

    fn birth() -> Incoming {
        Incoming { topic: "status".to_owned(), payload: "online".into(), retained: false }
    }

    #[test]
    fn what_is_heard_of_attendance_early_counts_after_a_restart_of_the_broker() {
        let now = Instant::now();
        let away = AttendanceStatus { present: false, republish: false, due: None };
        let mut gate = AudienceGate::new(Duration::ZERO, Some(Box::new(Scripted(away))));
        gate.connected();
        for _ in 0..100 {
            assert!(gate.hear(&birth(), now));
        }
        assert_eq!(gate.early.len(), MAX_EARLY);
        assert!(!gate.take_republish(), "it is not known yet if the broker was restarted");
        gate.subscribed(BrokerAbsence::Since(seconds(1)), Some(seconds(0)), now);
        assert!(gate.take_republish());
        let other = Incoming { topic: "set/job".to_owned(), ..birth() };
        assert!(!gate.hear(&other, now));
        // What was heard on a connection that broke before is outdated.
        gate.connected();
        gate.hear(&birth(), now);
        gate.connected();
        gate.subscribed(BrokerAbsence::Since(seconds(1)), Some(seconds(0)), now);
        assert!(!gate.take_republish());
    }

    #[test]
    fn home_assistant_hears_events_once_everything_was_published_again() {
        let now = Instant::now();
        let away =
            AttendanceStatus { present: false, republish: false, due: Some(now + seconds(600)) };
        let mut gate = AudienceGate::new(Duration::ZERO, Some(Box::new(Scripted(away))));
        gate.connected();
        assert_eq!(gate.open(now), Audience::Subscribers, "no settling, but attendance is open");
        gate.subscribed(BrokerAbsence::Since(seconds(1)), Some(seconds(0)), now);
        assert_eq!(gate.open(now), Audience::Subscribers);
        assert_eq!(gate.until(now), Some(now + seconds(600)));
        assert!(gate.hear(&birth(), now));
        assert!(gate.take_republish() && !gate.take_republish());
        assert!(gate.is_announcing());
        gate.announced(now);
        assert_eq!(gate.open(now), Audience::HomeAssistant);
    }
}
