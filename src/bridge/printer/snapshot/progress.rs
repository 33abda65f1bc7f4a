//! How far the print is (pure).

use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::change::{Now, Published, StateChange, StateTopic};
use super::json::{MOST_BYTES, MOST_SECONDS, Raw, member, number, object};
use super::printer_state::PrinterState;
use crate::timestamp;

/// The longest that a change of times alone waits.
const INTERVAL: Duration = Duration::from_secs(10);
/// A finish time moves by at least this much.
const ETA_STEP: Duration = Duration::from_secs(60);
/// A calendar clock that is off by so much was set.
const SET: Duration = Duration::from_secs(5);
/// So much less than the print time, in seconds, is no age of a print.
const YOUNGER: f64 = 5.0;

#[derive(Debug, Default)]
pub(super) struct Progress {
    now: ProgressValues,
    out: Option<ProgressValues>,
    published: Published,
    published_at: Option<Instant>,
    /// Of the print that goes on, or that was the last.
    started: Option<Started>,
    /// The print time that came last.
    print_time: Option<i64>,
    /// A print began of which no message has told yet.
    begun: bool,
}

/// When the print began. How long ago that is, is measured by a clock that nobody sets.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Started {
    /// The server's time of the `print` marking; `None` where only the print time told.
    marking: Option<f64>,
    /// How long it went on at `then`.
    age: Duration,
    then: Instant,
    /// The time of day, as published.
    at: SystemTime,
}

impl Started {
    fn new(marking: Option<f64>, seconds: f64, now: Now) -> Option<Self> {
        let seconds = Some(seconds.max(0.0)).filter(|seconds| *seconds <= MOST_SECONDS)?;
        let age = Duration::try_from_secs_f64(seconds).ok()?;
        let at = timestamp::whole_seconds(now.wall.checked_sub(age)?);
        Some(Self { marking, age, then: now.instant, at })
    }

    /// Follows a calendar clock that was set.
    fn follow(&mut self, now: Now) {
        let age = self.age + now.instant.saturating_duration_since(self.then);
        if let Some(at) = now.wall.checked_sub(age)
            && apart(at, self.at) >= SET
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
    print_time_left_origin: Option<String>,
    #[serde(serialize_with = "timestamp::serialize")]
    started: Option<SystemTime>,
    #[serde(serialize_with = "timestamp::serialize")]
    eta: Option<SystemTime>,
    filepos: Option<i64>,
}

impl ProgressValues {
    /// What is published at once when it moves.
    fn moved(&self, out: &Self) -> bool {
        self.completion != out.completion
            || self.print_time_left_origin != out.print_time_left_origin
            || self.started != out.started
            || self.eta != out.eta
    }
}

/// What OctoPrint's log says of the last print.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastPrint {
    /// When it began, in the server's time.
    pub(super) marking: Option<f64>,
    /// It was cancelled.
    pub(super) cancelled: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
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
        self.published.change(StateTopic::Progress, &ProgressValues::default())
    }

    pub(super) fn apply(
        &mut self,
        raw: Raw<'_>,
        state: PrinterState,
        print: LastPrint,
        server_time: Option<f64>,
        now: Now,
    ) -> Option<StateChange> {
        let LastPrint { marking, cancelled } = print;
        // Some connectors leave it where the cancelled print was.
        let is_over = cancelled && state == PrinterState::Operational;
        let message: Message<'_> = if is_over { Message::default() } else { object(raw) };
        let completion = completion(message.completion);
        let print_time = whole(message.print_time, MOST_SECONDS);
        let print_time_left = whole(message.print_time_left, MOST_SECONDS);
        self.find_started(state, completion, print_time, marking, server_time, now);
        let eta = if state.print_is_on() == Some(true) {
            print_time_left.and_then(|left| self.eta(now.wall, left))
        } else {
            None
        };
        self.now = ProgressValues {
            completion,
            print_time,
            print_time_left,
            print_time_left_origin: self.origin(message.print_time_left_origin),
            started: self.started.map(|started| started.at),
            eta,
            filepos: whole(message.filepos, MOST_BYTES),
        };
        self.flush(now.instant)
    }

    /// An event says that a print begins. Older versions have no log that would say so.
    pub(super) fn begin(&mut self) {
        self.begun = true;
    }

    /// Where the time left comes from; mostly as before, and then it costs no allocation.
    fn origin(&mut self, raw: Raw<'_>) -> Option<String> {
        let known = self.now.print_time_left_origin.take();
        let is = |known: &String| member::<&str>(raw).is_some_and(|origin| origin == known);
        known.filter(is).or_else(|| member(raw))
    }

    pub(super) fn flush(&mut self, now: Instant) -> Option<StateChange> {
        if self.out.as_ref() == Some(&self.now) {
            return None;
        }
        let moved = self.out.as_ref().is_none_or(|out| self.now.moved(out));
        let rested = self.due().is_none_or(|due| now >= due);
        if !moved && !rested {
            return None;
        }
        self.out = Some(self.now.clone());
        self.published_at = Some(now);
        self.published.change(StateTopic::Progress, &self.now)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let held_back = self.out.as_ref() != Some(&self.now);
        self.published_at.filter(|_| held_back).map(|at| at + INTERVAL)
    }

    /// The published finish time, unless the new one is a minute or more away from it.
    fn eta(&self, wall: SystemTime, left: i64) -> Option<SystemTime> {
        let left = Duration::from_secs(u64::try_from(left).ok()?);
        let eta = timestamp::whole_seconds(wall.checked_add(left)?);
        let out = self.out.as_ref().and_then(|out| out.eta);
        Some(out.filter(|&out| apart(out, eta) < ETA_STEP).unwrap_or(eta))
    }

    /// When the print began, on the bridge's clock: from the last `print` marking, else from how
    /// long it goes on. Found once for each print, so that it does not waver, and that no clock
    /// that is set later changes it: the marking's time is one of the server's clock before that.
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
        let known = self.started.map(|started| started.marking);
        let fresh = match (known, marking) {
            (Some(known), Some(_)) => known != marking,
            // Older versions have no markings: the print time begins anew with each print, and an
            // event tells where it has passed already what it was at the end of the one before.
            (Some(_), None) => {
                let anew = print_time.is_some_and(|now| before.is_some_and(|b| now < b));
                printing && (anew || self.begun)
            }
            (None, _) => true,
        };
        let begun = self.begun && printing;
        self.begun &= !printing || (print_time.is_none() && marking.is_none());
        if let (false, Some(started)) = (fresh, &mut self.started) {
            started.follow(now);
            return;
        }
        let spent = print_time.map(|seconds| seconds as f64);
        // A print that goes on for longer than its marking says: the server's clock was set back.
        let age = marking
            .zip(server_time)
            .map(|(marking, server_time)| server_time - marking)
            .filter(|age| spent.is_none_or(|spent| *age > spent - YOUNGER))
            .or(spent.filter(|_| printing));
        if let Some(age) = age {
            self.started = Started::new(marking, age, now);
        } else if begun {
            // That of the print before is none of this one.
            self.started = None;
        }
    }
}

fn apart(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).or_else(|_| b.duration_since(a)).unwrap_or_default()
}

/// In percent with one decimal. A little more than all of it is all of it; what is far off says
/// nothing.
fn completion(raw: Raw<'_>) -> Option<f64> {
    let percent = number(raw, (-1.0, 101.0))?.clamp(0.0, 100.0);
    Some((percent * 10.0).round() / 10.0 + 0.0)
}

/// Seconds and bytes come as whole numbers from 0 to `most`; a plugin may send a fraction.
fn whole(raw: Raw<'_>, most: f64) -> Option<i64> {
    // Within bounds, so the conversion is exact.
    number(raw, (0.0, most)).map(|number| number.round() as i64)
}
