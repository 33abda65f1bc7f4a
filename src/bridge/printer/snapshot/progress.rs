//! The progress of the print (pure).

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::estimate::SlicerEstimate;
use super::json::{
    LastPayload, MAX_BYTES, MAX_SECONDS, Now, Raw, StateChange, StateTopic, member, number, object,
};
use super::printer_state::PrinterState;
use crate::timestamp;

/// Minimum interval between payloads that differ in times alone.
const INTERVAL: Duration = Duration::from_secs(10);
/// Minimum change of the finish time that is published.
const ETA_STEP: Duration = Duration::from_secs(60);
/// Deviation from which on the wall clock counts as set.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);
/// How much less than its print time the age of a print may be, in seconds.
const AGE_TOLERANCE: f64 = 5.0;

#[derive(Debug, Default)]
pub(super) struct Progress {
    current: ProgressValues,
    published: Option<ProgressValues>,
    payload: LastPayload,
    published_at: Option<Instant>,
    started: Option<Started>,
    /// The last print time received, in seconds.
    print_time: Option<i64>,
    /// What events said of a print that no `current` has shown yet.
    unseen: Unseen,
}

/// A print that no `current` has shown yet.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Unseen {
    #[default]
    None,
    /// An event announced it.
    Announced,
    /// It is over already: the next `current` has its figures, but not its state.
    Over,
}

/// When a print started; its age is measured by the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Started {
    /// The server's time of the `print` marking; `None` if only the print time was known.
    marking: Option<f64>,
    /// Its age at `then`.
    age: Duration,
    then: Instant,
    /// The wall clock time, as published.
    at: SystemTime,
}

impl Started {
    fn new(marking: Option<f64>, seconds: f64, now: Now) -> Option<Self> {
        let seconds = Some(seconds.max(0.0)).filter(|seconds| *seconds <= MAX_SECONDS)?;
        let age = Duration::try_from_secs_f64(seconds).ok()?;
        let at = timestamp::whole_seconds(now.wall.checked_sub(age)?);
        Some(Self { marking, age, then: now.instant, at })
    }

    /// Follows a wall clock that was set.
    fn follow(&mut self, now: Now) {
        let age = self.age + now.instant.saturating_duration_since(self.then);
        if let Some(at) = now.wall.checked_sub(age)
            && apart(at, self.at) >= CLOCK_TOLERANCE
        {
            self.at = timestamp::whole_seconds(at);
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct ProgressValues {
    completion: Option<f64>,
    print_time: Option<i64>,
    print_time_left: Option<i64>,
    print_time_left_origin: Option<Cow<'static, str>>,
    #[serde(serialize_with = "timestamp::serialize")]
    started: Option<SystemTime>,
    #[serde(serialize_with = "timestamp::serialize")]
    eta: Option<SystemTime>,
    filepos: Option<i64>,
}

impl ProgressValues {
    /// Whether a value changed that is published at once.
    fn moved(&self, before: &Self) -> bool {
        self.completion != before.completion
            || self.print_time_left_origin != before.print_time_left_origin
            || self.started != before.started
            || self.eta != before.eta
    }
}

/// The last print in OctoPrint's log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastPrint {
    /// When it started, in the server's time.
    pub(super) marking: Option<f64>,
    pub(super) cancelled: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ProgressMember<'a> {
    #[serde(borrow, default)]
    completion: Raw<'a>,
    #[serde(borrow, default)]
    print_time: Raw<'a>,
    #[serde(borrow, default)]
    print_time_left: Raw<'a>,
    #[serde(borrow, default)]
    print_time_left_origin: Raw<'a>,
    #[serde(borrow, default)]
    filepos: Raw<'a>,
}

impl Progress {
    pub(super) fn unknown(&mut self) -> Option<StateChange> {
        self.payload.change(StateTopic::Progress, &ProgressValues::default())
    }

    pub(super) fn apply(
        &mut self,
        raw: Raw<'_>,
        state: PrinterState,
        print: LastPrint,
        slicer_time: Option<f64>,
        server_time: Option<f64>,
        now: Now,
    ) -> Option<StateChange> {
        let LastPrint { marking, cancelled } = print;
        // Some connectors keep the progress of a cancelled print.
        let is_over = cancelled && state == PrinterState::Operational;
        let message: ProgressMember<'_> =
            if is_over { ProgressMember::default() } else { object(raw) };
        let completion = completion(message.completion);
        let print_time = whole(message.print_time, MAX_SECONDS);
        let mut print_time_left = whole(message.print_time_left, MAX_SECONDS);
        let of = message.print_time_left_origin;
        self.find_started(state, completion, print_time, marking, server_time, now);
        let is_guess = print_time_left.is_none() || member(of) == Some("linear");
        let total = slicer_time.filter(|_| is_guess && state.print_is_on() == Some(true));
        let origin = match total.zip(completion) {
            Some((total, percent)) => {
                let spent = print_time.unwrap_or_default() as f64;
                let estimate = SlicerEstimate { total, done: percent / 100.0, spent };
                print_time_left = Some(estimate.left());
                Some(Cow::Borrowed("slicer"))
            }
            None => self.origin(of),
        };
        let eta = if state.print_is_on() == Some(true) {
            print_time_left.and_then(|left| self.eta(now.wall, left))
        } else {
            None
        };
        self.current = ProgressValues {
            completion,
            print_time,
            print_time_left,
            print_time_left_origin: origin,
            started: self.started.map(|started| started.at),
            eta,
            filepos: whole(message.filepos, MAX_BYTES),
        };
        self.flush(now.instant)
    }

    /// Returns when the print ends; `None` if there is none, or nothing is known.
    pub(super) fn finish_time(&self) -> Option<SystemTime> {
        self.current.eta
    }

    /// Notes that a print starts, which older versions do not log.
    pub(super) fn print_started(&mut self) {
        self.unseen = Unseen::Announced;
    }

    /// Notes that a print is over, which may be before any message shows it.
    pub(super) fn print_ended(&mut self) {
        if self.unseen == Unseen::Announced {
            self.unseen = Unseen::Over;
        }
    }

    /// Reads the origin of the time left. Does not allocate if it is unchanged.
    fn origin(&mut self, raw: Raw<'_>) -> Option<Cow<'static, str>> {
        let known = self.current.print_time_left_origin.take();
        let is = |known: &Cow<'_, str>| member::<&str>(raw).is_some_and(|origin| origin == known);
        known.filter(is).or_else(|| member::<String>(raw).map(Cow::Owned))
    }

    /// Returns the position in the file, in bytes.
    pub(super) fn filepos(&self) -> Option<u64> {
        self.current.filepos.and_then(|position| u64::try_from(position).ok())
    }

    pub(super) fn flush(&mut self, now: Instant) -> Option<StateChange> {
        if self.published.as_ref() == Some(&self.current) {
            return None;
        }
        let moved = self.published.as_ref().is_none_or(|before| self.current.moved(before));
        let is_due = self.due().is_none_or(|due| now >= due);
        if !moved && !is_due {
            return None;
        }
        self.published = Some(self.current.clone());
        self.published_at = Some(now);
        self.payload.change(StateTopic::Progress, &self.current)
    }

    pub(super) fn completion(&self) -> Option<f64> {
        self.current.completion
    }

    pub(super) fn started(&self) -> Option<SystemTime> {
        self.current.started
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let held_back = self.published.as_ref() != Some(&self.current);
        self.published_at.filter(|_| held_back).map(|at| at + INTERVAL)
    }

    /// Returns the published finish time, unless the new one differs by [`ETA_STEP`].
    fn eta(&self, wall: SystemTime, left: i64) -> Option<SystemTime> {
        let left = Duration::from_secs(u64::try_from(left).ok()?);
        let eta = timestamp::whole_seconds(wall.checked_add(left)?);
        let before = self.published.as_ref().and_then(|published| published.eta);
        Some(before.filter(|&before| apart(before, eta) < ETA_STEP).unwrap_or(eta))
    }

    /// Finds when the print started, by the bridge's clock: from the last `print` marking, else
    /// from the print time. Once per print, so that it neither wavers nor changes when a clock is
    /// set: the marking's time is of the server's clock before that.
    fn find_started(
        &mut self,
        state: PrinterState,
        completion: Option<f64>,
        print_time: Option<i64>,
        marking: Option<f64>,
        server_time: Option<f64>,
        now: Now,
    ) {
        let before = self.print_time;
        self.print_time = print_time.or(before);
        let printing = state.print_is_on() == Some(true);
        if !printing && completion.is_none() {
            self.started = None;
            return;
        }
        let announced = match self.unseen {
            Unseen::None => false,
            Unseen::Announced => printing,
            Unseen::Over => true,
        };
        let known = self.started.map(|started| started.marking);
        let fresh = match (known, marking) {
            (Some(known), Some(_)) => known != marking,
            // Older versions have no markings: the print time starts again with each print. If it
            // is already greater than that of the last print, only the event shows the new print.
            (Some(_), None) => {
                let restarted = print_time.is_some_and(|now| before.is_some_and(|b| now < b));
                announced || (printing && restarted)
            }
            (None, _) => true,
        };
        if announced && (print_time.is_some() || marking.is_some()) {
            self.unseen = Unseen::None;
        }
        if let (false, Some(started)) = (fresh, &mut self.started) {
            started.follow(now);
            return;
        }
        let spent = print_time.map(|seconds| seconds as f64);
        // A print time greater than the marking's age: the server's clock was set back.
        let age = marking
            .zip(server_time)
            .map(|(marking, server_time)| server_time - marking)
            .filter(|age| spent.is_none_or(|spent| *age > spent - AGE_TOLERANCE))
            .or(spent.filter(|_| printing || announced));
        if let Some(age) = age {
            self.started = Started::new(marking, age, now);
        } else if announced {
            // The known start is that of the print before.
            self.started = None;
        }
    }
}

fn apart(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).or_else(|_| b.duration_since(a)).unwrap_or_default()
}

/// Percent with one decimal. Values just outside 0 to 100 are clamped, others are ignored.
fn completion(raw: Raw<'_>) -> Option<f64> {
    let percent = number(raw, (-1.0, 101.0))?.clamp(0.0, 100.0);
    Some((percent * 10.0).round() / 10.0 + 0.0)
}

/// A whole number from 0 to `max`, in seconds or bytes; plugins may send fractions.
fn whole(raw: Raw<'_>, max: f64) -> Option<i64> {
    // Within bounds, so the conversion is exact.
    number(raw, (0.0, max)).map(|number| number.round() as i64)
}

#[cfg(test)]
mod tests;
