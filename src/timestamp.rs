//! Formats of points in time in topics and log lines (pure).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serializer;

/// Start of the year 10000 in Unix seconds: RFC 3339 has four digits for the year.
const YEAR_10000: u64 = 253_402_300_800;

/// Formats as RFC 3339 in UTC, in whole seconds; `None` before 1970 and from the year 10000 on,
/// where the formatter would panic.
pub fn rfc3339(at: SystemTime) -> Option<String> {
    let seconds = at.duration_since(UNIX_EPOCH).ok()?.as_secs();
    (seconds < YEAR_10000).then(|| humantime::format_rfc3339_seconds(at).to_string())
}

/// Returns whole Unix seconds; 0 before 1970.
pub fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Returns `at` without its fraction of a second.
pub fn whole_seconds(at: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(unix(at))
}

/// Serialises as RFC 3339 or null, for serde.
///
/// # Errors
/// Those of the serialiser.
pub fn serialize<S: Serializer>(at: &Option<SystemTime>, out: S) -> Result<S::Ok, S::Error> {
    match at.and_then(rfc3339) {
        Some(text) => out.serialize_some(&text),
        None => out.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_447_625_735);
        assert_eq!(rfc3339(at).as_deref(), Some("2026-11-23T15:27:05Z"));
        assert_eq!(unix(at), 1_795_447_625);
    }

    #[test]
    fn times_outside_of_rfc_3339_have_no_form() {
        let at = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap();
        assert_eq!(rfc3339(UNIX_EPOCH).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(rfc3339(at(YEAR_10000 - 1)).as_deref(), Some("9999-12-31T23:59:59Z"));
        assert_eq!(rfc3339(at(YEAR_10000)), None);
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), None);
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_nanos(1)), None);
    }
}
