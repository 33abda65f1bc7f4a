//! Times of day as the topics carry them (pure).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serializer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// RFC 3339 in UTC, whole seconds; `None` for a time that has no such form.
pub fn rfc3339(at: SystemTime) -> Option<String> {
    let seconds = i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

/// Whole Unix seconds; 0 before 1970.
pub fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `at` without its fraction of a second.
pub fn whole_seconds(at: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(unix(at))
}

/// For serde: RFC 3339 or null.
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
}
