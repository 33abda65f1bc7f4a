//! The last lines of the log at warning and above, for the page.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::watch;
use tracing::field::{Field, Visit as VisitFields};
use tracing::span::{Attributes, Id};
use tracing::{Event as LogEvent, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer as SubscriberLayer};
use tracing_subscriber::registry::LookupSpan;

use crate::timestamp;

/// Number of lines that are kept.
const LINES: usize = 100;
/// Longest text of a line, in bytes.
const LONGEST: usize = 2_000;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Its number, from 1.
    pub number: u64,
    /// When, in RFC 3339.
    pub at: Option<String>,
    /// `WARN` or `ERROR`.
    pub level: &'static str,
    /// The printer that it is about.
    pub printer: Option<String>,
    /// The message, and its fields.
    pub text: String,
}

#[derive(Debug)]
struct RecentLines {
    lines: Mutex<VecDeque<LogLine>>,
    /// Number of the last line.
    last: watch::Sender<u64>,
}

/// The last lines; cheap to clone.
#[derive(Debug, Clone)]
pub struct RecentLog(Arc<RecentLines>);

impl Default for RecentLog {
    fn default() -> Self {
        Self(Arc::new(RecentLines { lines: Mutex::default(), last: watch::Sender::new(0) }))
    }
}

impl RecentLog {
    fn lines(&self) -> MutexGuard<'_, VecDeque<LogLine>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lines after the line with this number, oldest first.
    pub fn after(&self, number: u64) -> Vec<LogLine> {
        self.lines().iter().filter(|line| line.number > number).cloned().collect()
    }

    /// Watches the number of the last line.
    pub fn last(&self) -> watch::Receiver<u64> {
        self.0.last.subscribe()
    }

    /// Adds a line.
    pub fn add(&self, level: &'static str, printer: Option<String>, mut text: String) {
        if text.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
            text.push('…');
        }
        let mut lines = self.lines();
        if lines.len() >= LINES {
            lines.pop_front();
        }
        let number = lines.back().map_or(0, |line| line.number) + 1;
        let at = timestamp::rfc3339(SystemTime::now());
        lines.push_back(LogLine { number, at, level, printer, text });
        self.0.last.send_replace(number);
    }
}

/// The id of a printer, which its span carries.
struct PrinterOfSpan(String);

/// Writes a message and its fields as one text.
#[derive(Default)]
struct LineText {
    message: String,
    fields: String,
}

impl VisitFields for LineText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a text does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Reads the field `id` of a span.
#[derive(Default)]
struct IdOfSpan(Option<String>);

impl VisitFields for IdOfSpan {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "id" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "id" {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> SubscriberLayer<S> for RecentLog {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != "printer" {
            return;
        }
        let mut printer = IdOfSpan::default();
        attributes.record(&mut printer);
        if let (Some(span), Some(printer)) = (context.span(id), printer.0) {
            span.extensions_mut().insert(PrinterOfSpan(printer));
        }
    }

    fn on_event(&self, event: &LogEvent<'_>, context: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            _ => return,
        };
        let printer = context.event_scope(event).and_then(|mut spans| {
            spans.find_map(|span| Some(span.extensions().get::<PrinterOfSpan>()?.0.clone()))
        });
        let mut text = LineText::default();
        event.record(&mut text);
        self.add(level, printer, text.message + &text.fields);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn warnings_and_errors_are_kept_with_their_printer_and_the_oldest_go_first() {
        let log = RecentLog::default();
        let subscriber = tracing_subscriber::registry().with(log.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("of the bridge");
            let printer = tracing::info_span!(parent: None, "printer", id = "mk3");
            printer.in_scope(|| {
                tracing::info!("of no interest");
                tracing::info_span!("inner").in_scope(|| {
                    tracing::error!(topic = %"a/b", tries = 2, "<b>lost</b>");
                });
            });
        });
        let lines = log.after(0);
        let shown: Vec<_> =
            lines.iter().map(|l| (l.level, l.printer.as_deref(), l.text.as_str())).collect();
        let expected = [
            ("WARN", None, "of the bridge"),
            ("ERROR", Some("mk3"), "<b>lost</b> topic=a/b tries=2"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(log.after(1), lines[1..]);
        for n in 0..LINES {
            log.add("WARN", None, format!("{n}"));
        }
        assert_eq!(log.after(0).len(), LINES);
        assert_eq!(log.after(0)[0].text, "0");
        assert_eq!(*log.last().borrow(), LINES as u64 + 2);
        log.add("WARN", None, "ü".repeat(LONGEST));
        let longest = &log.after(0)[LINES - 1].text;
        assert!(longest.len() <= LONGEST + 3 && longest.ends_with('…'), "{}", longest.len());
    }
}
